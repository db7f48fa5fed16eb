"""decide(): the next plan for a restart. One step after the other, each claimed in status before it is done."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, assert_never

from mainstay.api.conditions import ConditionStatus, condition, merge
from mainstay.api.servicestack import StackGoal
from mainstay.api.stackrestart import (
    OVER,
    RestartMode,
    RestartPhase,
    StackRestartStatus,
    StepName,
    StepState,
    StepStatus,
)
from mainstay.core import reasons
from mainstay.core.plan import Act, DeleteRestart, Plan, Wait, Write
from mainstay.core.restart.snapshot import STEPS, RestartSnapshot
from mainstay.core.restart.steps import Do, Done, Failed, Waiting, step
from mainstay.core.stack.spec import problem_of

RestartPlan = Plan[StackRestartStatus]

ABSENT_SECONDS = 10.0
"""For a stack that is applied together with its restart, and after it."""
TURN_SECONDS = 2.0
"""A stack that does nothing else claims a restart at once; only what takes longer is told."""


def decide(s: RestartSnapshot) -> RestartPlan:
    """What to do next. Pure: the same snapshot always gives the same plan."""
    if s.restart.metadata.deletion_timestamp is not None:
        return Wait()
    if s.status.phase in OVER:
        return _kept(s)
    if refusal := refused(s):
        begun = s.status.phase is RestartPhase.RUNNING
        if refusal[0] == reasons.STACK_NOT_FOUND and not begun and s.lately.step_seconds < ABSENT_SECONDS:
            status = _told(s, RestartPhase.PENDING, *refusal)
            return Write(status) if status != s.status else Wait(ABSENT_SECONDS - s.lately.step_seconds)
        return Write(_ended(s, RestartPhase.FAILED, *refusal))
    if not s.claimed:
        if not s.ahead and s.status.phase is None and s.lately.step_seconds < TURN_SECONDS:
            return Wait(TURN_SECONDS)
        words = f"waits for restart {s.ahead}" if s.ahead else "waits for its turn"
        status = _told(s, RestartPhase.PENDING, reasons.WAITING_FOR_TURN, words)
        return Write(status) if status != s.status else Wait()
    if s.status.phase is not RestartPhase.RUNNING or s.step is None:
        return Write(_begun(s))
    return _step(s)


def _kept(s: RestartSnapshot) -> RestartPlan:
    """It is over: history, for as long as it is to be kept."""
    meta, over = s.restart.metadata, s.status.completed_at or s.now
    left = over + timedelta(seconds=s.restart.spec.ttl_seconds_after_finished) - s.now
    if left <= timedelta():
        return Act(DeleteRestart(meta.name, meta.uid))
    return Wait(left.total_seconds())


def refused(s: RestartSnapshot) -> tuple[str, str] | None:
    """Why it can't be done, whatever its turn: (reason, words)."""
    name = s.restart.spec.stack
    if s.stack is None:
        words = f"there is no ServiceStack {name} in this namespace; `kubectl get stack` lists them"
        return reasons.STACK_NOT_FOUND, words
    if s.stack.metadata.deletion_timestamp is not None:
        return reasons.STACK_DELETED, f"ServiceStack {name} is being deleted"
    whose, asked = s.stack.spec.owner, s.restart.spec.owner
    if whose is not None and (asked is None or asked.user_id != whose.user_id):
        words = f"ServiceStack {name} belongs to {whose.user_id}: spec.owner.userId must say so"
        return reasons.NOT_OWNER, words
    if s.stack.spec.state is StackGoal.STOPPED and s.mode is not RestartMode.FLUSH:
        words = f"ServiceStack {name} is stopped; `kubectl mainstay start stack/{name}` starts it"
        return reasons.STACK_STOPPED, words
    if s.mode is not RestartMode.FLUSH and (problem := problem_of(s.stack.spec)):
        return problem
    return None


