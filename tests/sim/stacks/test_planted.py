"""An oracle that never cries is worth nothing: every planted bug must be caught by its story."""

from __future__ import annotations

import pytest
from tests.sim import world
from tests.sim.stacks.bugs import BUGS
from tests.sim.stacks.scenarios import play

SEEDS = (2, 3, 4)


def cries(name: str) -> list[str]:
    """Ways in which the story does not end as it should: a promise is broken, or what it expects is not so."""
    for seed in SEEDS:
        try:
            play(name, seed)
        except (AssertionError, LookupError) as error:
            return [str(error)]
    return []


@pytest.mark.parametrize("name", BUGS)
def test_is_caught(name, monkeypatch):
    monkeypatch.setattr(world, "CAP", 800)
    plant, story = BUGS[name]
    plant(monkeypatch)
    assert cries(story), f"nobody notices {name}"


@pytest.mark.soak  # the order of the first seed is asked in test_golden.py
@pytest.mark.parametrize("story", sorted({story for _, story in BUGS.values()}))
def test_nothing_is_caught_without_a_bug(story):
    assert cries(story) == []
