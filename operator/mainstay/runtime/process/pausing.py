"""Pausing: hold first, so that a unit killed while paused comes back held; then stop every member."""

from __future__ import annotations

import asyncio
import signal

import aiohttp

from mainstay.runtime.base import PauseCall, ProcessId, RuntimeUnavailableError
from mainstay.runtime.process import proc
from mainstay.runtime.process.observe import Observer, confirmation
from mainstay.runtime.process.stopping import Stopper
from mainstay.runtime.process.unitdir import UnitDir

STABLE_ROUNDS = 50  # of STOP until nobody new appears: a fork bomb is not stopped by signals alone


class Pauser:
    """Pauses and resumes units of one scope."""

    def __init__(self, observer: Observer, stopper: Stopper) -> None:
        self._observer = observer
        self._stopper = stopper

    async def pause(self, unit: UnitDir, call: PauseCall | None) -> None:
        """See Runtime.pause."""
        files = self._observer.files(unit)
        marker = files.paused
        if marker is None:
            await asyncio.to_thread(unit.mark_with, "paused", [])
        leader = self._running(unit)
        if leader is None:
            return  # a fence sees the marker; nothing of the user's runs
        if call is None:
            await self._stop_members(unit, leader)
            return
        if marker is not None and marker.get("confirmed") == confirmation(leader):
            return
        await self._post(unit, call)
        await asyncio.to_thread(unit.mark_with, "paused", [("confirmed", confirmation(leader))])

    async def resume(self, unit: UnitDir, call: PauseCall | None) -> None:
        """See Runtime.resume."""
        marker = self._observer.files(unit).paused
        leader = self._running(unit)
        if call is not None and leader is not None and marker is not None:
            await self._continue_members(unit)  # it can't answer while it is stopped
            await self._post(unit, call)
        await asyncio.to_thread(unit.unmark, "paused")
        if call is None:
            await self._continue_members(unit)

    def _running(self, unit: UnitDir) -> ProcessId | None:
        """The leader once it is the user's program (or is about to be: the fence looks again after `Exec`)."""
        leader = unit.leader()
        if leader is None or leader.stage != "Exec" or proc.look(leader.process) is None:
            return None
        return leader.process

    async def _stop_members(self, unit: UnitDir, leader: ProcessId) -> None:
        """STOP until nobody moves. The leader counts even if it hasn't executed yet: it has looked already."""
        for _ in range(STABLE_ROUNDS):
            scan, found = await self._stopper.members(unit)
            moving = [
                one
                for one in found
                if (one == leader or one.pid not in scan.fences)
                and (seen := proc.look(one)) is not None
                and not seen.stopped
            ]
            if not moving:
                return
            for one in moving:
                proc.send(one, signal.SIGSTOP)
        raise RuntimeUnavailableError(f"the processes of {unit.name} fork faster than they can be stopped")

    async def _continue_members(self, unit: UnitDir) -> None:
        for _ in range(2):  # one that was forked while its parent was being stopped shows in the second look
            scan, found = await self._stopper.members(unit)
            still = [one for one in found if scan.table[one.pid].state in "Tt"]
            if not still:
                return
            for one in still:
                proc.send(one, signal.SIGCONT)

    async def _post(self, unit: UnitDir, call: PauseCall) -> None:
        leader = self._observer.files(unit).leader
        port = leader.port if leader is not None else None
        if port is None:
            raise RuntimeUnavailableError(f"{unit.name} has no control port to send {call.path} to")
        url = f"http://127.0.0.1:{port}{call.path}"
        timeout = aiohttp.ClientTimeout(total=call.timeout_seconds)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
                session.post(url, allow_redirects=False) as response,
            ):
                status = response.status
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise RuntimeUnavailableError(f"POST {call.path} to port {port}: {error or 'timeout'}") from error
        if not 200 <= status < 300:
            raise RuntimeUnavailableError(f"POST {call.path} to port {port} was answered with {status}")
