"""What kills of the real thing showed of deciding about jobs, each as one snapshot or two."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim.jobs.pure import OTHER_UID, Pure, a_unit, ended, one, phase, phases, task

from mainstay.api.phasedjob import PhasedJobStatus, TaskState
from mainstay.core import plan as p
from mainstay.core.job.decide import EARLY_SECONDS
from mainstay.core.unit import UnitState


def told(world: Pure, name: str, **fields: Any) -> None:
    """Status says something else of a task, as after a hand or another operator wrote it."""
    wire = world.job.status.model_dump(by_alias=True)
    for step in wire["steps"]:
        for part in step["phases"]:
            for each in part["tasks"]:
                if each["name"] == name:
                    each.update(fields)
    world.job = world.job.model_copy(update={"status": PhasedJobStatus.model_validate(wire)})


@pytest.mark.parametrize("attempt", [0, 1])
def test_who_is_about_to_claim_an_attempt_is_not_stopped(attempt):
    """Another operator asked for it a millisecond ago: its shim holds the lock, and has not made the directory yet."""
    world = Pure.of(one(task("a", retries=1)))
    world.step()
    told(world, "a", attempt=attempt + 1)
    world.units["a"] = a_unit("a", UnitState.RUNNING, attempt=attempt)
    plan = world.step()
    assert isinstance(plan, p.Wait), plan
    assert plan.seconds == EARLY_SECONDS


def test_a_claim_that_a_late_write_takes_back_starts_nothing():
    """By hand status claims another attempt of what has just ended well, while others run."""
    world = Pure.of(one("a", "b"))
    world.settle()
    world.end("a")
    told(world, "a", state=TaskState.STARTING, attempt=2)
    plan = world.step()
    assert not isinstance(plan, p.ActAll), plan
    world.settle()
    assert world.executed == [("a", 1), ("b", 1)]


def test_cancelled_while_a_request_may_be_on_its_way():
    """The directory is there and nothing was claimed: a stop goes first, so that nothing can be claimed any more."""
    world = Pure.of(one("a"))
    world.step()
    world.units["a"] = a_unit("a", UnitState.EXITED, attempt=0)
    world.edit(state="Cancelled")
    world.step()
    assert world.states() == {"a": "Stopping"}
    assert world.step() == p.ActAll((p.StopTask("a", 30.0),))
    world.units["a"] = a_unit("a", UnitState.EXITED, attempt=0, stopping_seconds=0.1)
    world.settle()
    assert world.states() == {"a": "Skipped"}


def test_a_job_made_again_and_deleted_takes_what_its_predecessor_left():
    world = Pure.of(one("a"), deleting=True)
    world.units["a"] = a_unit("a", UnitState.EXITED, attempt=1, owner_uid=OTHER_UID)
    world.step()
    assert world.step() == p.ActAll((p.RemoveTask("a", OTHER_UID),))


@pytest.mark.parametrize("state", [TaskState.PENDING, TaskState.STARTING, TaskState.RETRYING])
def test_large_outputs_are_kept_before_anything_is_started_for_a_claim_that_is_ahead(state):
    """By hand, or from another time: the attempt that is claimed is later than the one that did the work."""
    world = Pure.of(one("a", "b"))
    world.settle()
    world.end("a", outputs={"t": "x" * 9000})
    told(world, "a", state=state, attempt=2)
    world.settle()
    world.end("b")
    world.wait(2)
    world.settle()
    assert world.executed == [("a", 1), ("b", 1)]
    assert world.states() == {"a": "Completed", "b": "Completed"}


def test_a_claim_of_a_later_phase_that_is_ahead_starts_nothing():
    """Phases are judged in order, and acts are not: nothing of the second phase was looked at by this pass."""
    world = Pure.of(phases(phase("p", "a"), phase("q", "b")))
    world.settle()
    world.units["b"] = ended("b")
    told(world, "b", state=TaskState.STARTING, attempt=2)
    world.settle()
    assert world.executed == [("a", 1)]
    world.end("a")
    world.settle()
    assert world.executed == [("a", 1)]
    assert world.states() == {"a": "Completed", "b": "Completed"}
