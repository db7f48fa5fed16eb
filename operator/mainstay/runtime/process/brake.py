"""Stopping units with nothing but files and processes: no supervisord, no operator, no API server.

The `held` marker comes first: whatever starts the unit again, its fence waits until the brake is released.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mainstay.runtime.base import ProcessId
from mainstay.runtime.process import members, proc
from mainstay.runtime.process.members import Scan
from mainstay.runtime.process.unitdir import ScopeDir, UnitDir

GRACE_SECONDS = 30.0
KILL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class BrakeUnit:
    """A unit as its files and the kernel show it."""

    name: str
    scope: str
    state: str  # Running | Paused | Waiting | Held | Backoff | Exited
    held: bool
    paused: bool
    pid: int | None
    attempt: int
    port: int | None


class UnknownUnitError(LookupError):
    """There is no such unit in this scope."""


def _unit(home: Path, scope: str, name: str) -> UnitDir:
    try:
        unit = ScopeDir(home, scope).unit(name)
    except ValueError as error:
        raise UnknownUnitError(str(error)) from None
    if not unit.exists():
        raise UnknownUnitError(f"there is no unit {name!r} in scope {scope!r} under {home}")
    return unit


def _home_id(unit: UnitDir) -> str | None:
    spec = unit.spec()
    return spec.unit.partition("/")[0] if spec is not None else None


def _programs(unit: UnitDir) -> set[ProcessId]:
    """The members that are the user's: not a fence that waits."""
    scan = Scan.take(_home_id(unit))
    leader = unit.leader()
    found = members.members_remembered(unit, scan, leader.process if leader else None)
    if leader is None:
        return {one for one in found if one.pid not in scan.fences}
    # At stage Exec it has looked at the markers for the last time, even if it hasn't executed yet.
    waits = leader.stage != "Exec"
    return {one for one in found if (not waits if one == leader.process else one.pid not in scan.fences)}


def _wait(processes: set[ProcessId], seconds: float) -> None:
    """Until all of these have ended, or the time is up."""
    poll = select.poll()
    fds = [fd for one in processes if (fd := proc.open_pidfd(one)) is not None]
    try:
        for fd in fds:
            poll.register(fd, select.POLLIN)
        left, until = len(fds), proc.boottime() + seconds
        while left and proc.boottime() < until:
            for fd, _ in poll.poll(max(1.0, (until - proc.boottime()) * 1000)):
                poll.unregister(fd)
                left -= 1
    finally:
        for fd in fds:
            os.close(fd)


def stop_offline(home: Path, scope: str, name: str, *, grace_seconds: float | None = None) -> bool:
    """Hold a unit and end its processes: TERM, its grace (or this one, in seconds), KILL. Blocks.

    True once no program of it lives. Raises UnknownUnitError.
    """
    unit = _unit(home, scope, name)
    unit.mark_with("held", [("boot", proc.boot_id()), ("since", f"{proc.boottime():.3f}")])
    spec = unit.spec()
    grace = grace_seconds if grace_seconds is not None else spec.grace if spec is not None else GRACE_SECONDS
    until = proc.boottime() + grace
    told: set[ProcessId] = set()
    leader = unit.leader()
    while (programs := _programs(unit)) and proc.boottime() < until:
        # The leader alone first: it ends its own children in its own order.
        first = {one for one in programs if leader is not None and one == leader.process} or programs
        for one in first - told:
            proc.send(one, signal.SIGTERM)
        for one in programs:
            proc.send(one, signal.SIGCONT)
        told |= first
        _wait(first, min(0.2, max(0.001, until - proc.boottime())))
        leader = unit.leader()
    until = proc.boottime() + KILL_SECONDS
    while programs and proc.boottime() < until:
        for one in programs:
            proc.send(one, signal.SIGKILL)
        _wait(programs, 0.5)
        programs = _programs(unit)
    return not programs


def release(home: Path, scope: str, name: str) -> bool:
    """Lift the brake; a waiting fence goes on at once. False if it wasn't on. Raises UnknownUnitError."""
    return _unit(home, scope, name).unmark("held")


def list_units(home: Path, scope: str) -> Sequence[BrakeUnit]:
    """Every unit of a scope that has a directory."""
    directory = ScopeDir(home, scope)
    found = []
    for name in directory.unit_names():
        unit = directory.unit(name)
        leader, spec = unit.leader(), unit.spec()
        seen = proc.look(leader.process) if leader is not None else None
        told = leader if leader is not None and leader.stage == "Exec" else spec
        if leader is None or seen is None:
            state = "Exited"
        elif leader.stage != "Exec":
            state = leader.stage
        else:
            state = "Paused" if seen.state in "Tt" else "Running"
        found.append(
            BrakeUnit(
                name=name,
                scope=scope,
                state=state,
                held=unit.marked("held"),
                paused=unit.marked("paused"),
                pid=seen.pid if seen is not None else None,
                attempt=told.attempt if told is not None else 0,
                port=told.port if told is not None else None,
            )
        )
    return found
