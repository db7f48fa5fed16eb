"""From living tasks to none: cancelled, or deleted."""

from __future__ import annotations

from mainstay.api.phasedjob import CLAIMED, DONE, SETTLED, JobPhase, PhasedJobStatus, StepState, TaskState
from mainstay.core import reasons
from mainstay.core.job.draft import Draft
from mainstay.core.job.outlook import outlook
from mainstay.core.job.snapshot import JobSnapshot
from mainstay.core.job.tasks import judge, settled
from mainstay.core.plan import StopTask
from mainstay.core.unit import GONE, LIVE, Unit, UnitState


def end_all(d: Draft) -> None:
    """Every claimed task is stopped, and judged by how it ended."""
    for task in d.s.graph.tasks.values():
        t = d.tasks[task.name]
        if t.state in CLAIMED:
            if t.state is not TaskState.STOPPING:
                d.task(task.name, state=TaskState.STOPPING)
            d.take(task, judge(d.s, task, d.tasks[task.name]))


def cancelled(d: Draft) -> PhasedJobStatus:
    """Every claimed task is stopped, and then the job is over."""
    end_all(d)
    if any(d.live()):
        phase = d.s.status.phase or JobPhase.PENDING
        return outlook(d, phase, reasons.CANCELLING, f"stopping what runs, {_why(d)}")
    for name, t in d.tasks.items():
        if t.state not in SETTLED:
            d.tasks[name] = settled(d.s, t, TaskState.SKIPPED, reasons.CANCELLED, "cancelled")
    for step in d.s.graph.steps:
        state = d.steps[step.name].state
        if state not in DONE:
            left = StepState.SKIPPED if state is StepState.PENDING else StepState.FAILED
            d.step(step.name, state=left, message="cancelled")
            for part in d.s.graph.phases[step.name]:
                if d.phases[part.name].state not in DONE:
                    d.phase(part.name, state=left, message="cancelled")
    reason = reasons.ORPHANED if d.s.orphaned else reasons.CANCELLED
    return outlook(d, JobPhase.CANCELLED, reason, f"cancelled, {_why(d)}")


def _why(d: Draft) -> str:
    return f"{d.s.orphaned} is gone" if d.s.orphaned else "as spec.state asks"


def deleting(d: Draft) -> PhasedJobStatus:
    """Claims that every living task is to be stopped; what ended is judged, for what it told of assets counts."""
    for name, t in d.tasks.items():
        unit = d.s.units.get(name)
        if unit is None or d.s.foreign(name):
            continue
        if unit.state in LIVE:
            if t.state is not TaskState.STOPPING:
                d.task(name, state=TaskState.STOPPING)
        elif t.state in CLAIMED and d.s.spec.assets:
            d.tasks[name] = judge(d.s, d.s.graph.tasks[name], t).status
    phase = d.s.status.phase or JobPhase.PENDING
    return outlook(d, phase, reasons.DELETING, "stopping what runs, the job is being deleted")


def stop(s: JobSnapshot, task: str, unit: Unit) -> StopTask | float:
    """TERM, then the grace period on the runtime's own clock, then force: what to do, or seconds to wait."""
    declared = s.graph.tasks.get(task)
    grace = float(declared.program.termination_grace_period_seconds) if declared else 30.0
    elapsed = unit.stopping_seconds
    if elapsed is not None and elapsed >= grace:
        return StopTask(task, grace, force=True, deleting=s.deleting)
    if elapsed is None or not unit.stop_told:
        return StopTask(task, grace, deleting=s.deleting)
    return max(0.01, grace - elapsed)


def gone(unit: Unit) -> bool:
    """Whether nothing of it lives, though it has a record."""
    return unit.state in GONE and unit.state is not UnitState.ABSENT
