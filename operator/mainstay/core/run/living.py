"""While a process of the claimed attempt exists: serving, paused, or between two starts."""

from __future__ import annotations

from typing import Any, assert_never

from mainstay.api.program import RestartPolicy, RestartPolicyType
from mainstay.api.strategyrun import RunPhase, StrategyRunStatus
from mainstay.core import reasons
from mainstay.core.plan import Act, DefineUnit, PauseUnit, Plan, ResumeUnit, Wait, Write
from mainstay.core.readiness import readiness_of
from mainstay.core.run.claiming import begin, leased
from mainstay.core.run.ending import stop_because
from mainstay.core.run.outlook import outlook, settle
from mainstay.core.snapshot import RunSnapshot, Wish
from mainstay.core.unit import UnitState
from mainstay.core.words import exit_words

RunPlan = Plan[StrategyRunStatus]

STEADY_SECONDS = 5.0
"""How long a program without a probe must live after a crash to count as running."""

PATIENCE_SECONDS = 2.0
"""How long a new program may be without an answer before that is said."""

_DEFINABLE = (UnitState.RUNNING, UnitState.PAUSED, UnitState.HELD)


def living(s: RunSnapshot) -> RunPlan:
    """A process of the claimed attempt exists, and should."""
    if s.unit.state is UnitState.STOPPING:
        return stop_because(s, reasons.STOP_REQUESTED)
    if plan := leased(s):
        return plan
    if not s.unit.defined and s.unit.state in _DEFINABLE and s.blocked is None:
        return Act(DefineUnit(s.status.attempt, s.status.port, s.status.inputs_hash or ""))
    return _should_pause(s) if s.wish is Wish.PAUSE else _should_run(s)


def _should_pause(s: RunSnapshot) -> RunPlan:
    match s.unit.state:
        case UnitState.PAUSED | UnitState.HELD:
            words = "paused" if s.unit.state is UnitState.PAUSED else "paused; nothing of it runs yet"
            return settle(s, _settled(s, RunPhase.PAUSED, reasons.PAUSED, words, serving=False))
        case UnitState.RUNNING | UnitState.BACKOFF | UnitState.WAITING:
            if s.status.phase in (RunPhase.PAUSING, RunPhase.PAUSED):
                return Act(PauseUnit())
            return Write(outlook(s, RunPhase.PAUSING, reasons.PAUSING, "pausing"))
        case UnitState.ABSENT | UnitState.EXITED | UnitState.STOPPING:
            raise AssertionError(s.unit.state)
        case _:
            assert_never(s.unit.state)


def _should_run(s: RunSnapshot) -> RunPlan:
    match s.unit.state:
        case UnitState.RUNNING if not s.unit.pause_marked:
            return _serving(s)
        case UnitState.RUNNING | UnitState.PAUSED | UnitState.HELD:
            if s.status.phase is RunPhase.RESUMING:
                return Act(ResumeUnit())
            return Write(outlook(s, RunPhase.RESUMING, reasons.RESUMING, "resuming"))
        case UnitState.WAITING if s.status.phase in (RunPhase.STARTING, RunPhase.RESUMING):
            return Wait(poll=True)
        case UnitState.BACKOFF | UnitState.WAITING:
            return settle(s, _crash_loop(s), Wait(1.0))
        case UnitState.ABSENT | UnitState.EXITED | UnitState.STOPPING:
            raise AssertionError(s.unit.state)
        case _:
            assert_never(s.unit.state)


def ended(s: RunSnapshot) -> RunPlan:
    """The claimed attempt ended, and nobody asked for it: decide by its restart policy."""
    policy = (s.spec.restart_policy or RestartPolicy()).policy
    code = s.unit.exit.code if s.unit.exit else None
    if s.rolls or s.unit.state is UnitState.ABSENT or s.unit.stopping_seconds is not None:
        return begin(s)  # lost, or stopped by someone: no end of its own
    if code == 0 and policy is not RestartPolicyType.ALWAYS:
        return _ending(s, reasons.COMPLETED)
    if policy is RestartPolicyType.NEVER:
        return _ending(s, reasons.FAILED)
    return begin(s)


