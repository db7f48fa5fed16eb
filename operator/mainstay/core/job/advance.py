"""How far a job is, and what may start: steps, phases and tasks in order."""

from __future__ import annotations

from enum import Enum, auto

from mainstay.api.phasedjob import (
    CLAIMED,
    DONE,
    SETTLED,
    Phase,
    Step,
    StepState,
    Task,
    TaskState,
)
from mainstay.core import reasons
from mainstay.core.expressions import ExpressionError
from mainstay.core.job.draft import Draft, UnseenError
from mainstay.core.job.tasks import judge, seconds_until_said, settled
from mainstay.core.unit import GONE, UnitState


class Halt(Enum):
    """Why a job goes no further in this pass."""

    WORKING = auto()  # something runs, or will
    WAITING = auto()  # only a user's answer helps
    FAILED = auto()  # a phase failed, and nothing runs any more
    DONE = auto()  # it is complete


def advance(d: Draft, *, claim: bool) -> Halt:
    """Judge what was claimed, and with `claim` begin and claim what may start."""
    for step in d.s.graph.steps:
        if d.steps[step.name].state in DONE:
            continue
        halt = _step(d, step, claim=claim)
        if halt is not None:
            return halt
    return Halt.DONE


def _step(d: Draft, step: Step, *, claim: bool) -> Halt | None:
    """None when the step is done."""
    now = d.s.now
    state = d.steps[step.name].state
    if state is StepState.PENDING:
        d.at_this_moment()
        if not claim and not any(_known(d, phase) for phase in d.s.graph.phases[step.name]):
            return Halt.WORKING
        try:
            wanted = d.true(step.when)
        except UnseenError:
            return Halt.WORKING
        except ExpressionError as error:
            return _expression_failed(d, step.name, None, f"when of step {step.name}: {error}")
        if not wanted:
            _skip_step(d, step)
            return None
        d.step(step.name, state=StepState.IN_PROGRESS, started_at=now, message="")
    elif state is StepState.FAILED and not _failed_tasks(d, step):
        return Halt.FAILED
    if step.action is not None:
        return _action(d, step)
    for phase in d.s.graph.phases[step.name]:
        if finished(d, phase):
            continue
        halt = _phase(d, step, phase, claim=claim)
        if halt is not None:
            waits = {Halt.FAILED: StepState.FAILED, Halt.WAITING: StepState.ACTION_REQUIRED}
            d.step(step.name, state=waits.get(halt, StepState.IN_PROGRESS))
            return halt
    d.step(step.name, state=StepState.COMPLETED, completed_at=now, message="")
    return None


def finished(d: Draft, phase: Phase) -> bool:
    """It is done, and nothing was added to it, or became blocking, since."""
    return (
        d.phases[phase.name].state in DONE
        and all(d.tasks[task.name].state in SETTLED for task in phase.tasks)
        and not _failures(d, phase)
    )


def _known(d: Draft, phase: Phase) -> bool:
    """Whether anything of it ran before: status may have forgotten what the units remember."""
    return any(
        (unit := d.s.units.get(task.name)) is not None and unit.attempt > 0 and not d.s.foreign(task.name)
        for task in phase.tasks
    )


def _skip_step(d: Draft, step: Step) -> None:
    d.step(step.name, state=StepState.SKIPPED, completed_at=d.s.now, message=f"when is false: {step.when}")
    for phase in d.s.graph.phases[step.name]:
        d.phase(phase.name, state=StepState.SKIPPED, completed_at=d.s.now)
        _skip_tasks(d, phase, reasons.STEP_SKIPPED, f"step {step.name} is skipped")


def _skip_tasks(d: Draft, phase: Phase, reason: str, words: str) -> None:
    for task in phase.tasks:
        if d.tasks[task.name].state not in SETTLED:
            d.tasks[task.name] = settled(d.s, d.tasks[task.name], TaskState.SKIPPED, reason, words)


def _action(d: Draft, step: Step) -> Halt | None:
    assert step.action is not None
    d.ask(step.name, step.name, step.action)
    if not d.answer(step.name).fits:
        d.step(step.name, state=StepState.ACTION_REQUIRED, message=step.action.title)
        return Halt.WAITING
    del d.actions[step.name]
    d.step(step.name, state=StepState.COMPLETED, completed_at=d.s.now, message="answered")
    return None


# -- a phase


