"""Who waits for something is woken when it comes, and counts follow what they count."""

from __future__ import annotations

import pytest
from tests.sim.world import World


@pytest.mark.xfail(
    reason="our own lease writes are no news to Operator.on_event, so nobody is woken by them", strict=False
)
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


@pytest.mark.xfail(
    reason="our own lease writes are no news to Operator.on_event, so pools are not counted again",
    strict=False,
)
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
