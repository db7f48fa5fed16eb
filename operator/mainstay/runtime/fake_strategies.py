"""A Shelf in memory: directories are dictionaries, and a change is told at once. Passes the contract of the real one."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from mainstay.core import reasons
from mainstay.core.strategy.names import STRATEGY_NAME, hidden, split
from mainstay.core.strategy.views import DirectorySource, FileProblem, FileView, Listing, content_hash
from mainstay.runtime.base import SnapshotLostError, SourceChangedError
from mainstay.runtime.effects import effect
from mainstay.runtime.strategies.compiling import wrong
from mainstay.runtime.strategies.snapshots import hex_of, safe

Key = tuple[str, str]


@dataclass
class FakeShelf:
    """What is on this host. Survives every operator."""

    directories: dict[str, dict[str, bytes]] = field(default_factory=dict)  # absolute path → file → bytes
    snapshots: dict[str, dict[str, bytes]] = field(default_factory=dict)  # hash → file → bytes
    listeners: list[Callable[[Key], None]] = field(default_factory=list)  # called with what changed, at once
    _watched: dict[Key, DirectorySource] = field(default_factory=dict)
    _known: dict[Key, Listing] = field(default_factory=dict)

    # -- what tests do

    def change(self, directory: str, files: dict[str, bytes | None] | None) -> None:
        """Write files, or delete those that are None; None for all removes the directory itself."""
        if files is None:
            self.directories.pop(directory, None)
        else:
            present = self.directories.setdefault(directory, {})
            for file, data in files.items():
                if data is None:
                    present.pop(file, None)
                else:
                    present[file] = data
        for key, source in list(self._watched.items()):
            if source.path == directory:
                for tell in list(self.listeners):
                    tell(key)

    def forget(self) -> None:
        """The operator died: what was watched is for the next to say."""
        self._watched.clear()
        self._known.clear()

    # -- as the Protocol says

    def watch(self, key: Key, source: DirectorySource | None) -> None:
        """See Shelf."""
        if self._watched.get(key) == source:
            return
        self._known.pop(key, None)
        if source is None:
            self._watched.pop(key, None)
        else:
            self._watched[key] = source

    async def listing(self, key: Key, held: Mapping[str, str] | None = None) -> Listing:
        """See Shelf."""
        source = self._watched[key]
        present = self.directories.get(source.path)
        if present is None:
            words = f"there is no directory {source.path}; make it, or correct spec.source.directory."
            self._known[key] = Listing(error=(reasons.DIRECTORY_NOT_FOUND, words))
        else:
            self._known[key] = _listing(source, present, held or {})
        return self._known[key]

    def known(self, key: Key) -> Listing | None:
        """See Shelf."""
        return self._known.get(key)

    def dirty(self, key: Key) -> None:
        """See Shelf. Every listing is made anew."""

    async def changes(self) -> AsyncIterator[Key]:
        """See Shelf."""
        told: asyncio.Queue[Key] = asyncio.Queue()
        self.listeners.append(told.put_nowait)
        try:
            while True:
                yield await told.get()
        finally:
            self.listeners.remove(told.put_nowait)

    async def read(self, key: Key, view: FileView) -> bytes:
        """See Shelf."""
        source = self._watched.get(key)
        data = self.directories.get(source.path, {}).get(view.file) if source is not None else None
        if data is None or content_hash(data) != view.hash:
            raise SourceChangedError(view.file)
        return data

    async def problem(self, file: str, data: bytes) -> str | None:
        """See Shelf."""
        if not data.removeprefix(codecs.BOM_UTF8).strip():
            return "the file is empty"
        if not file.endswith(".py"):
            return None
        try:
            compile(data, file, "exec", dont_inherit=True)
        except SyntaxError as error:
            if error.lineno:  # without its text: logs of stories are read by people
                return f"line {error.lineno}: {error.msg}"
        except (RecursionError, MemoryError, ValueError):
            pass
        return wrong(file, data)

    def has(self, content: str) -> bool:
        """See Shelf."""
        return f"sha256:{hex_of(content)}" in self.snapshots

    def kept_as(self, content: str, name: str) -> str | None:
        """See Shelf."""
        return next(
            (file for file in sorted(self.snapshots.get(content, ())) if split(file)[0] == name), None
        )

    async def keep(self, content: str, file: str, data: bytes) -> None:
        """See Shelf."""
        if content_hash(data) != f"sha256:{hex_of(content)}":
            raise ValueError(f"these are not the bytes of {content}")
        if self.snapshots.get(content, {}).get(safe(file)) == data:
            return
        with effect("keep snapshot"):
            self.snapshots.setdefault(content, {})[file] = data

    async def place(self, content: str, file: str) -> str:
        """See Shelf."""
        path = f"/strategies/{hex_of(content)}/{safe(file)}"
        kept = self.snapshots.get(content)
        if kept is None:
            raise SnapshotLostError(f"the bytes of {content} are not kept here any more")
        kept.setdefault(file, next(iter(kept.values())))
        return path

    async def prune(self, used: Collection[str]) -> Collection[str]:
        """See Shelf."""
        gone = [content for content in self.snapshots if content not in used]
        for content in gone:
            with effect("prune snapshot"):
                del self.snapshots[content]
        return gone


def _listing(source: DirectorySource, present: dict[str, bytes], held: Mapping[str, str]) -> Listing:
    files: dict[str, FileView] = {}
    taken: dict[str, str] = {}
    problems = []
    counting = _counting(source, present)
    counting.sort(key=lambda file: (held.get(split(file)[0], file) != file, file))
    for file in counting:
        name, _ = split(file)
        data = present[file]
        if not STRATEGY_NAME.fullmatch(name):
            problems.append(FileProblem(file, reasons.NAME_INVALID, "no name of a strategy"))
        elif name in taken:
            problems.append(FileProblem(file, reasons.NAME_COLLISION, f"{taken[name]} is there"))
        elif len(data) > source.max_bytes:
            taken[name] = file
            problems.append(FileProblem(file, reasons.FILE_TOO_LARGE, "too large", name))
        else:
            taken[name] = file
            files[name] = FileView.of(name, file, data, modified_at=0.0)
    return Listing(files, tuple(problems))


def _counting(source: DirectorySource, present: Iterable[str]) -> list[str]:
    return sorted(
        file
        for file in present
        if not hidden(file) and any(fnmatchcase(file, pattern) for pattern in source.include)
    )
