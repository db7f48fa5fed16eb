"""How programs ended, from the log that supervisord writes anyway: it outlives us, and tells the signal."""

from __future__ import annotations

import os
import re
import signal

LINE = re.compile(
    r"(?:spawned: '(?P<spawned>[^']+)' with pid (?P<pid>\d+)"
    r"|(?:exited|stopped): (?P<ended>\S+) \((?:exit status (?P<code>\d+)|terminated by (?P<signal>\S+)))"
)
FIRST_READ = 1 << 20  # bytes of an existing log that are looked at


def signal_number(text: str) -> int | None:
    """SIGKILL → 9; supervisord adds words, and says `signal 34` for unnamed ones."""
    name = text.strip(";),")
    member = getattr(signal, name, None)
    return int(member) if isinstance(member, signal.Signals) else None


class History:
    """Exits by unit and pid, read on as the log grows."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._inode = 0
        self._offset = 0
        self._rest = b""
        self._running: dict[str, int] = {}
        self._ends: dict[str, dict[int, tuple[int | None, int | None]]] = {}

    def end_of(self, name: str, pid: int) -> tuple[int | None, int | None]:
        """Exit code and signal of this process of a unit; (None, None) if nobody saw it."""
        self._read_on()
        return self._ends.get(name, {}).get(pid, (None, None))

    def forget(self, name: str) -> None:
        """Drop what is known of a removed unit."""
        self._running.pop(name, None)
        self._ends.pop(name, None)

    def _read_on(self) -> None:
        try:
            now = os.stat(self._log)
        except OSError:
            return
        if now.st_ino == self._inode and now.st_size == self._offset:
            return
        if now.st_ino != self._inode:
            if self._inode:
                self._take(f"{self._log}.1", self._inode)
            self._offset = max(0, now.st_size - FIRST_READ) if not self._inode else 0
            self._inode = now.st_ino
        elif now.st_size < self._offset:
            self._offset = 0
        self._take(self._log, self._inode)

    def _take(self, path: str, inode: int) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        with open(fd, "rb") as file:
            if os.fstat(fd).st_ino != inode:
                return
            file.seek(self._offset)
            raw = self._rest + file.read()
            self._offset = file.tell()
        lines = raw.split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._note(line.decode(errors="replace"))

    def _note(self, line: str) -> None:
        found = LINE.search(line)
        if found is None:
            return
        if spawned := found["spawned"]:
            self._running[spawned] = int(found["pid"])
            return
        name = found["ended"]
        pid = self._running.pop(name, None)
        if pid is None:
            return
        ends = self._ends.setdefault(name, {})
        code = int(found["code"]) if found["code"] else None
        ends[pid] = (code, signal_number(found["signal"]) if found["signal"] else None)
        while len(ends) > 4:
            del ends[next(iter(ends))]


LINES, LENGTH = 5, 400


def last_lines(path: str, start: int, end: int | None = None) -> tuple[str, ...]:
    """The last lines of a log between two offsets; from its beginning if it was rotated meanwhile."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ()
    with open(fd, "rb") as file:
        size = os.fstat(fd).st_size
        if start > size:
            start, end = 0, None
        stop = size if end is None else min(end, size)
        file.seek(max(start, stop - 4 * LINES * LENGTH))
        raw = file.read(max(0, stop - file.tell()))
    lines = [line.rstrip() for line in raw.decode(errors="replace").splitlines()]
    return tuple(line[:LENGTH] for line in lines if line)[-LINES:]
