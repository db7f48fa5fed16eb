"""The events that tell a job's story in `kubectl describe`: its turns, and what went wrong; never each task."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.api.conditions import find
from mainstay.api.phasedjob import JobPhase, PhasedJobStatus, StepState, TaskState, TaskStatus
from mainstay.core import reasons
from mainstay.core.run.story import Event


def events(old: PhasedJobStatus, new: PhasedJobStatus) -> Iterator[Event]:
    """What happened between two statuses that is worth telling."""
    if new.resumes > old.resumes:
        since = f"after {new.last_completed_phase}" if new.last_completed_phase else "from its beginning"
        yield Event("Normal", "Resumed", f"goes on {since}")
    before = {t.name: t for t in old.tasks()}
    for task in new.tasks():
        yield from _task(before.get(task.name), task)
    was = {step.name: step.state for step in old.steps}
    for step in new.steps:
        if len(new.steps) > 1 and step.state is StepState.COMPLETED and was.get(step.name) is not step.state:
            yield Event("Normal", "StepCompleted", f"step {step.name} is done")
    yield from _turn(old, new)


def recovered(old: PhasedJobStatus, new: PhasedJobStatus) -> Iterator[str]:
    """Names of tasks that are run again because their attempt was lost or cut off."""
    before = {t.name: t for t in old.tasks()}
    for task in new.tasks():
        earlier = before.get(task.name)
        if task.reason in reasons.RECOVERIES and (earlier is None or earlier.attempt != task.attempt):
            yield task.name


def orphaned(old: PhasedJobStatus, new: PhasedJobStatus) -> bool:
    """Whether the job was ended because its batch is gone."""
    ready = find(new.conditions, "Ready")
    return old.phase is not new.phase and ready is not None and ready.reason == reasons.ORPHANED


def _task(old: TaskStatus | None, new: TaskStatus) -> Iterator[Event]:
    if old == new or (old is not None and (old.state, old.message) == (new.state, new.message)):
        return
    if new.state is TaskState.FAILED:
        yield Event("Warning", new.reason or "TaskFailed", f"task {new.name}: {new.message}")
    elif new.state is TaskState.RETRYING:
        yield Event("Warning", new.reason, f"task {new.name}: {new.message}")
    elif new.reason in reasons.RECOVERIES and (old is None or old.attempt != new.attempt):
        yield Event("Normal", new.reason, f"task {new.name}: {new.message}")


def _turn(old: PhasedJobStatus, new: PhasedJobStatus) -> Iterator[Event]:
    """A phase or a reason that the job has come to."""
    before, after = find(old.conditions, "Ready"), find(new.conditions, "Ready")
    if after is None or (old.phase == new.phase and before is not None and before.reason == after.reason):
        return
    if after.reason in (reasons.IN_PROGRESS, reasons.WAITING_FOR_ASSET):
        return
    warns = new.phase is JobPhase.FAILED or after.reason in (
        reasons.TASK_FAILED,
        reasons.SPEC_INVALID,
        reasons.SECRET_NOT_FOUND,
        reasons.CONFIG_MAP_NOT_FOUND,
        reasons.RUNTIME_UNAVAILABLE,
        reasons.ASSET_NOT_FOUND,
        reasons.NOT_OWNER,
        reasons.ASSET_UNKNOWN,
        reasons.ORPHANED,
    )
    yield Event("Warning" if warns else "Normal", after.reason, after.message or after.reason)
