"""decide(): the next plan for a batch: which jobs to make, and what they came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from mainstay.api.conditions import condition as observed
from mainstay.api.conditions import merge
from mainstay.api.jobbatch import NAMES_SHOWN, BatchPhase, JobBatch, JobBatchStatus, JobCounts
from mainstay.api.meta import FINALIZER
from mainstay.api.phasedjob import FINAL, JobGoal, JobPhase
from mainstay.core import reasons
from mainstay.core.plan import (
    Act,
    ActAll,
    AddFinalizer,
    BatchEffect,
    CreateJob,
    DeleteJob,
    Plan,
    RemoveFinalizer,
    SetJobState,
    Wait,
    Write,
)
from mainstay.core.run.story import Event

BatchPlan = Plan[JobBatchStatus]

AT_ONCE = 16
"""Jobs made or deleted in one pass, so that others get their turn."""
COUNT_SECONDS = 1.0
"""Counts alone are written at most that often."""
CLOCK_SECONDS = 0.001
"""A shorter wait is none."""
BLOCKED_SECONDS = 10.0
"""How often to try again what could not be made: no event tells that a name is free, or a quota larger."""
ORPHAN = "orphan"
"""Kubernetes' own finalizer of `kubectl delete --cascade=orphan`."""
GOING_SECONDS = 1.0
"""How often to look whether the jobs of a deleted batch are gone: our own last act on a job may be all that tells it."""
ACTIVE = (JobPhase.PENDING, JobPhase.IN_PROGRESS)
OVER = (BatchPhase.COMPLETED, BatchPhase.PARTIALLY_COMPLETED, BatchPhase.FAILED, BatchPhase.CANCELLED)


@dataclass(frozen=True, slots=True)
class ChildView:
    """A job of the batch, as much as counts need."""

    name: str  # of the PhasedJob
    uid: str
    phase: JobPhase
    state: JobGoal
    deleting: bool = False
    waits: bool = False  # for an asset, which another job may be the one to free
    stuck: bool = False  # pending or under way, and only a person can change that


@dataclass(frozen=True, slots=True)
class BatchSnapshot:
    """One batch and its jobs, as of one moment."""

    batch: JobBatch
    now: datetime
    jobs: Mapping[str, ChildView] = field(default_factory=dict)  # name within the batch → the job
    strangers: tuple[ChildView, ...] = ()  # owned by the batch, and none of its jobs by name: copies
    blocked: Mapping[str, str] = field(default_factory=dict)  # name within the batch → why it can't be made
    due: frozenset[str] = frozenset()  # of these, the ones to try again now
    counted_seconds_ago: float = 1e9  # since counts were last written by this operator

    @property
    def deleting(self) -> bool:
        """The user asked for its deletion."""
        return self.batch.metadata.deletion_timestamp is not None


def decide(s: BatchSnapshot) -> BatchPlan:
    """What to do next. Pure: the same snapshot always gives the same plan."""
    has_finalizer = FINALIZER in s.batch.metadata.finalizers
    if s.deleting and ORPHAN in s.batch.metadata.finalizers:
        return Wait(GOING_SECONDS)  # its jobs are to be disowned first, and then they are nobody's to end
    if s.deleting:
        return _teardown(s) if has_finalizer else Wait()
    if not has_finalizer:
        return Act(AddFinalizer())
    status = _outlook(s)
    if status != s.batch.status:
        counts_only = _without_counts(status) == _without_counts(s.batch.status)
        left = COUNT_SECONDS - s.counted_seconds_ago
        if counts_only and left >= CLOCK_SECONDS:
            return _acts(s, left)
        return Write(status)
    return _acts(s, None)


