"""Whatever happens to stacks, programs, strangers, supervisors and operators: all ends as it is declared."""

from __future__ import annotations

import random

import pytest
from tests.sim.stacks.chaos import HAPPENINGS, Chaos

LIKELY = (
    "stranger",
    "stranger_and_flush",
    "work",
    "work",
    "work",
    "work_for_a_while",
    "work_for_a_while",
    "edit_services",
    "restart",
    "die",
)
FORWARD = sorted(set(HAPPENINGS) - {"back_up", "restore"})


def live_through(seed: int, names: list[str], length: int) -> Chaos:
    rng = random.Random(seed)
    chaos = Chaos(seed)
    try:
        for _ in range(rng.randint(3, length)):
            chaos.happen(rng.choice([*names, *LIKELY]), rng.randrange(10**6))
        chaos.calm_down()
    except AssertionError as error:
        error.add_note(f"seed {seed}\n" + "\n".join(chaos.world.log[-60:]))
        raise
    return chaos


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
        "PortForeign",
        "PortTaken",
        "CrashLoopBackOff",
        "HeldLocally",
        "Completed",
        "StackStopped",
        "FlushPorts Failed",
    ),
    *(
        "kill strangers",
        "kill the supervisor",
        "by force",
        "for good",
        "give back",
        "remove the scope",
        "the operator dies",
    ),
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
