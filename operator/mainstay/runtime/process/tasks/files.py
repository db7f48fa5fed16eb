"""The files of a task, as the operator reads them: attempts, their logs, who runs them and how they ended."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mainstay.runtime.base import Exit, Outcome, ProcessId
from mainstay.runtime.process import records
from mainstay.runtime.process.history import last_lines
from mainstay.runtime.process.unitdir import Spec, StopMarker, UnitDir

PREFIX = "attempt-"


@dataclass(frozen=True, slots=True)
class TaskLeader:
    """What a program wrote about itself just before it was executed, and about its shim."""

    process: ProcessId
    shim: ProcessId
    attempt: int
    executed: bool  # False where it was refused, or stopped before
    started_at: float  # wall clock
    since: float  # CLOCK_BOOTTIME of the claim: its timeout counts from there
    owner_uid: str
    inputs_hash: str
    port: int | None


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """What the shim wrote when the program had ended."""

    owner_uid: str
    code: int | None
    signal: int | None
    ended_at: float
    timed_out: bool
    interrupted: bool  # by a stop, or as the machine was shut down
    outputs: bytes | None
    problem: str
    clean: bool  # nothing of the attempt lives


@dataclass(frozen=True, slots=True)
class TaskFiles:
    """A task's directory at one moment."""

    inode: int
    attempt: int  # the highest that was claimed, 0 if none
    spec: Spec | None
    leader: TaskLeader | None  # of that attempt
    earlier: TaskLeader | None  # of the one before, while that attempt has none yet
    stop: StopMarker | None
    held: bool
    exit: ExitRecord | None


def attempts(unit: UnitDir) -> list[int]:
    """Numbers of the attempts that were claimed, ascending. Raises OSError if there is no directory."""
    return _numbers(os.listdir(unit.path))


def _numbers(names: list[str]) -> list[int]:
    found = (name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))
    return sorted(int(number) for number in found if number.isdigit())


def attempt_path(unit: UnitDir, attempt: int) -> str:
    """Directory of one attempt: its logs, inputs, outputs and exit."""
    return f"{unit.path}/{PREFIX}{attempt}"


def log_directory(unit: UnitDir, *, back: int = 0) -> str | None:
    """Where stdout.log and stderr.log of the latest attempt are; of the one before with `back=1`."""
    try:
        found = attempts(unit)
    except OSError:
        return None
    return attempt_path(unit, found[-1 - back]) if back < len(found) else None


def read(unit: UnitDir) -> TaskFiles | None:
    """All of a task's files; None if there is no directory."""
    try:
        inode = os.stat(unit.path).st_ino
        names = os.listdir(unit.path)
    except OSError:
        return None
    attempt = max(_numbers(names), default=0)
    leader = task_leader(unit) if "leader" in names else None
    current = leader is not None and leader.attempt == attempt
    return TaskFiles(
        inode=inode,
        attempt=attempt,
        spec=unit.spec(),
        leader=leader if current else None,
        earlier=None if current else leader,
        stop=unit.stop_marker() if "stop" in names else None,
        held="held" in names,
        exit=exit_record(unit, attempt) if attempt else None,
    )


def task_leader(unit: UnitDir) -> TaskLeader | None:
    """The record of the latest program, None if there is none or it was torn."""
    raw = records.read(unit.file("leader"))
    entries = dict(records.decode(raw, "\n") or ()) if raw else {}
    try:
        boot = entries["boot"]
        return TaskLeader(
            process=ProcessId(int(entries["pid"]), int(entries["ticks"]), boot),
            shim=ProcessId(int(entries["shim"]), int(entries["shim_ticks"]), boot),
            attempt=int(entries["attempt"]),
            executed=entries["stage"] == "Exec",
            started_at=float(entries["started"]),
            since=float(entries["since"]),
            owner_uid=entries["owner"],
            inputs_hash=entries["inputs"],
            port=int(entries["port"]) if entries["port"] else None,
        )
    except (KeyError, ValueError):
        return None


def exit_record(unit: UnitDir, attempt: int) -> ExitRecord | None:
    """How an attempt ended; None if nobody wrote it down."""
    raw = records.read(f"{attempt_path(unit, attempt)}/exit")
    if raw is None:
        return None
    head, end, outputs = raw.partition(b"\nend=\n")
    entries = dict(records.decode(head + end, "\n") or ())
    try:
        size = entries["outputs"]
        if size and int(size) != len(outputs):
            return None
        return ExitRecord(
            owner_uid=entries["owner"],
            code=int(entries["code"]) if entries["code"] else None,
            signal=int(entries["signal"]) if entries["signal"] else None,
            ended_at=float(entries["ended"]),
            timed_out=entries["timed_out"] == "1",
            interrupted=entries.get("interrupted") == "1",
            outputs=outputs if size else None,
            problem=entries["problem"],
            clean=entries["clean"] == "1",
        )
    except (KeyError, ValueError):
        return None


def outcome(unit: UnitDir, attempt: int, record: ExitRecord) -> Outcome:
    """The record as others see it, with the last lines of stderr where it failed."""
    lines = () if record.code == 0 else stderr_lines(unit, attempt)
    return Outcome(
        attempt=attempt,
        exit=Exit(record.code, record.signal, lines),
        ended_at=record.ended_at,
        timed_out=record.timed_out,
        interrupted=record.interrupted,
        outputs=record.outputs,
        outputs_problem=record.problem,
    )


def stderr_lines(unit: UnitDir, attempt: int) -> tuple[str, ...]:
    """The last lines that an attempt wrote to stderr."""
    return last_lines(f"{attempt_path(unit, attempt)}/stderr.log", 0)