def _phase(d: Draft, step: Step, phase: Phase, *, claim: bool) -> Halt | None:
    """None when the phase is done."""
    state = d.phases[phase.name].state
    if state is StepState.PENDING:
        if not claim and not _known(d, phase):
            return Halt.WORKING
        d.phase(phase.name, state=StepState.IN_PROGRESS, started_at=d.s.now, message="")
    elif state is StepState.FAILED and not _failures(d, phase):
        return Halt.FAILED
    for task in phase.tasks:
        d.take(task, judge(d.s, task, d.tasks[task.name]))
        _answered(d, task)
    d.at_this_moment()
    if claim and not _failures(d, phase):
        try:
            if _proved(d, phase):
                return None
        except UnseenError:  # nothing is begun, nor begun again, before that is known
            return _verdict(d, step, phase, claim=claim)
        except ExpressionError as error:
            return _expression_failed(
                d, step.name, phase.name, f"completeWhen of phase {phase.name}: {error}"
            )
        _claim(d, phase)
    return _verdict(d, step, phase, claim=claim)


def _proved(d: Draft, phase: Phase) -> bool:
    """Whether the phase is seen to be done already, asked before anything of it is started, or started again."""
    unsettled = any(d.tasks[task.name].state not in SETTLED for task in phase.tasks)
    if phase.complete_when is None or not unsettled or _any_live(d, phase) or not d.true(phase.complete_when):
        return False
    words = f"done already: {phase.complete_when}"[:1024]
    d.phase(phase.name, state=StepState.COMPLETED, completed_at=d.s.now, message=words)
    _skip_tasks(d, phase, reasons.ALREADY_DONE, f"phase {phase.name} is done already")
    return True


def _verdict(d: Draft, step: Step, phase: Phase, *, claim: bool) -> Halt | None:
    states = {task.name: d.tasks[task.name].state for task in phase.tasks}
    live = [name for name, state in states.items() if state in CLAIMED]
    _running_timers(d, phase)
    if failures := _failures(d, phase):
        if live:
            return Halt.WORKING
        _give_up_retries(d, phase)
        first = d.tasks[failures[0]]
        d.fail(step.name, phase.name, first.name, first.reason, first.message)
        words = f"{first.name}: {first.message}"[:1024]
        d.phase(phase.name, state=StepState.FAILED, message=words)
        d.step(step.name, message=words)
        return Halt.FAILED
    if all(state in SETTLED for state in states.values()):
        d.phase(phase.name, state=StepState.COMPLETED, completed_at=d.s.now, message="")
        return None
    if claim:
        _retry_timers(d, phase)
    waits = not live and not any(state is TaskState.RETRYING for state in states.values())
    asked = [name for name, state in states.items() if state is TaskState.ACTION_REQUIRED]
    if waits and asked and not _claimable(d, phase):
        d.phase(
            phase.name,
            state=StepState.ACTION_REQUIRED,
            message=d.actions[asked[0]].title if asked[0] in d.actions else "",
        )
        return Halt.WAITING
    d.phase(phase.name, state=StepState.IN_PROGRESS)
    return Halt.WORKING


def _answered(d: Draft, task: Task) -> None:
    """A task that asked is completed by a fitting answer."""
    t = d.tasks[task.name]
    if t.state is TaskState.ACTION_REQUIRED and (task.name not in d.actions or d.answer(task.name).fits):
        d.actions.pop(task.name, None)
        d.tasks[task.name] = settled(d.s, t, TaskState.COMPLETED, "", "answered")


def _claim(d: Draft, phase: Phase) -> None:
    """Claim the next attempt of every task that may run, as far as limits allow."""
    changed = True
    while changed:  # a task that is skipped may let others be skipped
        changed = False
        for task in phase.tasks:
            t = d.tasks[task.name]
            if t.state is TaskState.RETRYING and _retry_in(d, task) <= 0:
                _begin_attempt(d, task)
            elif t.state is TaskState.PENDING and _ready(d, task):
                changed |= d.tasks[task.name].state in SETTLED


def _ready(d: Draft, task: Task) -> bool:
    """Decide about a task that waits: True if it did, so that others may be decided anew."""
    for name in task.depends_on:
        before = d.tasks[name]
        if before.state is TaskState.FAILED:
            return _skip(d, task, reasons.DEPENDENCY_FAILED, f"{name} failed")
        if before.state is TaskState.SKIPPED and before.reason != reasons.ALREADY_DONE:
            failed = before.reason == reasons.DEPENDENCY_FAILED
            reason = reasons.DEPENDENCY_FAILED if failed else reasons.DEPENDENCY_SKIPPED
            return _skip(d, task, reason, f"{name} was skipped")
        if before.state not in SETTLED:
            return False
    try:
        if not d.true(task.when):
            return _skip(d, task, reasons.CONDITION_FALSE, f"when is false: {task.when}")
    except UnseenError:
        return False
    except ExpressionError as error:
        d.tasks[task.name] = settled(
            d.s, d.tasks[task.name], TaskState.FAILED, reasons.EXPRESSION_FAILED, f"when: {error}"
        )
        return True
    _begin_attempt(d, task)
    return False