def _acts(s: BatchSnapshot, seconds: float | None) -> BatchPlan:
    acts: list[BatchEffect] = [
        SetJobState(job.name, job.uid, str(s.batch.spec.state))
        for job in s.jobs.values()
        if job.phase not in FINAL
        and not job.deleting
        and job.state not in (s.batch.spec.state, JobGoal.CANCELLED)
    ]
    if s.batch.spec.state is JobGoal.RUNNING:
        acts += [CreateJob(name) for name in _unmade(s)[: _room(s)]]
    if acts:
        return ActAll(tuple(acts[:AT_ONCE]))
    return Wait(BLOCKED_SECONDS if s.blocked and seconds is None else seconds)


def _room(s: BatchSnapshot) -> int:
    """How many more jobs may be under way. One that can't begin counts: the next would be no better.

    Not so one that waits for an asset, as others need other assets; but no more of these than may be under way.
    """
    most = s.batch.spec.parallelism
    stuck = sum(1 for job in s.jobs.values() if job.stuck and job.phase is JobPhase.IN_PROGRESS)
    waiting = sum(1 for job in s.jobs.values() if job.waits and job.phase is JobPhase.PENDING)
    active = sum(1 for job in s.jobs.values() if job.phase in ACTIVE)
    return max(0, most - active + stuck + min(waiting, most))


def _moves(s: BatchSnapshot) -> bool:
    """Whether anything happens without a person."""
    if any(job.phase in ACTIVE and not job.stuck for job in s.jobs.values()):
        return True
    return _room(s) > 0 and bool(_unmade(s))


def _unmade(s: BatchSnapshot) -> list[str]:
    """Jobs to be made. One that was seen and is gone was deleted by hand: what it did is not done again."""
    known = {*s.batch.status.created, *s.jobs, *s.blocked} - s.due
    return [job.name for job in s.batch.spec.jobs if job.name not in known]


def _teardown(s: BatchSnapshot) -> BatchPlan:
    """Its jobs first: each stops what runs and removes what it kept."""
    children = (*s.jobs.values(), *s.strangers)
    acts = tuple(DeleteJob(child.name, child.uid) for child in children if not child.deleting)
    if acts:
        return ActAll(acts[:AT_ONCE])
    return Wait(GOING_SECONDS) if children else Act(RemoveFinalizer())


def _outlook(s: BatchSnapshot) -> JobBatchStatus:
    old = s.batch.status
    seen = set(old.created)
    created = (*old.created, *(name for name in s.jobs if name not in seen))
    counts = _counts(s, created)
    phase, reason, words = _phase(s, counts)
    stalled = phase in (BatchPhase.ACTION_REQUIRED, BatchPhase.FAILED, BatchPhase.PARTIALLY_COMPLETED)
    if s.blocked:
        name, why = next(iter(s.blocked.items()))
        words = f"job {name} can't be made: {why}; {words}"
        stalled = True
    ready = phase in (BatchPhase.COMPLETED, BatchPhase.CANCELLED, BatchPhase.SUSPENDED) and not stalled

    now = s.now.replace(microsecond=0)
    tell = partial(observed, reason=reason, now=now, generation=s.batch.metadata.generation)
    conditions = [
        tell("Ready", ready, message=words),
        tell("Reconciling", not ready and not stalled, message=""),
        tell("Stalled", stalled, message=words if stalled else ""),
    ]
    needs = [n for n, j in s.jobs.items() if j.stuck or j.phase is JobPhase.ACTION_REQUIRED]
    failed = [n for n, j in s.jobs.items() if j.phase is JobPhase.FAILED]
    over = phase in OVER
    return old.model_copy(
        update={
            "observed_generation": s.batch.metadata.generation,
            "phase": phase,
            "counts": counts,
            "progress": f"{counts.completed}/{counts.total}",
            "created": created,
            "needs_action": tuple(sorted(needs)[:NAMES_SHOWN]),
            "failed": tuple(sorted(failed)[:NAMES_SHOWN]),
            "started_at": old.started_at or s.now,
            "completed_at": (old.completed_at or s.now) if over else None,
            "conditions": merge(old.conditions, conditions, now),
        }
    )


