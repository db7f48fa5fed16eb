"""What one operator knows of this host's strategies; the host itself is shared, and survives it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.sim.steps import step

from mainstay.core.strategy.views import FileView, Listing
from mainstay.runtime.fake_strategies import FakeShelf, Key


class SimShelf(FakeShelf):
    """The package's fake shelf, with a step at every call, on the disk of the world."""

    def __init__(self, disk: FakeShelf) -> None:
        super().__init__(disk.directories, disk.snapshots)

    async def listing(self, key: Key, held: Mapping[str, str] | None = None) -> Listing:
        await step("list directory")
        return await super().listing(key, held)

    async def look(self, key: Key, view: FileView) -> bytes:
        await step("look into file")
        return await super().read(key, view)

    read = look

    async def keep(self, content: str, file: str, data: bytes) -> None:
        await step("keep")
        await super().keep(content, file, data)
        await step("done keep")

    async def place(self, content: str, file: str) -> str:
        await step("place")
        return await super().place(content, file)
