"""What a directory of strategies has: each file read once, and again only when it may be another one."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType

from mainstay.core import reasons
from mainstay.core.strategy.names import NAME_RULE, STRATEGY_NAME, hidden, split
from mainstay.core.strategy.views import DirectorySource, FileProblem, FileView, Listing, content_hash
from mainstay.runtime.base import SourceChangedError

FILES_MAX = 5000
CLOCK_SECONDS = 0.02
"""The clock of a file system is that coarse, and so are our timers."""
RACY_SECONDS = 0.1
"""A file that was changed that shortly before it was read may have been changed again without a trace."""
TRIES = 3
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

_Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Read:
    stamp: _Stamp
    safe: bool  # the stamp will tell of any later change
    view: FileView


class Directory:
    """One directory. Any thread.

    A file that was changed less than `still_seconds` ago counts as it was read before: it may be half written, and
    whoever looks now may do so for another file's sake. One that was never read is read at once.
    """

    def __init__(self, source: DirectorySource, still_seconds: float = 0.0) -> None:
        self._source = source
        self._still_seconds = still_seconds
        self._read: dict[str, _Read] = {}
        self._scanning = threading.Lock()

    def scan(self, held: Mapping[str, str] = MappingProxyType({})) -> Listing:
        """Look at everything in it. Whatever is wrong is part of the answer; `held` as in Shelf.listing."""
        path = self._source.path
        try:
            with self._scanning:
                for _ in range(TRIES):
                    if (listing := self._scan(os.path.realpath(path), held)) is not None:
                        return listing
            return Listing(error=(reasons.DIRECTORY_UNREADABLE, f"{path} is replaced all the time."))
        except FileNotFoundError:
            words = f"there is no directory {path}; make it, or correct spec.source.directory."
            return Listing(error=(reasons.DIRECTORY_NOT_FOUND, words))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            return Listing(error=(reasons.DIRECTORY_UNREADABLE, f"{path} can't be read: {why}."))

    def _scan(self, root: str, held: Mapping[str, str]) -> Listing | None:
        """None if the directory went away in the middle: that its files went, too, says nothing of them."""
        before = os.stat(root)
        counting = [n for n in os.listdir(root) if not hidden(n) and self._counts(n)]
        counting.sort(key=lambda file: (held.get(split(file)[0], file) != file, file))
        files: dict[str, FileView] = {}
        taken: dict[str, str] = {}  # also by those that can't be read: another must not step in for them
        problems: list[FileProblem] = []
        gone = False
        for file in counting[:FILES_MAX]:
            try:
                view = self._one(root, file, taken)
            except _UnfitError as error:
                name = (
                    "" if error.reason in (reasons.NAME_INVALID, reasons.NAME_COLLISION) else split(file)[0]
                )
                problems.append(FileProblem(_shown(file), error.reason, str(error), name))
                if name:
                    taken[name] = file
            except FileNotFoundError:
                gone = True
            else:
                files[view.name], taken[view.name] = view, file
        if len(counting) > FILES_MAX:
            words = f"{len(counting)} files, and a library has at most {FILES_MAX}; the rest are not offered"
            problems.append(FileProblem(_shown(counting[FILES_MAX]), reasons.TOO_MANY_FILES, words))
        self._read = {file: self._read[file] for file in counting if file in self._read}
        if gone and not (os.path.isdir(root) and os.path.samestat(before, os.stat(root))):
            return None
        return Listing(files, tuple(sorted(problems, key=lambda p: p.file)))

    def bytes_of(self, view: FileView) -> bytes:
        """The bytes that were seen. Raises SourceChangedError if the file has others now."""
        try:
            target = _target(os.path.realpath(self._source.path), view.file)
            data, _ = _load(target, self._source.max_bytes)
        except (OSError, _UnfitError) as error:
            raise SourceChangedError(f"{view.file}: {error}") from error
        if content_hash(data) != view.hash:
            raise SourceChangedError(f"{view.file} has other bytes by now")
        return data

    def _counts(self, file: str) -> bool:
        return any(fnmatchcase(file, pattern) for pattern in self._source.include)

    def _one(self, root: str, file: str, taken: Mapping[str, str]) -> FileView:
        """Raises _UnfitError, and FileNotFoundError for one that is gone again."""
        name, _ = split(file)
        if not STRATEGY_NAME.fullmatch(name):
            raise _UnfitError(reasons.NAME_INVALID, f"{NAME_RULE}; rename the file")
        if name in taken:
            words = f"strategy {name} is {taken[name]} already; rename or remove one of them"
            raise _UnfitError(reasons.NAME_COLLISION, words)
        path = os.path.join(root, file)
        for _ in range(TRIES):
            try:
                return self._view(name, file, _target(root, file))
            except FileNotFoundError:
                if not os.path.exists(path):
                    break  # else what it links to was just replaced
            except OSError as error:
                looped = error.errno == errno.ELOOP and os.path.islink(path)
                words = "links that go round in a circle" if looped else f"can't be read: {error.strerror}"
                raise _UnfitError(reasons.FILE_UNREADABLE, words) from error
        if os.path.islink(path):
            raise _UnfitError(reasons.FILE_UNREADABLE, "it is a link to nothing; remove it")
        raise FileNotFoundError(path)

    def _view(self, name: str, file: str, target: str) -> FileView:
        known = self._read.get(file)
        if known is not None:
            now = os.stat(target)
            same = known.safe and known.stamp == _stamp(now)
            if same or 0 <= time.time() - now.st_ctime < self._still_seconds - CLOCK_SECONDS:
                return known.view
        began = time.time()
        data, info = _load(target, self._source.max_bytes)
        view = FileView.of(name, file, data, modified_at=info.st_mtime)
        safe = info.st_size == len(data) and began - info.st_ctime > RACY_SECONDS
        self._read[file] = _Read(_stamp(info), safe, view)
        return view


class _UnfitError(Exception):
    """It can't be offered: why, in a word and in words."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.reason = reason


def _target(root: str, file: str) -> str:
    """Where links lead to."""
    path = os.path.join(root, file)
    if not os.path.islink(path):
        return path
    target = os.path.realpath(path, strict=True)
    if os.path.commonpath((root, target)) != root:
        words = f"it is a link to {_shown(target)}, outside of the library; put the file itself there"
        raise _UnfitError(reasons.SYMLINK_ESCAPES, words)
    return target


def _load(path: str, most: int) -> tuple[bytes, os.stat_result]:
    """The bytes, and the state that they belong to. Never waits for a writer of a pipe."""
    _fits(os.stat(path), most)  # before it is opened: a device may act on that
    with open(os.open(path, _FLAGS), "rb", buffering=0) as file:
        for _ in range(TRIES):
            before = os.fstat(file.fileno())
            _fits(before, most)
            file.seek(0)
            data = b""
            while len(data) <= most and (piece := file.read(most + 1 - len(data))):
                data += piece
            after = os.fstat(file.fileno())
            _fits(after, most)
            if _stamp(after) == _stamp(before):
                break
        return data[:most], before


def _fits(info: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise _UnfitError(reasons.NOT_A_FILE, "it is no regular file; rename or remove it")
    if info.st_size > most:
        raise _UnfitError(reasons.FILE_TOO_LARGE, f"{info.st_size} bytes, and spec.maxFileBytes is {most}")


def _stamp(info: os.stat_result) -> _Stamp:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _shown(name: str) -> str:
    """A file name that can be written in a status."""
    plain = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in plain)[:253]
