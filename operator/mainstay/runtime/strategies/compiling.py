"""The process that compiles: run by path, without anything of ours. It executes nothing of what it is given.

In: two 4-byte lengths, a file name, a source. Out: a line of JSON, null or what is wrong.
"""

import json
import re
import resource
import signal
import struct
import sys
import warnings

SHOWN = 120
MEMORY = 2 << 30  # bytes: what a nasty source wants is not taken from the host

_CODING = re.compile(rb"[ \t\f]*#.*?coding[:=]")


def wrong(file: str, data: bytes) -> "str | None":
    """What keeps it from being compiled, with its line; None if nothing does."""
    if (nul := data.find(b"\0")) >= 0:
        return _words(data.count(b"\n", 0, nul) + 1, "the file has NUL bytes; is it UTF-8?")
    try:
        compile(data, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        return _words(error.lineno or _coding(data), error.msg, error.text)
    except (RecursionError, MemoryError):
        return _words(_too_deep(file, data), "it is nested too deeply to be compiled")
    except Exception as error:
        return _words(1, f"{type(error).__name__}: {error}")
    return None


def _coding(data: bytes) -> int:
    """The line that names the encoding: CPython doesn't say which of the first two."""
    lines = data.split(b"\n", 2)
    return 2 if len(lines) > 1 and not _CODING.match(lines[0]) and _CODING.match(lines[1]) else 1


def _too_deep(file: str, data: bytes) -> int:
    """The line with which it became too much: CPython doesn't say that either."""
    lines = data.splitlines(keepends=True)
    fits, fails = 0, len(lines)
    while fails - fits > 1:
        middle = (fits + fails) // 2
        try:
            compile(b"".join(lines[:middle]), file, "exec", dont_inherit=True)
            fits = middle
        except (RecursionError, MemoryError):
            fails = middle
        except Exception:
            fits = middle  # cut off in the middle of something
    return fails


def _words(line: int, message: str, text: "str | None" = None) -> str:
    shown = [_printable(part)[:SHOWN] for part in (message, (text or "").strip()) if part]
    return f"line {line}: " + ": ".join(shown)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def main() -> None:
    """Answer until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY or most > MEMORY:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, most))
    source, out = sys.stdin.buffer, sys.stdout
    while len(head := source.read(8)) == 8:
        name, size = struct.unpack(">II", head)
        file = source.read(name).decode("utf-8", "replace")
        data = source.read(size)
        if len(data) < size:
            return  # the other end died
        out.write(json.dumps(wrong(file, data)) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
