"""The operator dies before and after every effect of a story, of the API and of the host: the end is the same."""

from __future__ import annotations

import pytest
from tests.sim.stacks.scenarios import play
from tests.sim.stacks.world import StackWorld

from mainstay.shell.kube import LEASES, RESTARTS, STACKS

STORIES = {
    "applied": 5,
    "one_program_is_changed": 5,
    "a_port_is_changed": 7,
    "two_services_swap_ports": 7,
    "a_service_comes_and_one_goes": 11,
    "stopped_and_started": 11,
    "deleted": 5,
    "deleted_while_a_service_ignores_term": 5,
    "full": 5,
    "full_with_a_stranger_that_must_be_killed": 11,
    "full_with_a_stranger_on_a_reserved_port": 17,
    "full_with_a_protected_stranger": 5,
    "full_and_a_service_ignores_term": 13,
    "full_and_the_supervisor_hangs": 13,
    "quick": 13,
    "quick_with_a_stranger": 11,
    "emergency": 7,
    "emergency_with_strangers": 13,
    "flush": 5,
    "two_restarts_are_asked_for": 29,
    "a_stranger_takes_a_port_in_the_middle": 23,
    "stopped_in_the_middle": 23,
    "deleted_in_the_middle": 23,
    "taken_back_and_another_goes_on": 23,
}
"""Story → it is told once for every n-th of its effects, and in `make soak` for each."""
TWICE = ("full", "emergency", "flush", "deleted", "a_port_is_changed")


def end(world: StackWorld) -> object:
    """Objects, phases and what runs; times, pids and words may differ."""
    stacks = {
        obj["metadata"]["name"]: (
            obj["status"]["phase"],
            obj["status"]["ready"],
            [(s["name"], s["state"], s["ready"], s["reason"]) for s in obj["status"]["services"]],
            [(p["port"], p["service"], p["state"]) for p in obj["status"].get("ports", ())],
            obj["status"].get("restart"),
            [(c["type"], c["status"], c["reason"]) for c in obj["status"]["conditions"]],
        )
        for obj in world.api.all(STACKS)
    }
    restarts = {
        obj["metadata"]["name"]: (
            obj["status"]["phase"],
            obj["status"].get("step"),
            [(s["name"], s["state"]) for s in obj["status"].get("steps", ())],
            [(v["name"], v["up"]) for v in obj["status"].get("verified", ())],
        )
        for obj in world.api.all(RESTARTS)
    }
    leases = [(x["spec"]["port"], x["spec"]["holder"]["name"]) for x in world.api.all(LEASES)]
    host = {
        key[1]: ([(u.name, u.state) for u in scope.peek_all()], [one.words for one in scope.strangers()])
        for key, scope in world.host.scopes()
        if key in world.host.known() or scope.strangers()
    }
    return stacks, restarts, leases, host


def sweep(name: str, *crashes: frozenset[int]) -> None:
    undisturbed = play(name, 5)
    expected, starts = end(undisturbed), undisturbed.oracle.starts
    for at in crashes:
        world = None
        try:
            world = play(name, 5, crash_at=at)
            assert end(world) == expected
            for service, count in world.oracle.starts.items():
                assert count <= starts[service] + 1, f"{service} is started {count} times"
                assert service[0] != "other" or count == 1, f"{service} is started again"
        except AssertionError as error:
            where = [undisturbed.points[n - 1] for n in sorted(at) if n <= len(undisturbed.points)]
            error.add_note(f"the operator died at {sorted(at)}: {where}")
            raise


def points(name: str) -> int:
    return len(play(name, 5).points)


@pytest.mark.parametrize("name", STORIES)
def test_a_crash_changes_nothing_of_the_end(name):
    sweep(name, *(frozenset([at]) for at in range(1, points(name) + 1, STORIES[name])))


@pytest.mark.parametrize("name", TWICE)
def test_nor_does_a_second_one_on_its_heels(name):
    sweep(name, *(frozenset([at, at + 1 + at % 5]) for at in range(2, points(name) + 1, 17)))


@pytest.mark.soak
@pytest.mark.parametrize("name", STORIES)
def test_at_every_effect(name):
    sweep(name, *(frozenset([at]) for at in range(1, points(name) + 1)))


@pytest.mark.soak
@pytest.mark.parametrize("name", TWICE)
@pytest.mark.parametrize("more", range(1, 8))
def test_at_every_effect_and_soon_again(name, more):
    sweep(name, *(frozenset([at, at + more]) for at in range(1, points(name) + 1, 2)))
