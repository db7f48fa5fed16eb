"""decide(): the next plan for a run, by the phase its status claims."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_never

from mainstay.api.strategyrun import RunPhase, StrategyRunStatus
from mainstay.core import reasons
from mainstay.core.plan import (
    Act,
    AddFinalizer,
    DefineUnit,
    DeleteLease,
    PauseUnit,
    Plan,
    RemoveFinalizer,
    RemoveUnit,
    ResumeUnit,
    Wait,
    Write,
)
from mainstay.core.run.ending import ending, stop_because
from mainstay.core.run.outlook import outlook, settle
from mainstay.core.run.starting import (
    begin,
    crash_loop,
    exit_words,
    exited,
    leased,
    seen_process,
    serving,
    starting,
)
from mainstay.core.snapshot import RunSnapshot, Wish
from mainstay.core.unit import UnitState

RunPlan = Plan[StrategyRunStatus]


def decide(s: RunSnapshot) -> RunPlan:
    """What to do next. Pure: the same snapshot always gives the same plan."""
    if s.deleting and not s.has_finalizer:
        return Wait()
    if not s.has_finalizer:
        return Act(AddFinalizer())
    if s.problem is not None:
        return _troubled(s)
    if s.foreign_unit:
        return _predecessor(s)
    if s.live and _ahead(s):
        return _adopt(s)
    match s.status.phase:
        case RunPhase.STARTING:
            return starting(s)
        case RunPhase.RUNNING:
            return _running(s)
        case RunPhase.PAUSING:
            return _pausing(s)
        case RunPhase.PAUSED:
            return _paused(s)
        case RunPhase.RESUMING:
            return _resuming(s)
        case RunPhase.STOPPING:
            return _stopping(s)
        case None | RunPhase.PENDING | RunPhase.STOPPED | RunPhase.FAILED:
            return _resting(s)
        case _:
            assert_never(s.status.phase)


def _troubled(s: RunSnapshot) -> RunPlan:
    """The last act failed: say so, and wait until it is tried again."""
    problem = s.problem
    assert problem is not None
    phase = s.status.phase or RunPhase.PENDING
    status = outlook(s, phase, problem.reason, problem.message, ready=False, stalled=problem.needs_person)
    return settle(s, status, Wait(problem.retry_seconds))


def _predecessor(s: RunSnapshot) -> RunPlan:
    """The name is still taken by the process of an object that was deleted and created again."""
    if s.deleting:
        return _give_back(s) or Act(RemoveFinalizer())
    if s.reason != reasons.PREDECESSOR:
        words = "waiting for the process of an earlier object of this name to end"
        return Write(outlook(s, RunPhase.PENDING, reasons.PREDECESSOR, words))
    if s.live:
        return ending(s)
    return Act(RemoveUnit(s.unit.owner_uid))


def _ahead(s: RunSnapshot) -> bool:
    """It lives under claims that status does not know: the API server came back from an older snapshot."""
    if s.unit.attempt == s.status.attempt:
        return s.unit.port != s.status.port
    return s.unit.attempt > s.status.attempt


def _adopt(s: RunSnapshot) -> RunPlan:
    """What lives is the truth about what was claimed."""
    words = f"found alive as attempt {s.unit.attempt}, which this object had forgotten"
    return Write(
        outlook(
            s,
            RunPhase.STARTING,
            reasons.STARTING,
            words,
            changes={
                "attempt": s.unit.attempt,
                "port": s.unit.port,
                "inputs_hash": s.unit.inputs_hash or s.inputs.hash,
                "handled_restart_nonce": s.spec.restart_nonce,
                "stopped_at": None,
            },
        )
    )


def _resting(s: RunSnapshot) -> RunPlan:
    """No process is claimed: Pending, Stopped, Failed, or just created."""
    if s.live:
        return stop_because(s)
    if s.deleting:
        return _teardown(s)
    if s.ended and not s.rolls and s.wish is not Wish.STOP:
        return _give_back(s) or Wait()
    if s.wish is not Wish.STOP:
        return begin(s)
    return _give_back(s) or settle(s, _stopped(s))


def _running(s: RunSnapshot) -> RunPlan:
    if plan := _interrupted(s):
        return plan
    if s.wish is Wish.PAUSE:
        return Write(outlook(s, RunPhase.PAUSING, reasons.PAUSING, "pausing"))
    if plan := leased(s):
        return plan
    match s.unit.state:
        case UnitState.RUNNING if not s.unit.defined:
            return Act(_definition(s))
        case UnitState.RUNNING:
            return serving(s)
        case UnitState.BACKOFF | UnitState.WAITING:
            return Write(crash_loop(s))
        case UnitState.HELD | UnitState.PAUSED:
            return Write(outlook(s, RunPhase.RESUMING, reasons.RESUMING, "found paused; resuming"))
        case UnitState.STOPPING:
            return stop_because(s, reasons.STOP_REQUESTED)
        case UnitState.EXITED | UnitState.ABSENT:
            return _lost(s)
        case _:
            assert_never(s.unit.state)


def _pausing(s: RunSnapshot) -> RunPlan:
    if plan := _interrupted(s):
        return plan
    if s.wish is Wish.RUN:
        return Write(outlook(s, RunPhase.RESUMING, reasons.RESUMING, "resuming"))
    match s.unit.state:
        case UnitState.PAUSED | UnitState.HELD:
            return Write(outlook(s, RunPhase.PAUSED, reasons.PAUSED, "paused", changes=seen_process(s)))
        case UnitState.RUNNING | UnitState.BACKOFF | UnitState.WAITING:
            return Act(PauseUnit())
        case UnitState.STOPPING:
            return stop_because(s, reasons.STOP_REQUESTED)
        case UnitState.EXITED | UnitState.ABSENT:
            return _lost(s)
        case _:
            assert_never(s.unit.state)


def _paused(s: RunSnapshot) -> RunPlan:
    if plan := _interrupted(s):
        return plan
    if s.wish is Wish.RUN:
        return Write(outlook(s, RunPhase.RESUMING, reasons.RESUMING, "resuming"))
    if plan := leased(s):
        return plan
    match s.unit.state:
        case UnitState.PAUSED | UnitState.HELD if not s.unit.defined:
            return Act(_definition(s))
        case UnitState.PAUSED | UnitState.HELD:
            return settle(s, outlook(s, RunPhase.PAUSED, reasons.PAUSED, "paused", changes=seen_process(s)))
        case UnitState.RUNNING | UnitState.BACKOFF | UnitState.WAITING:
            return Act(PauseUnit())
        case UnitState.STOPPING:
            return stop_because(s, reasons.STOP_REQUESTED)
        case UnitState.EXITED | UnitState.ABSENT:
            return begin(s)
        case _:
            assert_never(s.unit.state)


def _resuming(s: RunSnapshot) -> RunPlan:
    if plan := _interrupted(s):
        return plan
    if s.wish is Wish.PAUSE:
        return Write(outlook(s, RunPhase.PAUSING, reasons.PAUSING, "pausing"))
    if plan := leased(s):
        return plan
    match s.unit.state:
        case UnitState.PAUSED | UnitState.HELD:
            return Act(ResumeUnit())
        case UnitState.RUNNING:
            return serving(s)
        case UnitState.BACKOFF | UnitState.WAITING:
            return Write(outlook(s, RunPhase.STARTING, reasons.STARTING, "starting"))
        case UnitState.STOPPING:
            return stop_because(s, reasons.STOP_REQUESTED)
        case UnitState.EXITED | UnitState.ABSENT:
            return _lost(s)
        case _:
            assert_never(s.unit.state)


def _stopping(s: RunSnapshot) -> RunPlan:
    if s.live:
        return ending(s)
    if s.deleting:
        return _teardown(s)
    if s.wish is not Wish.STOP and not s.ended:
        return begin(s)
    return _give_back(s) or Write(_stopped(s))


def _interrupted(s: RunSnapshot) -> RunPlan | None:
    """What ends a live phase before anything else is looked at: stop, delete, restart, changed inputs."""
    if s.wish is Wish.STOP:
        return stop_because(s)
    if rolls := s.rolls:
        return stop_because(s, rolls)
    if s.live and s.unit.attempt < s.status.attempt:
        return stop_because(s, reasons.SUPERSEDED)
    return None


def _lost(s: RunSnapshot) -> RunPlan:
    """It should live and does not: ended by itself, or its program and files are gone."""
    return exited(s) if s.unit.state is UnitState.EXITED else begin(s)


def _definition(s: RunSnapshot) -> DefineUnit:
    return DefineUnit(s.status.attempt, s.status.port, s.status.inputs_hash or "")


def _give_back(s: RunSnapshot) -> RunPlan | None:
    """The exit was seen: delete the leases, after the pool's quarantine."""
    if not s.leases:
        return None
    if s.ports.quarantine_seconds:
        if s.status.stopped_at is None:
            return Write(_stopped(s))
        rest = s.status.stopped_at + timedelta(seconds=s.ports.quarantine_seconds) - s.now
        if rest > timedelta():
            return Wait(rest.total_seconds())
    lease = s.leases[0]
    return Act(DeleteLease(lease.name, lease.uid, lease.resource_version))


