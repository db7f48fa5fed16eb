"""Stopping a unit: intent first, TERM once, CONT to what is stopped, KILL to every member when it must be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import replace

from mainstay.runtime import effects
from mainstay.runtime.base import ProcessId, RuntimeUnavailableError
from mainstay.runtime.process import members, proc, rpc
from mainstay.runtime.process.members import Scan
from mainstay.runtime.process.observe import Observer, Scans
from mainstay.runtime.process.scope import Scope
from mainstay.runtime.process.unitdir import UnitDir

STOP_CALL_SECONDS = 2.0
KILL_SECONDS = 5.0  # for the kernel to end what was killed


async def wait_gone(process: ProcessId, seconds: float | None = None) -> bool:
    """Until this process has ended; False if it lives on after `seconds`."""
    fd = proc.open_pidfd(process)
    if fd is None:
        return True
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def on_end() -> None:
        loop.remove_reader(fd)
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(fd, on_end)
    try:
        async with asyncio.timeout(seconds):
            await ended
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
        with contextlib.suppress(OSError):
            os.close(fd)
    return True


class Stopper:
    """Ends units of one scope."""

    def __init__(
        self,
        scope: Scope,
        scans: Scans,
        observer: Observer,
        changed: Callable[[str], None],
        lock: Callable[[str], asyncio.Lock],
    ) -> None:
        """`lock` gives the lock of a unit that its start and stop hold, who calls `stop` holds it already."""
        self._lock = lock
        self._scope = scope
        self._scans = scans
        self._observer = observer
        self._changed = changed
        self._finishing: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """End our tasks; what was stopped stays stopped."""
        tasks = list(self._finishing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def members(self, unit: UnitDir) -> tuple[Scan, set[ProcessId]]:
        """Every member now, the fence included; those that only descent proves are remembered."""
        scan = await self._scans.fresh()
        leader = self._observer.files(unit).leader
        return scan, members.members_remembered(unit, scan, leader.process if leader else None)

    async def stop(self, unit: UnitDir, *, grace: float, force: bool, deleting: bool) -> None:
        """Begin to stop; see Runtime.stop."""
        marker = await asyncio.to_thread(unit.begin_stop, grace, deleting=deleting)
        _, found = await self.members(unit)
        if force:
            for one in found:
                proc.send(one, signal.SIGSTOP)  # supervisord has to be told before the KILL, and would TERM
        supervised = await self._tell_supervisord(unit.name)
        if force:
            await self._kill_all(unit)
            return
        leader = self._observer.files(unit).leader
        told = (leader.process.pid, leader.process.start_ticks) if leader is not None else (0, 0)
        if leader is not None and marker.told != told and leader.process.pid != supervised:
            proc.send(leader.process, signal.SIGTERM)  # an orphan: supervisord has told its own
        for one in found:
            if (seen := proc.look(one)) is not None and seen.state in "Tt":
                proc.send(one, signal.SIGCONT)
        if marker.told != told:
            await asyncio.to_thread(unit.write_stop, replace(marker, told=told))
        self.finish(unit, grace)

    async def _tell_supervisord(self, name: str) -> int:
        """Have supervisord TERM its process and not start it again. The pid it has told, else 0."""
        try:
            with effects.effect("supervisord stop"):
                stopped, told = await self._scope.supervisor.ask(
                    ("supervisor.stopProcess", [f"{name}:{name}", False]),
                    rpc.info_call(name),
                    timeout=STOP_CALL_SECONDS,
                )
                rpc.check(stopped, rpc.BAD_NAME, rpc.NOT_RUNNING)
        except rpc.FaultError:
            raise
        except RuntimeUnavailableError:
            return 0  # dead or hung: the marker holds its fence, and TERM goes to the leader directly
        info = rpc.read_info(told)
        return int(info["pid"]) if info is not None and info["state"] == rpc.STOPPING else 0

    def finish(self, unit: UnitDir, grace: float) -> None:
        """End in the background what the leader leaves: TERM, and KILL when the grace is over."""
        task = self._finishing.get(unit.name)
        if task is None or task.done():
            task = asyncio.create_task(self._finish(unit, grace), name=f"finish {unit.name}")
            self._finishing[unit.name] = task
            task.add_done_callback(lambda _: self._finishing.pop(unit.name, None))

    async def _finish(self, unit: UnitDir, grace: float) -> None:
        began = proc.boottime()
        told: set[ProcessId] = set()
        pause = 0.005
        while True:
            leader = self._observer.files(unit).leader
            if leader is not None:
                await wait_gone(leader.process)
            marker = unit.stop_marker()
            since = marker.since if marker and marker.boot_id == proc.boot_id() else began
            scan, found = await self.members(unit)
            rest = {one for one in found if one.pid not in scan.fences or marker is not None}
            latest = self._observer.files(unit).leader
            if latest is not None and proc.look(latest.process) is not None:
                if marker is None or not unit.marked("stop"):
                    break  # it was started again: what is left of it is its own
                if latest.stage == "Exec":
                    continue
            if not rest:
                break
            async with self._lock(unit.name):
                if marker is not None and not unit.marked("stop"):
                    break  # it was started since, and `rest` may be that
                await self._end(unit, scan, rest, told, stopping=marker is not None, until=since + grace)
            await asyncio.sleep(pause)
            pause = min(0.1, pause * 2)
        self._changed(unit.name)

    async def _end(
        self,
        unit: UnitDir,
        scan: Scan,
        rest: set[ProcessId],
        told: set[ProcessId],
        *,
        stopping: bool,
        until: float,
    ) -> None:
        if stopping and rest & {scan.process(pid) for pid in scan.fences}:
            await self._tell_supervisord(unit.name)  # else it would start one fence after another
        for one in rest:
            if proc.boottime() > until:
                proc.send(one, signal.SIGKILL)
            elif one not in told:
                told.add(one)
                proc.send(one, signal.SIGTERM)
                proc.send(one, signal.SIGCONT)

    async def _kill_all(self, unit: UnitDir) -> None:
        """KILL every member, looking again until there is none: one may have forked meanwhile."""
        deadline = proc.boottime() + KILL_SECONDS
        while proc.boottime() < deadline:
            _, found = await self.members(unit)
            if not found:
                break
            for one in found:
                proc.send(one, signal.SIGKILL)
            for one in found:
                await wait_gone(one, max(0.01, deadline - proc.boottime()))
        self._changed(unit.name)