def _step(s: RestartSnapshot) -> RestartPlan:
    """Under the claim of a step: what it needs, until it is done."""
    present = s.step
    assert present is not None
    outcome = step(s)
    match outcome:
        case Done():
            return Write(_done(s, present, outcome))
        case Failed():
            failed = _over(s, present, StepState.FAILED, outcome)
            words = f"step {present.name}: {outcome.message}"
            return Write(_ended(failed, RestartPhase.FAILED, reasons.STEP_FAILED, words))
        case Do(action=action, details=details):
            if details != present.details and details:
                told = present.model_copy(update={"details": details})
                return Write(_with(s, told))  # said before it is done
            return Act(action)
        case Waiting(seconds=seconds, poll=poll):
            return Wait(seconds, poll=poll)
        case _:
            assert_never(outcome)


def _begun(s: RestartSnapshot) -> StackRestartStatus:
    names = STEPS[s.mode]
    steps = tuple(StepStatus(name=name) for name in names)
    fresh = s.status.model_copy(update={"steps": steps, "started_at": s.now, "verified": ()})
    told = _told(s, RestartPhase.RUNNING, reasons.RESTARTING, f"{s.mode} restart under way", fresh)
    return _entered(s, told, names[0])


def _entered(s: RestartSnapshot, status: StackRestartStatus, name: StepName) -> StackRestartStatus:
    """The claim of a step; of the supervisor's end, with who is to go."""
    steps = tuple(
        one.model_copy(update={"state": StepState.RUNNING, "started_at": s.now}) if one.name is name else one
        for one in status.steps
    )
    update: dict[str, Any] = {"step": name, "steps": steps}
    if name in (StepName.STOP_SUPERVISOR, StepName.KILL_SUPERVISOR) and s.supervisor is not None:
        update["supervisor"] = s.supervisor.status
    return status.model_copy(update=update)


def _done(s: RestartSnapshot, present: StepStatus, outcome: Done) -> StackRestartStatus:
    names = STEPS[s.mode]
    after = names[names.index(present.name) + 1 :]
    status = _over(s, present, StepState.COMPLETED, outcome)
    if after:
        return _entered(s, status.status, after[0])
    return _ended(status, RestartPhase.COMPLETED, reasons.COMPLETED, outcome.message)


def _over(
    s: RestartSnapshot, present: StepStatus, state: StepState, outcome: Done | Failed
) -> RestartSnapshot:
    """The snapshot with that step over."""
    told = present.model_copy(
        update={
            "state": state,
            "completed_at": s.now,
            "message": outcome.message[:4096],
            "details": outcome.details or present.details,
        }
    )
    status = _with(s, told)
    if outcome.verified is not None:
        status = status.model_copy(update={"verified": outcome.verified})
    return _of(s, status)


def _of(s: RestartSnapshot, status: StackRestartStatus) -> RestartSnapshot:
    return replace(s, restart=s.restart.model_copy(update={"status": status}))


def _with(s: RestartSnapshot, told: StepStatus) -> StackRestartStatus:
    steps = tuple(told if one.name is told.name else one for one in s.status.steps)
    return s.status.model_copy(update={"steps": steps})


def _ended(s: RestartSnapshot, phase: RestartPhase, reason: str, words: str) -> StackRestartStatus:
    begun = s.status.started_at
    took = f"{max(0.0, (s.now - begun).total_seconds()):.1f} s" if begun is not None else ""
    status = s.status.model_copy(update={"completed_at": s.now, "took": took})
    if phase is RestartPhase.COMPLETED:
        status = status.model_copy(update={"step": None})
    return _told(s, phase, reason, words, status)


def _told(
    s: RestartSnapshot,
    phase: RestartPhase,
    reason: str,
    words: str,
    status: StackRestartStatus | None = None,
) -> StackRestartStatus:
    status = status or s.status
    now: datetime = s.now.replace(microsecond=0)
    generation = s.restart.metadata.generation
    tell = partial(condition, now=now, generation=generation)
    failed, completed = phase is RestartPhase.FAILED, phase is RestartPhase.COMPLETED
    ready = ConditionStatus.FALSE if failed else ConditionStatus.UNKNOWN
    conditions = [
        tell("Complete", completed, reason, words),
        tell("Ready", ConditionStatus.TRUE if completed else ready, reason, words),
        tell("Reconciling", not completed and not failed, reason, ""),
        tell("Stalled", failed, reason, words if failed else ""),
    ]
    return status.model_copy(
        update={
            "observed_generation": generation,
            "phase": phase,
            "conditions": merge(s.status.conditions, conditions, now),
        }
    )
