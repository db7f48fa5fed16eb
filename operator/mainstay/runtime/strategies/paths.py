"""What the path of a directory depends on, and which changes concern it."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

_HOPS = 64  # more links than the kernel follows


@dataclass(frozen=True, slots=True)
class Change:
    """One path that was told."""

    path: str
    at: float  # wall clock
    file: bool  # a regular file, or nothing any more


def change(path: str) -> Change:
    """When it changed, as nearly as can be said now."""
    with contextlib.suppress(OSError):
        info = os.lstat(path)
        return Change(path, info.st_ctime, stat.S_ISREG(info.st_mode))
    with contextlib.suppress(OSError):  # of what is gone the directory says when
        return Change(path, os.stat(os.path.dirname(path)).st_ctime, True)
    return Change(path, time.time(), True)


def concerns(change: Change, real: str, related: Collection[str], include: Collection[str]) -> bool:
    """A log that is written beside the strategies changes nothing; a link there may lead to all of them."""
    if change.path == real or change.path in related:
        return True
    directory, file = os.path.split(change.path)
    if directory != real:
        return False
    return not change.file or any(fnmatchcase(file, pattern) for pattern in include)


def related(path: str) -> frozenset[str]:
    """Who replaces one of these replaces the directory: itself, the links to it, and whatever is missing of it.

    Each as inotify tells it: without links, but for the last component.
    """
    found: set[str] = set()
    following, followed = [path], 0
    while following and followed < _HOPS:
        current, followed = following.pop(), followed + 1
        found.add(_canonical(current))
        while current != os.path.dirname(current):
            if os.path.islink(current):
                found.add(_canonical(current))
                following.append(os.path.join(os.path.dirname(current), os.readlink(current)))
            elif not os.path.lexists(current):
                found.add(_canonical(current))
            current = os.path.dirname(current)
    return frozenset(found)


def nearest(path: str) -> str:
    """The directory, or the nearest one above that exists."""
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def identity(path: str) -> tuple[int, int] | None:
    """Which directory it is; None if there is none."""
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return None
    return info.st_dev, info.st_ino


def _canonical(path: str) -> str:
    directory, name = os.path.split(path.rstrip("/"))
    return (
        os.path.realpath(path) if name in {"", ".", ".."} else os.path.join(os.path.realpath(directory), name)
    )
