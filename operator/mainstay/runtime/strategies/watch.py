"""Telling that a directory may have changed, once it is still again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import stat
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from watchfiles import awatch

from mainstay.core.backoff import delay
from mainstay.core.strategy.views import DirectorySource

logger = logging.getLogger(__name__)

Key = tuple[str, str]

STEP_MILLISECONDS = 20
"""How often the watching thread looks whether something was told: this much of a debounce is its own."""
LONGEST = 10
"""A directory that is never still is read after so many debounces all the same."""


@dataclass(frozen=True, slots=True)
class _Change:
    path: str
    at: float  # wall clock
    file: bool  # a regular file, or nothing any more


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
        self._started = False  # a watch has been running

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
        failures = 0
        while True:
            self._renew.clear()
            paths = self._paths()
            if not paths:
                await self._renew.wait()
                continue
            self._works = True
            try:
                self._started = True
                await self._watch(paths)
                failures = 0
            except Exception as error:  # limits of inotify, a directory that is gone by now
                failures += 1
                self._works = failures < 3
                logger.log(
                    logging.WARNING if failures == 3 else logging.DEBUG,
                    "directories can't be watched: %s",
                    error,
                )
                self._tell(self._entries)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay(failures, initial=0.05, cap=30.0)):
                        await self._renew.wait()

    def close(self) -> None:
        """Forget all timers."""
        for entry in self._entries.values():
            _cancel(entry.due, entry.rescan)

    # -- what is watched

    def _paths(self) -> list[str]:
        """Every directory that has to be watched now; what is new or another one is told."""
        paths = set()
        for key, entry in self._entries.items():
            before = entry.identity
            entry.real, entry.related = os.path.realpath(entry.source.path), _links(entry.source.path)
            entry.identity = _identity(entry.real)
            if entry.identity is not None:
                paths.add(entry.real)
            paths.update(_nearest(os.path.dirname(path)) for path in entry.related)
            if entry.identity != before or self._started:
                # what the watch before had not told yet went with it; a pending debounce is not put off
                self._note(key, entry, time.time() if entry.identity != before else 0.0)
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
                self._noted(path for _, path in changes)
                # not by identity alone: a directory made again may get the inode number of the one before
                if any(path in e.related for _, path in changes for e in self._entries.values()):
                    return
                if any(
                    _identity(os.path.realpath(e.source.path)) != e.identity for e in self._entries.values()
                ):
                    return

    def _noted(self, paths: Iterable[str]) -> None:
        changes = [_change(path) for path in paths]
        for key, entry in self._entries.items():
            times = [change.at for change in changes if _concerns(change, entry)]
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


def _change(path: str) -> _Change:
    with contextlib.suppress(OSError):
        info = os.lstat(path)
        return _Change(path, info.st_ctime, stat.S_ISREG(info.st_mode))
    with contextlib.suppress(OSError):  # of what is gone the directory says when
        return _Change(path, os.stat(os.path.dirname(path)).st_ctime, True)
    return _Change(path, time.time(), True)


def _concerns(change: _Change, entry: _Entry) -> bool:
    """A log that is written beside the strategies changes nothing; a link there may lead to all of them."""
    if change.path == entry.real or change.path in entry.related:
        return True
    directory, file = os.path.split(change.path)
    if directory != entry.real:
        return False
    return not change.file or any(fnmatchcase(file, pattern) for pattern in entry.source.include)


def _links(path: str) -> frozenset[str]:
    """The path itself and every component of it, links followed: who replaces one of them replaces the directory."""
    found, current, hops = {path}, path, 0
    while current not in ("/", "") and hops < 64:
        hops += 1
        if os.path.islink(current):
            found.add(current)
            target = os.path.join(os.path.dirname(current), os.readlink(current))
            found |= {os.path.normpath(target)}
        current = os.path.dirname(current)
    return frozenset(found)


def _nearest(path: str) -> str:
    """The directory, or the nearest one above that exists."""
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _identity(path: str) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return None
    return (info.st_dev, info.st_ino)


def _cancel(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer is not None:
            timer.cancel()
