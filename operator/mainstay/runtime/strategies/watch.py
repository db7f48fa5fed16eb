"""Telling that a directory may have changed, once it is still again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from watchfiles import awatch

from mainstay.core.backoff import delay
from mainstay.core.strategy.views import DirectorySource
from mainstay.runtime.strategies.paths import change, concerns, identity, nearest, related

logger = logging.getLogger(__name__)

Key = tuple[str, str]

STEP_MILLISECONDS = 20
"""How often the watching thread looks whether something was told: this much of a debounce is its own."""
LONGEST = 10
"""A directory that is never still is read after so many debounces all the same."""


@dataclass(slots=True)
class _Entry:
    source: DirectorySource
    real: str = ""
    identity: tuple[int, int] | None = None  # of the directory that is watched; None while there is none
    related: frozenset[str] = frozenset()  # paths whose change makes `path` another directory
    first: float | None = None  # wall clock of the first change that has not been told
    due: asyncio.TimerHandle | None = None
    rescan: asyncio.TimerHandle | None = None


class Watcher:
    """One watch for all directories together: each would cost a thread. Call `run` in a task."""

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry] = {}
        self._told: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()  # in the queue
        self._renew = asyncio.Event()  # the set of directories has changed
        self._works = True
        self._failures = 0  # since it last worked

    def set(self, key: Key, source: DirectorySource | None) -> None:
        """Watch it, or forget it."""
        known = self._entries.pop(key, None)
        if known is not None:
            _cancel(known.due, known.rescan)
        if source is not None:
            entry = self._entries[key] = _Entry(source)
            self._rescan_later(key, entry)
        self._renew.set()

    def watched(self, key: Key) -> bool:
        """Whether changes of it are told at once."""
        return self._works and key in self._entries

    async def changes(self) -> AsyncIterator[Key]:
        """Each key whose directory may have changed, when it is still again. Never ends."""
        while True:
            key = await self._told.get()
            self._waiting.discard(key)
            if key in self._entries:
                yield key

    async def run(self) -> None:
        """Watch for ever, whatever goes wrong."""
        while True:
            self._renew.clear()
            try:
                if paths := self._paths():
                    self._works = True
                    await self._watch(paths)
                else:
                    await self._renew.wait()
            except Exception as error:  # limits of inotify, a directory that is gone by now
                self._failures += 1
                self._works = self._failures < 3
                level = logging.WARNING if self._failures == 3 else logging.DEBUG
                logger.log(level, "directories can't be watched: %s", error)
                self._tell(self._entries)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay(self._failures, initial=0.05, cap=30.0)):
                        await self._renew.wait()

    def close(self) -> None:
        """Forget all timers."""
        for entry in self._entries.values():
            _cancel(entry.due, entry.rescan)

    # -- what is watched

    def _paths(self) -> list[str]:
        """Every directory that has to be watched now. All are told: what a watch knew goes when it ends."""
        paths = set()
        for key, entry in self._entries.items():
            entry.real, entry.related = os.path.realpath(entry.source.path), related(entry.source.path)
            entry.identity = identity(entry.real)
            if entry.identity is not None:
                paths.add(entry.real)
            paths.update(nearest(os.path.dirname(path)) for path in entry.related)
            self._note(key, entry, time.time())
        return sorted(paths)

    async def _watch(self, paths: list[str]) -> None:
        """Return when the set of directories has to be worked out again."""
        seen = awatch(
            *paths,
            watch_filter=None,
            debounce=2 * STEP_MILLISECONDS,
            step=STEP_MILLISECONDS,
            stop_event=self._renew,
            recursive=False,
            rust_timeout=1000,
            yield_on_timeout=True,
        )
        async with contextlib.aclosing(seen):
            async for changes in seen:
                self._failures = 0
                told = {path for _, path in changes}
                self._noted(told)
                # not by identity alone: a directory made again may get the inode number of the one before
                if any(not told.isdisjoint(e.related) or _moved(e) for e in self._entries.values()):
                    return

    def _noted(self, paths: Iterable[str]) -> None:
        changes = [change(path) for path in paths]
        for key, entry in self._entries.items():
            include = entry.source.include
            times = [c.at for c in changes if concerns(c, entry.real, entry.related, include)]
            if times:
                self._note(key, entry, max(times))

    # -- when it is told

    def _note(self, key: Key, entry: _Entry, changed_at: float) -> None:
        """The quiet time counts from the change itself: what it took to hear of it is no part of it."""
        now, debounce = time.time(), entry.source.debounce_seconds
        entry.first = min(entry.first, now) if entry.first is not None else now
        quiet_from = min(max(changed_at, now - debounce), now)
        wait = min(quiet_from + debounce, entry.first + LONGEST * debounce) - now
        _cancel(entry.due)
        entry.due = asyncio.get_running_loop().call_later(max(0.0, wait), self._tell, (key,))

    def _rescan_later(self, key: Key, entry: _Entry) -> None:
        seconds = entry.source.rescan_seconds * random.uniform(0.9, 1.1)  # noqa: S311 - a jitter
        entry.rescan = asyncio.get_running_loop().call_later(seconds, self._rescan, key, entry)

    def _rescan(self, key: Key, entry: _Entry) -> None:
        if self._entries.get(key) is entry:
            self._tell((key,))
            self._rescan_later(key, entry)

    def _tell(self, keys: Iterable[Key]) -> None:
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None:
                entry.first = None
            if key not in self._waiting:
                self._waiting.add(key)
                self._told.put_nowait(key)


def _moved(entry: _Entry) -> bool:
    return identity(entry.source.path) != entry.identity


def _cancel(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer is not None:
            timer.cancel()
