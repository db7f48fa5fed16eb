"""How each story goes, pass by pass. UPDATE_GOLDEN=1 writes the logs anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.sim.stacks.scenarios import STORIES, play

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", STORIES)
def test_goes_as_it_always_went(name):
    log = play(name).story()
    path = GOLDEN / f"{name}.log"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(log)
    assert log == path.read_text()


@pytest.mark.parametrize("name", STORIES)
def test_ends_well_in_another_order(name):
    play(name, 2)


@pytest.mark.soak
@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("seed", range(3, 13))
def test_ends_well_in_any_order(name, seed):
    play(name, seed)


def test_every_log_has_its_story():
    assert {path.stem for path in GOLDEN.glob("*.log")} == set(STORIES)
