"""What is true of a unit, joined from its files, the kernel and supervisord; right with any of them missing.

The kernel is asked about the leader on every look (one small read); everything else only when a file in the
unit's directory changed or the leader is gone.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from typing import Any

from mainstay.runtime.base import Exit, ProcessId, RuntimeUnavailableError, Unit, UnitState
from mainstay.runtime.process import members, proc, rpc
from mainstay.runtime.process.history import History, last_lines
from mainstay.runtime.process.members import Scan
from mainstay.runtime.process.scope import Scope
from mainstay.runtime.process.unitdir import Leader, Spec, StopMarker, UnitDir

STAGES = {"Waiting": UnitState.WAITING, "Held": UnitState.HELD, "Backoff": UnitState.BACKOFF}
RACY_NS = 20_000_000  # directory times have the kernel's tick: one that young may hide a second change


@dataclass(frozen=True, slots=True)
class Files:
    """The unit's directory at one moment."""

    directory: bool = False
    leader: Leader | None = None
    spec: Spec | None = None
    stop: StopMarker | None = None
    paused: dict[str, str] | None = None
    held: bool = False
    whole: bool = False  # run is there too


@dataclass(frozen=True, slots=True)
class Gone:
    """A proof that no process of the unit lives, good while nothing it was drawn from changes."""

    signature: tuple[int, int]
    supervisor: ProcessId | None
    unit: Unit


UNKNOWN_SECONDS = 0.5


class Scans:
    """One look at /proc shared by all who need one that began after they asked."""

    def __init__(self, home_id: str) -> None:
        self._home_id = home_id
        self._lock = asyncio.Lock()
        self._latest: Scan | None = None

    async def fresh(self, age: float = 0.0) -> Scan:
        """A scan that began now or later, or up to `age` seconds ago."""
        wanted = proc.boottime() - age
        async with self._lock:
            if self._latest is None or self._latest.began < wanted:
                await asyncio.sleep(0)  # whoever is ready now comes along
                self._latest = await asyncio.to_thread(Scan.take, self._home_id)
            return self._latest


