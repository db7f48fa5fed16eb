"""The operator dies at every n-th step of a story, in mid-pass too: the end is the same, and nobody restarts twice."""

from __future__ import annotations

import pytest
from tests.sim.strategies.scenarios import play
from tests.sim.strategies.world import StrategyWorld

from mainstay.shell.kube import RUNS, STRATEGIES

STORIES = {
    "a_file_is_added_and_who_waited_starts": 5,
    "an_edit_restarts_all_at_once": 17,
    "an_edit_restarts_one_after_another": 23,
    "deleted_and_back_again": 19,
    "a_broken_edit_and_its_repair": 61,
    "rolled_back_to_a_revision_and_forward_again": 71,
    "two_names_collide": 31,
    "the_library_is_deleted": 17,
    "stop_when_deleted": 17,
    "config_maps": 29,
}
"""Story → the operator dies at every n-th step of it."""


def end(world: StrategyWorld) -> object:
    """What everyone runs, how often it was started, and what is offered. The stories themselves ask for more."""
    runs = {
        name: (obj["status"]["phase"], world.runs_what(name), obj["status"]["attempt"])
        for obj in world.api.all(RUNS)
        if (name := obj["metadata"]["name"]) and obj["status"].get("strategy")
    }
    offered = {o["metadata"]["name"]: o["status"].get("revision") for o in world.api.all(STRATEGIES)}
    return runs, offered


def sweep(name: str, *crashes: frozenset[int]) -> None:
    expected = end(play(name, 5))
    for at in crashes:
        try:
            assert end(play(name, 5, crash_at=at)) == expected
        except AssertionError as error:
            error.add_note(f"the operator died after step {sorted(at)}")
            raise


@pytest.mark.parametrize("name", STORIES)
def test_a_crash_changes_nothing_of_the_end(name):
    steps = play(name, 5).steps
    sweep(name, *(frozenset([at]) for at in range(1, steps, STORIES[name])))


@pytest.mark.parametrize("name", ["an_edit_restarts_one_after_another", "deleted_and_back_again"])
def test_nor_does_a_second_one_on_its_heels(name):
    steps = play(name, 5).steps
    sweep(name, *(frozenset([at, at + more]) for at in range(1, steps, 53) for more in (1, 3, 7)))


@pytest.mark.soak
@pytest.mark.parametrize("name", STORIES)
def test_at_every_step(name):
    sweep(name, *(frozenset([at]) for at in range(1, play(name, 5).steps)))