def _counts(s: BatchSnapshot, created: tuple[str, ...]) -> JobCounts:
    def number(phase: JobPhase) -> int:
        return sum(1 for job in s.jobs.values() if job.phase is phase and not job.stuck)

    stuck = sum(1 for job in s.jobs.values() if job.stuck)
    gone = sum(1 for name in created if name not in s.jobs)
    total = len({*created, *(job.name for job in s.batch.spec.jobs)})
    return JobCounts(
        total=total,
        pending=number(JobPhase.PENDING) + total - gone - len(s.jobs),
        in_progress=number(JobPhase.IN_PROGRESS),
        action_required=number(JobPhase.ACTION_REQUIRED) + stuck,
        suspended=number(JobPhase.SUSPENDED),
        completed=number(JobPhase.COMPLETED),
        failed=number(JobPhase.FAILED),
        cancelled=number(JobPhase.CANCELLED) + gone,
    )


def _phase(s: BatchSnapshot, c: JobCounts) -> tuple[BatchPhase, str, str]:
    """What the jobs came to, as (phase, reason, words)."""
    told = f"{c.completed} of {c.total} jobs completed"
    rest = [
        f"{n} {word}"
        for n, word in (
            (c.in_progress, "under way"),
            (c.pending, "pending"),
            (c.action_required, "need action"),
            (c.suspended, "suspended"),
            (c.failed, "failed"),
            (c.cancelled, "cancelled"),
        )
        if n
    ]
    words = ", ".join([told, *rest])
    state = s.batch.spec.state
    if state is JobGoal.CANCELLED:
        left = (
            c.in_progress
            + c.action_required
            + c.suspended
            + sum(1 for job in s.jobs.values() if job.phase is JobPhase.PENDING)
        )
        if left == 0:
            return BatchPhase.CANCELLED, reasons.CANCELLED, words
        return BatchPhase.IN_PROGRESS, reasons.CANCELLING, words
    if c.completed == c.total:
        return BatchPhase.COMPLETED, reasons.COMPLETED, words
    if c.completed + c.failed + c.cancelled == c.total:
        if c.completed:
            return BatchPhase.PARTIALLY_COMPLETED, reasons.PARTIALLY_COMPLETED, words
        only_cancelled = c.failed == 0
        return (
            (BatchPhase.CANCELLED, reasons.CANCELLED, words)
            if only_cancelled
            else (BatchPhase.FAILED, reasons.JOB_FAILED, words)
        )
    if state is JobGoal.SUSPENDED:
        if c.in_progress == 0:
            return BatchPhase.SUSPENDED, reasons.SUSPENDED, words
        return BatchPhase.IN_PROGRESS, reasons.SUSPENDING, words
    if c.action_required and not _moves(s):
        return BatchPhase.ACTION_REQUIRED, reasons.ACTION_REQUIRED, words
    return BatchPhase.IN_PROGRESS, reasons.IN_PROGRESS, words


def _without_counts(status: JobBatchStatus) -> JobBatchStatus:
    """What is worth a write at once."""
    quiet = tuple(c.model_copy(update={"message": ""}) for c in status.conditions)
    return status.model_copy(
        update={
            "counts": JobCounts(),
            "progress": "",
            "needs_action": (),
            "failed": (),
            "conditions": quiet,
        }
    )


def events(old: JobBatchStatus, new: JobBatchStatus) -> Iterator[Event]:
    """What happened between two statuses that is worth telling."""
    if old.phase is new.phase:
        return
    ready = next((c for c in new.conditions if c.type == "Ready"), None)
    if new.phase is BatchPhase.IN_PROGRESS and old.phase is None:
        yield Event("Normal", "Started", f"{new.counts.total} jobs")
    elif ready is not None and new.phase is not None:
        warns = new.phase in (BatchPhase.FAILED, BatchPhase.PARTIALLY_COMPLETED)
        yield Event("Warning" if warns else "Normal", ready.reason, ready.message)