def _ending(s: RunSnapshot, reason: str) -> RunPlan:
    return Write(outlook(s, RunPhase.STOPPING, reason, exit_words(s.unit), changes={"process": None}))


def _serving(s: RunSnapshot) -> RunPlan:
    """The program runs: Running once it serves, what it was until then."""
    readiness = readiness_of(s.spec)
    if s.reason == reasons.CRASH_LOOP and readiness is None and (left := _unsteady(s)) > 0:
        return Wait(left)
    if s.probe is not None and s.probe.ready:
        where = f" on port {s.status.port}" if s.status.port else ""
        status = _settled(s, RunPhase.RUNNING, reasons.RUNNING, f"running{where}", serving=True)
        return settle(s, status, Wait(float(readiness.period_seconds) if readiness else None))
    why = s.probe.message if s.probe else "not asked yet"
    phase = s.status.phase if s.status.phase in (RunPhase.RUNNING, RunPhase.RESUMING) else RunPhase.STARTING
    if s.blocked is not None:
        return settle(s, _settled(s, phase, "", "", serving=False), Wait(poll=True))
    if s.reason in (reasons.STARTING, *reasons.ROLLS) and _age(s) < PATIENCE_SECONDS:
        return Wait(
            poll=True
        )  # most programs listen within a moment; only waiting for longer is worth a write
    words = f"the process runs and is not ready: {why}"
    status = outlook(s, phase, reasons.NOT_READY, words, ready=False, changes=seen_process(s))
    # The words of a probe change from one to the next; only the state of things is worth a write.
    if s.reason == reasons.NOT_READY and _but_words(status) == _but_words(s.status):
        return Wait(poll=True)
    return settle(s, status, Wait(poll=True))


def _but_words(status: StrategyRunStatus) -> StrategyRunStatus:
    quiet = tuple(c.model_copy(update={"message": ""}) for c in status.conditions)
    return status.model_copy(update={"conditions": quiet})


def _unsteady(s: RunSnapshot) -> float:
    """Seconds until a program without a probe, that has crashed, counts as running again.

    A probe is proof enough; without one, every start of a crash loop would look like a success.
    """
    return 0.0 if s.unit.started_at is None else STEADY_SECONDS - _age(s)


def _age(s: RunSnapshot) -> float:
    """Seconds since the program was started; never negative, the clock may have been set back."""
    started = s.unit.started_at
    return 0.0 if started is None else max(0.0, s.now.timestamp() - started)


def _settled(s: RunSnapshot, phase: RunPhase, reason: str, words: str, *, serving: bool) -> StrategyRunStatus:
    """Running or paused as asked; not Ready while what is asked now could never be started."""
    changes = seen_process(s)
    if s.blocked is None:
        return outlook(s, phase, reason, words, serving=serving, changes=changes)
    if s.strategy.unread and s.status.phase is phase:
        return s.status  # whether that still holds is known in a moment
    why, what = s.blocked
    words = f"{what} The process started before goes on."
    return outlook(s, phase, why, words, ready=False, serving=serving, stalled=True, changes=changes)


def seen_process(s: RunSnapshot) -> dict[str, Any]:
    """The fields of status that tell of the live leader."""
    leader = s.unit.leader
    if leader is None:
        return {"process": None}
    started = s.unit.started_at
    return {
        "process": leader.status,
        "restarts": s.unit.restarts,
        "started_at": None if started is None else s.now.fromtimestamp(int(started), tz=s.now.tzinfo),
        "stopped_at": None,
    }


def _crash_loop(s: RunSnapshot) -> StrategyRunStatus:
    """It ended and waits for its next start: how it ended, with the last words of its stderr."""
    return outlook(
        s,
        RunPhase.STARTING,
        reasons.CRASH_LOOP,
        f"restarted with growing delays: {exit_words(s.unit)}",
        ready=False,
        changes={"process": None, "restarts": s.unit.restarts},
    )
