"""Whatever happens, the promises hold after every pass; and once it has stopped happening, all is as asked."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sim.chaos import HAPPENINGS, Chaos

LIKELY = ("work", "work", "work", "work", "create", "create", "time", "program_ends", "edit_state")
TAKING_BACK = {"back_up", "restore", "roll_back"}
AT_ONCE = {"second_operator", "work_at_once"}
CALLED = set(HAPPENINGS) - {"recreate"}
"""Recreation has kinds of its own: see test_recreated."""
SEEDS = 30
BLOCK = 30

KINDS = {
    "one operator": (CALLED - TAKING_BACK - AT_ONCE, False),
    "passes at once": (CALLED - TAKING_BACK - {"second_operator"}, True),
    "two operators": (CALLED - TAKING_BACK, True),
    "history taken back": (CALLED - AT_ONCE, False),
    "everything": (CALLED, True),
}


def live_through(seed: int, names: set[str], *, hasty: bool) -> Chaos:
    rng = random.Random(seed)
    chaos = Chaos(seed, hasty=hasty, quarantine=rng.choice([0, 0, 20]))
    choices = [*sorted(names), *LIKELY]
    try:
        for _ in range(rng.randint(5, 60)):
            chaos.happen(rng.choice(choices), rng.randrange(10**6))
        chaos.calm_down()
    except AssertionError as error:
        error.add_note(f"seed {seed}\n" + "\n".join(chaos.world.log[-60:]))
        raise
    return chaos


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
@pytest.mark.parametrize("kind", KINDS)
def test_seeded(kind, first):
    names, hasty = KINDS[kind]
    for seed in range(first, first + BLOCK):
        live_through(seed, names, hasty=hasty)


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_recreated(first):
    names, hasty = KINDS["one operator"]
    for seed in range(first, first + BLOCK):
        live_through(seed, names | {"recreate"}, hasty=hasty)


@given(
    happenings=st.lists(
        st.tuples(st.sampled_from([*sorted(CALLED), *LIKELY]), st.integers(0, 10**6)), max_size=40
    ),
    quarantine=st.sampled_from([0, 20]),
)
@settings(
    max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
def test_searched(happenings, quarantine):
    chaos = Chaos(0, hasty=True, quarantine=quarantine)
    chaos.happen("create", 1)
    chaos.happen("create", 2)
    for what, number in happenings:
        chaos.happen(what, number)
    chaos.calm_down()


def test_a_history_is_the_same_twice():
    names, hasty = KINDS["everything"]
    first, second = (live_through(7, names, hasty=hasty).world.story() for _ in range(2))
    assert first == second


SEEN = {
    *("write Paused", "write Running", "write Failed", "CrashLoopBackOff", "PoolExhausted", "HeldLocally"),
    *("stop by force", "stop for good", "let go", "give back", "lease", "refused: status", "define"),
    *("InputsChanged", "RestartRequested", "resume", "pause", "forget the unit", "Completed", "PortTaken"),
}


def test_histories_are_no_idle_ones():
    """What they go through, all together: a history in which nothing happens proves nothing."""
    names, hasty = KINDS["everything"]
    missing = set(SEEN)
    for seed in range(1000, 1000 + 4 * SEEDS):
        log = "\n".join(live_through(seed, names, hasty=hasty).world.log)
        missing = {words for words in missing if words not in log}
        if not missing:
            return
    raise AssertionError(f"never seen: {sorted(missing)}")
