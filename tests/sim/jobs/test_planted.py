"""An oracle that never cries is worth nothing: every planted bug must be caught by a story."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sim.jobs import world
from tests.sim.jobs.bugs import BUGS
from tests.sim.jobs.scenarios import KNOWN, STORIES, play

GOLDEN = Path(__file__).parent / "golden"
SELECTION = sorted(set(STORIES) - set(KNOWN), key=lambda n: (GOLDEN / f"{n}.log").stat().st_size)
"""Short stories first: most bugs are noticed soon."""


@pytest.fixture(autouse=True)
def _soon_tired(monkeypatch):
    """No story needs nearly as many passes as a bug may take that never ends."""
    monkeypatch.setattr(world, "CAP", 600)


def notices(*, of_batches: bool = False) -> str:
    """What a planted bug is noticed by: a promise is seen broken, no end is reached, or the end is another."""
    for name in sorted(SELECTION, key=lambda n: n.startswith("batch") is not of_batches):
        try:
            play(name, 2)
        except (AssertionError, KeyError) as error:
            return f"{name}: {str(error)[:300]}"
    return ""


@pytest.mark.parametrize("name", BUGS)
def test_breaks_a_promise(name, monkeypatch):
    BUGS[name](monkeypatch)
    assert notices(of_batches=name.startswith("batch")), f"nobody notices {name}"


def test_nothing_is_caught_without_a_bug():
    assert notices() == ""
