"""Every content that was offered, by its hash: `<home>/strategies/<64 hex digits>/<Name>.py`.

What a run was started with is here for as long as anything may start it again, whatever becomes of the source.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Collection
from pathlib import Path

from mainstay.core.strategy.names import split
from mainstay.core.strategy.views import content_hash
from mainstay.runtime.base import SnapshotLostError
from mainstay.runtime.effects import effect

YOUNG_SECONDS = 60.0
"""Nothing younger is pruned: who keeps a snapshot says a moment later that it is used."""

_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_HEX = re.compile(r"[0-9a-f]{64}")
_ROOT, _DIRECTORY, _BITS = (
    0o711,
    0o755,
    0o444,
)  # other users may read, and list only what they know the hash of


class Snapshots:
    """The store of one home. Programs of other Unix users may read what they know the hash of. Any thread."""

    def __init__(self, home: Path) -> None:
        self._root = home / "strategies"
        self._pruning = threading.Lock()  # between seeing that one is old and taking it away

    def has(self, content: str) -> bool:
        """Whether anything is kept under that hash."""
        return bool(_kept(self._root / hex_of(content)))

    def kept_as(self, content: str, name: str) -> str | None:
        """The file of that stem under that hash, or None."""
        return next((f for f in sorted(_kept(self._root / hex_of(content))) if split(f)[0] == name), None)

    def keep(self, content: str, file: str, data: bytes) -> None:
        """Keep these bytes; no effect if they are there. Raises ValueError if they are not those of the hash."""
        path = self._root / hex_of(content) / safe(file)
        if content_hash(data) != content:
            raise ValueError(f"these are not the bytes of {content}")
        with self._pruning, contextlib.suppress(FileNotFoundError):
            os.utime(path.parent, follow_symlinks=False)  # young again
        with contextlib.suppress(OSError):
            if not path.parent.is_symlink() and _read(path) == data:
                return
        with effect("keep snapshot"):
            self._root.mkdir(parents=True, exist_ok=True)
            self._root.chmod(_ROOT)
            if not _is_directory(path.parent):
                _remove(path.parent)
                path.parent.mkdir(exist_ok=True)
                _sync(self._root)
            path.parent.chmod(_DIRECTORY)
            _write(path, data)

    def place(self, content: str, file: str) -> str:
        """The absolute path of these very bytes under that file name. Raises SnapshotLostError and OSError."""
        directory, wanted = self._root / hex_of(content), safe(file)
        unreadable: OSError | None = None
        for name in sorted(_kept(directory), key=lambda name: (name != wanted, name)):
            try:
                data = _read(directory / name)
            except FileNotFoundError:
                continue
            except OSError as error:  # of this host or this moment: no reason to remove it
                unreadable = error
                continue
            if data is None or content_hash(data) != content:
                with effect("remove corrupt snapshot"):
                    _remove(directory / name)
                continue
            if name != wanted:
                with effect("keep snapshot"):
                    _write(directory / wanted, data)
            return str(directory / wanted)
        if unreadable is not None:
            raise unreadable
        raise SnapshotLostError(
            f"the bytes of {content} are not in {self._root} any more; the strategy's source must be seen again"
        )

    def prune(self, used: Collection[str]) -> list[str]:
        """Remove what is not used and not young; the hashes that went."""
        gone = []
        for name in _names(self._root):
            path = self._root / name
            if name.startswith(".gone-") and self._old(path):
                shutil.rmtree(path, ignore_errors=True)
            elif _HEX.fullmatch(name) and f"sha256:{name}" not in used and self._old(path):
                with effect("prune snapshot"):
                    trash = self._root / f".gone-{name}-{secrets.token_hex(4)}"
                    with self._pruning:
                        if not self._old(path):
                            continue
                        path.rename(trash)
                    shutil.rmtree(trash, ignore_errors=True)
                gone.append(f"sha256:{name}")
        return gone

    def _old(self, path: Path) -> bool:
        return _is_directory(path) and _age(path) > YOUNG_SECONDS


def hex_of(content: str) -> str:
    """The 64 digits of a hash. Raises ValueError."""
    found = _HASH.fullmatch(content)
    if found is None:
        raise ValueError(f"{content!r} is no sha256:<64 hex digits>")
    return found[1]


def safe(file: str) -> str:
    """A name that a file of a strategy can have. Raises ValueError."""
    if not _FILE.fullmatch(file):
        raise ValueError(f"{file!r} is no file name of a strategy")
    return file


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _kept(directory: Path) -> list[str]:
    return [] if directory.is_symlink() else [n for n in _names(directory) if not n.startswith(".")]


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _age(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.lstat().st_mtime
    return 0.0


def _remove(path: Path) -> None:
    if _is_directory(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read(path: Path) -> bytes | None:
    """None for what is no file."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return None
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return file.read()


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, also after a power cut."""
    fresh = path.with_name(f".{secrets.token_hex(6)}.tmp")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _BITS), "wb") as file:
            os.fchmod(file.fileno(), _BITS)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if _is_directory(path):
            _remove(path)
        fresh.rename(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # if nothing else is there
            path.parent.rmdir()
        raise
    for name in _names(path.parent):
        left = path.with_name(name)
        if name.startswith(".") and name.endswith(".tmp") and _age(left) > YOUNG_SECONDS:
            left.unlink(missing_ok=True)  # of a writer that was killed
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
