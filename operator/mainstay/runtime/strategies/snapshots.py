"""Every content that was offered, by its hash: `<home>/strategies/<64 hex digits>/<Name>.py`.

What a run was started with is here for as long as anything may start it again, whatever becomes of the source.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Collection
from pathlib import Path

from mainstay.runtime.base import SnapshotLostError
from mainstay.runtime.effects import effect

HASH = re.compile(r"sha256:([0-9a-f]{64})")
FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
YOUNG_SECONDS = 60.0
"""Nothing younger is pruned: who keeps a snapshot says a moment later that it is used."""

_HEX = re.compile(r"[0-9a-f]{64}")
_BITS = 0o444


class Snapshots:
    """The store of one home. Programs of other Unix users may read what they know the hash of."""

    def __init__(self, home: Path) -> None:
        self._root = home / "strategies"
        self._writing = threading.Lock()  # calls come from several threads

    def has(self, content: str) -> bool:
        """Whether anything is kept under that hash."""
        try:
            return any(not name.startswith(".") for name in os.listdir(self._directory(content)))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def keep(self, content: str, file: str, data: bytes) -> None:
        """Keep these bytes; no effect if they are there. Raises ValueError if they are not those of the hash."""
        if _hash(data) != content:
            raise ValueError(f"these are not the bytes of {content}")
        path = self._directory(content) / _safe(file)
        with self._writing:
            self._keep(path, data)

    def _keep(self, path: Path, data: bytes) -> None:
        if _read(path) == data:
            os.utime(path.parent)  # young again: whoever keeps it now will say so a moment later
            return
        self._root.mkdir(parents=True, exist_ok=True)
        os.chmod(self._root, 0o711)  # noqa: S103 - whatever the umask: other users pass, and can't look
        with effect("keep snapshot"):
            path.parent.mkdir(mode=0o755, exist_ok=True)
            os.chmod(path.parent, 0o755)  # noqa: S103 - for programs of other users; who can't guess it can't list it
            _write(path, data)

    def place(self, content: str, file: str) -> str:
        """The absolute path of these very bytes under that file name. Raises SnapshotLostError."""
        directory, wanted = self._directory(content), _safe(file)
        with self._writing:
            return self._place(content, directory, wanted)

    def _place(self, content: str, directory: Path, wanted: str) -> str:
        try:
            names = sorted(os.listdir(directory), key=lambda name: (name != wanted, name))
        except (FileNotFoundError, NotADirectoryError):
            names = []
        for name in (n for n in names if not n.startswith(".")):
            data = _read(directory / name)
            if data is None or _hash(data) != content:
                with effect("remove corrupt snapshot"):
                    (directory / name).unlink(missing_ok=True)
                continue
            if name != wanted:
                with effect("keep snapshot"):
                    _write(directory / wanted, data)
            return str(directory / wanted)
        raise SnapshotLostError(
            f"the bytes of {content} are not in {self._root} any more; the strategy's source must be seen again"
        )

    def prune(self, used: Collection[str]) -> list[str]:
        """Remove what is not used and not young; the hashes that went."""
        gone = []
        old = time.time() - YOUNG_SECONDS
        for name in _names(self._root):
            path = self._root / name
            try:
                info = path.lstat()
            except FileNotFoundError:
                continue
            if info.st_mtime > old or f"sha256:{name}" in used or path.is_symlink():
                continue
            if name.startswith(".gone-"):
                shutil.rmtree(path, ignore_errors=True)
            elif _HEX.fullmatch(name):
                with self._writing, effect("prune snapshot"):
                    if path.lstat().st_mtime > old:
                        continue  # kept again just now
                    trash = self._root / f".gone-{name}-{secrets.token_hex(4)}"
                    path.rename(trash)
                    shutil.rmtree(trash, ignore_errors=True)
                gone.append(f"sha256:{name}")
        return gone

    def _directory(self, content: str) -> Path:
        found = HASH.fullmatch(content)
        if found is None:
            raise ValueError(f"{content!r} is no sha256:<64 hex digits>")
        return self._root / found[1]


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def _safe(file: str) -> str:
    if not FILE.fullmatch(file):
        raise ValueError(f"{file!r} is no file name of a strategy")
    return file


def _hash(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _read(path: Path) -> bytes | None:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return file.read()
    except OSError:
        return None


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, also after a power cut."""
    fresh = path.with_name(f".{secrets.token_hex(6)}.tmp")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _BITS)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, _BITS)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    os.rename(fresh, path)
    for name in _names(path.parent):
        if name.startswith(".") and name.endswith(".tmp"):
            (path.parent / name).unlink(missing_ok=True)  # of a writer that was killed
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
