"""What a directory of strategies holds now."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mainstay.core import reasons
from mainstay.core.strategy.names import STRATEGY_NAME, hidden, split
from mainstay.core.strategy.views import DirectorySource, FileProblem, FileView, Listing
from mainstay.runtime.base import SourceChangedError
from mainstay.runtime.strategies.files import (
    Signature,
    UnfitError,
    VanishedError,
    locate,
    opened,
    settled,
    signature,
)
from mainstay.runtime.strategies.texts import quoted, shown

MOST_FILES = 5000
RACY_NS = 100_000_000
"""A file written this shortly before it was read may be written again with the same time stamps."""

_SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]{1,20})?")


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as it was read, and at which state."""

    signature: Signature
    view: FileView


class Directory:
    """One directory. `scan` is for one thread at a time; `read` may run beside it."""

    def __init__(self, source: DirectorySource) -> None:
        self.source = source
        self._cache: dict[str, _Read] = {}

    def scan(self) -> Listing:
        """Look at every file; those that weren't written since the last time are not read again. Blocks."""
        path = self.source.path
        try:
            root = os.path.realpath(path, strict=True)
            present = os.listdir(root)
        except FileNotFoundError:
            words = f"there is no directory {shown(path)}; make it, or correct spec.source.directory."
            return self._failed(reasons.DIRECTORY_NOT_FOUND, words)
        except NotADirectoryError:
            words = f"{shown(path)} is not a directory; correct spec.source.directory."
            return self._failed(reasons.DIRECTORY_UNREADABLE, words)
        except OSError as error:
            words = (
                f"{shown(path)} can't be read: {error.strerror}; "
                "let the user that the operator runs as read it, or correct spec.source.directory."
            )
            return self._failed(reasons.DIRECTORY_UNREADABLE, words)
        return self._listing(root, sorted(file for file in present if self.counts(file)))

    def counts(self, file: str) -> bool:
        """Whether a file of that name is meant to be a strategy."""
        return not hidden(file) and any(fnmatchcase(file, pattern) for pattern in self.source.include)

    def read(self, view: FileView) -> bytes:
        """The bytes that were seen. Blocks. Raises SourceChangedError."""
        try:
            root = os.path.realpath(self.source.path, strict=True)
            path, _ = locate(root, view.file)
            with opened(root, path) as fd:
                data, _, _ = settled(fd, self.source.max_bytes)
        except (OSError, UnfitError, VanishedError) as error:
            raise SourceChangedError(f"{view.file} can't be read any more: {error}") from error
        if _sha256(data) != view.hash:
            raise SourceChangedError(f"{view.file} was written since it was looked at")
        return data

    def _failed(self, reason: str, message: str) -> Listing:
        self._cache = {}
        return Listing(error=(reason, message))

    def _listing(self, root: str, present: list[str]) -> Listing:
        files: dict[str, FileView] = {}
        problems = []
        cache: dict[str, _Read] = {}
        taken: dict[str, str] = {}
        for file in present[:MOST_FILES]:
            name, suffix = split(file)
            try:
                _check_name(file, name, suffix)
                if name in taken:
                    words = f"has the same name as {taken[name]}, which counts; rename one of them."
                    raise UnfitError(reasons.NAME_COLLISION, words)
                view = self._view(root, file, name, cache)
            except VanishedError:
                continue
            except UnfitError as error:
                problems.append(FileProblem(shown(file), error.reason, str(error)))
                if error.reason not in {reasons.NAME_INVALID, reasons.NAME_COLLISION}:
                    taken[name] = file
            else:
                taken[name], files[name] = file, view
        problems += _rest(present)
        self._cache = cache
        return Listing(files, tuple(sorted(problems, key=lambda problem: problem.file)))

    def _view(self, root: str, file: str, name: str, cache: dict[str, _Read]) -> FileView:
        path, seen = locate(root, file)
        known = self._cache.get(file)
        if known is not None and known.signature == signature(seen):
            cache[file] = known
            return known.view
        with opened(root, path) as fd:
            read_at = time.time_ns()
            data, seen, still = settled(fd, self.source.max_bytes)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        view = FileView(name, file, _sha256(data), md5, len(data), seen.st_mtime)
        if still and read_at - seen.st_ctime_ns > RACY_NS:
            cache[file] = _Read(signature(seen), view)
        return view


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _check_name(file: str, name: str, suffix: str) -> None:
    if not STRATEGY_NAME.fullmatch(name) or not _SUFFIX.fullmatch(suffix):
        words = (
            f"{quoted(file)} can't be a strategy's name: before the suffix 1 to 100 characters A-Z, a-z, 0-9, "
            "'_' and '-' are allowed, a letter or digit first; rename it, or begin it with '_' to leave it out."
        )
        raise UnfitError(reasons.NAME_INVALID, words)


def _rest(present: list[str]) -> Iterator[FileProblem]:
    left = len(present) - MOST_FILES
    if left > 0:
        words = (
            f"this and the files after it, {left} in all, are left out: a library has at most {MOST_FILES} files; "
            "use several directories, or narrower patterns."
        )
        yield FileProblem(shown(present[MOST_FILES]), reasons.TOO_MANY_FILES, words)
