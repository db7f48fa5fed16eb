"""The operator dies before and after every one of its effects, in every stage of a job's life and of a batch's.

As with runs: an undisturbed life tells what there is to die at; then as many lives are lived as it takes.
Programs and their shims live on, so not even an attempt is repeated: every status must be as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.jobs.judge import Watcher
from tests.integration.jobs.lives import BATCH_STAGES, STAGES, BatchLife, JobLife
from tests.integration.jobs.workshop import Works, differences, directories, ladder, whole
from tests.integration.runs.lives import points, spread, still, twice
from tests.support.plane import RealPlane
from tests.support.stage import Plan, Stage, staged

from mainstay.shell.kube import BATCHES

SAMPLE = 12
"""By default so many lives of all there are."""
SOAK_CHUNKS = 8


@pytest.fixture(scope="module")
def stage(plane: RealPlane) -> Iterator[Stage]:
    with staged(plane, ports=4) as one:
        yield one


def a_job(stage: Stage, name: str, plans: dict[str, list[Plan]] | None = None) -> JobLife:
    works = Works(stage)
    return JobLife(works, name, whole(stage.judge), plans or {}, works=works)  # type: ignore[arg-type]


def a_batch(stage: Stage, name: str, plans: dict[str, list[Plan]] | None = None) -> BatchLife:
    works = Works(stage, BATCHES)
    spec = ladder(stage.judge, phases=2, tasks=2)
    return BatchLife(works, name, spec, plans or {}, works=works)  # type: ignore[arg-type]


def learned(make: Any, stage: Stage, stages: tuple[str, ...]) -> JobLife:
    """A life without a death; the second one, as the first also makes the scope."""
    for name in ("first", "learned"):
        life = make(stage, name)
        life.live(*stages)
        assert life.wrong() == []
    assert [name for name in stages if not life.effects[name]] == []
    return life


@pytest.fixture(scope="module")
def job(stage: Stage) -> JobLife:
    return learned(a_job, stage, STAGES)


@pytest.fixture(scope="module")
def batch(stage: Stage) -> JobLife:
    return learned(a_batch, stage, BATCH_STAGES)


def sample(lives: list[Any]) -> list[Any]:
    """SAMPLE of them, from the first to the last."""
    return [lives[round(n * (len(lives) - 1) / (SAMPLE - 1))] for n in range(SAMPLE)]


@pytest.mark.timeout(300)
def test_deaths_in_the_life_of_a_job(stage: Stage, job: JobLife):
    sweep(a_job, stage, job, STAGES, "s", sample(list(spread(points(job)))))


@pytest.mark.timeout(300)
def test_deaths_in_the_life_of_a_batch(stage: Stage, batch: JobLife):
    sweep(a_batch, stage, batch, BATCH_STAGES, "sb", sample(list(spread(points(batch))))[::3])


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chunk", range(SOAK_CHUNKS))
def test_a_death_at_every_effect_of_a_job(stage: Stage, job: JobLife, chunk: int):
    sweep(a_job, stage, job, STAGES, f"c{chunk}", list(spread(points(job)))[chunk::SOAK_CHUNKS])


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chunk", range(SOAK_CHUNKS))
def test_a_death_at_every_effect_of_a_batch(stage: Stage, batch: JobLife, chunk: int):
    sweep(a_batch, stage, batch, BATCH_STAGES, f"b{chunk}", list(spread(points(batch)))[chunk::SOAK_CHUNKS])


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chunk", range(SOAK_CHUNKS))
def test_a_second_death_in_each_recovery(stage: Stage, job: JobLife, chunk: int):
    lives = list(twice(points(job)))[chunk :: SOAK_CHUNKS * 4]
    sweep(a_job, stage, job, STAGES, f"t{chunk}", lives, reached=0.3)


def sweep(
    make: Any,
    stage: Stage,
    undisturbed: JobLife,
    stages: tuple[str, ...],
    prefix: str,
    all_plans: list[dict[str, list[Plan]]],
    reached: float = 0.8,
) -> None:
    planned = sum(len(p) for plans in all_plans for p in plans.values())
    lives = [make(stage, f"{prefix}-{n}", plans) for n, plans in enumerate(all_plans)]
    with Watcher(stage.home_id) as watcher:
        for life in lives:
            life.live(*stages[:-1])
            died = f"{life.name}: {[(s, life.died_at(s)) for s in stages]}"
            assert differences(life.ends, undisturbed.ends) == [], died
            assert life.wrong() == [], died
        still(stage, 1.5)
        for life in lives:
            life.live("delete")
    assert watcher.errors == []
    assert watcher.looks > 10
    assert directories(stage.home) == []
    deaths = sum(life.deaths for life in lives)
    print(f"{len(lives)} lives, {deaths} of {planned} deaths reached")
    assert deaths >= reached * planned, f"of {planned} deaths only {deaths} were reached"
