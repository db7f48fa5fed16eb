"""What a resume runs again: what is not completed after the last completed phase, and what was named."""

from __future__ import annotations

from collections.abc import Iterable

from mainstay.api.phasedjob import DONE, TaskState
from mainstay.api.phasedjob import StepState as State
from mainstay.core import reasons
from mainstay.core.job.advance import finished as done
from mainstay.core.job.draft import Draft

KEPT = (TaskState.COMPLETED, TaskState.ACTION_REQUIRED)
"""Never run again: what completed, and what ended by asking and waits for the answer."""


def reset(d: Draft) -> tuple[str, ...]:
    """Make everything that a resume would run, or decide upon anew, pending; its names, in order."""
    named = _named(d)
    again: list[str] = []
    for step in d.s.graph.steps:
        if d.steps[step.name].state in DONE:
            continue
        if d.steps[step.name].state is State.FAILED:
            d.step(step.name, state=State.IN_PROGRESS if _begun(d, step.name) else State.PENDING, message="")
        for phase in d.s.graph.phases[step.name]:
            inside = [task.name for task in phase.tasks]
            finished = done(d, phase)
            chosen = [n for n in inside if (n in named if finished else d.tasks[n].state not in KEPT)]
            if finished and not chosen:
                continue
            if finished or d.phases[phase.name].state is not State.PENDING:
                d.phase(phase.name, state=State.IN_PROGRESS, completed_at=None, message="")
            for name in chosen:
                _renew(d, name)
            again += chosen
    return tuple(again)


def _begun(d: Draft, step: str) -> bool:
    """Whether the step got as far as a phase: what failed before that was its own condition."""
    return any(d.phases[p.name].state is not State.PENDING for p in d.s.graph.phases[step])


def _renew(d: Draft, name: str) -> None:
    d.task(
        name,
        state=TaskState.PENDING,
        failures=0,
        losses=0,
        retry_at=None,
        completed_at=None,
        reason="",
        message="",
    )


def _named(d: Draft) -> frozenset[str]:
    """Failed tasks that were named, and what was skipped because of them."""
    wanted = frozenset(
        name for name in d.s.spec.resume_tasks if name in d.tasks and d.tasks[name].state is TaskState.FAILED
    )
    return wanted | _skipped_for(d, d.s.graph.dependents(wanted))


def _skipped_for(d: Draft, names: Iterable[str]) -> frozenset[str]:
    return frozenset(
        name
        for name in names
        if d.tasks[name].state is TaskState.SKIPPED and d.tasks[name].reason == reasons.DEPENDENCY_FAILED
    )
