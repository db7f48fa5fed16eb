"""What a job makes of its assets: waits for those it has not got, and carries reports until they are taken in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mainstay.api.asset import AssetState
from mainstay.api.phasedjob import PhasedJobStatus, TaskStatus
from mainstay.core import reasons
from mainstay.core.job.snapshot import AssetView, JobSnapshot


def without(lacking: Sequence[AssetView]) -> tuple[str, str]:
    """Why a job can't go on, as (reason, words), by the first asset that it waits for."""
    first = lacking[0]
    more = f" (and for {len(lacking) - 1} more)" if len(lacking) > 1 else ""
    if missing := next((view for view in lacking if not view.exists), None):
        return reasons.ASSET_NOT_FOUND, f"asset {missing.ref} does not exist; create it, and the job goes on"
    if other := next((view for view in lacking if view.belongs_to), None):
        words = f"asset {other.ref} belongs to {other.belongs_to}: only a job with that spec.owner.userId may have it"
        return reasons.NOT_OWNER, words
    if first.trouble:
        unknown = first.state == AssetState.UNKNOWN
        return (
            reasons.ASSET_UNKNOWN if unknown else reasons.ASSET_HELD,
            f"waits for asset {first.ref}{more}: {first.trouble}",
        )
    if not first.holder:
        return reasons.WAITING_FOR_ASSET, f"waits for asset {first.ref}{more}"
    return reasons.ASSET_HELD, f"waits for asset {first.ref}, which {first.holder} has{more}"


def report_id(uid: str, task: TaskStatus) -> str:
    """What a task's report is known by, to the job and to the asset."""
    return f"{uid}/{task.name}/{task.attempt}"


def untold(s: JobSnapshot) -> bool:
    """Whether an asset that is there has yet to take in what a task told of it."""
    there = {view.ref for view in s.assets.values() if view.exists}
    return any(report.ref in there for task in _forgetting(s, s.status) for report in task.reports)


def forgotten(status: PhasedJobStatus, s: JobSnapshot) -> PhasedJobStatus:
    """The same without the reports that assets have counted."""
    if not any(task.reports for task in status.tasks()):
        return status
    kept = {task.name: task for task in _forgetting(s, status)}
    steps = tuple(
        step.model_copy(
            update={
                "phases": tuple(
                    phase.model_copy(update={"tasks": tuple(kept[task.name] for task in phase.tasks)})
                    for phase in step.phases
                )
            }
        )
        for step in status.steps
    )
    return status.model_copy(update={"steps": steps})


def _forgetting(s: JobSnapshot, status: PhasedJobStatus) -> Iterator[TaskStatus]:
    taken = {view.ref: view.taken for view in s.assets.values()}
    for task in status.tasks():
        left = tuple(r for r in task.reports if report_id(s.uid, task) not in taken.get(r.ref, frozenset()))
        yield task if left == task.reports else task.model_copy(update={"reports": left})