def _stopped(s: RunSnapshot) -> StrategyRunStatus:
    """Nothing lives: stopped as asked, held on the host, completed, or failed."""
    at = s.status.stopped_at or (s.now if s.status.attempt else None)
    seen = {"process": None, "stopped_at": at, "handled_restart_nonce": s.spec.restart_nonce}
    if s.wish is not Wish.STOP and s.reason == reasons.FAILED:
        return outlook(
            s, RunPhase.FAILED, reasons.FAILED, exit_words(s), ready=False, stalled=True, changes=seen
        )
    if s.wish is not Wish.STOP and s.reason == reasons.COMPLETED:
        return outlook(
            s, RunPhase.STOPPED, reasons.COMPLETED, "the process ended with exit code 0", changes=seen
        )
    if s.unit.held_locally:
        return outlook(
            s,
            RunPhase.STOPPED,
            reasons.HELD_LOCALLY,
            f"stopped on its host; `mainstay release {s.run.metadata.name}` lets it run again",
            ready=False,
            stalled=True,
            changes=seen,
        )
    return outlook(s, RunPhase.STOPPED, reasons.STOPPED, "stopped, as spec.state asks", changes=seen)


def _teardown(s: RunSnapshot) -> RunPlan:
    """Nothing lives: forget the unit, give the port back, let the object go. In this order."""
    if s.unit.state is UnitState.EXITED:
        return Act(RemoveUnit(s.uid))
    return _give_back(s) or Act(RemoveFinalizer())
