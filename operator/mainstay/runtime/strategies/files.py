"""Reading one file of a directory: never outside of it, never a device, never more than allowed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from mainstay.core import reasons

Signature = tuple[int, int, int, int, int]
"""(device, inode, size, mtime in ns, ctime in ns): another one means that the file was written."""

READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 3


class UnfitError(Exception):
    """The file can't be offered: a reason and a message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class VanishedError(Exception):
    """The file was there a moment ago."""


def signature(seen: os.stat_result) -> Signature:
    """What tells whether a file was written since."""
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def locate(root: str, file: str) -> tuple[str, os.stat_result]:
    """Path and state of the regular file that `file` in the real directory `root` is, symlinks followed.

    Raises UnfitError, and VanishedError if there is no such name.
    """
    path = f"{root}/{file}"
    for left in reversed(range(_TRIES)):
        try:
            seen = os.lstat(path)
        except FileNotFoundError:
            raise VanishedError(file) from None
        except OSError as error:
            raise unreadable(error) from None
        if not stat.S_ISLNK(seen.st_mode):
            return path, _regular(seen)
        try:
            real = os.path.realpath(path, strict=True)
            if not real.startswith(root.rstrip("/") + "/"):
                raise UnfitError(
                    reasons.SYMLINK_ESCAPES,
                    "is a symbolic link to a place outside of the directory; copy the file into it.",
                )
            return real, _regular(os.lstat(real))
        except OSError as error:
            # a mounted ConfigMap removes what a link led to just after it has turned the link
            if error.errno != errno.ENOENT or not left:
                raise unreadable(error, linked=True) from None
    raise AssertionError


@contextmanager
def opened(root: str, path: str) -> Iterator[int]:
    """Open what `locate` found. Raises UnfitError, and VanishedError if it isn't there any more."""
    try:
        fd = os.open(path, READ_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise VanishedError(path) from None
    except OSError as error:
        raise unreadable(error) from None
    try:
        _regular(os.fstat(fd))
        # a directory on the way may have become a link to elsewhere since
        if not os.readlink(f"/proc/self/fd/{fd}").startswith(root.rstrip("/") + "/"):
            raise VanishedError(path)
        yield fd
    finally:
        os.close(fd)


def content(fd: int, limit: int) -> bytes:
    """All bytes from the start, at most `limit` + 1. Raises UnfitError."""
    pieces = []
    left = limit + 1
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        while left and (piece := os.read(fd, left)):
            pieces.append(piece)
            left -= len(piece)
    except OSError as error:
        raise unreadable(error) from None
    return b"".join(pieces)


def settled(fd: int, limit: int) -> tuple[bytes, os.stat_result, bool]:
    """(content, state, whether it stood still meanwhile). Raises UnfitError, for too large a file too."""
    for left in reversed(range(_TRIES)):
        before = os.fstat(fd)
        too_large(before.st_size, limit)
        data = content(fd, limit)
        too_large(len(data), limit)
        after = os.fstat(fd)
        still = signature(before) == signature(after)
        if still or not left:
            return data, after, still
    raise AssertionError


def too_large(size: int, limit: int) -> None:
    """Raise UnfitError if it is."""
    if size > limit:
        words = f"has {size} bytes, more than the {limit} allowed; raise spec.maxFileBytes, or make it smaller."
        raise UnfitError(reasons.FILE_TOO_LARGE, words)


def unreadable(error: OSError, *, linked: bool = False) -> UnfitError:
    """What to say of a file that can't be read."""
    why = error.strerror or str(error)
    if linked:
        words = f"is a symbolic link that leads nowhere ({why}); correct or remove it."
    else:
        words = f"can't be read: {why}; let the user that the operator runs as read it, or remove it."
    return UnfitError(reasons.FILE_UNREADABLE, words)


def _regular(seen: os.stat_result) -> os.stat_result:
    if stat.S_ISREG(seen.st_mode):
        return seen
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(seen.st_mode), "a device")
    raise UnfitError(reasons.NOT_A_FILE, f"is {kind}, not a file; rename or remove it.")
