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
    return chaos
