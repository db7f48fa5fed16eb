"""An oracle that never cries is worth nothing: every planted bug must be caught by a story."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sim.bugs import BUGS, right
from tests.sim.scenarios import KNOWN, STORIES, play

from mainstay.core.run import decide as core

GOLDEN = Path(__file__).parent / "golden"
SELECTION = [name for name in STORIES if name not in KNOWN]


def alarms() -> list[str]:
    """Stories that do not go as they should: the oracle cried, no end was reached, or the log is another."""
    cried = []
    for name in SELECTION:
        try:
            same = play(name).story() == (GOLDEN / f"{name}.log").read_text()
        except AssertionError:
            cried.append(name)
        else:
            if not same:
                cried.append(name)
        if cried:
            break
    return cried


def cries_of_the_oracle() -> list[str]:
    """Stories in which a promise was seen broken, or no end was reached; logs are not compared."""
    for name in SELECTION:
        try:
            play(name, 2)
        except AssertionError as error:
            return [f"{name}: {error}"]
    return []


@pytest.mark.parametrize("name", BUGS)
def test_is_caught(name, monkeypatch):
    monkeypatch.setattr(core, "decide", lambda s: BUGS[name](s, right))
    assert alarms(), f"nobody notices {name}"


ONLY_IN_THE_LOG = {
    "completed_is_run_again",
    "older_waiting_ignored",
    "predecessor_taken_for_our_own",
    "quarantine_forgotten",
    "resumed_on_another_port",
    "unit_not_forgotten",
}
"""Bugs that break no promise, but the story that is told."""


@pytest.mark.parametrize("name", sorted(BUGS.keys() - ONLY_IN_THE_LOG))
def test_breaks_a_promise(name, monkeypatch):
    monkeypatch.setattr(core, "decide", lambda s: BUGS[name](s, right))
    assert cries_of_the_oracle(), f"the oracle does not notice {name}"


def test_nothing_is_caught_without_a_bug():
    assert alarms() == []
    assert cries_of_the_oracle() == []
