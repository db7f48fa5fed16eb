"""Contents of strategies, kept by their hash: `strategies/<64 hex digits>/<file>` below the home.

A program may run as another Unix user, so its file can be read by all; what is here is found by hash alone.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from mainstay.runtime.base import SnapshotLostError
from mainstay.runtime.effects import effect
from mainstay.runtime.process.records import sync_directory

YOUNG = 60.0
"""Seconds that a snapshot is safe from being pruned: whoever made it may not have said yet what for."""

_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_HEX = re.compile(r"[0-9a-f]{64}")
_KEEP, _PRUNE = ".keep-", ".prune-"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Snapshots:
    """The store. Every method blocks, for milliseconds, and may be called from any thread.

    All raise ValueError for what is no hash (`sha256:` and 64 lower-case hex digits) or no file name.
    """

    def __init__(self, home: Path) -> None:
        self.root = str(home / "strategies")
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._known: dict[str, str] = {}  # hash → a file that was seen

    def has(self, content: str) -> bool:
        """Whether a file of that hash is there. Its bytes are verified when it is placed."""
        directory = self._directory(content)
        known = self._known.get(content)
        if known is not None and _is_file(known):
            return True
        for path in _files(directory):
            self._known[content] = path
            return True
        self._known.pop(content, None)
        return False

    def keep(self, content: str, file: str, data: bytes) -> None:
        """Make a snapshot; durable when this returns. Raises ValueError if these aren't the bytes of that hash."""
        directory = self._directory(content)
        _check_file(file)
        if hashlib.sha256(data).hexdigest() != os.path.basename(directory):
            raise ValueError(f"these are not the bytes of {content}")
        path = f"{directory}/{file}"
        with self._lock:
            if self._whole(path, content) is None:
                self._write(path, data)
            os.utime(directory)
            self._known[content] = path

    def place(self, content: str, file: str) -> str:
        """Absolute path of the snapshot under that name, its bytes verified. Raises SnapshotLostError."""
        directory = self._directory(content)
        _check_file(file)
        path = f"{directory}/{file}"
        with self._lock:
            if self._whole(path, content) is None:
                for other in list(_files(directory)):
                    if (data := self._whole(other, content)) is not None:
                        self._write(path, data)
                        break
                else:
                    self._known.pop(content, None)
                    raise SnapshotLostError(f"the bytes of {content} are not kept here any more")
            os.utime(directory)
            self._known[content] = path
        return path

    def prune(self, used: Collection[str]) -> list[str]:
        """Remove what is not used, but for the newest; the hashes that went. Clears up after crashes, too."""
        gone = []
        kept = set(used)
        for entry in _scan(self.root):
            if _HEX.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                content = f"sha256:{entry.name}"
                if content in kept:
                    self._sweep(entry.path)
                elif self._prune_one(entry.path, content):
                    gone.append(content)
            elif entry.name.startswith(_PRUNE) and entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
        self._sweep(self.root)
        return gone

    def _prune_one(self, directory: str, content: str) -> bool:
        aside = f"{self.root}/{_PRUNE}{os.path.basename(directory)}-{os.getpid()}-{next(self._numbers)}"
        with self._lock:
            try:
                if os.lstat(directory).st_mtime > time.time() - YOUNG:
                    return False
                with effect("prune snapshot"):
                    os.rename(directory, aside)
            except FileNotFoundError:
                return False
            self._known.pop(content, None)
        shutil.rmtree(aside, ignore_errors=True)  # what is left goes with the next prune
        return True

    def _sweep(self, directory: str) -> None:
        for entry in _scan(directory):
            try:
                if (
                    entry.name.startswith(_KEEP)
                    and entry.is_file(follow_symlinks=False)
                    and entry.stat(follow_symlinks=False).st_mtime < time.time() - YOUNG
                ):
                    os.unlink(entry.path)
            except FileNotFoundError:
                continue

    def _directory(self, content: str) -> str:
        if (match := _HASH.fullmatch(content)) is None:
            raise ValueError(f"{content[:80]!r} is no hash: sha256: and 64 hex digits")
        return f"{self.root}/{match[1]}"

    def _whole(self, path: str, content: str) -> bytes | None:
        """The bytes if they are those of the hash. What else is there under that name is removed."""
        try:
            with open(os.open(path, _READ), "rb") as file:
                seen = os.fstat(file.fileno())
                if stat.S_ISREG(seen.st_mode):
                    data = file.read()
                    if hashlib.sha256(data).hexdigest() == content.removeprefix("sha256:"):
                        if stat.S_IMODE(seen.st_mode) != 0o444:
                            os.fchmod(file.fileno(), 0o444)
                        return data
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # a link, a directory, a bad disk: nothing that could be used
            pass
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
        return None

    def _write(self, path: str, data: bytes) -> None:
        directory = os.path.dirname(path)
        with effect("keep snapshot"):
            _make(self.root, 0o711)
            if _make(directory, 0o755):
                sync_directory(self.root)
            temp = f"{directory}/{_KEEP}{os.getpid()}-{next(self._numbers)}"
            fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o400)
            try:
                with open(fd, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fchmod(fd, 0o444)
                    os.fsync(fd)
                os.rename(temp, path)
            except OSError:
                os.unlink(temp)
                raise
            sync_directory(directory)


def _make(path: str, mode: int) -> bool:
    """Have a directory of exactly that mode; True if it was made. A link in its place is removed."""
    if os.path.islink(path) and _HEX.fullmatch(os.path.basename(path)):
        os.unlink(path)
    try:
        os.makedirs(path)
        made = True
    except FileExistsError:
        made = False
    if stat.S_IMODE(os.stat(path).st_mode) != mode:
        os.chmod(path, mode)
    return made


def _check_file(file: str) -> None:
    if not file or file.startswith(".") or "/" in file or "\0" in file:
        raise ValueError(f"{file[:80]!r} can't be the name of a snapshot's file")


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _scan(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(directory: str) -> Iterator[str]:
    if os.path.islink(directory):
        return
    for entry in _scan(directory):
        if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
            yield entry.path
