"""The operator dies before and after every one of its effects, in every stage of a run's life.

What an undisturbed life does is learned first; then as many lives as it takes are lived so that each effect of each
stage was once the last one that an operator began, and once the last one that it finished.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.runs.judge import Judge
from tests.integration.runs.lives import STAGES, Life, points, spread, still
from tests.support.plane import RealPlane
from tests.support.stage import Plan, Stage, listener, staged

CHUNKS = 6
STILL_SECONDS = 2.5


@pytest.fixture(scope="module")
def stage(plane: RealPlane) -> Iterator[Stage]:
    with staged(plane, ports=60) as one:
        yield one


@pytest.fixture(scope="module")
def undisturbed(stage: Stage) -> Life:
    """A life without a death; the second one, as the first also makes the scope."""
    for name in ("first", "learned"):
        life = Life(stage, name, listener(stage.judge))
        life.live(*STAGES)
    assert [name for name in STAGES if not life.effects[name]] == []
    return life


@pytest.mark.timeout(300)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_death_at_every_effect(stage: Stage, undisturbed: Life, chunk: int):
    lives = list(spread(points(undisturbed)))[chunk::CHUNKS]
    sweep(stage, undisturbed, f"c{chunk}", lives)


def sweep(stage: Stage, undisturbed: Life, prefix: str, all_plans: list[dict[str, list[Plan]]]) -> None:
    lives = [Life(stage, f"{prefix}-{n}", listener(stage.judge), plans) for n, plans in enumerate(all_plans)]
    planned = sum(len(p) for plans in all_plans for p in plans.values())
    with Judge(stage) as judge:
        for number, life in enumerate(lives):
            life.live(*STAGES[:-1])
            judge.verdict()
            assert {k: life.ends[k] for k in STAGES[:-1]} == undisturbed.ends
            if number % 3:  # what is left to be still isn't always running
                life.live(("pause", "stop")[number % 3 - 1])
        still(stage, STILL_SECONDS)
        for life in lives:
            life.live("delete")
        still(stage, 0.1)
        judge.verdict()
    assert judge.looks > 10
    assert stage.files() == []
    for life in lives:
        attempts = [attempt for attempt, _, _ in stage.journal(life.run_id)]
        assert len(attempts) == 3, "one start for each time it was asked to run"
        assert attempts == sorted(set(attempts))
    assert sum(life.deaths for life in lives) >= 0.9 * planned, "most deaths were never reached"
