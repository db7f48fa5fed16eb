"""An oracle that never cries is worth nothing: every planted bug must be caught by its story."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sim.strategies.bugs import BUGS
from tests.sim.strategies.scenarios import play

GOLDEN = Path(__file__).parent / "golden"
SEEDS = (2, 3, 4)


def cries(name: str) -> list[str]:
    """Ways in which the story does not end as it should: a promise is broken, or what it expects is not so."""
    found = []
    for seed in SEEDS:
        try:
            play(name, seed)
        except (AssertionError, LookupError) as error:
            found.append(str(error))
            break
    return found


@pytest.mark.parametrize("name", BUGS)
def test_is_caught(name, monkeypatch):
    plant, story = BUGS[name]
    plant(monkeypatch)
    assert cries(story), f"nobody notices {name}"


@pytest.mark.parametrize("story", sorted({story for _, story in BUGS.values()}))
def test_nothing_is_caught_without_a_bug(story):
    assert cries(story) == []
