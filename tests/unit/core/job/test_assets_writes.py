"""What is told of a job while somebody looks at its assets: together with what starts then, unless that takes long."""

from __future__ import annotations

from tests.unit.core.job.asset_worlds import FULL, AssetWorld, phase, ship, spec

from mainstay.core import plan as p
from mainstay.core import reasons
from mainstay.core.job.decide import LAZY_SECONDS

BUY = phase("buy", "buy", completeWhen=FULL)
SELL = phase("sell", "sell")


def writes(world: AssetWorld) -> int:
    return sum(isinstance(plan, p.Write) for plan in world.plans)


def waiting(*phases: dict[str, object]) -> AssetWorld:
    """A job that was told that somebody else has its ship, and has it now."""
    world = AssetWorld.made(spec(*phases))
    world.change("ship", mine=False, holder="job other")
    world.settle()
    assert world.condition()[1] == reasons.ASSET_HELD
    world.views["ship"] = ship()
    world.plans.clear()
    return world


def test_an_asset_that_was_got_is_told_with_the_first_claim() -> None:
    world = waiting(BUY)
    plan = world.settle()
    assert (writes(world), plan.seconds) == (0, LAZY_SECONDS)
    assert (str(world.job.status.phase), world.job.status.assets) == ("Pending", ())
    world.answer()
    world.settle()
    assert writes(world) == 1
    assert [held.ref for held in world.job.status.assets] == ["ship-1"]
    assert (world.states(), world.executed) == ({"buy": "Starting"}, [("buy", 1)])


def test_a_completion_is_told_with_what_the_look_lets_start() -> None:
    world = AssetWorld.made(spec(SELL, BUY))
    world.settle()
    world.end("sell", outputs={"sold": 40})
    world.plans.clear()
    world.settle()
    assert (writes(world), world.states()) == (0, {"sell": "Starting", "buy": "Pending"})
    world.answer()
    world.settle()
    assert (writes(world), world.states()) == (1, {"sell": "Completed", "buy": "Starting"})
    assert world.job.status.context == {"sell": {"sold": 40}}


def test_a_look_that_takes_long_is_not_waited_for() -> None:
    world = waiting(BUY)
    world.settle()
    world.change("ship", asking_seconds=LAZY_SECONDS)
    world.settle()
    assert writes(world) == 1
    assert (world.condition()[1], world.states()) == (reasons.IN_PROGRESS, {"buy": "Pending"})


def test_a_look_that_fails_is_told_at_once() -> None:
    world = AssetWorld.made(spec(SELL, BUY))
    world.settle()
    world.end("sell")
    world.settle()
    world.fails()
    world.settle()
    assert (world.condition()[1], world.states()["sell"]) == (reasons.ASSET_UNKNOWN, "Completed")


def test_a_failure_does_not_wait_for_a_look() -> None:
    world = AssetWorld.made(
        spec(phase("sell", "sell", {**SELL["tasks"][0], "name": "other"}, completeWhen=FULL))
    )
    world.settle()
    world.answer()
    world.settle()
    world.end("sell", 1)
    world.plans.clear()
    world.settle()
    assert writes(world) == 1
    assert world.states()["sell"] == "Failed"
