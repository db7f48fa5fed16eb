"""Whatever happens to ships, jobs and operators: nothing is lost, nothing is doubled, and everything comes to its end."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sim.assets.chaos import HAPPENINGS, Chaos

LIKELY = (
    *("work",) * 10,
    *("strand",) * 6,
    *("create_sell", "create_deliver", "create_for_two", "luck", "lose_a_task", "die", "work_in_order"),
)
BEGINNING = ("create_sell", "create_deliver", "work")


def live_through(seed: int, length: int, names: tuple[str, ...] = ()) -> Chaos:
    rng = random.Random(seed)
    chaos = Chaos(seed)
    choices = [*(names or sorted(HAPPENINGS)), *LIKELY]
    try:
        for name in BEGINNING:
            chaos.happen(name, rng.randrange(10**6))
        for _ in range(rng.randint(3, length)):
            chaos.happen(rng.choice(choices), rng.randrange(10**6))
        chaos.calm_down()
    except Exception as error:
        error.add_note(f"seed {seed}\n" + "\n".join(chaos.world.log[-80:]))
        raise
    finally:
        chaos.world.close()
    return chaos


@given(
    happenings=st.lists(
        st.tuples(st.sampled_from([*sorted(HAPPENINGS), *LIKELY]), st.integers(0, 10**6)),
        min_size=3,
        max_size=20,
    )
)
@settings(
    max_examples=12, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
def test_searched(happenings):
    chaos = Chaos(0)
    try:
        for number, what in enumerate(BEGINNING):
            chaos.happen(what, number)
        for what, number in happenings:
            chaos.happen(what, number)
        chaos.calm_down()
    finally:
        chaos.world.close()


@pytest.mark.parametrize("first", range(0, 16, 8))
def test_seeded(first):
    for seed in range(first, first + 8):
        live_through(seed, 25)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 3000, 50))
def test_many(first):
    for seed in range(first, first + 50):
        live_through(seed, 40)


def test_a_history_is_the_same_twice():
    first, second = (live_through(7, 20).world.story() for _ in range(2))
    assert first == second


SEEN = (
    *(
        " buys ",
        " sells ",
        " delivers ",
        "make the compensation",
        "holder=nobody",
        "AssetHeld",
        "AssetUnknown",
    ),
    *("ProbeFailed", "refused: status", "is lost", "AlreadyDone", "delivered="),
    *("write Cancelled", "JobFailed", "write ActionRequired"),
)


def test_histories_are_no_idle_ones():
    """What they go through, all together, before they calm down: one in which nothing happens proves nothing."""
    missing = set(SEEN)
    for seed in range(100, 140):
        log, _, _ = live_through(seed, 25).world.story().partition("-- calm")
        missing = {words for words in missing if words not in log}
        if not missing:
            return
    raise AssertionError(f"never seen: {sorted(missing)}")
