"""The process that compiles files and says what is wrong with them. Run by path, alone: it imports nothing of ours.

Requests on stdin: 4 bytes of length, most significant first, then the file. Answers on stdout: one line of
JSON each, a sentence or null. It ends when stdin does. Nothing of a file is ever executed.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
import warnings

LONGEST = 120
MEMORY = 2 << 30  # bytes: the parser may want a lot, the host must not pay for it

_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=]")


def problem(data: bytes) -> str | None:
    """Why it can't be compiled, with the line; None if it can."""
    if (nul := data.find(b"\0")) >= 0:
        return _words(data, _line_of(data, nul), "the file has NUL bytes; is it UTF-8?")
    try:
        _compile(data)
    except SyntaxError as error:
        line = error.lineno or _coding_line(data)
        return _words(data, line, error.msg, error.text)
    except (MemoryError, RecursionError):
        return _words(data, _too_deep(data), "nested too deeply, or too long a chain, to be compiled")
    except Exception as error:
        return _words(data, 1, f"{type(error).__name__}: {error}")
    return None


def _compile(data: bytes) -> None:
    compile(data, "strategy.py", "exec", dont_inherit=True)


def _line_of(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _coding_line(data: bytes) -> int:
    """The line that names the encoding: it may be the second."""
    lines = data.split(b"\n", 2)
    return 2 if len(lines) > 1 and not _CODING.match(lines[0]) and _CODING.match(lines[1]) else 1


def _too_deep(data: bytes) -> int:
    """The line with which it became too much: CPython doesn't say."""
    lines = data.splitlines(keepends=True)
    fits, fails = 0, len(lines)
    while fails - fits > 1:
        middle = (fits + fails) // 2
        try:
            _compile(b"".join(lines[:middle]))
        except (MemoryError, RecursionError):
            fails = middle
        except Exception:
            fits = middle  # cut off in the middle of something
        else:
            fits = middle
    return fails


def _words(data: bytes, line: int, message: str, text: str | None = None) -> str:
    if not text or not text.strip():
        lines = data.splitlines()
        text = lines[line - 1].decode(errors="replace") if 0 < line <= len(lines) else ""
    source = _printable(text.strip())
    return f"line {line}: {_printable(message)}" + (f" (`{source}`)" if source else "")


def _printable(text: str) -> str:
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: LONGEST + 1])
    return clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…"


def main() -> None:
    """Answer until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY or most > MEMORY:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, most))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(header := requests.read(4)) == 4:
        size = int.from_bytes(header, "big")
        data = requests.read(size)
        if len(data) < size:
            return
        answers.write(json.dumps(problem(data)).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
