"""Holding a unit's lock while its directory goes, so that no shim claims an attempt in it meanwhile."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mainstay.runtime.base import RuntimeUnavailableError
from mainstay.runtime.process.unitdir import UnitDir

PATIENCE_SECONDS = 1.0  # for a shim that has written its record and is on the way out


def _same(fd: int, path: str) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def locked(unit: UnitDir) -> Iterator[None]:
    """Hold the lock as a shim does. Blocks; raises RuntimeUnavailableError if somebody keeps it."""
    fd = os.open(unit.file("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + PATIENCE_SECONDS
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    raise RuntimeUnavailableError(f"{unit.name} still lives: its lock is held") from None
            time.sleep(0.005)
        if not _same(fd, unit.file("lock")):
            raise RuntimeUnavailableError(f"{unit.name} was removed and made again meanwhile")
        yield
    finally:
        os.close(fd)
