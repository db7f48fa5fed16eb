"""The operator dies before and after every one of its effects, in every stage of the life of jobs with assets.

An undisturbed life tells what there is to die at; then as many lives are lived as it takes. Each ends with every ship
free and empty, everything bought once and sold or delivered once by the world's own ledger, and delivery counted once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.assets.fleet import status_of
from tests.integration.assets.lives import SAND, STAGES, FleetLife, Works
from tests.integration.assets.yard import Yard, yard
from tests.integration.jobs.judge import Watcher
from tests.integration.runs.lives import points, spread, twice
from tests.support.plane import RealPlane
from tests.support.stage import Plan

SAMPLE = 6
"""By default so many lives, with a death in every stage of each."""
SOAK_CHUNKS = 8


@pytest.fixture(scope="module")
def here(plane: RealPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with yard(plane, tmp_path_factory.mktemp("sweep")) as built:
        built.fleet.new_factory()
        yield built
        built.fleet.delete_all()


def a_life(here: Yard, name: str, plans: dict[str, list[Plan]] | None = None) -> FleetLife:
    works = Works(here)
    return FleetLife(works, name, {}, plans or {}, works=works)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def learned(here: Yard) -> FleetLife:
    """A life without a death; the second one, as the first also makes the scope."""
    for name in ("zero", "learned"):
        life = a_life(here, name)
        life.live(*STAGES)
    assert [name for name in STAGES if not life.effects[name]] == []
    return life


@pytest.mark.timeout(300)
def test_deaths(here: Yard, learned: FleetLife):
    sweep(here, "d", sample(points(learned)))


def sample(plans: dict[str, list[Plan]]) -> list[dict[str, list[Plan]]]:
    """SAMPLE lives, each with one death in each stage, spread evenly from the first to the last of it."""
    return [
        {stage: [some[(2 * n + 1) * len(some) // (2 * SAMPLE)]] for stage, some in plans.items()}
        for n in range(SAMPLE)
    ]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chunk", range(SOAK_CHUNKS))
def test_a_death_at_every_effect(here: Yard, learned: FleetLife, chunk: int):
    sweep(here, f"c{chunk}", list(spread(points(learned)))[chunk::SOAK_CHUNKS])


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chunk", range(SOAK_CHUNKS))
def test_a_second_death_in_each_recovery(here: Yard, learned: FleetLife, chunk: int):
    sweep(here, f"t{chunk}", list(twice(points(learned)))[chunk :: SOAK_CHUNKS * 4], reached=0.3)


def sweep(here: Yard, prefix: str, all_plans: list[dict[str, list[Plan]]], reached: float = 0.8) -> None:
    planned = sum(len(p) for plans in all_plans for p in plans.values())
    lives = [a_life(here, f"{prefix}{n}", plans) for n, plans in enumerate(all_plans)]
    before = delivered(here)
    with Watcher(here.stage.home_id) as watcher:
        for life in lives:
            life.live(*STAGES[:-1])
        here.fleet.still()
        assert delivered(here) == (before[0] + SAND[1] * len(lives), before[1] + len(lives))
        found = here.fleet.world.get("/audit")
        assert found["ok"], found["violations"]
        for life in lives:
            life.live("delete")
    assert watcher.errors == []
    deaths = sum(life.deaths for life in lives)
    print(f"{len(lives)} lives, {deaths} of {planned} deaths reached")
    assert deaths >= reached * planned, f"of {planned} deaths only {deaths} were reached"


def delivered(here: Yard) -> tuple[Any, Any]:
    """Units and deliveries that the factory's asset has counted; the world has as many."""
    told = status_of(here.fleet.asset("factory-1")).get("delivered") or [{"units": 0, "count": 0}]
    assert len(told) == 1
    there = here.fleet.world.get("/factories/factory-1")["delivered"] or [{"units": 0}]
    assert there[0]["units"] == told[0]["units"]
    return told[0]["units"], told[0]["count"]
