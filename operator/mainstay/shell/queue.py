"""A work queue: a key is in it once, and worked on by one worker at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from mainstay.core.backoff import delay

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

WORKERS = 64
"""Keys worked on at once; more only wait for the API server."""

INITIAL_BACKOFF_SECONDS = 0.05
MAX_BACKOFF_SECONDS = 30.0

CANCEL_SECONDS = 1.0
"""What cancelled work has to end; it should take no time at all."""


class Queue(Generic[K]):
    """Calls `work(key)` for every key added, at least once after its last `add`.

    `work` answers the seconds after which it wants to be called again, or None. When it raises, the key
    comes back with capped exponential backoff.
    """

    def __init__(self, work: Callable[[K], Awaitable[float | None]], workers: int = WORKERS) -> None:
        self._work = work
        self._slots = asyncio.Semaphore(workers)
        self._running: dict[K, asyncio.Task[None]] = {}
        self._dirty: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._busy: set[K] = set()
        self._closed = False
        self.retried: Callable[[K], None] = lambda _: None
        """Called when work on a key failed and is to be tried again."""

    def add(self, key: K) -> None:
        """Work on the key now, or once more when it is being worked on."""
        if self._closed:
            return
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._running:
            self._dirty.add(key)
            return
        self._running[key] = asyncio.create_task(self._run(key), name=f"reconcile {key}")

    def add_after(self, key: K, seconds: float) -> None:
        """Work on the key after that time, unless it is worked on earlier."""
        if self._closed:
            return
        if key in self._running:
            self._dirty.add(key)
            return
        loop = asyncio.get_running_loop()
        if timer := self._timers.get(key):
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self.add, key)

    @property
    def depth(self) -> int:
        """Keys being worked on or waiting for a worker."""
        return len(self._running)

    def shut(self) -> None:
        """Take no more keys, and begin no work on those that wait."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def close(self, seconds: float | None = None) -> list[K]:
        """Let begun work end, for so many seconds, and cancel the rest; the keys whose work was cut off."""
        self.shut()
        tasks = list(self._running.values())
        if not tasks:
            return []
        try:
            await asyncio.wait(tasks, timeout=seconds)
        finally:
            cut = list(self._busy)
            for task in tasks:
                task.cancel()
        await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
        return cut

    async def _run(self, key: K) -> None:
        again: float | None = None
        try:
            async with self._slots:
                while not self._closed:
                    self._dirty.discard(key)
                    self._busy.add(key)
                    again = await self._once(key)
                    if key not in self._dirty:
                        break
        finally:
            self._busy.discard(key)
            self._dirty.discard(key)
            del self._running[key]
        if again is not None:
            self.add_after(key, again)

    async def _once(self, key: K) -> float | None:
        try:
            again = await self._work(key)
        except Exception:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            wait = delay(failures, initial=INITIAL_BACKOFF_SECONDS, cap=MAX_BACKOFF_SECONDS)
            level = logging.DEBUG if failures < 4 else logging.WARNING
            self.retried(key)
            logger.log(level, "%s failed %d times, again in %.2f s", key, failures, wait, exc_info=True)
            return wait
        self._failures.pop(key, None)
        return again
