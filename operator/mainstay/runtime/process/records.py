"""Small files that survive a crash: written whole or not at all, and readable without a parser.

A record is `key=value` entries, each ended by one separator: NUL where values come from a user (they can't
hold a NUL), newline where they are ours and a person may want to read them. The last entry is `end=`; a
record without it was torn and counts as absent.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Sequence

from mainstay.runtime import effects

_numbers = itertools.count()

Entries = Sequence[tuple[str, str]]


def encode(entries: Iterable[tuple[str, str]], separator: str) -> bytes:
    """Entries as bytes. Raises ValueError if a value holds the separator."""
    pieces = []
    for key, value in entries:
        if separator in value or "\0" in value:
            raise ValueError(f"the value of {key} holds a character that can't be stored")
        pieces.append(f"{key}={value}{separator}")
    pieces.append(f"end={separator}")
    return os.fsencode("".join(pieces))


def decode(raw: bytes, separator: str) -> Entries | None:
    """The entries, or None for a torn or empty record."""
    parts = os.fsdecode(raw).split(separator)
    if len(parts) < 2 or parts[-2] != "end=":
        return None
    pairs = (part.partition("=") for part in parts[:-2])
    return [(key, value) for key, _, value in pairs]


def sync_directory(path: str) -> None:
    """Make renames in a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write(path: str, content: bytes, mode: int = 0o600, *, sync: bool = True) -> None:
    """Replace a file: temp, fsync, rename. The caller syncs the directory, once for many files."""
    temp = f"{path}.{os.getpid()}-{next(_numbers)}.tmp"
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(fd, mode)
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        if sync:
            os.fsync(fd)
    except BaseException:
        os.unlink(temp)
        raise
    finally:
        os.close(fd)
    with effects.effect(f"rename {os.path.basename(path)}"):
        os.rename(temp, path)


def write_if_changed(path: str, content: bytes, mode: int = 0o600) -> bool:
    """As `write`, unless the file already holds exactly this. True if it was written."""
    if read(path) == content:
        return False
    write(path, content, mode)
    return True


def sweep(directory: str, age: float = 60.0) -> None:
    """Delete temporary files that a crash left, once they are `age` seconds old."""
    for entry in os.scandir(directory):
        with contextlib.suppress(FileNotFoundError):  # another operator's, renamed meanwhile
            if entry.name.endswith(".tmp") and entry.stat().st_mtime < time.time() - age:
                discard(entry.path)


def read(path: str) -> bytes | None:
    """The content, None if there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(fd, "rb") as file:
        return file.read()


def discard(path: str) -> bool:
    """Delete a file. False if there was none."""
    try:
        with effects.effect(f"unlink {os.path.basename(path)}"):
            os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
