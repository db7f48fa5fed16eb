"""The events that tell a run's story in `kubectl describe`: one per turn, none for what stayed the same."""

from __future__ import annotations

from dataclasses import dataclass

from mainstay.api.conditions import find
from mainstay.api.strategyrun import RunPhase, StrategyRunStatus
from mainstay.core import reasons


@dataclass(frozen=True, slots=True)
class Event:
    """One Kubernetes event to be."""

    kind: str  # Normal | Warning
    reason: str
    message: str


_WARNINGS = {
    reasons.CRASH_LOOP,
    reasons.FAILED,
    reasons.POOL_EXHAUSTED,
    reasons.POOL_NOT_FOUND,
    reasons.PORT_TAKEN,
    reasons.PORT_NOT_IN_POOL,
    reasons.PORT_LOST,
    reasons.HELD_LOCALLY,
    reasons.SECRET_IN_ARGS,
    reasons.SECRET_NOT_FOUND,
    reasons.CONTROL_API_MISSING,
    reasons.CONFIG_MAP_NOT_FOUND,
    reasons.CONFIG_INVALID,
    reasons.RUNTIME_UNAVAILABLE,
    reasons.STRATEGY_NOT_FOUND,
    reasons.STRATEGY_DELETED,
    reasons.STRATEGY_INVALID,
    reasons.REVISION_NOT_FOUND,
    reasons.SNAPSHOT_LOST,
}
_BLOCKING = {
    reasons.STRATEGY_NOT_FOUND,
    reasons.STRATEGY_DELETED,
    reasons.REVISION_NOT_FOUND,
    reasons.STRATEGY_PENDING,
}
"""Told by Ready already, or not worth telling."""
_MAKESHIFT = {reasons.STRATEGY_INVALID, reasons.FALLBACK_IN_USE, reasons.LAST_GOOD_IN_USE}
"""It runs something else than it asked for."""
_SILENT = {reasons.STRATEGY_PENDING, reasons.NOT_READY, reasons.STARTING, reasons.PAUSING, reasons.RESUMING}
"""Steps on the way: what they lead to is told instead."""


def events(old: StrategyRunStatus, new: StrategyRunStatus) -> tuple[Event, ...]:
    """What happened between two statuses that is worth telling."""
    return (*_strategy(old, new), *_turn(old, new))


def _strategy(old: StrategyRunStatus, new: StrategyRunStatus) -> tuple[Event, ...]:
    """Which code it has, where that is not what it asked for, and that it is again."""
    before, after = find(old.conditions, "StrategyResolved"), find(new.conditions, "StrategyResolved")
    if after is None or after.reason in _BLOCKING:
        return ()
    if before is None or (before.reason, before.message) == (after.reason, after.message):
        return ()
    if after.status == "True":
        stood_in = old.strategy is not None and old.strategy.fallback
        missed = stood_in or before.reason in _MAKESHIFT
        return (Event("Normal", reasons.STRATEGY_RESTORED, f"runs {after.message} again"),) if missed else ()
    quiet = after.reason in (reasons.UPDATE_WAITING, reasons.UPDATE_IGNORED)
    return (Event("Normal" if quiet else "Warning", after.reason, after.message),)


def _turn(old: StrategyRunStatus, new: StrategyRunStatus) -> tuple[Event, ...]:
    before, after = find(old.conditions, "Ready"), find(new.conditions, "Ready")
    if after is None or (before is not None and before.reason == after.reason):
        return ()
    if after.reason in _SILENT:
        return ()
    if after.reason == reasons.RUNNING and new.phase is RunPhase.RUNNING:
        return (_running(old, new),)
    kind = "Warning" if after.reason in _WARNINGS or _stalled(new) else "Normal"
    return (Event(kind, after.reason, after.message or after.reason),)


def _stalled(status: StrategyRunStatus) -> bool:
    condition = find(status.conditions, "Stalled")
    return condition is not None and condition.status == "True"


def _running(old: StrategyRunStatus, new: StrategyRunStatus) -> Event:
    """Say of a process that serves whether it is a new one."""
    same = old.process is not None and old.process == new.process
    if same and old.phase is RunPhase.RUNNING:
        return Event("Normal", "Serving", f"{_started(new)}, again")
    return Event("Normal", "Resumed" if same and old.phase is RunPhase.RESUMING else "Started", _started(new))


def _started(status: StrategyRunStatus) -> str:
    pid = f"pid {status.process.pid}" if status.process else "the process"
    where = f" serves on port {status.port}" if status.port else " runs"
    return f"{pid}{where}, attempt {status.attempt}"
