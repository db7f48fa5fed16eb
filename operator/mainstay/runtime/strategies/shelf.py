"""What the shell sees of strategies on this host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mainstay.core.strategy.views import DirectorySource, FileView, Listing
from mainstay.runtime.base import RuntimeUnavailableError, SourceChangedError
from mainstay.runtime.strategies.checker import Checker
from mainstay.runtime.strategies.directory import Directory
from mainstay.runtime.strategies.snapshots import Snapshots
from mainstay.runtime.strategies.watch import Key, Watcher


@dataclass(slots=True)
class _Library:
    source: DirectorySource
    directory: Directory
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    changes: int = 1  # that were told
    read: int = 0  # of those, how many the listing has seen
    listing: Listing | None = None


class Shelf:
    """Implements the Protocol of the same name for a home. `start_up` before anything else."""

    def __init__(self, home: Path) -> None:
        self._snapshots = Snapshots(home)
        self._checker = Checker()
        self._watcher = Watcher()
        self._libraries: dict[Key, _Library] = {}
        self._watching: asyncio.Task[None] | None = None

    async def start_up(self) -> None:
        """Begin to watch."""
        self._watching = asyncio.create_task(self._watcher.run(), name="watch strategies")

    async def close(self) -> None:
        """End what was begun."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        self._watcher.close()
        await self._checker.close()

    # -- directories

    def watch(self, key: Key, source: DirectorySource | None) -> None:
        """See Shelf."""
        known = self._libraries.get(key)
        if (known.source if known is not None else None) == source:
            return
        self._watcher.set(key, source)
        if source is None:
            del self._libraries[key]
        else:
            self._libraries[key] = _Library(source, Directory(source, source.debounce_seconds))

    async def listing(self, key: Key, held: Mapping[str, str] | None = None) -> Listing:
        """See Shelf. What is told while it is read is read again by the next call."""
        library = self._libraries[key]
        async with library.reading:
            if library.listing is None or library.read < library.changes:
                changes = library.changes
                library.listing = await asyncio.to_thread(library.directory.scan, held or {})
                library.read = changes
            return replace(library.listing, watched=self._watcher.watched(key))

    def known(self, key: Key) -> Listing | None:
        """See Shelf."""
        library = self._libraries.get(key)
        return library.listing if library is not None else None

    def dirty(self, key: Key) -> None:
        """See Shelf."""
        if (library := self._libraries.get(key)) is not None:
            library.changes += 1

    async def changes(self) -> AsyncIterator[Key]:
        """See Shelf."""
        async for key in self._watcher.changes():
            self.dirty(key)
            yield key

    async def read(self, key: Key, view: FileView) -> bytes:
        """See Shelf."""
        library = self._libraries.get(key)
        if library is None:
            raise SourceChangedError(f"library {key[1]} is not watched any more")
        return await asyncio.to_thread(library.directory.bytes_of, view)

    async def problem(self, file: str, data: bytes) -> str | None:
        """See Shelf."""
        return await self._checker.problem(file, data)

    # -- snapshots

    def has(self, content: str) -> bool:
        """See Shelf."""
        return self._snapshots.has(content)

    def kept_as(self, content: str, name: str) -> str | None:
        """See Shelf."""
        return self._snapshots.kept_as(content, name)

    async def keep(self, content: str, file: str, data: bytes) -> None:
        """See Shelf."""
        await asyncio.to_thread(self._snapshots.keep, content, file, data)

    async def place(self, content: str, file: str) -> str:
        """See Shelf."""
        try:
            return await asyncio.to_thread(self._snapshots.place, content, file)
        except OSError as error:
            raise RuntimeUnavailableError(f"the snapshot of {content} can't be placed: {error}") from error

    async def prune(self, used: Collection[str]) -> Collection[str]:
        """See Shelf."""
        return await asyncio.to_thread(self._snapshots.prune, used)
