"""From a wish to a start: claim an attempt and a port, take the lease, start. In this order, always."""

from __future__ import annotations

from mainstay.api.strategyrun import RunPhase, StrategyRunStatus
from mainstay.core import reasons
from mainstay.core.plan import Act, CreateLease, DeleteLease, Plan, StartUnit, Wait, Write
from mainstay.core.run import ports
from mainstay.core.run.ending import give_back, stop_because
from mainstay.core.run.outlook import outlook, settle
from mainstay.core.snapshot import RunSnapshot, Wish
from mainstay.core.strategy.resolve import short
from mainstay.core.unit import UnitState

RunPlan = Plan[StrategyRunStatus]

FOREIGN_PORT_RETRY_SECONDS = 5.0
"""A stranger's listener gives no event when it goes."""


def begin(s: RunSnapshot) -> RunPlan:
    """Claim the next attempt, or say why there can't be one. Nothing of the unit lives."""
    if s.blocked:
        if s.strategy.unread and s.status.phase is RunPhase.PENDING:
            return Wait(poll=True)  # why was told already; whether it still holds is known in a moment
        return _pending(s, *s.blocked, stalled=s.blocked[0] != reasons.STRATEGY_PENDING)
    choice = ports.choose(s)
    if isinstance(choice, ports.NoPort):
        return _pending(
            s,
            choice.reason,
            choice.message,
            stalled=choice.needs_person,
            port_trouble=(choice.reason, choice.message),
        )
    attempt = max(1, s.status.attempt if unused_claim(s) else _latest(s) + 1)
    words = f"starting attempt {attempt}" + (f" on port {choice}" if choice else "")
    return settle(s, _claim(s, attempt, choice, reasons.STARTING, words), Wait(poll=True))


def roll(s: RunSnapshot, reason: str) -> RunPlan:
    """Replace what lives. Where its port stays, the claim on the next attempt is also what ends the present one."""
    if not _keeps_port(s):
        return stop_because(s, reason)
    attempt = _latest(s) + 1
    code = f", {s.strategy.use.name} {short(s.strategy.use.hash)}" if s.strategy.use else ""
    words = f"restarting as attempt {attempt}{code}: {_ROLLS[reason]}"
    return Write(_claim(s, attempt, s.status.port, reason, words))


_ROLLS = {
    reasons.RESTART_REQUESTED: "restartNonce was changed",
    reasons.INPUTS_CHANGED: "its declaration was changed",
    reasons.STRATEGY_CHANGED: "its strategy was changed",
}


def _keeps_port(s: RunSnapshot) -> bool:
    api, port = s.spec.control_api, s.status.port
    if api is None or port is None:
        return api is None and port is None
    held = any(lease.port == port for lease in s.leases)
    return held and port in s.ports.ports and api.port in (None, port) and port not in s.ports.taken


def _latest(s: RunSnapshot) -> int:
    """A restored API server forgets attempts, the unit does not."""
    return max(s.status.attempt, s.unit.attempt)


def _claim(s: RunSnapshot, attempt: int, port: int | None, reason: str, words: str) -> StrategyRunStatus:
    return outlook(
        s,
        RunPhase.STARTING,
        reason,
        words,
        changes={
            "port": port,
            "attempt": attempt,
            "restarts": 0,
            "inputs_hash": s.inputs_hash,
            "strategy": s.strategy.use,
            "handled_restart_nonce": s.spec.restart_nonce,
            "process": None,
            "started_at": None,
            "stopped_at": None,
        },
    )


def unused_claim(s: RunSnapshot) -> bool:
    """An attempt is claimed and was never started, so the claim may still be changed."""
    return s.status.phase is RunPhase.STARTING and not s.live and s.unit.attempt < s.status.attempt


def _pending(
    s: RunSnapshot, reason: str, message: str, *, stalled: bool, port_trouble: tuple[str, str] | None = None
) -> RunPlan:
    """It can't be started now: say why first, then give back what it holds."""
    seen_exit = s.now if s.unit.state is UnitState.EXITED else None
    status = outlook(
        s,
        RunPhase.PENDING,
        reason,
        message,
        ready=False,
        stalled=stalled,
        port_trouble=port_trouble,
        changes={"process": None, "stopped_at": s.status.stopped_at or seen_exit},
    )
    if status != s.status:
        return Write(status)
    return give_back(s) or Wait(FOREIGN_PORT_RETRY_SECONDS if s.ports.foreign else None)


def launch(s: RunSnapshot) -> RunPlan:
    """Under a claim that was never started: the lease, then the start. A port that was lost is chosen anew."""
    port = s.status.port
    if s.rolls or s.blocked or (port is None) != (s.spec.control_api is None):
        return begin(s)
    for lease in s.leases:
        if lease.port != port:
            return Act(DeleteLease(lease.name, lease.uid, lease.resource_version))
    if port is not None and s.spec.control_api is not None:
        if ports.blocked(s, port):
            return begin(s)
        if not s.leases:
            return Act(CreateLease(port, s.spec.control_api.pool))
    return Act(
        StartUnit(
            attempt=s.status.attempt,
            port=port,
            inputs_hash=s.status.inputs_hash or "",
            paused=s.wish is Wish.PAUSE,
        )
    )


def leased(s: RunSnapshot) -> RunPlan | None:
    """What is missing between a living process and the lease of its port, or None when nothing is."""
    api, port = s.spec.control_api, s.status.port
    for lease in s.leases:
        if lease.port not in (port, s.unit.port):
            return Act(DeleteLease(lease.name, lease.uid, lease.resource_version))
    if api is None:
        return None
    if port is None or (port in s.ports.taken and not any(x.port == port for x in s.leases)):
        return stop_because(s, reasons.PORT_LOST)
    if not any(lease.port == port for lease in s.leases):
        return Act(CreateLease(port, api.pool))
    return None
