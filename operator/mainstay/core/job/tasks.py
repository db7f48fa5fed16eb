"""What a task came to: its claim in status held against its unit on the runtime."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from mainstay.api.holdings import AssetReport
from mainstay.api.phasedjob import CLAIMED, SETTLED, Task, TaskState, TaskStatus, UserAction
from mainstay.core import reasons
from mainstay.core.answers import SchemaError, check_schema
from mainstay.core.backoff import delay
from mainstay.core.job.snapshot import JobSnapshot
from mainstay.core.unit import GONE, LIVE, Outcome, Unit, UnitState

SAID_SECONDS = 1.0
"""An attempt that runs for longer is told as Running; shorter ones spare the write."""
LOSSES = 3
"""Lost attempts in a row that are run again even when there are no retries: to lose one is not the task's fault."""
ASKS = "actionRequired"
"""Key of a task's outputs by which it asks a user."""
REPORTS = "assets"
"""Key of a task's outputs by which it tells of assets."""
ASK_BYTES = 4096
"""What a task asks, and what it tells of assets, is kept in status, which is small."""
NESTED_MAX = 64
"""Levels of objects and lists in outputs."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a task is now."""

    status: TaskStatus
    outputs: Mapping[str, Any] | None = None  # of a task that ended well, just now
    size: int = 0  # bytes of these outputs as they were written
    asks: UserAction | None = None
    ended_at: float | None = None  # seconds since the epoch, of an attempt judged just now


