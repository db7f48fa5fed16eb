"""A job and its assets: it waits for those that it lacks, says which it has, and what it is told of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.core.job.asset_worlds import AssetWorld, factory, phase, ship, spec

from mainstay.api.holdings import HeldAsset, Holding
from mainstay.api.phasedjob import JobPhase
from mainstay.core import plan as p
from mainstay.core import reasons
from mainstay.core.job.taskspec import task_spec
from mainstay.core.unitspec import Sources

HAUL = spec(phase("p", "haul"))
THEIRS: dict[str, Any] = {"mine": False, "holder": "job mine-7"}


@pytest.mark.parametrize(
    ("views", "reason", "words"),
    [
        ({"ship": ship(**THEIRS)}, reasons.ASSET_HELD, "waits for asset ship-1, which job mine-7 has"),
        (
            {"ship": ship(mine=False, holder="", state="Free")},
            reasons.WAITING_FOR_ASSET,
            "waits for asset ship-1",
        ),
        (
            {"ship": ship(mine=False, holder="batch c1")},
            reasons.ASSET_HELD,
            "waits for asset ship-1, which batch c1 has",
        ),
        (
            {"ship": ship(mine=False, holder="", state="HeldOrphaned", trouble="it has IRON_ORE 40")},
            reasons.ASSET_HELD,
            "waits for asset ship-1: it has IRON_ORE 40",
        ),
        (
            {"ship": ship(mine=False, holder="", state="Unknown", trouble="the probe fails")},
            reasons.ASSET_UNKNOWN,
            "waits for asset ship-1: the probe fails",
        ),
        (
            {"ship": ship(exists=False, mine=False, holder="")},
            reasons.ASSET_NOT_FOUND,
            "asset ship-1 does not exist; create it, and the job goes on",
        ),
        (
            {"ship": ship(belongs_to="alice", **THEIRS)},
            reasons.NOT_OWNER,
            "asset ship-1 belongs to alice: only a job with that spec.owner.userId may have it",
        ),
        (
            {"factory": factory(exists=False)},
            reasons.ASSET_NOT_FOUND,
            "asset factory-1 does not exist; create it, and the job goes on",
        ),
        (
            {"ship": ship(**THEIRS), "factory": factory(exists=False)},
            reasons.ASSET_NOT_FOUND,
            "asset factory-1 does not exist; create it, and the job goes on",
        ),
    ],
)
def test_it_waits_for_what_it_lacks(views: dict[str, Any], reason: str, words: str) -> None:
    world = AssetWorld.made(HAUL)
    good = dict(world.views)
    world.views |= views
    world.settle()
    assert (world.job.status.phase, world.executed) == (JobPhase.PENDING, [])
    assert world.condition()[1] == reason
    assert world.message() == words
    assert world.job.status.assets == ()
    world.views = good
    world.settle()
    assert world.executed == [("haul", 1)]


def test_one_that_is_shared_is_not_waited_for() -> None:
    world = AssetWorld.made(HAUL)
    world.change("factory", mine=False, holder="job mine-7", trouble="the probe fails")
    world.settle()
    assert world.executed == [("haul", 1)]


def test_it_says_for_which_one_first_and_for_how_many() -> None:
    assets = [{"name": n, "ref": r} for n, r in (("x", "c-1"), ("y", "a-1"), ("z", "b-1"))]
    world = AssetWorld.made(spec(phase("p", "t"), assets=assets))
    world.views = {n: ship(ref=r, **THEIRS) for n, r in (("x", "c-1"), ("y", "a-1"), ("z", "b-1"))}
    world.settle()
    assert world.message() == "waits for asset a-1, which job mine-7 has (and for 2 more)"


def test_what_it_has_is_recorded_in_the_write_that_claims_its_first_task() -> None:
    world = AssetWorld.made(HAUL)
    plan = world.step()
    assert isinstance(plan, p.Write)
    assert world.states() == {"haul": "Starting"}
    assert plan.status.assets == (HeldAsset(name="ship", ref="ship-1", uid="uid-of-ship"),)
    assert world.executed == []


def test_a_job_that_lost_its_asset_begins_nothing_and_ends_what_it_does() -> None:
    """And says still that it had it: by that the asset knows whose it is."""
    world = AssetWorld.made(spec(phase("p", "a"), phase("q", "b")))
    world.settle()
    world.change("ship", **THEIRS)
    world.end("a")
    world.settle()
    assert world.states() == {"a": "Completed", "b": "Pending"}
    assert (world.job.status.phase, world.condition()[1]) == (JobPhase.IN_PROGRESS, reasons.ASSET_HELD)
    assert [one.ref for one in world.job.status.assets] == ["ship-1"]
    world.change("ship", mine=True)
    world.settle()
    assert world.executed == [("a", 1)]
    world.answer()
    world.settle()
    assert world.executed == [("a", 1), ("b", 1)]


def test_a_running_task_is_judged_while_its_asset_is_gone() -> None:
    world = AssetWorld.made(HAUL)
    world.settle()
    world.change("ship", exists=False, mine=False)
    world.end("haul")
    world.settle()
    assert world.job.status.phase is JobPhase.COMPLETED


@pytest.mark.parametrize("begun", [False, True])
def test_a_job_whose_batch_is_gone_is_cancelled(begun: bool) -> None:
    world = AssetWorld.made(HAUL)
    if begun:
        world.settle()
    world.orphaned = "JobBatch night is gone"
    for _ in range(10):
        world.step()
        if "haul" in world.living():
            world.act(p.StopTask("haul", 0.0, force=True))
    assert world.job.status.phase is JobPhase.CANCELLED
    assert world.condition()[1] == reasons.ORPHANED
    assert "JobBatch night is gone" in world.message()
    assert world.living() == []


def told_to(world: AssetWorld) -> dict[str, Any]:
    """What its task reads at INPUTS_PATH."""
    made = task_spec(world.snapshot(), p.StartTask("haul", 1), Sources({}, {}))
    return json.loads(made.inputs or b"")


def test_what_a_task_is_told_of_its_assets() -> None:
    world = AssetWorld.made(HAUL)
    world.change("ship", holdings=(Holding(symbol="IRON_ORE", units=40),))
    world.change("factory", accepts=("FUEL",))
    world.settle()
    told = told_to(world)
    assert {"job", "task", "inputs", "context", "assets"} <= told.keys()
    assert told["assets"] == {
        "ship": {
            "ref": "ship-1",
            "type": "Ship",
            "state": "Held",
            "holdings": [{"symbol": "IRON_ORE", "units": 40}],
            "accepts": [],
        },
        "factory": {
            "ref": "factory-1",
            "type": "Factory",
            "state": "Free",
            "holdings": [],
            "accepts": ["FUEL"],
        },
    }


def test_a_job_without_assets_is_told_of_none() -> None:
    world = AssetWorld.made(spec(phase("p", "haul"), assets=()))
    world.settle()
    assert "assets" not in told_to(world)


@pytest.mark.parametrize("phase_by_hand", [JobPhase.CANCELLED, JobPhase.FAILED, JobPhase.COMPLETED])
def test_what_runs_of_a_job_that_somebody_declared_over_is_ended(phase_by_hand: JobPhase) -> None:
    """Its asset is given to nobody while it lives; and its phase can't be taken back."""
    world = AssetWorld.made(HAUL)
    world.settle()
    edited = world.job.status.model_copy(update={"phase": phase_by_hand})
    world.job = world.job.model_copy(update={"status": edited})
    world.settle()
    assert world.states() == {"haul": "Stopping"}
    world.end("haul", 1)
    world.settle()
    assert (world.states(), world.job.status.phase) == ({"haul": "Failed"}, phase_by_hand)
