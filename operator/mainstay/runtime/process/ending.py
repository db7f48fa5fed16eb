"""Ending one scope's supervisord on purpose: it signals none of its programs, and no stale file stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

from mainstay.runtime import effects
from mainstay.runtime.base import ProcessId, RuntimeUnavailableError
from mainstay.runtime.process import proc, records
from mainstay.runtime.process.lost import KILL_SECONDS, end_lost
from mainstay.runtime.process.observe import Scans
from mainstay.runtime.process.scope import Scope
from mainstay.runtime.process.stopping import wait_gone

LOCK_SECONDS = 10.0  # for a launcher between fork and exec to become a supervisord, or to end
ANSWER_SECONDS = 2.0


@contextlib.asynccontextmanager
async def ended(scope: Scope, scans: Scans, *, seconds: float, force: bool = False) -> AsyncIterator[None]:
    """End supervisord; for the length of the block nobody can start a new one.

    That nobody holds the scope's lock is proven by holding it, so the files that are removed then are stale.
    Raises RuntimeUnavailableError if the lock can't be had.
    """
    scope.unwanted += 1
    try:
        # Who waits just now for an answer of a hung one waits no longer.
        if (holder := scope.holder()) is not None and (force or _stopped(holder)):
            proc.send(holder, signal.SIGKILL)
        async with scope.ensuring:
            lock = await _take_lock(scope, scans, seconds, force)
            try:
                await end_lost(scope.mark, scope.dir.lock)
                records.discard(scope.dir.socket)
                records.discard(f"{scope.dir.path}/supervisord.pid")
                yield
            finally:
                if lock is not None:
                    os.close(lock)
    finally:
        scope.unwanted -= 1


async def _take_lock(scope: Scope, scans: Scans, seconds: float, force: bool) -> int | None:
    """The scope's lock; None if its directory is gone."""
    deadline = proc.boottime() + LOCK_SECONDS
    while True:
        try:
            if (lock := scope.try_lock()) is not None:
                return lock
        except FileNotFoundError:
            return None
        if (holder := scope.holder()) is not None:
            await _end(scope, scans, holder, seconds, force)
            continue
        # A launcher between fork and exec, or another operator that has just looked whether the lock is free.
        if proc.boottime() > deadline:
            raise RuntimeUnavailableError(f"the lock {scope.dir.lock} is held by an unknown process")
        await asyncio.sleep(0.01)


def _stopped(process: ProcessId) -> bool:
    seen = proc.look(process)
    return seen is not None and seen.stopped


async def _end(scope: Scope, scans: Scans, process: ProcessId, seconds: float, force: bool) -> None:
    until = proc.boottime() + seconds
    if not force and await _would_end_alone(scans, process):
        with contextlib.suppress(RuntimeUnavailableError):
            if await scope.answers(min(ANSWER_SECONDS, seconds)) and scope.process == process:
                with effects.effect("supervisord shutdown"):
                    left = max(0.01, until - proc.boottime())
                    await scope.supervisor.call("supervisor.shutdown", timeout=left)
                await wait_gone(process, max(0.01, until - proc.boottime()))
    if proc.look(process) is not None:
        proc.send(process, signal.SIGKILL)
        if not await wait_gone(process, KILL_SECONDS):
            raise RuntimeUnavailableError(f"supervisord (pid {process.pid}) was killed, and hasn't ended yet")


async def _would_end_alone(scans: Scans, process: ProcessId) -> bool:
    """Whether it executes, and has no child: shutting down it would TERM its programs, which nobody asked for."""
    if _stopped(process):
        return False
    scan = await scans.fresh()
    return not scan.children.get(process.pid)
