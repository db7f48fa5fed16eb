"""State writes that were begun are finished, whatever becomes of the task that began them.

Each runs in a task of its own behind a shield. While the operator is closing each has WRITE_SECONDS and no more;
what is cut off then may or may not have reached the API server: the next operator reads which.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

WRITE_SECONDS = 5.0
"""What a write has once the operator is closing, from then or from its own beginning."""


class Finish(Protocol):
    """How a state write is awaited; `operation` is a word of a closed set, for the metric."""

    def __call__(self, operation: str, write: Coroutine[Any, Any, T], /) -> Awaitable[T]:
        """Return what the write returns."""
        ...


async def plainly(_: str, write: Coroutine[Any, Any, T]) -> T:
    """Nothing protects the write: of a command, which ends with its user."""
    return await write


class Writes:
    """The state writes under way. `cut` is called with the operation of each that had to be cut off."""

    def __init__(self, cut: Callable[[str], None]) -> None:
        self._cut = cut
        self._begun: dict[asyncio.Task[Any], str] = {}
        self._closing = False

    async def finish(self, operation: str, write: Coroutine[Any, Any, T]) -> T:
        """Await the write. It goes on when the caller is cancelled; a write within a write is part of it."""
        if asyncio.current_task() in self._begun:
            return await write
        task = asyncio.create_task(write, name=f"write {operation}")
        self._begun[task] = operation
        task.add_done_callback(self._begun.pop)
        if self._closing:
            self._limit(task)
        return await asyncio.shield(task)

    def close(self) -> None:
        """Give what is under way, and what is still begun, its last seconds."""
        if self._closing:
            return
        self._closing = True
        for task in self._begun:
            self._limit(task)

    async def drain(self) -> None:
        """Return once no write is under way: after `close`, at most WRITE_SECONDS later."""
        while self._begun:
            await asyncio.wait(tuple(self._begun))

    def _limit(self, task: asyncio.Task[Any]) -> None:
        asyncio.get_running_loop().call_later(WRITE_SECONDS, self._give_up, task)

    def _give_up(self, task: asyncio.Task[Any]) -> None:
        if task.done():
            return
        operation = self._begun[task]
        logger.error(
            "shutdown: %s was cut off after %.0f s; whether it counts, the next operator reads",
            operation,
            WRITE_SECONDS,
        )
        self._cut(operation)
        task.cancel()
