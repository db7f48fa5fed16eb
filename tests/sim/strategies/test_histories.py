"""Whatever happens to files, runs and operators: the objects equal the directory, and every run is where it should be."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sim.strategies.chaos import HAPPENINGS, Chaos

LIKELY = ("work", "work", "work", "create", "edit_ema", "edit_ema", "edit_file", "delete_file", "die")
FORWARD = sorted(set(HAPPENINGS) - {"back_up", "restore"})


def live_through(seed: int, names: list[str], length: int) -> Chaos:
    rng = random.Random(seed)
    chaos = Chaos(seed)
    try:
        for name in ("create", "create", "create", "work"):
            chaos.happen(name, rng.randrange(10**6))
        for _ in range(rng.randint(3, length)):
            chaos.happen(rng.choice([*names, *LIKELY]), rng.randrange(10**6))
        chaos.calm_down()
    except AssertionError as error:
        error.add_note(f"seed {seed}\n" + "\n".join(chaos.world.log[-60:]))
        raise
    return chaos


@given(
    happenings=st.lists(
        st.tuples(st.sampled_from([*FORWARD, *LIKELY]), st.integers(0, 10**6)), min_size=3, max_size=30
    )
)
@settings(
    max_examples=80, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
def test_searched(happenings):
    chaos = Chaos(0)
    for number, what in enumerate(("create", "create", "create", "work")):
        chaos.happen(what, number)
    for what, number in happenings:
        chaos.happen(what, number)
    chaos.calm_down()


@pytest.mark.parametrize("first", range(0, 40, 20))
def test_seeded(first):
    for seed in range(first, first + 20):
        live_through(seed, FORWARD, 30)


def test_history_taken_back():
    for seed in range(15):
        live_through(seed, sorted(HAPPENINGS) + ["back_up", "restore"] * 3, 25)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 3000, 100))
def test_many(first):
    for seed in range(first, first + 100):
        live_through(seed, FORWARD, 50)
        live_through(seed, sorted(HAPPENINGS) + ["back_up", "restore"] * 2, 40)


def test_a_history_is_the_same_twice():
    first, second = (live_through(7, FORWARD, 20).world.story() for _ in range(2))
    assert first == second


SEEN = (
    *(
        "UpdateWaiting",
        "UpdateIgnored",
        "FallbackInUse",
        "LastGoodInUse",
        "StrategyInvalid",
        "StrategyDeleted",
    ),
    *("StrategyNotFound", "NameCollision", "DirectoryNotFound", "StrategyChanged"),
    *("delete main.", "keep ", "RevisionNotFound"),
)


def test_histories_are_no_idle_ones():
    """What they go through, all together: a history in which nothing happens proves nothing."""
    missing = set(SEEN)
    for seed in range(60):
        log = live_through(seed, FORWARD, 30).world.story()
        missing = {words for words in missing if words not in log}
        if not missing:
            return
    raise AssertionError(f"never seen: {sorted(missing)}")
