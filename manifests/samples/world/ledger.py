"""The ledger: one file, a JSON line for each thing that happened, only ever appended to.

It is the truth, and everything else is a replay of it. A line counts from the moment that its newline is on disk; what
a `kill -9` or a power cut leaves of an unfinished last line never happened.
"""

from __future__ import annotations

import fcntl
import json
import os

NAME = "ledger.jsonl"


def read(path: str) -> tuple[list[dict], int]:
    """Return the whole lines, and the bytes they take. Raises OSError, and ValueError for a line that is none."""
    with open(path, "rb") as file:
        content = file.read()
    whole = content.rfind(b"\n") + 1
    lines = [json.loads(line) for line in content[:whole].splitlines()]
    if not all(isinstance(line, dict) and {"id", "kind"} <= line.keys() for line in lines):
        raise ValueError(f"{path} is no ledger")
    return lines, whole


class Ledger:
    """The file, open for the one process that may write it. Whoever appends holds a lock of his own."""

    def __init__(self, directory: str) -> None:
        """Read what is there. Raises OSError, BlockingIOError while another process has it, and ValueError."""
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, NAME)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel unlocks when the process is gone
        self.replay, whole = read(path)
        os.ftruncate(self._file, whole)
        os.fsync(self._file)
        _sync_directory(directory)  # the file's name, too, must outlive a power cut

    def append(self, line: dict) -> None:
        """Return when the line is on disk. A failure ends the process: what the file has is not known then."""
        content = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            if os.write(self._file, content) != len(content):
                raise OSError("the disk took a part of the line")
            os.fsync(self._file)
        except OSError as error:
            os.write(2, f"world: the ledger can't be written: {error}\n".encode())
            os._exit(1)


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
