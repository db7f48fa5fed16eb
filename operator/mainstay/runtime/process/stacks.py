"""The scopes of stacks on this host: one for each, opened when it is first needed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from mainstay.runtime.base import RuntimeUnavailableError
from mainstay.runtime.process.stackscope import StackScope, known_scopes, sweep_trash

Key = tuple[str, str]


class ProcessStacks:
    """Implements Stacks under one home."""

    def __init__(self, home: Path, *, home_id: str, extra_env: Mapping[str, str] | None = None) -> None:
        self._home = home
        self._home_id = home_id
        self._extra_env = dict(extra_env or {})
        self._open: dict[Key, StackScope] = {}
        self._locks: defaultdict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._queues: dict[asyncio.Queue[Key], set[Key]] = {}  # with what waits in it
        self._closed = False

    async def start_up(self) -> None:
        """Delete what interrupted removals left. Opens no scope: their supervisords go on by themselves."""
        await asyncio.to_thread(sweep_trash, self._home)

    async def close(self) -> None:
        """End our own tasks and connections. supervisords and units go on."""
        self._closed = True
        for key in list(self._locks):
            async with self._locks[key]:
                if (scope := self._open.pop(key, None)) is not None:
                    await scope.close()

    async def open(self, key: Key) -> StackScope:
        """See Stacks."""
        async with self._locks[key]:
            if (scope := self._open.get(key)) is not None:
                if await self._whole(scope):
                    return scope
                del self._open[key]  # its directory was removed by somebody else
                await scope.close()
            if self._closed:
                raise RuntimeUnavailableError("these stacks were closed")
            scope = self._scope(key)
            try:
                await scope.start_up()
            except BaseException:
                await scope.close()
                raise
            self._open[key] = scope
        self._tell(key)
        return scope

    async def _whole(self, scope: StackScope) -> bool:
        """Whether an open scope is still there; its owner's name is put back if somebody deleted it."""
        if not scope.exists():
            return False
        try:
            await asyncio.to_thread(scope.record_owner)
        except OSError as error:
            raise RuntimeUnavailableError(f"the scope can't be opened: {error}") from error
        return True

    def _scope(self, key: Key) -> StackScope:
        return StackScope(
            self._home,
            key,
            home_id=self._home_id,
            extra_env=self._extra_env,
            on_change=lambda: self._tell(key),
        )

    def known(self) -> Sequence[Key]:
        """See Stacks."""
        return sorted({*self._open, *(key for key, _ in known_scopes(self._home))})

    async def remove(self, key: Key) -> None:
        """See Stacks."""
        async with self._locks[key]:
            scope = self._open.get(key) or self._scope(
                key
            )  # not started up: it would have a supervisord first
            try:
                await scope.dissolve()
                self._open.pop(key, None)
            finally:
                if key not in self._open:
                    await scope.close()
            await asyncio.to_thread(sweep_trash, self._home)
        self._tell(key)

    async def changes(self) -> AsyncIterator[Key]:
        """See Stacks. A key waiting to be read isn't repeated."""
        queue: asyncio.Queue[Key] = asyncio.Queue()
        waiting = self._queues[queue] = set()
        try:
            while True:
                key = await queue.get()
                waiting.discard(key)
                yield key
        finally:
            del self._queues[queue]

    def _tell(self, key: Key) -> None:
        for queue, waiting in self._queues.items():
            if key not in waiting:
                waiting.add(key)
                queue.put_nowait(key)