class Observer:
    """Looks at the units of one scope."""

    def __init__(self, scope: Scope, scans: Scans) -> None:
        self._scope = scope
        self._scans = scans
        self.history = History(scope.dir.log)
        self._files: dict[str, tuple[tuple[int, int], int, Files]] = {}
        self._gone: dict[str, Gone] = {}

    def forget(self, name: str) -> None:
        """Drop what is cached of a removed unit."""
        self._files.pop(name, None)
        self._gone.pop(name, None)
        self.history.forget(name)

    def signature(self, unit: UnitDir) -> tuple[int, int]:
        """Changes whenever a file in the directory is created, renamed or deleted."""
        try:
            seen = os.stat(unit.path)
        except OSError:
            return (0, 0)
        return seen.st_ino, seen.st_mtime_ns

    def files(self, unit: UnitDir) -> Files:
        """The directory's content, read again only when it changed."""
        signature = self.signature(unit)
        if signature == (0, 0):
            self._files.pop(unit.name, None)
            return Files()
        cached = self._files.get(unit.name)
        if cached is not None and cached[0] == signature and cached[1] > signature[1] + RACY_NS:
            return cached[2]
        read_at = proc.wall_ns()
        files = Files(
            directory=True,
            leader=unit.leader(),
            spec=unit.spec(),
            stop=unit.stop_marker(),
            paused=unit.marker("paused"),
            held=unit.marked("held"),
            whole=os.path.exists(unit.file("run")),
        )
        self._files[unit.name] = (signature, read_at, files)
        return files

    async def observe(self, unit: UnitDir) -> Unit:
        """What is true now. Raises RuntimeUnavailableError if supervisord is needed and hangs."""
        files = self.files(unit)
        if files.leader is not None:
            seen = proc.look(files.leader.process)
            if seen is not None:
                return await self._live(unit, files, files.leader, seen)
        gone = self._gone.get(unit.name)
        if (
            gone is not None
            and gone.signature == self.signature(unit)
            and gone.supervisor == self._scope.process
            and gone.unit.defined == self._defined(unit, files)
        ):
            return gone.unit
        return await self._without_leader(unit)

    # -- the leader lives ------------------------------------------------------------------------

    async def _live(self, unit: UnitDir, files: Files, leader: Leader, seen: proc.Stat) -> Unit:
        if files.stop is not None:
            state = UnitState.STOPPING
        elif leader.stage != "Exec":
            state = STAGES.get(leader.stage, UnitState.WAITING)
        elif _confirmed(files, leader) or (seen.stopped and await self._all_stopped(unit, leader)):
            state = UnitState.PAUSED
        else:
            state = UnitState.RUNNING
        return self._unit(unit, files, leader, state)

    async def _all_stopped(self, unit: UnitDir, leader: Leader) -> bool:
        scan = await self._scans.fresh()
        return all(
            (now := proc.look(one)) is None or now.stopped
            for one in members.members(unit, scan, leader.process)
            # A fence that stands behind an adopted program waits, and is none of the user's.
            if one == leader.process or one.pid not in scan.fences
        )

    def _unit(self, unit: UnitDir, files: Files, leader: Leader, state: UnitState) -> Unit:
        spec = files.spec
        # Before exec the record still tells of the program before; the fence stands for what is in `spec`.
        told = leader if leader.stage == "Exec" or spec is None else spec
        return Unit(
            name=unit.name,
            state=state,
            owner_uid=told.owner_uid,
            attempt=told.attempt,
            port=told.port,
            inputs_hash=told.inputs_hash,
            leader=leader.process,
            started_at=leader.started_at if leader.stage == "Exec" else None,
            restarts=leader.restarts if told.attempt == leader.attempt else 0,
            exit=self._earlier_exit(unit, leader),
            stopping_seconds=_stopping(files),
            stop_told=_stop_told(files),
            pause_marked=files.paused is not None,
            held_locally=files.held,
            deletion_witnessed=files.stop is not None and files.stop.deleting,
            grace_seconds=None if files.spec is None else files.spec.grace,
            defined=self._defined(unit, files),
        )

    def _earlier_exit(self, unit: UnitDir, leader: Leader) -> Exit | None:
        if not leader.previous_pid:
            return None
        code, signal = self.history.end_of(unit.name, leader.previous_pid)
        before = leader.stage != "Exec"
        start = leader.errors_from if before else leader.errors_before
        end = None if before else leader.errors_from
        return Exit(code, signal, last_lines(unit.stderr, start, end))

    def _defined(self, unit: UnitDir, files: Files) -> bool:
        return files.directory and files.spec is not None and files.whole and os.path.exists(unit.conf)

    # -- it doesn't, or there is no record of one -------------------------------------------------

    async def _without_leader(self, unit: UnitDir) -> Unit:
        for round_ in range(8):
            known = self.signature(unit) != (0, 0) or os.path.exists(unit.conf)
            info = await self._info(unit.name) if known else None  # if it ran, the look at /proc shows it
            supervisor = self._scope.process
            signature = self.signature(unit)
            files = self.files(unit)
            leader = files.leader
            if leader is not None and (seen := proc.look(leader.process)) is not None:
                return await self._live(unit, files, leader, seen)
            pid = int(info["pid"]) if info else 0
            if pid and (fence := proc.identify(pid)) is not None:
                if files.spec is None and found_leader(fence) is None:
                    # Its directory was lost. A fence may stand behind a program that lives on.
                    scan = await self._scans.fresh()
                    lives = members.members(unit, scan, None) - {fence}
                    lives = {one for one in lives if one.pid not in scan.fences}
                    if lives:
                        return self._left(unit, files, scan, lives)
                if leader is None or leader.process != fence:
                    return self._waiting_or_lost(unit, files, fence)
            elif not pid and not _will_restart(info, files):
                break
            await asyncio.sleep(
                0.002 * round_
            )  # supervisord reaps at each call, and starts again at the next
        # Of a name that nothing is known of, a look at /proc of a moment ago is as good as a new one.
        scan = await self._scans.fresh(age=0.0 if known else UNKNOWN_SECONDS)
        files = self.files(unit)
        leader = files.leader
        left = members.members(unit, scan, leader.process if leader else None)
        if left:
            return self._left(unit, files, scan, left)
        if self.signature(unit) != signature:
            return await self.observe(unit)
        if not files.directory and not os.path.exists(unit.conf):
            return Unit(unit.name, UnitState.ABSENT, defined=False)
        gone = self._exited(unit, files)
        self._gone[unit.name] = Gone(signature, supervisor, gone)
        return gone

    async def _info(self, name: str) -> dict[str, Any] | None:
        try:
            return await self._scope.supervisor.info(name)
        except RuntimeUnavailableError:
            if proc.look(self._scope.process) is not None or self._scope.process is None:
                raise
            return None  # it is dead; the kernel knows the rest

    def _waiting_or_lost(self, unit: UnitDir, files: Files, process: ProcessId) -> Unit:
        """Supervisord knows a process that no record names: a young fence, or its record was deleted."""
        found = found_leader(process)
        state = UnitState.STOPPING if files.stop else UnitState.WAITING
        if found is not None:
            return self._unit(unit, files, found, state if files.stop else UnitState.RUNNING)
        return self._unit(unit, files, Leader(process, "Waiting"), state)

    def _left(self, unit: UnitDir, files: Files, scan: Scan, left: set[ProcessId]) -> Unit:
        """Members live without a recorded leader."""
        if files.leader is not None:
            fences = [one for one in left if one.pid in scan.fences]
            state = UnitState.STOPPING if files.stop else UnitState.WAITING
            seen = self._unit(unit, files, files.leader, state)
            return _with_leader(seen, fences[0] if fences else None)
        pids = {one.pid for one in left}
        roots = [one for one in left if scan.table[one.pid].parent not in pids]
        for root in roots:
            if (found := found_leader(root)) is not None:
                state = UnitState.STOPPING if files.stop else UnitState.RUNNING
                return self._unit(unit, files, found, state)
        first = min(roots or left, key=lambda one: one.start_ticks)
        state = UnitState.STOPPING if files.stop else UnitState.WAITING
        return self._unit(unit, files, Leader(first, "Waiting"), state)

    def _exited(self, unit: UnitDir, files: Files) -> Unit:
        leader, spec = files.leader, files.spec
        told: Leader | Spec | None = spec or leader
        ended = None
        if leader is not None and leader.stage == "Exec":
            code, signal = self.history.end_of(unit.name, leader.process.pid)
            ended = Exit(code, signal, last_lines(unit.stderr, leader.errors_from))
        elif leader is not None:
            ended = self._earlier_exit(unit, leader)
        return Unit(
            name=unit.name,
            state=UnitState.EXITED,
            owner_uid=told.owner_uid if told else "",
            # A spec that no program was started from is a start that did not happen.
            attempt=leader.attempt if leader else 0,
            port=told.port if told else None,
            inputs_hash=told.inputs_hash if told else "",
            started_at=leader.started_at if leader else None,
            restarts=leader.restarts if leader else 0,
            exit=ended,
            stopping_seconds=_stopping(files),
            pause_marked=files.paused is not None,
            held_locally=files.held,
            deletion_witnessed=files.stop is not None and files.stop.deleting,
            grace_seconds=None if files.spec is None else files.spec.grace,
            defined=self._defined(unit, files),
        )


