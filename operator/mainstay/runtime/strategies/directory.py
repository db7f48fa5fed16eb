"""What a directory of strategies has: each file read once, and again only when it may be another one."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mainstay.core import reasons
from mainstay.core.strategy.names import STRATEGY_NAME, hidden, split
from mainstay.core.strategy.views import DirectorySource, FileProblem, FileView, Listing
from mainstay.runtime.base import SourceChangedError

FILES_MAX = 5000
RACY_SECONDS = 0.1
"""A file that was changed that shortly before it was read may have been changed again without a trace."""
TRIES = 3

_Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Read:
    stamp: _Stamp
    safe: bool  # the stamp will tell of any later change
    view: FileView


class Directory:
    """One directory. Not for two threads at once."""

    def __init__(self, source: DirectorySource) -> None:
        self._source = source
        self._read: dict[str, _Read] = {}

    def scan(self) -> Listing:
        """Look at everything in it. Whatever is wrong is part of the answer."""
        path = self._source.path
        try:
            root = os.path.realpath(path)
            names = sorted(os.listdir(root))
        except FileNotFoundError:
            words = f"there is no directory {path}; make it, or correct spec.source.directory."
            return Listing(error=(reasons.DIRECTORY_NOT_FOUND, words))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            return Listing(error=(reasons.DIRECTORY_UNREADABLE, f"{path} can't be read: {why}."))
        files: dict[str, FileView] = {}
        problems: list[FileProblem] = []
        counting = [n for n in names if not hidden(n) and self._counts(n)]
        for file in counting[:FILES_MAX]:
            found = self._one(root, file, files)
            if isinstance(found, FileView):
                files[found.name] = found
            elif found is not None:
                problems.append(found)
        if len(counting) > FILES_MAX:
            words = f"{len(counting)} files, and a library has at most {FILES_MAX}; the rest are not offered"
            problems.append(FileProblem(_shown(counting[FILES_MAX]), reasons.TOO_MANY_FILES, words))
        seen = set(counting)
        self._read = {file: read for file, read in self._read.items() if file in seen}
        return Listing(files, tuple(sorted(problems, key=lambda p: p.file)))

    def bytes_of(self, view: FileView) -> bytes:
        """The bytes that were seen. Raises SourceChangedError if the file has others now."""
        try:
            data, _ = _load(
                os.path.join(os.path.realpath(self._source.path), view.file), self._source.max_bytes
            )
        except (OSError, _TooLargeError, _NotAFileError) as error:
            raise SourceChangedError(f"{view.file}: {error}") from error
        if "sha256:" + hashlib.sha256(data).hexdigest() != view.hash:
            raise SourceChangedError(f"{view.file} has other bytes by now")
        return data

    def _counts(self, file: str) -> bool:
        return any(fnmatchcase(file, pattern) for pattern in self._source.include)

    def _one(self, root: str, file: str, files: dict[str, FileView]) -> FileView | FileProblem | None:
        """The strategy, what is wrong with it, or None for one that is gone again."""
        name, _ = split(file)
        shown = _shown(file)
        if not STRATEGY_NAME.fullmatch(name):
            words = (
                f"{shown[:120]!r}: names of strategies are letters, digits, _ and -, at most 100, and begin with a "
                "letter or digit; rename the file"
            )
            return FileProblem(shown, reasons.NAME_INVALID, words)
        if name in files:
            words = f"strategy {name} is {files[name].file} already; rename or remove one of them"
            return FileProblem(shown, reasons.NAME_COLLISION, words)
        path = os.path.join(root, file)
        try:
            target = os.path.realpath(path, strict=True)
            if os.path.commonpath((root, target)) != root:
                words = f"it is a link to {_shown(target)}, outside of the library; put the file itself there"
                return FileProblem(shown, reasons.SYMLINK_ESCAPES, words)
            return self._view(name, file, target)
        except FileNotFoundError:
            if os.path.islink(path):
                return FileProblem(shown, reasons.FILE_UNREADABLE, "it is a link to nothing; remove it")
            return None
        except _TooLargeError as error:
            words = f"{error.size} bytes, and spec.maxFileBytes is {self._source.max_bytes}"
            return FileProblem(shown, reasons.FILE_TOO_LARGE, words)
        except _NotAFileError:
            return FileProblem(shown, reasons.NOT_A_FILE, "it is no regular file; rename or remove it")
        except OSError as error:
            looped = error.errno == errno.ELOOP
            words = "links that go round in a circle" if looped else f"can't be read: {error.strerror}"
            return FileProblem(shown, reasons.FILE_UNREADABLE, words)

    def _view(self, name: str, file: str, target: str) -> FileView:
        known = self._read.get(file)
        if known is not None and known.safe and known.stamp == _stamp(os.stat(target)):
            return known.view
        began = time.time()
        data, info = _load(target, self._source.max_bytes)
        view = FileView(
            name=name,
            file=file,
            hash="sha256:" + hashlib.sha256(data).hexdigest(),
            md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
            size=len(data),
            modified_at=info.st_mtime,
        )
        safe = info.st_size == len(data) and began - info.st_ctime > RACY_SECONDS
        self._read[file] = _Read(_stamp(info), safe, view)
        return view


class _TooLargeError(Exception):
    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes are too many")
        self.size = size


class _NotAFileError(Exception):
    pass


def _load(path: str, most: int) -> tuple[bytes, os.stat_result]:
    """The bytes, and the state that they belong to. Never waits for a writer of a pipe."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: a device may act on that
        raise _NotAFileError
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        file = open(descriptor, "rb", buffering=0)  # noqa: SIM115 - closed below
    except OSError:
        os.close(descriptor)  # open() leaves it to us when it fails, as for a directory
        raise
    with file:
        for _ in range(TRIES):
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise _NotAFileError
            if before.st_size > most:
                raise _TooLargeError(before.st_size)
            file.seek(0)
            data = b""
            while len(data) <= most and (piece := file.read(most + 1 - len(data))):
                data += piece
            if len(data) > most:
                raise _TooLargeError(os.fstat(descriptor).st_size)
            if _stamp(os.fstat(descriptor)) == _stamp(before):
                break
        return data, before


def _stamp(info: os.stat_result) -> _Stamp:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _shown(name: str) -> str:
    """A file name that can be written in a status."""
    plain = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in plain)[:253]