def _skip(d: Draft, task: Task, reason: str, words: str) -> bool:
    d.tasks[task.name] = settled(d.s, d.tasks[task.name], TaskState.SKIPPED, reason, words)
    return True


def _begin_attempt(d: Draft, task: Task) -> None:
    """Claim it, if its unit was looked at, the name is free, and there is room."""
    unit = d.s.units.get(task.name)
    if unit is None:
        return  # the next pass looks at it
    if d.s.foreign(task.name) or unit.state not in GONE:
        t = d.tasks[task.name]
        words = "waiting for the process of an earlier object of this name to end"
        if unit.state not in GONE and t.message != words:
            d.task(task.name, reason=reasons.PREDECESSOR, message=words)
        return
    if sum(1 for _ in d.live()) >= d.s.spec.parallelism or _unclaimed_lives(d):
        return
    if d.holding() >= d.s.slots:
        d.waits_for_slot = True
        return
    if not d.sees_own():
        return
    t = d.tasks[task.name]
    attempt = max(t.attempt, unit.attempt if unit.state is not UnitState.ABSENT else 0) + 1
    again = t.reason in reasons.RECOVERIES  # why there is another attempt; a failure was told while it waited
    d.task(
        task.name,
        state=TaskState.STARTING,
        attempt=attempt,
        started_at=d.s.now,
        completed_at=None,
        retry_at=None,
        reason=t.reason if again else "",
        message=t.message if again else "",
    )


def _unclaimed_lives(d: Draft) -> bool:
    """Whether something runs that status has forgotten: it ends first, lest a later phase runs beside an earlier."""
    return any(
        unit.state not in GONE
        and not d.s.foreign(name)
        and name in d.tasks
        and d.tasks[name].state not in CLAIMED
        for name, unit in d.s.units.items()
    )


def _claimable(d: Draft, phase: Phase) -> bool:
    """Whether a task only waits for room, or for a look at its unit."""
    return any(
        d.tasks[task.name].state is TaskState.PENDING
        and all(d.tasks[name].state in SETTLED for name in task.depends_on)
        for task in phase.tasks
    )


def _running_timers(d: Draft, phase: Phase) -> None:
    for task in phase.tasks:
        unit = d.s.units.get(task.name)
        if d.tasks[task.name].state is TaskState.STARTING and unit is not None:
            d.timers.append(max(0.01, seconds_until_said(d.s, unit)))


def _retry_timers(d: Draft, phase: Phase) -> None:
    """Retries to come; one that is due and still waits does so for room, which wakes the job."""
    for task in phase.tasks:
        if d.tasks[task.name].state is TaskState.RETRYING and (left := _retry_in(d, task)) > 0:
            d.timers.append(left)


def _retry_in(d: Draft, task: Task) -> float:
    """Seconds until the next attempt; never more than its backoff can be, wherever the clock was set."""
    at = d.tasks[task.name].retry_at
    left = 0.0 if at is None else (at - d.s.now).total_seconds()
    return left if left <= task.max_backoff_seconds else 0.0


def _give_up_retries(d: Draft, phase: Phase) -> None:
    """The phase has failed: what waited for a retry has too, and runs again with a resume."""
    for task in phase.tasks:
        t = d.tasks[task.name]
        if t.state is TaskState.RETRYING:
            words = f"{t.message}; not tried again, as the phase failed"
            d.tasks[task.name] = settled(d.s, t, TaskState.FAILED, t.reason, words)


def _failures(d: Draft, phase: Phase) -> list[str]:
    return [t.name for t in phase.tasks if t.blocking and d.tasks[t.name].state is TaskState.FAILED]


def _failed_tasks(d: Draft, step: Step) -> bool:
    return any(_failures(d, phase) for phase in d.s.graph.phases[step.name])


def _any_live(d: Draft, phase: Phase) -> bool:
    return any(d.tasks[task.name].state in CLAIMED for task in phase.tasks)


def _expression_failed(d: Draft, step: str, phase: str | None, words: str) -> Halt:
    """What must be known before the phase, or without one the step itself, can't be known."""
    where = phase or step
    d.fail(step, where, where, reasons.EXPRESSION_FAILED, words)
    d.step(step, state=StepState.FAILED, message=words[:1024])
    if phase is not None:
        d.phase(phase, state=StepState.FAILED, message=words[:1024])
    return Halt.FAILED
