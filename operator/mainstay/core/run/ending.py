"""From a living process to none, and its port given back: in this order, always."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mainstay.api.strategyrun import RunPhase, StrategyRunStatus
from mainstay.core import reasons
from mainstay.core.plan import Act, DeleteLease, Plan, RemoveFinalizer, RemoveUnit, StopUnit, Wait, Write
from mainstay.core.run.outlook import outlook, settle
from mainstay.core.snapshot import RunSnapshot, Wish
from mainstay.core.unit import UnitState
from mainstay.core.words import exit_words

RunPlan = Plan[StrategyRunStatus]

_WORDS = {
    reasons.STOP_REQUESTED: "stopping, as spec.state asks",
    reasons.HELD_LOCALLY: "stopping, as it is held on its host",
    reasons.DELETING: "stopping, the run is being deleted",
    reasons.RESTART_REQUESTED: "stopping, to be started again as restartNonce asks",
    reasons.INPUTS_CHANGED: "stopping, to be started again with what was changed",
    reasons.STRATEGY_CHANGED: "stopping, to be started again with its strategy as it is now",
    reasons.STRATEGY_DELETED: "stopping, as its strategy was deleted",
    reasons.PORT_LOST: "stopping, to be started again with a port of its own",
}


def stop_because(s: RunSnapshot, reason: str | None = None) -> RunPlan:
    """Claim the stop. A restart nonce is consumed in the same write, so that it is obeyed once."""
    if reason is None:
        reason = (
            reasons.DELETING
            if s.deleting
            else reasons.HELD_LOCALLY
            if s.unit.held_locally
            else reasons.STOP_REQUESTED
        )
    return Write(
        outlook(
            s,
            RunPhase.STOPPING,
            reason,
            _WORDS.get(reason, "stopping"),
            changes={"handled_restart_nonce": s.spec.restart_nonce},
        )
    )


def ending(s: RunSnapshot) -> RunPlan:
    """TERM, then the grace period on the runtime's own clock, then force."""
    grace = float(s.spec.program.termination_grace_period_seconds)
    elapsed = s.unit.stopping_seconds
    if elapsed is not None and elapsed >= grace:
        return Act(StopUnit(grace, force=True, deleting=s.deleting))
    if elapsed is None or not s.unit.stop_told:
        return Act(StopUnit(grace, deleting=s.deleting))
    return Wait(grace - elapsed)


def give_back(s: RunSnapshot) -> RunPlan | None:
    """Delete the leases of a run that nothing lives of, after the pool's quarantine; None when there are none."""
    if not s.leases:
        return None
    if s.ports.quarantine_seconds and s.status.stopped_at is not None:
        rest = s.status.stopped_at + timedelta(seconds=s.ports.quarantine_seconds) - s.now
        if rest > timedelta():
            return Wait(rest.total_seconds())
    lease = s.leases[0]
    return Act(DeleteLease(lease.name, lease.uid, lease.resource_version))


def at_rest(s: RunSnapshot) -> RunPlan:
    """Nothing lives and nothing should: the port goes back, and it is said. A quarantine starts by saying so."""
    status = _stopped(s)
    if s.ports.quarantine_seconds and status != s.status:
        return Write(status)
    return give_back(s) or settle(s, status)


def teardown(s: RunSnapshot) -> RunPlan:
    """Nothing lives: forget the unit, give the port back, let the object go."""
    if s.unit.state is UnitState.EXITED:
        return Act(RemoveUnit(s.uid))
    if s.leases and s.ports.quarantine_seconds and s.status.attempt and s.status.stopped_at is None:
        words = "the process has ended; its port rests before it is given back"
        return Write(outlook(s, RunPhase.STOPPING, reasons.DELETING, words, changes={"stopped_at": s.now}))
    return give_back(s) or Act(RemoveFinalizer())


def _stopped(s: RunSnapshot) -> StrategyRunStatus:
    """Stopped as asked, held on the host, completed, or failed."""
    seen: dict[str, Any] = {
        "process": None,
        "stopped_at": s.status.stopped_at or (s.now if s.status.attempt else None),
    }
    if s.wish is not Wish.STOP and s.reason == reasons.FAILED:
        return outlook(
            s, RunPhase.FAILED, reasons.FAILED, exit_words(s.unit), ready=False, stalled=True, changes=seen
        )
    if s.wish is not Wish.STOP and s.reason == reasons.COMPLETED:
        words = "the process ended with exit code 0"
        return outlook(s, RunPhase.STOPPED, reasons.COMPLETED, words, changes=seen)
    seen["handled_restart_nonce"] = s.spec.restart_nonce
    if s.wants_process:
        words = f"stopped on its host; `mainstay release {s.run.metadata.name}` lets it run again"
        return outlook(
            s, RunPhase.STOPPED, reasons.HELD_LOCALLY, words, ready=False, stalled=True, changes=seen
        )
    return outlook(s, RunPhase.STOPPED, reasons.STOPPED, "stopped, as spec.state asks", changes=seen)