def _with_leader(unit: Unit, leader: ProcessId | None) -> Unit:
    return replace(unit, leader=leader)


def found_leader(process: ProcessId) -> Leader | None:
    """The record of a running program whose record is lost, from its own environment."""
    env = proc.environ(process.pid)
    if members.NAME not in env or members.SCOPE in env or proc.look(process) is None:
        return None

    def integer(name: str) -> int:
        return int(env[name]) if env.get(name, "").isdigit() else 0

    return Leader(
        process=process,
        stage="Exec",
        attempt=integer("ATTEMPT"),
        started_at=proc.started_at(process),
        owner_uid=env.get(members.UNIT, "").partition("/")[2],
        inputs_hash=env.get("MAINSTAY_INPUTS", ""),
        port=integer("CONTROL_API_PORT") or None,
    )


def _confirmed(files: Files, leader: Leader) -> bool:
    """Whether this very program answered a pause call."""
    return files.paused is not None and files.paused.get("confirmed") == confirmation(leader.process)


def confirmation(process: ProcessId) -> str:
    """How a pause marker names the process that confirmed."""
    return f"{process.pid} {process.start_ticks} {process.boot_id}"


def _stop_told(files: Files) -> bool:
    """Whether the leader got the TERM of the stop that was begun."""
    if files.stop is None or files.leader is None:
        return True
    process = files.leader.process
    return files.stop.told == (process.pid, process.start_ticks)


def _stopping(files: Files) -> float | None:
    if files.stop is None or files.stop.boot_id != proc.boot_id():
        return None
    return max(0.0, proc.boottime() - files.stop.since)


def _will_restart(info: dict[str, Any] | None, files: Files) -> bool:
    """Whether supervisord is about to start it again: it does so at its next turn."""
    if info is None or info["state"] not in (rpc.EXITED, rpc.BACKOFF, rpc.STARTING) or files.spec is None:
        return False
    match files.spec.policy:
        case "Always":
            return True
        case "OnFailure":
            return bool(info["exitstatus"] != 0) or info["state"] != rpc.EXITED
        case _:
            return bool(info["state"] != rpc.EXITED)
