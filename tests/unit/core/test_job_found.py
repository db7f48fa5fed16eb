"""Mistakes that were found in jobs; each stays found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mainstay.api.jobbatch import BatchPhase, JobBatch
from mainstay.api.meta import FINALIZER
from mainstay.api.phasedjob import JobGoal, JobPhase, PhasedJob, TaskState, UserAction
from mainstay.core.answers import SchemaError, answer, check_schema
from mainstay.core.batch import decide as batch
from mainstay.core.job.decide import decide
from mainstay.core.job.graph import Graph
from mainstay.core.job.snapshot import JobSnapshot
from mainstay.core.plan import Wait, Write
from mainstay.core.unit import Unit, UnitState

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PROGRAM = {"command": ["true"]}


def of_one_phase(tasks: list[dict[str, Any]], states: list[dict[str, Any]], live: set[str]) -> JobSnapshot:
    """A job on its only phase, with every unit at attempt 1."""
    spec = {"steps": [{"name": "s", "phases": [{"name": "p", "tasks": tasks}]}]}
    told = [{"attempt": 1, "startedAt": NOW - timedelta(seconds=60), **state} for state in states]
    status = {
        "phase": "InProgress",
        "handledResumeNonce": 0,
        "startedAt": NOW,
        "steps": [
            {
                "name": "s",
                "state": "InProgress",
                "phases": [{"name": "p", "state": "InProgress", "tasks": told}],
            }
        ],
    }
    meta = {
        "name": "j",
        "namespace": "n",
        "uid": "u",
        "finalizers": [FINALIZER],
        "generation": 1,
        "resourceVersion": "1",
    }
    job = PhasedJob.model_validate({"metadata": meta, "spec": spec, "status": status})
    units = {
        task["name"]: Unit(
            "x",
            UnitState.RUNNING if task["name"] in live else UnitState.EXITED,
            owner_uid="u",
            attempt=1,
            started_at=NOW.timestamp() - 60,
        )
        for task in tasks
    }
    return JobSnapshot(job=job, graph=Graph.of(job.spec), now=NOW, units=units)


def settle(s: JobSnapshot) -> tuple[JobSnapshot, Any]:
    """Apply writes until there is something else to do."""
    plan = decide(s)
    while isinstance(plan, Write):
        s = JobSnapshot(
            job=s.job.model_copy(update={"status": plan.status}), graph=s.graph, now=s.now, units=s.units
        )
        plan = decide(s)
    return s, plan


TASKS = [
    {"name": "a", "program": PROGRAM},
    {"name": "b", "program": PROGRAM, "blocking": False, "retries": 2},
    {"name": "c", "program": PROGRAM, "blocking": False},
]
OVERDUE = {
    "name": "b",
    "state": "Retrying",
    "failures": 1,
    "retryAt": NOW - timedelta(seconds=5),
    "message": "m",
}


def test_an_overdue_retry_of_a_failed_phase_is_no_busy_loop():
    states = [{"name": "a", "state": "Failed", "failures": 1}, OVERDUE, {"name": "c", "state": "Running"}]
    _, plan = settle(of_one_phase(TASKS, states, live={"c"}))
    assert plan == Wait()


def test_a_retry_that_the_phase_s_failure_prevents_is_told_as_failed():
    states = [{"name": "a", "state": "Failed", "failures": 1}, OVERDUE, {"name": "c", "state": "Completed"}]
    s, _ = settle(of_one_phase(TASKS, states, live=set()))
    b = s.status.steps[0].phases[0].tasks[1]
    assert b.state is TaskState.FAILED
    assert "not tried again" in b.message
    assert s.status.resume_plan == ("a", "b")


def test_a_secret_is_not_judged_by_its_stand_in():
    schema = {
        "type": "object",
        "required": ["password"],
        "properties": {"password": {"type": "string", "minLength": 12}},
    }
    action = UserAction(title="t", schema=schema, secret_fields=["password"])
    ref = {"secretKeyRef": {"name": "s", "key": "k"}}
    assert answer(action, "a", {"a": {"password": ref}}).fits
    assert not answer(action, "a", {"a": {}}).fits


def test_what_is_wrong_with_a_schema_is_placed():
    with pytest.raises(SchemaError, match=r"^required\[0\]: "):
        check_schema({"type": "object", "required": [True]})


def test_a_batch_whose_jobs_can_t_begin_needs_action():
    spec = {
        "parallelism": 1,
        "template": {"steps": [{"name": "s", "task": {"program": PROGRAM}}]},
        "jobs": [{"name": "a"}, {"name": "b"}],
    }
    meta = {"name": "x", "uid": "u", "finalizers": [FINALIZER], "generation": 1}
    stuck = batch.ChildView("x-a", "1", JobPhase.PENDING, JobGoal.RUNNING, stuck=True)
    s = batch.BatchSnapshot(JobBatch.model_validate({"metadata": meta, "spec": spec}), NOW, {"a": stuck})
    plan = batch.decide(s)
    assert isinstance(plan, Write)
    assert plan.status.phase is BatchPhase.ACTION_REQUIRED
    assert plan.status.needs_action == ("a",)
    again = s.batch.model_copy(update={"status": plan.status})
    assert batch.decide(batch.BatchSnapshot(again, NOW, {"a": stuck})) == Wait()
