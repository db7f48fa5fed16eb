"""Mistakes that were found in jobs that are edited, starved or copied; each stays found."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.sim.jobs.pure import NOW, Pure, one, phase, phases, task

from mainstay.api.jobbatch import JobBatch
from mainstay.api.meta import FINALIZER
from mainstay.api.phasedjob import JobGoal, JobPhase, TaskState, TaskStatus
from mainstay.core import reasons
from mainstay.core.batch import decide as batch
from mainstay.core.job.advance import _retry_in
from mainstay.core.job.decide import decide
from mainstay.core.job.draft import Draft
from mainstay.core.plan import Wait, Write
from mainstay.core.snapshot import Problem
from mainstay.shell.jobs.batches import _short
from mainstay.shell.jobs.index import JobIndex

NO_SECRET = Problem(reasons.SECRET_NOT_FOUND, "Secret s with key k does not exist.", True, 5.0)


def steps(world: Pure, count: int = 20) -> None:
    for _ in range(count):
        if isinstance(world.step(), Wait):
            return


def test_a_long_condition_of_a_step_is_cut_in_status():
    spec = one("a")
    spec["steps"][0]["when"] = " || ".join(["false"] * 200)
    world = Pure.of(spec)
    steps(world)
    assert len(world.job.status.steps[0].message) == 1024
    assert world.job.status.phase is JobPhase.COMPLETED


def test_a_clock_set_back_does_not_stretch_a_backoff():
    world = Pure.of(one(task("a", retries=3)))
    d = Draft(world.snapshot())
    d.tasks["a"] = TaskStatus(name="a", state=TaskState.RETRYING, retry_at=NOW + timedelta(hours=1))
    assert _retry_in(d, world.graph.tasks["a"]) == 0


def test_a_claim_that_lacks_a_secret_holds_no_room_and_is_taken_back_when_suspended():
    world = Pure.of(one("a"))
    world.step()  # the claim
    s = world.snapshot()
    starved = settled(replace(s, problems={"a": NO_SECRET}))
    told = starved.job.status.steps[0].phases[0].tasks[0]
    assert (told.state, told.reason) == (TaskState.STARTING, reasons.SECRET_NOT_FOUND)
    index = JobIndex(1)
    index.put_job(
        {"metadata": {"name": "j", "namespace": "d", "uid": "u", "resourceVersion": "1"}, **wire(starved)}
    )
    assert index.room == 1
    suspended = starved.job.model_copy(
        update={"spec": starved.job.spec.model_copy(update={"state": JobGoal.SUSPENDED})}
    )
    after = settled(replace(starved, job=suspended))
    assert after.job.status.phase is JobPhase.SUSPENDED


def wire(s):
    return {"spec": s.job.spec.wire(), "status": s.job.status.wire()}


def settled(s):
    """The snapshot once its status is written."""
    for _ in range(5):
        plan = decide(s)
        if not isinstance(plan, Write):
            break
        s = replace(s, job=s.job.model_copy(update={"status": plan.status}))
    return s


def test_a_failed_blocking_task_moved_into_a_completed_phase_is_run_by_the_resume():
    world = Pure.of(phases(phase("p1", "a"), phase("p2", "b")))
    steps(world)
    world.end("a", 0)
    steps(world)
    world.end("b", 1)
    steps(world)
    assert world.job.status.resumable
    edited = Pure.of(phases(phase("p1", "a", "b"), phase("p3", "c")))
    spec = edited.job.spec.model_copy(update={"resume_nonce": 1})
    world.job = world.job.model_copy(update={"spec": spec})
    steps(world)
    assert "b" in world.living()


def test_copies_of_a_child_are_no_jobs_of_the_batch():
    assert _short("cl", "cl-x1") == "x1"
    assert _short("cl", "my-copy") is None
    assert _short("cl", "cl-" + "c" * 41) is None
    meta = {
        "name": "cl",
        "uid": "u",
        "finalizers": [FINALIZER],
        "generation": 1,
        "deletionTimestamp": NOW,
    }
    spec = {
        "template": {"steps": [{"name": "s", "task": {"program": {"command": ["true"]}}}]},
        "jobs": [{"name": "x"}],
    }
    copy = batch.ChildView("my-copy", "1", JobPhase.COMPLETED, JobGoal.RUNNING)
    s = batch.BatchSnapshot(JobBatch.model_validate({"metadata": meta, "spec": spec}), NOW, strangers=(copy,))
    plan = batch.decide(s)
    assert [(a.name, a.uid) for a in plan.actions] == [("my-copy", "1")]