class OutputsError(ValueError):
    """What a task wrote to OUTPUTS_PATH can't be taken."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def judge(s: JobSnapshot, task: Task, t: TaskStatus) -> Verdict:
    """Compare claim and unit. What ran to exit code 0 is completed, whatever status says of it."""
    unit = s.units.get(task.name)
    if t.state in SETTLED or unit is None or s.foreign(task.name):
        return Verdict(t)
    if unit.state is UnitState.ABSENT:
        return _not_started(s, t, unit)
    if unit.attempt > t.attempt:  # status came back from an older time; the unit remembers
        began = _moment(unit.started_at) or s.now
        t = _changed(t, state=TaskState.STARTING, attempt=unit.attempt, started_at=began)
    if t.state is TaskState.ACTION_REQUIRED:
        return Verdict(t)
    if t.state not in CLAIMED or unit.attempt < t.attempt:
        done = unit.outcome is not None and unit.outcome.succeeded
        known = _succeeded(s, t, unit.outcome, known=True) if done and unit.outcome else Verdict(t)
        if known.status != t:
            return known
    if t.state not in CLAIMED:
        return Verdict(t)
    if unit.attempt < t.attempt:
        return _not_started(s, t, unit)
    if unit.state in LIVE:
        return Verdict(_running(s, t, unit))
    return _ended(s, task, t, unit)


def _not_started(s: JobSnapshot, t: TaskStatus, unit: Unit) -> Verdict:
    """Claimed, and nothing came of it yet: started by an act, or given up when the job ends."""
    if t.state is TaskState.STOPPING and unit.state in GONE and barred(unit):
        return Verdict(settled(s, t, TaskState.SKIPPED, reasons.CANCELLED, "cancelled before it started"))
    return Verdict(t)


def barred(unit: Unit) -> bool:
    """Whether nothing can start any more: who was asked to before a crash finds no directory, or a stop."""
    return unit.state is UnitState.ABSENT or unit.stopping_seconds is not None


def _running(s: JobSnapshot, t: TaskStatus, unit: Unit) -> TaskStatus:
    if t.state is TaskState.STARTING and seconds_until_said(s, unit) <= 0:
        return _changed(t, state=TaskState.RUNNING, reason="", message="")
    return t if t.reason in ("", *reasons.RECOVERIES) else _changed(t, reason="", message="")


def seconds_until_said(s: JobSnapshot, unit: Unit) -> float:
    """Until an attempt that runs is told as Running."""
    if unit.started_at is None:
        return SAID_SECONDS
    return SAID_SECONDS - max(0.0, s.now.timestamp() - unit.started_at)


def _ended(s: JobSnapshot, task: Task, t: TaskStatus, unit: Unit) -> Verdict:
    outcome = unit.outcome
    if outcome is not None and outcome.succeeded:
        return _succeeded(s, t, outcome)
    if t.state is TaskState.STOPPING:
        words = exit_words(outcome) if outcome else "its end was not seen"
        return Verdict(settled(s, t, TaskState.FAILED, reasons.CANCELLED, f"cancelled: {words}"))
    stopped = unit.stopping_seconds is not None or (outcome is not None and outcome.interrupted)
    if stopped and (outcome is None or not outcome.timed_out):
        return Verdict(_again(t, reasons.INTERRUPTED, "stopped from outside, and started again"))
    if outcome is None:
        return Verdict(_lost(s, task, t, unit))
    if outcome.timed_out:
        words = f"ended after {task.timeout_seconds} s, its timeout"
        return Verdict(
            failed(s, task, t, reasons.TIMED_OUT, _with_lines(words, outcome)), ended_at=outcome.ended_at
        )
    return Verdict(failed(s, task, t, reasons.FAILED, exit_words(outcome)), ended_at=outcome.ended_at)


def _lost(s: JobSnapshot, task: Task, t: TaskStatus, unit: Unit) -> TaskStatus:
    """Nobody saw its end: it, or the machine, was killed."""
    if unit.started_at is None:
        return _again(t, reasons.NEVER_STARTED, "lost before its program was executed, and started again")
    losses = t.losses + 1
    words = "its end was not seen: the machine, or what watches over it, went down"
    if losses > max(LOSSES, task.retries):
        return settled(
            s, _changed(t, losses=losses), TaskState.FAILED, reasons.LOST, f"{words}, {losses} times"
        )
    return _again(_changed(t, losses=losses), reasons.LOST, f"{words}; started again")


def _again(t: TaskStatus, reason: str, message: str) -> TaskStatus:
    """Wants its next attempt, at once."""
    return _changed(t, state=TaskState.RETRYING, retry_at=None, reason=reason, message=message)


def _succeeded(s: JobSnapshot, t: TaskStatus, outcome: Outcome, *, known: bool = False) -> Verdict:
    """Exit code 0. Its outputs decide the rest; ones that can't be taken fail it without a retry."""
    done = _moment(outcome.ended_at)
    try:
        outputs = read_outputs(outcome)
        asks = _asked(outputs)
        reports = read_reports(outputs, {claim.name: claim.ref for claim in s.spec.assets})
    except OutputsError as error:
        if known:
            return Verdict(t)  # it failed for that, and may run again
        return Verdict(settled(s, t, TaskState.FAILED, error.reason, str(error)))
    kept = told_outputs(outputs, reports=bool(s.spec.assets))
    # A claim never falls, also when an earlier attempt turns out to have done the work.
    t = _changed(t, attempt=max(t.attempt, outcome.attempt), retry_at=None, reason="", message="")
    if asks is not None:
        t = _changed(t, state=TaskState.ACTION_REQUIRED, reason=reasons.ACTION_REQUIRED, message=asks.title)
    else:
        t = _changed(t, state=TaskState.COMPLETED, completed_at=done)
    t = _changed(t, reports=reports)
    return Verdict(t, kept, len(outcome.outputs or b""), asks, outcome.ended_at)


def read_outputs(outcome: Outcome) -> dict[str, Any]:
    """What it wrote to OUTPUTS_PATH: a JSON object, or nothing. Raises OutputsError."""
    if outcome.outputs_problem:
        large = "large" in outcome.outputs_problem
        raise OutputsError(
            reasons.OUTPUTS_TOO_LARGE if large else reasons.OUTPUTS_INVALID,
            f"the file at OUTPUTS_PATH: {outcome.outputs_problem}",
        )
    if not outcome.outputs or not outcome.outputs.strip():
        return {}
    try:
        outputs = json.loads(
            outcome.outputs, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole
        )
        _storable(outputs)
    except (ValueError, RecursionError) as error:
        raise OutputsError(
            reasons.OUTPUTS_INVALID, f"the file at OUTPUTS_PATH is not JSON: {error}"
        ) from None
    if not isinstance(outputs, dict):
        raise OutputsError(
            reasons.OUTPUTS_INVALID, 'the file at OUTPUTS_PATH must hold a JSON object, as {"key": ...}'
        )
    return outputs


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is beyond every number the API server takes")
    return number


