"""The operator dies before and after every one of its effects, in every stage of a run's life.

What an undisturbed life does is learned first; then as many lives as it takes are lived so that each effect of each
stage was once the last one that an operator began, and once the last one that it finished.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.runs.judge import Judge
from tests.integration.runs.lives import STAGES, Life, points, spread, still, twice
from tests.support.exchange import SAMPLES, Exchange, running_exchange
from tests.support.plane import RealPlane
from tests.support.stage import Object, Plan, Stage, listener, staged

CHUNKS = 6
SOAK_CHUNKS = 12
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


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chunk", range(SOAK_CHUNKS))
def test_a_second_death_in_each_recovery(stage: Stage, undisturbed: Life, chunk: int):
    lives = list(twice(points(undisturbed)))[chunk::SOAK_CHUNKS]
    for first in range(0, len(lives), 8):
        sweep(stage, undisturbed, f"t{chunk}-{first}", lives[first : first + 8], reached=0.3)


def sweep(
    stage: Stage,
    undisturbed: Life,
    prefix: str,
    all_plans: list[dict[str, list[Plan]]],
    reached: float = 0.8,
) -> None:
    lives = [Life(stage, f"{prefix}-{n}", listener(stage.judge), plans) for n, plans in enumerate(all_plans)]
    planned = sum(len(p) for plans in all_plans for p in plans.values())
    with Judge(stage) as judge:
        for number, life in enumerate(lives):
            life.live(*STAGES[:-1])
            judge.verdict()
            ends = {name: life.ends[name] for name in STAGES[:-1]}
            assert ends == undisturbed.ends, f"{life.name}: {[(s, life.died_at(s)) for s in STAGES]}"
            if number % 3:  # what is left to be still isn't always running
                life.live(("pause", "stop")[number % 3 - 1])
        still(stage, STILL_SECONDS)
        for life in lives:
            life.live("delete")
        still(stage, 0.1)
        judge.verdict()
    assert judge.looks > 10
    assert [file for file in stage.files() if not file.endswith(".tmp")] == []
    for life in lives:
        attempts = [attempt for attempt, _, _ in stage.journal(life.run_id)]
        assert len(attempts) == 3, f"{life.name} started {attempts}, once for each time it was asked to run"
        assert attempts == sorted(set(attempts))
    deaths = sum(life.deaths for life in lives)
    assert deaths >= reached * planned, f"of {planned} deaths only {deaths} were reached"


# --- with money


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with running_exchange(tmp_path_factory.mktemp("exchange")) as one:
        yield one


def trader(exchange: Exchange) -> Object:
    """The sample bot, trading fast on that exchange."""
    program: dict[str, Any] = {
        "command": [sys.executable, "-S", str(SAMPLES / "bot/bot.py")],
        "args": [
            "--control-api-port=$(CONTROL_API_PORT)",
            f"--exchange={exchange.url}",
            "--interval=0.02",
            "--data-dir=$(DATA_DIR)",
            f"--strategy={Path(SAMPLES) / 'strategies/EmaRsiStrategy.py'}",
        ],
        "readiness": {"http": {"path": "/health"}},
        "terminationGracePeriodSeconds": 10,
    }
    return {"program": program, "controlApi": {"pool": "stage"}}


@pytest.mark.timeout(300)
def test_no_two_sessions_and_no_open_order_whenever_the_operator_dies(
    stage: Stage, undisturbed: Life, exchange: Exchange
):
    all_plans = list(spread(points(undisturbed)))[1::5]
    with Judge(stage) as judge:
        for number, plans in enumerate(all_plans):
            life = Life(stage, f"trader-{number}", trader(exchange), plans)
            for name in STAGES:
                life.live(name)
                if name in {"stop", "stop again", "delete"}:
                    assert exchange.open_orders(life.run_id) == []
            assert exchange.ledger(life.run_id), "it never traded"
            judge.verdict()
    exchange.assert_clean()
