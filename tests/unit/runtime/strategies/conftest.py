"""A shelf on a home of its own, and what it tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mainstay.core.strategy.views import DirectorySource
from mainstay.runtime.strategies import Shelf

KEY = ("trading", "main")
DEBOUNCE = 0.1


class Place:
    """A directory that is watched, and when it was told."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "source"
        self.shelf = Shelf(home)
        self.told: list[tuple[float, tuple[str, str]]] = []
        self._more = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    def watch(self, path: Path | None = None, key: tuple[str, str] = KEY) -> None:
        self.shelf.watch(key, DirectorySource(str(path or self.path), debounce_seconds=DEBOUNCE))

    async def open(self) -> None:
        await self.shelf.start_up()
        self._listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        assert self._listening is not None
        self._listening.cancel()
        await asyncio.wait([self._listening])
        await self.shelf.close()

    async def settled(self) -> None:
        """Nothing was told for a while: what is told from now on is of later changes."""
        await self.settled_keeping()
        self.told.clear()

    async def settled_keeping(self) -> None:
        """As `settled`, but what was told stays."""
        while True:
            self._more.clear()
            try:
                await asyncio.wait_for(self._more.wait(), 3 * DEBOUNCE)
            except TimeoutError:
                return

    async def tells(self, key: tuple[str, str] = KEY, seconds: float = 1.0) -> float:
        """Wall clock at which the key was told. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not (times := [at for at, told in self.told if told == key]):
                self._more.clear()
                await self._more.wait()
        return times[-1]

    async def _listen(self) -> None:
        async for key in self.shelf.changes():
            self.told.append((time.time(), key))
            self._more.set()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path.resolve())
    await made.open()
    try:
        yield made
    finally:
        await made.close()