def _whole(text: str) -> int:
    _finite(text)
    return int(text)


def _storable(outputs: Any) -> None:
    """Raise ValueError for what can be read and never written to status: it would stop the job for ever."""
    json.dumps(outputs, ensure_ascii=False).encode()  # half a character of UTF-16
    level = [outputs]
    for _ in range(NESTED_MAX):
        level = [
            part
            for value in level
            if isinstance(value, dict | list)
            for part in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise ValueError(f"it is nested deeper than {NESTED_MAX} levels")


def _asked(outputs: Mapping[str, Any]) -> UserAction | None:
    if ASKS not in outputs:
        return None
    if len(json.dumps(outputs[ASKS]).encode()) > ASK_BYTES:
        raise OutputsError(reasons.OUTPUTS_INVALID, f"{ASKS} of its outputs is larger than {ASK_BYTES} bytes")
    try:
        asks = UserAction.model_validate(outputs[ASKS])
        check_schema(asks.json_schema)
    except (ValidationError, SchemaError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise OutputsError(
            reasons.OUTPUTS_INVALID, f"{ASKS} of its outputs: {why}; it takes title, schema, secretFields"
        ) from None
    return asks


def told_outputs(outputs: Mapping[str, Any], *, reports: bool) -> dict[str, Any]:
    """The outputs without what they ask, and without what they tell of assets where there are any."""
    return {key: value for key, value in outputs.items() if key != ASKS and not (reports and key == REPORTS)}


def read_reports(outputs: Mapping[str, Any], refs: Mapping[str, str]) -> tuple[AssetReport, ...]:
    """What outputs tell of assets, by their name in the job; a job without assets tells of none. Raises OutputsError."""
    if not refs or REPORTS not in outputs:
        return ()
    told = outputs[REPORTS]
    if not isinstance(told, Mapping) or len(json.dumps(told).encode()) > ASK_BYTES:
        raise OutputsError(
            reasons.OUTPUTS_INVALID,
            f"{REPORTS} of its outputs must be an object of at most {ASK_BYTES} bytes",
        )
    reports = []
    for name, report in told.items():
        if name not in refs:
            words = f"{REPORTS}.{name} of its outputs: this job has no asset of that name"
            raise OutputsError(reasons.OUTPUTS_INVALID, words)
        try:
            one = AssetReport.model_validate({**report, "ref": refs[name]}, strict=False)
        except (ValidationError, TypeError) as error:
            why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it is no object"
            raise OutputsError(
                reasons.OUTPUTS_INVALID,
                f"{REPORTS}.{name} of its outputs: {why}; it takes holdings and deliveries, lists of {{symbol, units}}",
            ) from None
        reports.append(one)
    return tuple(reports)


def failed(s: JobSnapshot, task: Task, t: TaskStatus, reason: str, message: str) -> TaskStatus:
    """Count a failed attempt: tried again after its backoff, or failed for now."""
    failures = t.failures + 1
    t = _changed(t, failures=failures)
    if failures > task.retries:
        return settled(s, t, TaskState.FAILED, reason, message)
    wait = delay(failures, initial=task.initial_backoff_seconds, cap=task.max_backoff_seconds)
    words = f"{message} (attempt {failures} of {task.retries + 1})"[:1024]
    return _changed(
        t, state=TaskState.RETRYING, retry_at=s.now + timedelta(seconds=wait), reason=reason, message=words
    )


def settled(s: JobSnapshot, t: TaskStatus, state: TaskState, reason: str, message: str) -> TaskStatus:
    """Needs nothing any more."""
    return _changed(t, state=state, completed_at=s.now, retry_at=None, reason=reason, message=message[:1024])


def exit_words(outcome: Outcome) -> str:
    """How it ended, with the last lines of its stderr."""
    end = outcome.exit
    how = f"ended by signal {end.signal}" if end.signal is not None else f"ended with exit code {end.code}"
    return _with_lines(how, outcome)


def _with_lines(how: str, outcome: Outcome) -> str:
    said = " | ".join(line.strip() for line in outcome.exit.last_lines)
    return f"{how}, stderr: {said}" if said else how


def _changed(t: TaskStatus, **fields: Any) -> TaskStatus:
    return t.model_copy(update=fields)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(round(seconds, 3), tz=UTC)
