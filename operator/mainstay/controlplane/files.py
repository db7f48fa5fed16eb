"""Writing files that survive a crash: the old content or the new one, never a part."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

PRIVATE = 0o600
PUBLIC = 0o644


def write(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Replace `path` atomically: temporary file, fsync, rename, fsync of the directory.

    The mode is set before the first byte is written, so a secret is never readable in between.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def write_if_changed(path: Path, content: bytes, mode: int = PRIVATE) -> bool:
    """Write unless the file already holds `content` under `mode`; True if it was written."""
    try:
        if path.stat().st_mode & 0o777 == mode and path.read_bytes() == content:
            return False
    except FileNotFoundError:
        pass
    write(path, content, mode)
    return True


def private_directory(path: Path) -> Path:
    """Make `path` (and its parents) if missing, closed to other users even if it was there before."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)
    return path


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
