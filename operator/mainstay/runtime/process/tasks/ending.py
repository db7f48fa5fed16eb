"""Ending tasks: a stop, and what is left when a shim was killed. While a shim lives, it ends the rest itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import replace

from mainstay.runtime.base import GONE, ProcessId
from mainstay.runtime.process import proc, records
from mainstay.runtime.process.observe import Scans
from mainstay.runtime.process.stopping import KILL_SECONDS, wait_gone
from mainstay.runtime.process.tasks.files import TaskLeader, task_leader
from mainstay.runtime.process.tasks.observe import TaskObserver, living, task_members
from mainstay.runtime.process.unitdir import StopMarker, UnitDir

LEFT_SECONDS = 2.0  # for what a leader left, between TERM and KILL
YOUNG_SECONDS = 1.0  # by then who was claimed has told who it is
RETRY_SECONDS = 0.5
LOOK_SECONDS = 60.0  # the loop's clock doesn't count sleep of the machine


class Ender:
    """Ends tasks of one scope."""

    def __init__(
        self,
        scans: Scans,
        observer: TaskObserver,
        changed: Callable[[str], None],
        follow: Callable[[str], None],
    ) -> None:
        """`changed` is told of a unit that was ended, `follow` of one whose shim turns out to live."""
        self._scans = scans
        self._observer = observer
        self._changed = changed
        self._follow = follow
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """End our tasks; what was stopped stays stopped."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self, unit: UnitDir, *, grace: float, force: bool, deleting: bool) -> None:
        """Begin to stop; see TaskRuntime.stop."""
        marker = await asyncio.to_thread(unit.begin_stop, grace, deleting=deleting)
        leader = task_leader(unit)
        if leader is not None:
            _wake(leader.shim)
        if force:
            await self._kill_all(unit)
            return
        if leader is not None and living(leader.process):
            told = (leader.process.pid, leader.process.start_ticks)
            if marker.told != told:
                proc.send(leader.process, signal.SIGTERM)
                await asyncio.to_thread(unit.write_stop, replace(marker, told=told))
            _wake(leader.process)
        self.finish(unit)

    def finish(self, unit: UnitDir) -> None:
        """In the background: keep the grace of a stop, and stand in for a shim that was killed."""
        if (before := self._tasks.get(unit.name)) is not None:
            before.cancel()  # it may wait for what a stop has just changed
        task = asyncio.create_task(self._finish(unit), name=f"finish {unit.name}")
        self._tasks[unit.name] = task
        task.add_done_callback(lambda done: self._done(unit.name, done))

    def _done(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]

    async def _finish(self, unit: UnitDir) -> None:
        while True:
            try:
                await self._end_rest(unit)
            except OSError:  # out of descriptors, say
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _end_rest(self, unit: UnitDir) -> None:
        began = proc.boottime()
        told: set[ProcessId] = set()
        left_since = 0.0
        pause = 0.005
        while (seen := await self._observer.observe(unit)).state not in GONE:
            leader, marker = task_leader(unit), _present(unit.stop_marker())
            if leader is not None and leader.attempt != seen.attempt:
                leader = None
            over = leader is not None and living(leader.shim)
            if over and marker is None:
                self._follow(unit.name)  # the shim sees to it
                return
            running = leader is not None and living(leader.process)
            kill_at = self._kill_at(unit, leader, marker, told)
            now = proc.boottime()
            if kill_at is not None and now >= kill_at:
                await self._signal_all(unit, signal.SIGKILL, set())
            elif leader is not None and (over or running):
                target = leader.shim if over else leader.process
                due = self._term_at(unit, leader) if kill_at is None else kill_at
                await wait_gone(target, min(LOOK_SECONDS, max(0.0, due - now)))
                pause = 0.005
                continue
            elif leader is not None or marker is not None or now > began + YOUNG_SECONDS:
                left_since = left_since or now
                late = now > left_since + LEFT_SECONDS
                await self._signal_all(unit, signal.SIGKILL if late else signal.SIGTERM, told)
            await asyncio.sleep(pause)
            pause = min(0.1, pause * 2)
        self._changed(unit.name)

    def _term_at(self, unit: UnitDir, leader: TaskLeader) -> float:
        """When a program without a shim has had its time; CLOCK_BOOTTIME."""
        timeout = _timeout(unit, leader.attempt)
        return proc.boottime() + LOOK_SECONDS if timeout is None else leader.since + timeout

    def _kill_at(
        self, unit: UnitDir, leader: TaskLeader | None, marker: StopMarker | None, told: set[ProcessId]
    ) -> float | None:
        """When grace is over: of a stop, or of a timeout that no shim keeps (its TERM is sent here)."""
        if marker is not None:
            return marker.since + marker.grace
        if leader is None or not living(leader.process) or self._term_at(unit, leader) > proc.boottime():
            return None
        if leader.process not in told:
            told.add(leader.process)
            proc.send(leader.process, signal.SIGTERM)
            _wake(leader.process)
        spec = unit.spec()
        return self._term_at(unit, leader) + (spec.grace if spec is not None else 0.0)

    async def _members(self, unit: UnitDir) -> set[ProcessId]:
        return task_members(unit, await self._scans.fresh(), task_leader(unit))

    async def _signal_all(self, unit: UnitDir, number: signal.Signals, told: set[ProcessId]) -> None:
        for one in await self._members(unit):
            if number is signal.SIGKILL or one not in told:
                told.add(one)
                proc.send(one, number)
                _wake(one)

    async def _kill_all(self, unit: UnitDir) -> None:
        """KILL every member, looking again until there is none: one may have forked meanwhile."""
        deadline = proc.boottime() + KILL_SECONDS
        while proc.boottime() < deadline:
            found = await self._members(unit)
            for one in found:
                proc.send(one, signal.SIGKILL)
            leader = task_leader(unit)
            waited = found | ({leader.shim} if leader is not None else set())
            for one in waited:
                await wait_gone(one, max(0.01, deadline - proc.boottime()))
            if (await self._observer.observe(unit)).state in GONE:
                break
            await asyncio.sleep(0.005)
        self._changed(unit.name)

    async def stop_and_wait(self, unit: UnitDir, grace: float) -> None:
        """Stop a unit and wait until it is gone, by force when `grace` seconds are over."""
        await self.stop(unit, grace=grace, force=False, deleting=False)
        deadline = proc.boottime() + grace
        while (await self._observer.observe(unit)).state not in GONE:
            left = deadline - proc.boottime()
            if left <= 0:
                await self.stop(unit, grace=grace, force=True, deleting=False)
            leader = task_leader(unit)
            if leader is None or await wait_gone(leader.shim, max(0.05, left)):
                await asyncio.sleep(0.01)


def _wake(process: ProcessId) -> None:
    """CONT what is stopped: it can't see a TERM, nor write down an exit."""
    if (seen := proc.look(process)) is not None and seen.state in "Tt":
        proc.send(process, signal.SIGCONT)


def _present(marker: StopMarker | None) -> StopMarker | None:
    """A stop of this boot."""
    return marker if marker is not None and marker.boot_id == proc.boot_id() else None


def _timeout(unit: UnitDir, attempt: int) -> float | None:
    """Seconds that an attempt may take, by the spec it was started from."""
    raw = records.read(unit.file("spec"))
    entries = dict(records.decode(raw, "\0") or ()) if raw else {}
    with contextlib.suppress(KeyError, ValueError):
        if int(entries["attempt"]) == attempt:
            return float(entries["timeout"])
    return None
