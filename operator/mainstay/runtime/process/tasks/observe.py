"""What is true of a task: from its files and one look at its leader, its shim and its lock.

/proc is searched only when all of these are gone and no record says that nothing was left: after a shim was
killed, or the machine went down.
"""

from __future__ import annotations

from collections.abc import Callable

from mainstay.runtime.base import Exit, ProcessId, Unit, UnitState
from mainstay.runtime.process import members, proc
from mainstay.runtime.process.members import Scan
from mainstay.runtime.process.observe import Scans, found_leader
from mainstay.runtime.process.tasks import files as task_files
from mainstay.runtime.process.tasks.files import TaskFiles, TaskLeader
from mainstay.runtime.process.unitdir import UnitDir


def living(process: ProcessId | None) -> bool:
    """Whether exactly this process lives."""
    return proc.look(process) is not None


def task_members(unit: UnitDir, scan: Scan, leader: TaskLeader | None) -> set[ProcessId]:
    """Every living process of a task but its shim, which is ours. What only descent proves is written down."""
    found = members.members_remembered(unit, scan, leader.process if leader else None)
    if leader is not None and scan.has(leader.shim):
        found |= {scan.process(pid) for pid in scan.descendants(leader.shim.pid, unit)}
    return found


class TaskObserver:
    """Looks at the tasks of one scope."""

    def __init__(self, scans: Scans, known_alive: Callable[[str], bool]) -> None:
        """`known_alive` tells of names whose process we hold: their directory may have been deleted by hand."""
        self._scans = scans
        self._known_alive = known_alive
        self._gone: dict[str, tuple[int, int]] = {}  # name → inode and attempt that were searched for in vain

    def forget(self, name: str) -> None:
        """Drop what is cached of a removed unit."""
        self._gone.pop(name, None)

    async def observe(self, unit: UnitDir, *, scan_after: float | None = None) -> Unit:
        """What is true now. A search of /proc that began at `scan_after` or later is taken as new."""
        files = task_files.read(unit)
        if files is None:
            return await self._without_directory(unit)
        live = self._glance(unit, files)
        if live is None:  # the record may have been written, and the lock let go, after it was read
            files = task_files.read(unit) or files
            live = self._glance(unit, files)
        if live is None:
            age = 0.0 if scan_after is None else proc.boottime() - scan_after
            scan = await self._scans.fresh(age)
            live = bool(task_members(unit, scan, files.leader or files.earlier))
            again = task_files.read(unit)
            if again is None or again.attempt != files.attempt:
                return await self.observe(unit)
            files = again
            if not live:
                self._gone[unit.name] = (files.inode, files.attempt)
        return self._unit(unit, files, live)

    def _glance(self, unit: UnitDir, files: TaskFiles) -> bool | None:
        """Whether something of the unit lives, as far as that is known without a search."""
        if files.exit is not None and files.exit.clean:
            return False
        leader = files.leader or files.earlier
        if leader is not None and (living(leader.process) or living(leader.shim)):
            return True
        if members.lock_held(unit):
            return True
        if files.attempt == 0 or self._gone.get(unit.name) == (files.inode, files.attempt):
            return False
        return None

    def _unit(self, unit: UnitDir, files: TaskFiles, live: bool) -> Unit:
        leader, spec, record = files.leader, files.spec, files.exit
        told = leader or spec
        outcome = exit_ = None
        if not live and record is not None:
            outcome = task_files.outcome(unit, files.attempt, record)
            exit_ = outcome.exit
        elif not live and files.attempt:
            exit_ = Exit(last_lines=task_files.stderr_lines(unit, files.attempt))
        if live:
            state = UnitState.STOPPING if files.stop is not None else UnitState.RUNNING
        else:
            state = UnitState.EXITED
        process = leader.process if leader is not None and live and living(leader.process) else None
        return Unit(
            name=unit.name,
            state=state,
            owner_uid=(record.owner_uid if record else "") or (told.owner_uid if told else ""),
            attempt=files.attempt,
            port=told.port if told else None,
            inputs_hash=told.inputs_hash if told else "",
            leader=process,
            started_at=leader.started_at if leader is not None and leader.executed else None,
            exit=exit_,
            stopping_seconds=_stopping(files),
            stop_told=_stop_told(files, process),
            held_locally=files.held,
            deletion_witnessed=files.stop is not None and files.stop.deleting,
            defined=spec is not None,
            assets=spec.assets if spec is not None else (),
            outcome=outcome,
        )

    async def _without_directory(self, unit: UnitDir) -> Unit:
        """Nothing on disk. Where a process of it was seen to live, its marks tell what it is."""
        absent = Unit(unit.name, UnitState.ABSENT, defined=False)
        if not self._known_alive(unit.name):
            return absent
        scan = await self._scans.fresh()
        found = members.members(unit, scan, None)
        if not found:
            return absent
        for one in sorted(found, key=lambda process: (process.start_ticks, process.pid)):
            if (leader := found_leader(one)) is not None:
                return Unit(
                    unit.name,
                    UnitState.RUNNING,
                    owner_uid=leader.owner_uid,
                    attempt=leader.attempt,
                    port=leader.port,
                    inputs_hash=leader.inputs_hash,
                    leader=one,
                    started_at=leader.started_at,
                    defined=False,
                )
        return Unit(unit.name, UnitState.RUNNING, defined=False)


def _stopping(files: TaskFiles) -> float | None:
    if files.stop is None or files.stop.boot_id != proc.boot_id():
        return None
    return max(0.0, proc.boottime() - files.stop.since)


def _stop_told(files: TaskFiles, leader: ProcessId | None) -> bool:
    """Whether the leader got the TERM of the stop that was begun."""
    if files.stop is None or leader is None:
        return True
    return files.stop.told == (leader.pid, leader.start_ticks)
