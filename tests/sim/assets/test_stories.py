"""Every story of assets ends well, in whatever order things happen, a step at a time too."""

from __future__ import annotations

import pytest
from tests.sim.assets.scenarios import STORIES, play


@pytest.mark.parametrize("name", STORIES)
def test_ends_well(name):
    play(name)


@pytest.mark.parametrize("name", STORIES)
def test_ends_well_in_any_order(name):
    for seed in range(2, 6):
        play(name, seed, hasty=seed % 2 == 1)
