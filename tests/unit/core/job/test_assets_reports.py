"""What a task tells of assets in its outputs: read strictly, carried until it is counted, and told by a dying job too."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.sim.jobs.pure import NOW, UID
from tests.unit.core.job.asset_worlds import AssetWorld, phase, spec

from mainstay.api.holdings import DELIVERIES_MAX, AssetReport
from mainstay.api.phasedjob import JobPhase
from mainstay.core import plan as p
from mainstay.core import reasons
from mainstay.core.job.decide import TELL_SECONDS

ORE: dict[str, Any] = {"symbol": "IRON_ORE", "units": 5}
UNLOAD = spec(phase("p", "unload"))


def ended_with(outputs: Any, made: dict[str, Any] = UNLOAD) -> AssetWorld:
    world = AssetWorld.made(made)
    world.settle()
    world.end("unload", outputs=outputs)
    world.settle()
    return world


def reports(world: AssetWorld, task: str = "unload") -> tuple[AssetReport, ...]:
    return world.tasks()[task].reports


GOOD: dict[str, tuple[Any, list[AssetReport]]] = {
    "deliveries": ({"factory": {"deliveries": [ORE]}}, [AssetReport(ref="factory-1", deliveries=(ORE,))]),  # type: ignore[arg-type]
    "holdings, none": ({"ship": {"holdings": []}}, [AssetReport(ref="ship-1", holdings=())]),
    "both, of two": (
        {"ship": {"holdings": [ORE], "deliveries": [ORE]}, "factory": {"deliveries": [ORE, ORE]}},
        [
            AssetReport(ref="ship-1", holdings=(ORE,), deliveries=(ORE,)),  # type: ignore[arg-type]
            AssetReport(ref="factory-1", deliveries=(ORE, ORE)),  # type: ignore[arg-type]
        ],
    ),
    "nothing": ({}, []),
    "nothing of one": ({"ship": {}}, [AssetReport(ref="ship-1")]),
    "the asset is the one of its name": ({"ship": {"ref": "factory-1"}}, [AssetReport(ref="ship-1")]),
    "the most there may be": (
        {"ship": {"deliveries": [ORE] * DELIVERIES_MAX}},
        [AssetReport(ref="ship-1", deliveries=(ORE,) * DELIVERIES_MAX)],  # type: ignore[arg-type]
    ),
}


@pytest.mark.parametrize("words", GOOD)
def test_good(words: str) -> None:
    told, carried = GOOD[words]
    world = ended_with({"sold": 1, "assets": told})
    assert world.states() == {"unload": "Completed"}
    assert list(reports(world)) == carried
    assert world.job.status.context == {"unload": {"sold": 1}}
    assert world.job.status.phase is JobPhase.COMPLETED


BAD: dict[str, tuple[Any, str]] = {
    "a name that it has not": ({"tanker": {"holdings": []}}, "assets.tanker"),
    "the name of the object": ({"ship-1": {"holdings": []}}, "assets.ship-1"),
    "no object": ([ORE], "must be an object"),
    "null": (None, "must be an object"),
    "a report that is none": ({"ship": [ORE]}, "assets.ship"),
    "a report that is null": ({"ship": None}, "assets.ship"),
    "holdings that are no list": ({"ship": {"holdings": {"IRON_ORE": 5}}}, "assets.ship"),
    "units below zero": ({"ship": {"holdings": [{**ORE, "units": -1}]}}, "assets.ship"),
    "half a unit": ({"ship": {"holdings": [{**ORE, "units": 0.5}]}}, "assets.ship"),
    "more than can be counted": ({"ship": {"holdings": [{**ORE, "units": 2**53 + 1}]}}, "assets.ship"),
    "no symbol": ({"ship": {"deliveries": [{"units": 1}]}}, "assets.ship"),
    "an empty symbol": ({"ship": {"deliveries": [{**ORE, "symbol": ""}]}}, "assets.ship"),
    "a symbol of two lines": ({"ship": {"deliveries": [{**ORE, "symbol": "a\nb"}]}}, "assets.ship"),
    "too many deliveries": ({"ship": {"deliveries": [ORE] * (DELIVERIES_MAX + 1)}}, "assets.ship"),
    "too large": (
        {"ship": {"holdings": [{"symbol": f"{n:0100}", "units": 1} for n in range(40)]}},
        "4096 bytes",
    ),
}


@pytest.mark.parametrize("words", BAD)
def test_bad(words: str) -> None:
    """It fails without a retry: another attempt would do the work twice."""
    told, said = BAD[words]
    again = {"name": "unload", "program": {"command": ["u"]}, "retries": 5}
    world = ended_with({"assets": told}, spec(phase("p", again)))
    assert world.states() == {"unload": "Failed"}
    assert world.reasons() == {"unload": reasons.OUTPUTS_INVALID}
    assert said in world.tasks()["unload"].message
    assert (reports(world), len(world.executed)) == ((), 1)


def test_the_outputs_of_a_job_without_assets_are_its_own() -> None:
    world = ended_with({"assets": {"anything": 1}}, spec(phase("p", "unload"), assets=()))
    assert world.job.status.context == {"unload": {"assets": {"anything": 1}}}
    assert reports(world) == ()


def test_a_report_is_told_in_the_write_that_completes_the_task_and_later_ones_see_no_trace() -> None:
    world = AssetWorld.made(spec(phase("p", "unload"), phase("q", "sail")))
    world.settle()
    world.end("unload", outputs={"assets": {"ship": {"holdings": []}}})
    assert isinstance(world.step(), p.ActAll)  # what the next one is told of the ship has to be seen
    world.answer()
    assert isinstance(world.step(), p.Write)
    assert world.states() == {"unload": "Completed", "sail": "Starting"}
    assert len(reports(world)) == 1
    assert json.dumps(world.job.status.context) == "{}"


# --- carried, and forgotten


def told() -> AssetWorld:
    return ended_with({"assets": {"ship": {"holdings": []}, "factory": {"deliveries": [ORE]}}})


def test_a_report_is_carried_until_that_asset_has_counted_it() -> None:
    world = told()
    assert [one.ref for one in reports(world)] == ["ship-1", "factory-1"]
    world.change("factory", taken=frozenset({f"{UID}/unload/2", "another/unload/1"}))
    world.settle()
    assert len(reports(world)) == 2
    world.change("factory", taken=frozenset({f"{UID}/unload/1"}))
    world.settle()
    assert [one.ref for one in reports(world)] == ["ship-1"]
    world.change("factory", taken=frozenset())
    world.settle()
    assert [one.ref for one in reports(world)] == ["ship-1"]
    world.change("ship", taken=frozenset({world.report_id("unload")}))
    world.settle()
    assert reports(world) == ()
    assert world.job.status.phase is JobPhase.COMPLETED


@pytest.mark.parametrize("there", [True, False])
def test_a_job_that_is_deleted_stays_until_assets_that_are_there_have_counted(there: bool) -> None:
    world = told()
    if not there:
        world.change("ship", exists=False)
        world.change("factory", exists=False)
    world.delete()
    if there:
        assert world.settle() == p.Wait(TELL_SECONDS)
        assert not world.gone
        for name in ("ship", "factory"):
            assert not world.gone
            world.change(name, taken=frozenset({world.report_id("unload")}))
            for _ in range(5):
                if not world.gone:
                    world.step()
    else:
        for _ in range(5):
            if not world.gone:
                world.step()
    assert world.gone


def test_what_a_task_told_when_its_job_was_cancelled_is_carried() -> None:
    world = AssetWorld.made(spec(phase("p", "unload"), phase("q", "sail")))
    world.settle()
    world.edit(state="Cancelled")
    world.step()
    world.end("unload", outputs={"assets": {"ship": {"holdings": []}}})
    world.settle()
    assert world.job.status.phase is JobPhase.CANCELLED
    assert [one.ref for one in reports(world)] == ["ship-1"]
    assert world.now == NOW


def test_what_a_task_asks_and_tells_at_once() -> None:
    world = ended_with({"actionRequired": {"title": "?"}, "assets": {"ship": {"holdings": [ORE]}}, "x": 1})
    assert world.states() == {"unload": "ActionRequired"}
    assert [one.ref for one in reports(world)] == ["ship-1"]
    assert world.job.status.context == {"unload": {"x": 1}}
