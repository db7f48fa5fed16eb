"""Processes as the kernel shows them: identity, state, environment; and signals that can't hit a stranger.

A pid alone proves nothing. A process is named by pid, start time in ticks since boot, and boot id; a signal goes
through a pidfd whose identity was checked after it was opened.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from mainstay.runtime import effects
from mainstay.runtime.base import ProcessId


@dataclass(frozen=True, slots=True)
class Stat:
    """One line of /proc/PID/stat, as much as is needed."""

    pid: int
    state: str  # R S D T t Z X ...
    parent: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """A zombie has ended; its parent just hasn't looked yet."""
        return self.state not in "ZX"

    @property
    def stopped(self) -> bool:
        """Stopped by a signal or a tracer, or ended: it executes nothing."""
        return self.state in "TtZX"


@cache
def boot_id() -> str:
    """Differs after every boot, so that pids and tick counts of an earlier one match nothing."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def boottime() -> float:
    """Seconds since boot, sleep included; never jumps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_bytes(path: str) -> bytes:
    """Whole file in few system calls; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = [os.read(fd, 65536)]
        while len(chunks[-1]) == 65536:
            chunks.append(os.read(fd, 65536))
        return b"".join(chunks)
    finally:
        os.close(fd)


def stat(pid: int) -> Stat | None:
    """What the kernel says of this pid now, None if there is no such process."""
    try:
        line = read_bytes(f"/proc/{pid}/stat")
    except OSError:
        return None
    fields = line[line.rfind(b")") + 2 :].split(None, 20)  # the name before may hold spaces and parentheses
    if len(fields) < 20:
        return None
    return Stat(pid, fields[0].decode("ascii"), int(fields[1]), int(fields[19]))


def identify(pid: int) -> ProcessId | None:
    """The identity of a living process."""
    seen = stat(pid)
    return ProcessId(pid, seen.start_ticks, boot_id()) if seen is not None and seen.alive else None


def look(process: ProcessId | None) -> Stat | None:
    """The process itself if it still lives, never another one that got its pid."""
    if process is None or process.boot_id != boot_id():
        return None
    seen = stat(process.pid)
    if seen is None or seen.start_ticks != process.start_ticks or not seen.alive:
        return None
    return seen


def environ(pid: int) -> dict[str, str]:
    """The environment it was started with, as far as we may read it and it hasn't erased it."""
    try:
        raw = read_bytes(f"/proc/{pid}/environ")
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0"))
    return {os.fsdecode(key): os.fsdecode(value) for key, separator, value in pairs if separator}


def pids() -> Iterator[int]:
    """Every pid there is."""
    for name in os.listdir("/proc"):
        if name[0] in "123456789" and name.isdigit():
            yield int(name)


def holds_file(pid: int, device: int, inode: int) -> bool:
    """Whether it has this very file open for writing, as who inherited a unit's lock has.

    Who opened it to read, to ask about the lock or for a backup, is no member.
    """
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in names:
        try:
            seen = os.stat(f"/proc/{pid}/fd/{name}")
            if seen.st_ino == inode and seen.st_dev == device:
                flags = read_bytes(f"/proc/{pid}/fdinfo/{name}").split(b"flags:", 1)[1].split(None, 1)[0]
                return int(flags, 8) & os.O_ACCMODE == os.O_RDWR
        except (OSError, IndexError, ValueError):
            continue
    return False


def open_files(pids: Iterable[int]) -> dict[tuple[int, int], list[int]]:
    """Device and inode of every file that one of these has open → who has. For what mode isn't asked."""
    found: dict[tuple[int, int], list[int]] = {}
    for pid in pids:
        base = f"/proc/{pid}/fd/"
        seen = set()
        try:
            names = os.listdir(base)
        except OSError:
            continue
        for name in names:
            try:
                file = os.stat(base + name)
            except OSError:
                continue
            seen.add((file.st_dev, file.st_ino))
        for key in seen:
            found.setdefault(key, []).append(pid)
    return found


def open_pidfd(process: ProcessId) -> int | None:
    """A pidfd of exactly this process, None if it has ended. The caller closes it."""
    if process.boot_id != boot_id():
        return None
    try:
        fd = os.pidfd_open(process.pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL):
            return None
        raise
    if look(process) is None:  # the pid was somebody else's already, or it has just ended
        os.close(fd)
        return None
    return fd


def send(process: ProcessId, number: signal.Signals) -> bool:
    """Signal exactly this process. False if it has ended, or belongs to another user."""
    fd = open_pidfd(process)
    if fd is None:
        return False
    try:
        with effects.effect(f"signal {number.name}"):
            signal.pidfd_send_signal(fd, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(fd)
    return True


def wall_ns() -> int:
    """The clock that file times are in."""
    return time.time_ns()


def started_at(process: ProcessId) -> float:
    """Wall clock at which it was started, to about 10 ms."""
    age = boottime() - process.start_ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age
