"""Expressions over assets: true only of a look that was made for that very moment."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.job.asset_worlds import FULL, IRON, AssetWorld, phase, ship, spec

from mainstay.api.phasedjob import JobPhase
from mainstay.core import plan as p
from mainstay.core import reasons
from mainstay.core.job.draft import Draft

BUY = phase("buy", "buy", completeWhen=FULL)


def test_a_phase_begins_after_the_look_and_not_before() -> None:
    world = AssetWorld.made(spec(BUY))
    world.settle()
    assert (world.executed, world.states()) == ([], {"buy": "Pending"})
    assert [refs for refs, _ in world.asked] == [("ship-1",)]
    world.settle()
    assert len(world.asked) == 1  # it is under way
    world.answer()
    world.settle()
    assert world.executed == [("buy", 1)]
    assert len(world.asked) == 1


def test_what_is_there_already_is_not_bought() -> None:
    world = AssetWorld.made(spec(BUY, phase("sail", "sail")))
    world.settle()
    world.answer(IRON)
    world.settle()
    assert world.states() == {"buy": "Skipped", "sail": "Starting"}
    assert world.executed == [("sail", 1)]
    assert world.reasons()["buy"] == reasons.ALREADY_DONE


@pytest.mark.parametrize("bought", [True, False])
def test_a_purchase_whose_end_was_not_seen(bought: bool) -> None:
    """Killed between its purchase and its exit code: what the ship has now decides, not what it had."""
    world = AssetWorld.made(spec(BUY))
    world.settle()
    world.answer()
    world.settle()
    world.lose("buy")
    world.settle()
    assert world.executed == [("buy", 1)]
    assert len({purpose for _, purpose in world.asked}) == 2
    world.answer(IRON if bought else ())
    world.settle()
    assert world.executed == ([("buy", 1)] if bought else [("buy", 1), ("buy", 2)])
    assert (world.job.status.phase is JobPhase.COMPLETED) is bought


def test_a_look_that_was_asked_before_a_task_ended_is_too_old() -> None:
    """It began while the first phase was at work; the second is not judged by it."""
    world = AssetWorld.made(spec(phase("sell", "sell"), BUY))
    world.settle()
    early = f"early:{world.job.metadata.uid}"
    world.change("ship", purposes=frozenset({early}), holdings=IRON)
    world.end("sell")
    world.settle()
    assert world.executed == [("sell", 1)]
    assert world.states()["buy"] == "Pending"
    assert len(world.asked) == 1
    world.answer()
    world.settle()
    assert world.executed == [("sell", 1), ("buy", 1)]


def test_every_claim_and_every_end_is_another_purpose() -> None:
    """A retry that waits, and an answer that is given, too: whatever may have changed what is in the asset."""
    retried = {"name": "b", "program": {"command": ["b"]}, "retries": 1, "initialBackoffSeconds": 5}
    world = AssetWorld.made(spec(phase("p", "a", retried), phase("q", "asks"), BUY))
    seen = []

    def note() -> None:
        world.settle()
        seen.append(Draft(world.snapshot()).moment)

    seen.append(Draft(world.snapshot()).moment)
    note()
    world.end("a")
    world.wait(2)
    note()
    world.end("b", 1)
    note()
    assert world.states()["b"] == "Retrying"
    world.wait(5)
    world.settle()
    world.answer()  # what the retry is told of the ship
    note()
    world.end("b")
    world.wait(2)
    world.settle()
    world.answer()
    note()
    world.end("asks", outputs={"actionRequired": {"title": "?"}})
    world.wait(2)
    note()
    assert world.states()["asks"] == "ActionRequired"
    world.edit(inputs={"asks": True})
    note()
    assert world.states()["asks"] == "Completed"
    assert len(set(seen)) == len(seen) == 8, seen


def test_a_task_that_completed_is_told_while_the_probe_fails() -> None:
    world = AssetWorld.made(spec(phase("sell", "sell"), BUY))
    world.settle()
    world.end("sell", outputs={"sold": 40})
    world.settle()
    world.fails()
    plan = world.settle()
    assert world.states() == {"sell": "Completed", "buy": "Pending"}
    assert world.job.status.context == {"sell": {"sold": 40}}
    assert world.condition()[1] == reasons.ASSET_UNKNOWN
    assert "asset ship-1 can't be looked at: no answer" in world.message()
    assert plan.seconds == 4.0
    asked = len(world.asked)
    world.change("ship", next_look_seconds=0.0)
    world.settle()
    assert len(world.asked) == asked + 1
    world.answer()
    world.settle()
    assert world.executed == [("sell", 1), ("buy", 1)]


def test_when_of_a_task_waits_for_the_look_and_others_do_not() -> None:
    sail = {"name": "sail", "program": {"command": ["sail"]}, "when": FULL}
    world = AssetWorld.made(spec(phase("p", "log", sail)))
    world.settle()
    assert world.executed == [("log", 1)]
    world.answer(IRON)  # asked before `log` was claimed, or after: only the latter counts
    world.settle()
    world.settle()
    if world.states()["sail"] == "Pending":
        world.answer(IRON)
        world.settle()
    assert ("sail", 1) in world.executed


@pytest.mark.parametrize(("holdings", "state"), [(IRON, "Running"), ((), "Skipped")])
def test_when_of_a_step(holdings: Any, state: str) -> None:
    made = spec(phase("p", "sail"))
    made["steps"][0]["when"] = FULL
    world = AssetWorld.made(made)
    world.settle()
    assert world.executed == []
    world.answer(holdings)
    world.settle()
    assert world.executed == ([("sail", 1)] if state == "Running" else [])
    if state == "Skipped":
        assert world.states() == {"sail": "Skipped"}


def test_only_the_assets_that_are_named_are_looked_at() -> None:
    assets = [{"name": name, "ref": f"{name}-1"} for name in ("a", "b", "c")]
    world = AssetWorld.made(spec(phase("p", "t", completeWhen="assets.b.holdings.size() > 0"), assets=assets))
    world.views = {name: ship(ref=f"{name}-1") for name in ("a", "b", "c")}
    world.settle()
    assert [refs for refs, _ in world.asked] == [("b-1",)]
    other = AssetWorld.made(spec(phase("p", "t", completeWhen="size(assets) > 5"), assets=assets))
    other.views = dict(world.views) | {"b": ship(ref="b-1")}
    other.settle()
    assert [refs for refs, _ in other.asked] == [("a-1", "b-1", "c-1")]


def test_one_without_a_probe_is_what_tasks_told_of_it() -> None:
    world = AssetWorld.made(spec(BUY))
    world.change("ship", probed=False, holdings=IRON)
    world.settle()
    assert world.asked == []
    assert world.job.status.phase is JobPhase.COMPLETED


@pytest.mark.parametrize(
    "expression",
    ["assets.ship.state == 'Held'", "'FUEL' in assets.factory.accepts", "assets.factory.ref == 'factory-1'"],
)
def test_what_expressions_see(expression: str) -> None:
    world = AssetWorld.made(spec(phase("p", "t", completeWhen=expression)))
    world.change("factory", accepts=("FUEL",))
    world.settle()
    if world.asked:
        world.answer()
        world.settle()
    assert world.job.status.phase is JobPhase.COMPLETED


def test_a_job_without_expressions_over_assets_asks_nothing() -> None:
    world = AssetWorld.made(spec(phase("p", "t", completeWhen="inputs.done == true"), inputs={"done": False}))
    world.settle()
    assert world.asked == []
    assert world.executed == [("t", 1)]


def test_a_look_lost_with_the_operator_is_asked_again() -> None:
    world = AssetWorld.made(spec(BUY))
    world.settle()
    world.change("ship", asking=frozenset())
    world.settle()
    assert len(world.asked) == 2
    assert world.asked[0] == world.asked[1]
    assert isinstance(world.plans[-1], p.Wait)


def test_a_phase_that_asks_a_user_says_so_while_the_probe_fails() -> None:
    world = AssetWorld.made(spec(phase("buy", "asks", completeWhen=FULL)))
    world.settle()
    world.answer()
    world.settle()
    world.end("asks", outputs={"actionRequired": {"title": "Which market?"}})
    world.settle()
    world.fails()
    world.settle()
    assert world.job.status.phase is JobPhase.ACTION_REQUIRED
    assert world.condition()[1] == reasons.ACTION_REQUIRED
    assert "Which market?" in world.message()


# --- without a completeWhen


def test_the_first_task_begins_with_what_was_seen_as_the_ship_was_given() -> None:
    world = AssetWorld.made(spec(phase("buy", "buy")))
    world.settle()
    assert (world.executed, world.asked) == ([("buy", 1)], [])


def test_a_retry_is_told_what_is_in_the_ship_now() -> None:
    retried = {"name": "buy", "program": {"command": ["buy"]}, "retries": 1, "initialBackoffSeconds": 0}
    world = AssetWorld.made(spec(phase("buy", retried)))
    world.settle()
    world.end("buy", 1)
    world.settle()
    assert (world.executed, len(world.asked)) == ([("buy", 1)], 1)
    world.answer(IRON)
    world.settle()
    assert world.executed == [("buy", 1), ("buy", 2)]


def test_tasks_that_begin_together_take_one_look() -> None:
    world = AssetWorld.made(spec(phase("buy", "buy"), phase("sell", "a", "b", "c")))
    world.settle()
    world.end("buy")
    world.settle()
    world.answer()
    world.settle()
    assert world.executed == [("buy", 1), ("a", 1), ("b", 1), ("c", 1)]
    assert len(world.asked) == 1


def test_without_a_probe_nothing_goes_on_before_the_asset_has_counted_what_was_told() -> None:
    """Else the second phase would be judged by what was in it before the first."""
    empty = "!assets.ship.holdings.exists(h, h.symbol == 'IRON_ORE')"
    world = AssetWorld.made(spec(phase("buy", "buy"), phase("sell", "sell", completeWhen=empty)))
    world.change("ship", probed=False)
    world.settle()
    told = [{"symbol": "IRON_ORE", "units": 40}]
    world.end("buy", outputs={"assets": {"ship": {"holdings": told}}})
    world.wait(2)
    world.settle()
    assert (world.states(), world.asked) == ({"buy": "Completed", "sell": "Pending"}, [])
    world.change("ship", holdings=IRON, taken=frozenset({world.report_id("buy")}))
    world.settle()
    assert world.executed == [("buy", 1), ("sell", 1)]


@pytest.mark.parametrize("known", [None, (), ("IRON_ORE",)])
def test_what_a_factory_accepts_is_waited_for(known: tuple[str, ...] | None) -> None:
    when = "'IRON_ORE' in assets.factory.accepts"
    step = {"name": "step", "when": when, "phases": [phase("p", "deliver")]}
    world = AssetWorld.made({**spec(phase("p", "deliver")), "steps": [step]})
    world.change("factory", looks_up=True, accepts=known)
    world.settle()
    states = {None: "Pending", (): "Skipped", ("IRON_ORE",): "Starting"}
    assert world.states() == {"deliver": states[known]}


def test_what_a_factory_accepts_is_not_known_while_its_probe_fails() -> None:
    when = "'IRON_ORE' in assets.factory.accepts"
    step = {"name": "step", "when": when, "phases": [phase("p", "deliver")]}
    world = AssetWorld.made({**spec(phase("p", "deliver")), "steps": [step]})
    world.change("factory", looks_up=True, error="answered with 503")
    world.settle()
    assert world.states() == {"deliver": "Pending"}
    ready = next(c for c in world.job.status.conditions if c.type == "Ready")
    assert ready.reason == reasons.ASSET_UNKNOWN
    assert ready.message == "asset factory-1 can't be looked at: answered with 503"
