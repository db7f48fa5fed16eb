"""From a living process to none: Stopping is finished before the next wish is looked at."""

from __future__ import annotations

from mainstay.api.strategyrun import RunPhase, StrategyRunStatus
from mainstay.core import reasons
from mainstay.core.plan import Act, Plan, StopUnit, Wait, Write
from mainstay.core.run.outlook import outlook
from mainstay.core.snapshot import RunSnapshot

RunPlan = Plan[StrategyRunStatus]

_WORDS = {
    reasons.STOP_REQUESTED: "stopping, as spec.state asks",
    reasons.HELD_LOCALLY: "stopping, as it is held on its host",
    reasons.DELETING: "stopping, the run is being deleted",
    reasons.RESTART_REQUESTED: "stopping, to be started again as restartNonce asks",
    reasons.INPUTS_CHANGED: "stopping, to be started again with what was changed",
    reasons.PORT_LOST: "stopping, its port belongs to someone else",
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
    if elapsed is None:
        return Act(StopUnit(grace, deleting=s.deleting))
    if elapsed < grace:
        return Wait(grace - elapsed)
    return Act(StopUnit(grace, force=True, deleting=s.deleting))
