"""Rotation of the units' logs: copy, then truncate. Programs keep their descriptors and append."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable

from mainstay.runtime import effects
from mainstay.runtime.process.periodic import Periodic
from mainstay.runtime.process.unitdir import ScopeDir

BYTES = 10 * 1024 * 1024
BACKUPS = 3
LOW_DISK = 0.05  # free part of the disk below which the oldest backups go
EVERY_SECONDS = 10.0


def rotate(path: str, size: int = BYTES, backups: int = BACKUPS) -> bool:
    """Rotate one log if it has grown past `size` bytes. Lines written between copy and truncate are lost."""
    try:
        if os.stat(path).st_size <= size:
            return False
    except OSError:
        return False
    number = backups + 1
    while os.path.exists(f"{path}.{number}"):  # of a time when more were kept
        os.unlink(f"{path}.{number}")
        number += 1
    for number in range(backups - 1, 0, -1):
        if os.path.exists(f"{path}.{number}"):
            os.replace(f"{path}.{number}", f"{path}.{number + 1}")
    with effects.effect("rotate log"):
        fd = os.open(f"{path}.1", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as target, open(path, "rb") as source:
            shutil.copyfileobj(source, target, 1 << 20)
        os.truncate(path, 0)
    return True


def free_part(path: str) -> float:
    """Free part of the file system, 0 to 1."""
    seen = os.statvfs(path)
    return seen.f_bavail / seen.f_blocks if seen.f_blocks else 1.0


def unit_logs(scope: ScopeDir) -> list[str]:
    """The log directory of every unit."""
    return [scope.unit(name).logs for name in scope.unit_names()]


def drop_oldest(
    scope: ScopeDir, enough: float = LOW_DISK, directories: Callable[[ScopeDir], Iterable[str]] = unit_logs
) -> int:
    """Delete backups, oldest first, until enough of the disk is free; how many went."""
    if free_part(scope.path) >= enough:
        return 0
    backups = []
    for logs in directories(scope):
        try:
            entries = os.listdir(logs)
        except OSError:
            continue
        for entry in entries:
            if entry.rsplit(".", 1)[-1].isdigit():
                path = f"{logs}/{entry}"
                backups.append((os.stat(path).st_mtime, path))
    gone = 0
    for _, path in sorted(backups):
        if free_part(scope.path) >= enough:
            break
        os.unlink(path)
        gone += 1
    return gone


class Rotator(Periodic):
    """Looks after the logs of a scope in the background."""

    def __init__(
        self,
        scope: ScopeDir,
        growing: Callable[[ScopeDir], Iterable[str]] = unit_logs,
        every: Callable[[ScopeDir], Iterable[str]] = unit_logs,
    ) -> None:
        """`growing` names the log directories that are written to now, `every` all that hold backups."""
        self._scope = scope
        self._growing = growing
        self._every = every
        self.size, self.backups = BYTES, BACKUPS
        super().__init__("rotate logs", EVERY_SECONDS, lambda: asyncio.to_thread(self.once))

    def once(self) -> None:
        """One round over every log."""
        drop_oldest(self._scope, directories=self._every)
        for logs in self._growing(self._scope):
            for stream in ("stdout.log", "stderr.log"):
                rotate(f"{logs}/{stream}", self.size, self.backups)
