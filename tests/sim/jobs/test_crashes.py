"""The operator dies at every step of a story, in mid-pass too: the end is the same, and nothing is executed twice."""

from __future__ import annotations

import pytest
from tests.sim.jobs.scenarios import play
from tests.sim.jobs.world import JobWorld, masked

from mainstay.shell.kube import BATCHES, CONFIG_MAPS, JOBS

STORIES = {
    "a_task_asks": 17,
    "batch_that_fails_in_part": 7,
    "cancelled_in_mid_phase": 3,
    "deleted_in_mid_phase": 3,
    "etcd_restored_with_large_outputs": 11,
    "large_outputs": 1,
    "retries_with_backoff": 11,
    "proved_when_it_is_resumed": 1,
    "a_named_task_is_run_again_by_a_resume": 7,
}
"""Story → the operator dies at every n-th step of it."""


def end(world: JobWorld) -> object:
    """What is left at the end, without times; and how often each task was executed."""
    objects = {
        (plural, obj["metadata"]["name"]): (masked(obj.get("status", {})), obj.get("data"))
        for plural in (JOBS, BATCHES, CONFIG_MAPS)
        for obj in world.api.all(plural)
    }
    return objects, sorted(task for _, task, _ in world.oracle.executed)


@pytest.mark.parametrize("name", STORIES)
def test_a_crash_changes_nothing_of_the_end(name):
    undisturbed = play(name, 5)
    expected = end(undisturbed)
    for at in range(1, undisturbed.steps, STORIES[name]):
        try:
            assert end(play(name, 5, crash_at=at)) == expected
        except AssertionError as error:
            error.add_note(f"the operator died after step {at}")
            raise
