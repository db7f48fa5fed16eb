"""An oracle that never cries is worth nothing: every planted bug must be noticed by the story that is told of it."""

from __future__ import annotations

import pytest
from tests.sim.assets import world
from tests.sim.assets.bugs import BUGS
from tests.sim.assets.scenarios import STORIES, play


@pytest.fixture(autouse=True)
def _soon_tired(monkeypatch):
    """No story needs nearly as many passes as a bug may take that never ends."""
    monkeypatch.setattr(world, "CAP", 1500)


def notices(story: str) -> str:
    """What a planted bug is noticed by: a promise is seen broken, no end is reached, or the end is another."""
    for seed in range(2, 6):
        try:
            play(story, seed, hasty=seed > 3)
        except (AssertionError, KeyError) as error:
            return repr(error)[:300]
    return ""


@pytest.mark.parametrize("name", BUGS)
def test_breaks_a_promise(name, monkeypatch):
    plant, story = BUGS[name]
    plant(monkeypatch)
    assert notices(story), f"nobody notices {name}"


@pytest.mark.parametrize("story", sorted({story for _, story in BUGS.values()}))
def test_nothing_is_noticed_without_a_bug(story):
    assert story in STORIES
    assert notices(story) == ""
