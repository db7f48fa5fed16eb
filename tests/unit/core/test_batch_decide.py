"""Deciding about a batch: which jobs to make, what they came to, and how it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim.jobs.pure import NOW, one

from mainstay.api.jobbatch import JobBatch
from mainstay.api.meta import FINALIZER
from mainstay.api.phasedjob import FINAL, JobGoal, JobPhase
from mainstay.core import plan as p
from mainstay.core.batch.decide import ACTIVE, AT_ONCE, BatchSnapshot, ChildView, decide

P, I, A, S, C, F, X = (  # noqa: E741 - initials, as in the tables below
    JobPhase.PENDING,
    JobPhase.IN_PROGRESS,
    JobPhase.ACTION_REQUIRED,
    JobPhase.SUSPENDED,
    JobPhase.COMPLETED,
    JobPhase.FAILED,
    JobPhase.CANCELLED,
)


def names(number):
    return [f"j{i:04}" for i in range(number)]


def a_batch(number=3, *, deleting=False, finalizer=True, **spec):
    meta = {
        "name": "many",
        "namespace": "default",
        "uid": "u",
        "generation": 1,
        "deletionTimestamp": NOW if deleting else None,
        "finalizers": [FINALIZER] if finalizer else [],
    }
    declared = {"template": one("a"), "jobs": [{"name": n} for n in names(number)], **spec}
    return JobBatch.model_validate({"metadata": meta, "spec": declared})


def snapshot(batch, phases=(), *, state=JobGoal.RUNNING, **fields):
    children = {n: ChildView(n, f"uid-{n}", ph, state) for n, ph in zip(names(99), phases, strict=False)}
    return BatchSnapshot(batch, NOW, children, **fields)


def after_write(s):
    """The snapshot once its status is written."""
    plan = decide(s)
    if not isinstance(plan, p.Write):
        return s
    return replace(s, batch=s.batch.model_copy(update={"status": plan.status}))


def acts(s):
    plan = decide(after_write(s))
    return plan.actions if isinstance(plan, p.ActAll) else (plan.action,) if isinstance(plan, p.Act) else ()


def status(s):
    return after_write(s).batch.status


FINALS = {
    "nothing yet": ((), "Running", "InProgress"),
    "all done": ((C, C, C), "Running", "Completed"),
    "one left": ((C, C, I), "Running", "InProgress"),
    "one not made": ((C, C), "Running", "InProgress"),
    "one failed": ((C, F, C), "Running", "PartiallyCompleted"),
    "one cancelled": ((C, X, C), "Running", "PartiallyCompleted"),
    "all failed": ((F, F, F), "Running", "Failed"),
    "failed and cancelled": ((F, X, F), "Running", "Failed"),
    "all cancelled": ((X, X, X), "Running", "Cancelled"),
    "all need action": ((A, A, A), "Running", "ActionRequired"),
    "one needs action": ((C, A, F), "Running", "ActionRequired"),
    "one needs action, another works": ((C, A, I), "Running", "InProgress"),
    "one needs action, another is not made": ((C, A), "Running", "InProgress"),
    "suspended": ((S, S, C), "Suspended", "Suspended"),
    "being suspended": ((S, I, C), "Suspended", "InProgress"),
    "suspended, all done": ((C, C, C), "Suspended", "Completed"),
    "cancelled": ((X, C, X), "Cancelled", "Cancelled"),
    "cancelled before all were made": ((X,), "Cancelled", "Cancelled"),
    "being cancelled": ((X, I, X), "Cancelled", "InProgress"),
    "being cancelled, one waits": ((X, A, X), "Cancelled", "InProgress"),
}


@pytest.mark.parametrize("case", FINALS)
def test_what_jobs_come_to(case):
    phases, state, phase = FINALS[case]
    s = snapshot(a_batch(state=state), phases, state=JobGoal(state))
    assert status(s).phase == phase
    over = phase in ("Completed", "PartiallyCompleted", "Failed", "Cancelled")
    assert (status(s).completed_at is not None) is over


def test_counts():
    counts = status(snapshot(a_batch(9), (P, I, I, A, S, C, F, X))).counts
    told = counts.model_dump()
    assert told == {
        "total": 9,
        "pending": 2,
        "in_progress": 2,
        "action_required": 1,
        "suspended": 1,
        "completed": 1,
        "failed": 1,
        "cancelled": 1,
    }
    assert status(snapshot(a_batch(9), (C, C))).progress == "2/9"


@given(st.lists(st.sampled_from(JobPhase), max_size=12), st.integers(0, 4), st.sampled_from(JobGoal))
@settings(derandomize=True, deadline=None, database=None, max_examples=200)
def test_counts_add_up_and_nothing_is_written_twice(phases, more, state):
    s = snapshot(a_batch(max(1, len(phases) + more), state=state), phases, state=state)
    told = status(s).counts.model_dump()
    assert sum(v for k, v in told.items() if k != "total") == told["total"]
    assert min(told.values()) >= 0
    again = after_write(s)
    assert not isinstance(decide(again), p.Write)
    made = [a for a in acts(s) if isinstance(a, p.CreateJob)]
    active = sum(1 for ph in phases if ph in ACTIVE)
    assert not made or active + len(made) <= s.batch.spec.parallelism
    assert not made or state is JobGoal.RUNNING


@pytest.mark.parametrize(
    ("parallelism", "phases", "made"),
    [(2, (), 2), (2, (I,), 1), (2, (I, P), 0), (2, (A, A, A), 2), (1, (C, F), 1), (99, (), AT_ONCE)],
)
def test_parallelism(parallelism, phases, made):
    s = snapshot(a_batch(40, parallelism=parallelism), phases)
    assert acts(s) == tuple(p.CreateJob(n) for n in names(40)[len(phases) : len(phases) + made])


@pytest.mark.parametrize(("waiting", "made"), [(0, 0), (1, 1), (2, 2)])
def test_jobs_that_wait_for_assets_leave_room_for_others(waiting, made):
    s = snapshot(a_batch(40, parallelism=2), (P, P))
    jobs = {n: replace(c, waits=i < waiting) for i, (n, c) in enumerate(s.jobs.items())}
    assert len(acts(replace(s, jobs=jobs))) == made


def test_no_more_of_them_wait_than_may_be_under_way():
    s = snapshot(a_batch(40, parallelism=2), (P,) * 4)
    assert acts(replace(s, jobs={n: replace(c, waits=True) for n, c in s.jobs.items()})) == ()


def test_a_job_deleted_by_hand_counts_as_cancelled_and_is_not_made_again():
    s = after_write(snapshot(a_batch(), (I, C, I)))
    gone = replace(s, jobs={n: c for n, c in s.jobs.items() if n != "j0001"})
    assert status(gone).counts.cancelled == 1
    assert not acts(gone)
    left = replace(gone, jobs={n: replace(c, phase=C) for n, c in gone.jobs.items()})
    assert status(left).phase == "PartiallyCompleted"


def test_a_name_that_is_taken_is_told_and_looked_at_again():
    s = snapshot(a_batch(2), (C,), blocked={"j0001": "JobBatch other"})
    told = {c.type: c for c in status(s).conditions}
    assert told["Stalled"].status == "True"
    assert "j0001" in told["Ready"].message
    assert "JobBatch other" in told["Ready"].message
    assert not acts(s)
    wait = decide(after_write(s))
    assert isinstance(wait, p.Wait)
    assert wait.seconds
    assert acts(replace(s, blocked={})) == (p.CreateJob("j0001"),)


@pytest.mark.parametrize("state", [JobGoal.SUSPENDED, JobGoal.CANCELLED])
def test_a_state_is_passed_on_to_what_is_not_over(state):
    s = snapshot(a_batch(9, state=state), (P, I, A, S, C, F, X))
    told = {a.name: a.state for a in acts(s)}
    assert told == {n: str(state) for n, c in s.jobs.items() if c.phase not in FINAL}


def test_a_cancelled_job_stays_so_and_a_going_one_is_left_alone():
    s = snapshot(a_batch(2), (I, I), state=JobGoal.CANCELLED)
    assert not acts(s)
    going = replace(
        s, jobs={n: ChildView(n, c.uid, I, JobGoal.SUSPENDED, deleting=True) for n, c in s.jobs.items()}
    )
    assert not acts(going)


def test_deletion_order():
    batch = a_batch(40, deleting=True)
    s = snapshot(batch, [I] * 40)
    assert len(acts(s)) == AT_ONCE
    assert acts(snapshot(batch, (C,))) == (p.DeleteJob("j0000", "uid-j0000"),)
    going = replace(s, jobs={n: replace(c, deleting=True) for n, c in s.jobs.items()})
    assert isinstance(decide(going), p.Wait)
    assert acts(replace(s, jobs={})) == (p.RemoveFinalizer(),)
    assert decide(snapshot(a_batch(deleting=True, finalizer=False), (I,))) == p.Wait()


def test_jobs_that_are_to_be_disowned_are_not_ended():
    s = snapshot(a_batch(deleting=True), (I, C))
    meta = s.batch.metadata
    waits = replace(
        s,
        batch=s.batch.model_copy(
            update={"metadata": meta.model_copy(update={"finalizers": ("orphan", FINALIZER)})}
        ),
    )
    assert isinstance(decide(waits), p.Wait)
    assert acts(replace(s, jobs={})) == (p.RemoveFinalizer(),)


def test_it_is_guarded_first():
    assert decide(snapshot(a_batch(finalizer=False))) == p.Act(p.AddFinalizer())


def test_entries_that_are_replaced_all_count():
    s = after_write(snapshot(a_batch(2), (C, C)))
    assert s.batch.status.phase == "Completed"
    spec = a_batch(3).spec.model_copy(update={"jobs": a_batch(3).spec.jobs[1:]})
    changed = replace(s, batch=s.batch.model_copy(update={"spec": spec}))
    assert status(changed).counts.total == 3
    assert status(changed).phase == "InProgress"
    assert acts(changed) == (p.CreateJob("j0002"),)


def test_counts_alone_are_written_once_a_second():
    s = after_write(snapshot(a_batch(9), (I, I, I, P)))
    moved = replace(s, jobs={**s.jobs, "j0003": replace(s.jobs["j0003"], phase=I)})
    early = decide(replace(moved, counted_seconds_ago=0.25))
    assert isinstance(early, p.ActAll | p.Wait)
    assert isinstance(decide(replace(moved, counted_seconds_ago=1.0)), p.Write)


def test_the_status_of_the_largest_batch_is_bounded():
    batch = a_batch(1000)
    long = [f"{n}-{'x' * 34}" for n in names(1000)]
    batch = batch.model_copy(
        update={
            "spec": batch.spec.model_copy(
                update={"jobs": [batch.spec.jobs[0].model_copy(update={"name": n}) for n in long]}
            )
        }
    )
    s = BatchSnapshot(batch, NOW, {n: ChildView(n, n, A, JobGoal.RUNNING) for n in long})
    told = status(s)
    assert len(told.needs_action) == 20
    assert len(told.model_dump_json(by_alias=True)) < 64 * 1024
