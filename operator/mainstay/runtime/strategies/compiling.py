"""The process that compiles: run by path, without anything of ours. It executes nothing of what it is given.

In: two 4-byte lengths, a file name, a source. Out: a line of JSON, null or what is wrong.
"""

import json
import signal
import struct
import sys
import warnings

SHOWN = 120


def wrong(file: str, data: bytes) -> "str | None":
    """What keeps it from being compiled, with its line; None if nothing does."""
    try:
        compile(data, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        text = "".join(c if c.isprintable() else " " for c in (error.text or "").strip())[:SHOWN]
        return f"line {error.lineno or 1}: {error.msg}" + (f": {text}" if text else "")
    except (RecursionError, MemoryError):
        return "it is nested too deeply to be compiled"
    except ValueError as error:
        before = data.split(b"\0")[0]
        return f"line {before.count(10) + 1}: {error}"
    return None


def main() -> None:
    """Answer until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    source, out = sys.stdin.buffer, sys.stdout
    while len(head := source.read(8)) == 8:
        name, size = struct.unpack(">II", head)
        file = source.read(name).decode("utf-8", "replace")
        out.write(json.dumps(wrong(file, source.read(size))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
