"""decide(): the next plan for a run, by what its status claims and what is seen of its unit."""

from __future__ import annotations

from typing import assert_never

from mainstay.api.strategyrun import RunPhase, StrategyRunStatus
from mainstay.core import reasons
from mainstay.core.plan import Act, AddFinalizer, Plan, RemoveUnit, Wait, Write
from mainstay.core.run.claiming import begin, launch, roll, unused_claim
from mainstay.core.run.ending import at_rest, ending, stop_because, teardown
from mainstay.core.run.living import ended, living
from mainstay.core.run.outlook import outlook, settle
from mainstay.core.snapshot import RunSnapshot, Wish
from mainstay.core.unit import UnitState

RunPlan = Plan[StrategyRunStatus]


def decide(s: RunSnapshot) -> RunPlan:
    """What to do next. Pure: the same snapshot always gives the same plan."""
    if s.deleting and not s.has_finalizer:
        return Wait()
    if not s.has_finalizer:
        return Act(AddFinalizer())
    if s.problem is not None and (s.wish is not Wish.STOP or s.status.phase is RunPhase.STOPPING):
        return _troubled(s)
    if s.foreign_unit:
        return _predecessor(s)
    if s.live and s.status.phase is not RunPhase.STOPPING and _ahead(s):
        return Wait(poll=True) if s.strategy.unread and s.wish is not Wish.STOP else _adopt(s)
    match s.status.phase:
        case RunPhase.STARTING | RunPhase.RUNNING | RunPhase.PAUSING | RunPhase.PAUSED | RunPhase.RESUMING:
            return _claimed(s)
        case RunPhase.STOPPING:
            return _stopping(s)
        case None | RunPhase.PENDING | RunPhase.STOPPED | RunPhase.FAILED:
            return _resting(s)
        case _:
            assert_never(s.status.phase)


def _claimed(s: RunSnapshot) -> RunPlan:
    """An attempt is claimed: its process should exist."""
    if s.wish is Wish.STOP:
        return stop_because(s)
    if not s.live:
        return launch(s) if unused_claim(s) else ended(s)
    if s.unit.attempt < s.status.attempt:
        # An earlier attempt still lives. The claim on a later one is what authorises its end.
        return ending(s) if s.status.phase is RunPhase.STARTING else stop_because(s, reasons.SUPERSEDED)
    if s.strategy.stop:
        return stop_because(s, reasons.STRATEGY_DELETED)
    return roll(s, s.rolls) if s.rolls else living(s)


def _stopping(s: RunSnapshot) -> RunPlan:
    """Finished before the next wish is looked at."""
    if s.live:
        return ending(s)
    if s.deleting:
        return teardown(s)
    if s.wish is Wish.STOP or s.ended:
        return at_rest(s)
    return begin(s)


def _resting(s: RunSnapshot) -> RunPlan:
    """No process is claimed: Pending, Stopped, Failed, or just created."""
    if s.live:
        wanted = s.wish is not Wish.STOP and not s.rolls and s.unit.state is not UnitState.STOPPING
        return _adopt(s) if wanted and s.unit.attempt == s.status.attempt else stop_because(s)
    if s.deleting:
        return teardown(s)
    if s.wish is Wish.STOP or s.ended:
        return at_rest(s)
    return begin(s)


def _troubled(s: RunSnapshot) -> RunPlan:
    """The last act failed: say so, and wait until it is tried again."""
    problem = s.problem
    assert problem is not None
    phase = s.status.phase or RunPhase.PENDING
    # Some reasons are claims that later passes go by; they stay, the words tell the trouble.
    reason = s.reason if s.reason in reasons.CLAIMS else problem.reason
    serving = s.probe is not None and s.probe.ready
    status = outlook(
        s, phase, reason, problem.message, ready=False, serving=serving, stalled=problem.needs_person
    )
    return settle(s, status, Wait(problem.retry_seconds))


def _predecessor(s: RunSnapshot) -> RunPlan:
    """The name is still taken by the process of an object that was deleted and created again."""
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
                "inputs_hash": s.unit.inputs_hash or s.inputs_hash,
                "strategy": s.strategy.use if s.unit.inputs_hash == s.inputs_hash else s.status.strategy,
                "handled_restart_nonce": s.spec.restart_nonce,
                "stopped_at": None,
            },
        )
    )
