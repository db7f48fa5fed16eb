"""What histories found: news that must not be missed, memories that must not be trusted."""

from __future__ import annotations

import pytest
from tests.sim.api import NAMESPACE
from tests.sim.scenarios import until
from tests.sim.steps import drive
from tests.sim.world import World

from mainstay.core.unit import UnitState
from mainstay.shell.kube import RUNS, ApiUnavailableError


@pytest.mark.parametrize("end", ["Stopped", "deleted"])
def test_a_freed_port_wakes_who_waits_for_it(end):
    """The holder never listened, so that no stranger's listener makes the waiting run look again by itself."""
    world = World(1)
    world.pool(8000, 8000)
    world.start_operator()
    world.run("a", state="Paused")
    world.converge()
    world.run("b")
    world.converge()
    if end == "deleted":
        world.remove("a")
    else:
        world.edit("a", state="Stopped")
    world.converge()
    assert world.status("b")["phase"] == "Running"


def test_pools_count_what_is_leased():
    world = World(1)
    world.pool(8000, 8002)
    world.start_operator()
    for name in ("a", "b"):
        world.run(name)
    world.converge()
    assert world.oracle.miscounts() == []
    world.remove("a")
    world.converge()
    assert world.oracle.miscounts() == []


def test_inputs_of_an_earlier_object_are_forgotten():
    world = World(1)
    world.pool(8000, 8002)
    world.start_operator()
    world.run("a", controlApi=None)
    world.converge()
    recreate(world, "a", program={"command": ["another"]})
    world.converge()


def test_a_lease_told_late_of_an_earlier_object_is_given_back():
    world = World(1)
    world.pool(8000, 8002)
    operator = world.start_operator()
    world.run("a")
    until(world, "a", "Starting")
    operator.deliver()
    world.turn(operator, operator.pick(world.rng), Lost("done create"))
    recreate(world, "a")
    operator.deliver(RUNS)  # each kind is watched apart: the lease's event may come last
    world.converge()


def test_leases_of_an_object_that_a_list_shows_replaced_are_given_back():
    """The deletion fell into a gap of the watch, or is told after the list."""
    world = World(1)
    world.pool(8000, 8002)
    operator = world.start_operator()
    world.run("a")
    world.converge()
    recreate(world, "a")
    operator.resync()
    world.converge()


def test_the_port_of_a_process_without_an_object_is_free_once_it_ended():
    """Nobody witnessed the deletion, so the process is left alone; a person ends it later."""
    world = World(1)
    world.pool(8000, 8000)
    world.start_operator()
    world.run("a")
    world.converge()
    world.api.set_finalizers((RUNS, NAMESPACE, "a"), world.get("a"), [])
    world.remove("a")
    world.forgotten.add("default.a")
    world.restart_operator()
    world.converge()
    world.run("b")
    world.converge()
    assert world.status("b")["phase"] == "Pending"
    drive(world.runtime.stop("default.a", grace_seconds=1.0))
    assert world.unit("a").state is UnitState.EXITED
    world.converge()
    assert world.status("b")["phase"] == "Running"


def test_a_freed_port_wakes_its_pool_behind_a_crowd_that_waits_for_another():
    world = World(1)
    world.pool(8000, 8000)
    world.start_operator()
    for number in range(70):
        world.run(f"crowd-{number}", controlApi={"pool": "none"})
    world.run("a", state="Paused")
    world.converge()
    world.run("b")
    world.converge()
    world.edit("a", state="Stopped")
    world.converge()
    assert world.status("b")["phase"] == "Running"


def test_the_port_of_a_silent_live_unit_is_not_leased():
    """A run that was started paused carries its port and never listened; etcd forgets its claim and its lease."""
    world = World(1)
    world.pool(8000, 8002)
    world.start_operator()
    world.run("a", state="Paused")
    saved = world.backup()
    world.converge()
    world.crash_operator()
    world.restore(saved)
    world.run("b")
    operator = world.start_operator()
    for _ in range(3):
        operator.queue.add(("run", "default", "b"))
        world.turn(operator, ("run", "default", "b"))
    world.converge()


class Lost:
    """The answer to one call never comes."""

    def __init__(self, label: str) -> None:
        self._label = label

    def __call__(self, label: str) -> BaseException | None:
        return ApiUnavailableError(0, "Unavailable", "lost") if label == self._label else None


def recreate(world: World, name: str, **spec: object) -> None:
    """Deleted without a teardown, and created again while the operator is up."""
    world.api.set_finalizers((RUNS, NAMESPACE, name), world.get(name), [])
    world.remove(name)
    world.run(name, **spec)
