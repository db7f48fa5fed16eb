"""Real kills of the real thing in the middle of COLLECT_SELL: the cargo is sold once, and no ship is left behind.

`mainstay up` in a home of its own: a control plane, an operator, supervisord, shims and workers, all ended by kill -9.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from tests.integration.assets.fleet import SHIPS, Fleet, bought_and, held_by, says, status_of
from tests.integration.jobs.plant import Plant
from tests.integration.jobs.plant import plant as make_plant
from tests.integration.jobs.workshop import completed, phase_is
from tests.integration.runs.house import ETCD, KUBE_APISERVER, OPERATOR, PATIENCE
from tests.support.stage import eventually
from tests.support.world import running_world

pytestmark = [pytest.mark.xdist_group("kill"), pytest.mark.timeout(400)]

LONG = pytest.mark.soak
"""Cases beyond the first of their sort: `make soak`."""
WORKERS = ("supervisord", "fork server", "shim", "program")
KINDS = ("system", *WORKERS)


class Harbour:
    """A plant with a fleet."""

    def __init__(self, plant: Plant, fleet: Fleet) -> None:
        self.plant = plant
        self.fleet = fleet

    def kill(self, what: str) -> None:
        """kill -9 of these, again and again until none is left."""
        plant = self.plant
        spared = set()
        if what == "everything but the control plane":
            spared = {plant.part(ETCD), plant.part(KUBE_APISERVER)}
            assert None not in spared
        for _ in range(200):
            parts = plant.parts()
            left = {pid for kind in KINDS for pid in parts[kind]} - spared
            if not left:
                break
            for pid in left:
                with suppress(OSError, AssertionError):
                    plant.kill(pid)
        else:
            raise AssertionError(f"they keep coming back: {plant.parts()}")
        if what == "the machine":
            plant.change_boot()

    def recovered(self, *ships: str) -> None:
        """Up again, with every ship free."""
        self.plant.up()
        self.fleet.until_free(*ships, seconds=PATIENCE)
        states = [status_of(self.fleet.asset(ship)).get("state") for ship in self.fleet.ships]
        assert set(states) == {"Free"}, states


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harbour]:
    directory = tmp_path_factory.mktemp("kill")
    with running_world(directory, f"--ships={SHIPS}") as world, make_plant() as plant:
        fleet = Fleet("default", plant.judge, plant.client, plant.complaints, world=world)
        yield Harbour(plant, fleet)


@pytest.fixture
def harbour(built: Harbour) -> Iterator[Harbour]:
    """It is up, whatever became of the test before."""
    if None in [built.plant.part(name) for name in (ETCD, KUBE_APISERVER, OPERATOR)]:
        built.plant.up()
    yield built
    built.fleet.delete_all()


@pytest.mark.parametrize(
    "what",
    [
        "everything",
        pytest.param("everything but the control plane", marks=LONG),
        pytest.param("the machine", marks=LONG),
    ],
)
def test_in_the_middle_of_collect_sell(harbour: Harbour, what: str):
    """D8. One is at its purchase, one has bought and not yet been told so, one is at its sale, one has sold."""
    fleet = harbour.fleet
    points = [("purchase", "before"), ("purchase", "after"), ("sell", "before"), ("sell", "after")]
    ships = [fleet.new_ship() for _ in points]
    for (operation, point), ship in zip(points, ships, strict=True):
        fleet.world.set("hold", operation=operation, point=point, ship=ship)
        fleet.collect_sell(f"at-{ship}", ship)
    for ship in ships:
        fleet.waits(ship)
        fleet.collect_sell(f"next-{ship}", ship, good="COPPER_ORE", units=5)
    assert [bool(fleet.cargo(ship)) for ship in ships] == [False, True, True, False]
    harbour.kill(what)
    fleet.world.forget("hold")
    harbour.plant.up()
    for ship in ships:
        fleet.until(f"at-{ship}", completed, PATIENCE)
        fleet.until(f"next-{ship}", completed, PATIENCE)
    harbour.recovered(*ships)
    for ship in ships:
        fleet.sold_once(ship, bought_and("sale"), bought_and("sale", "COPPER_ORE", 5))
    assert fleet.batches() == [], "nothing had to be compensated"
    fleet.world.assert_sound()


def test_the_world_is_killed_too(harbour: Harbour):
    """Nobody knows anything until it is back: a request of before its death is lost, a line in its ledger is not."""
    fleet = harbour.fleet
    bought, sold, cancelled = ships = [fleet.new_ship() for _ in range(3)]
    for operation, ship in (("purchase", bought), ("sell", sold)):
        fleet.world.set("hold", operation=operation, point="after", ship=ship)
        fleet.collect_sell(f"at-{ship}", ship)
        fleet.waits(ship)
    fleet.loaded("stops", cancelled)
    fleet.patch("stops", state="Cancelled")
    harbour.kill("everything")
    fleet.world.kill()
    harbour.plant.up()
    for ship in ships:
        fleet.until_asset(ship, says("Unknown", "ProbeFailed"), PATIENCE, never="Free")
    fleet.world.start()
    harbour.recovered(*ships)
    for ship in (bought, sold):
        fleet.until(f"at-{ship}", completed, PATIENCE)
    for ship in ships:
        fleet.sold_once(ship, bought_and("sale"))
    fleet.world.assert_sound()


@LONG
@pytest.mark.parametrize("edit", ["deleted", "cancelled", "deleted and made again"])
def test_a_job_changes_while_everything_is_down(harbour: Harbour, edit: str):
    """The control plane alone is up, the operator's unit is stopped: somebody takes the job away, with its cargo."""
    fleet, plant = harbour.fleet, harbour.plant
    ship = fleet.new_ship()
    with fleet.held("sell", "before", ship, late=True):
        fleet.collect_sell("taken", ship)
        fleet.waits(ship)
        plant.end_part(OPERATOR)
        plant.kill_parts(*WORKERS)
        if edit == "cancelled":
            fleet.patch("taken", state="Cancelled")
        else:
            fleet.delete("taken")
        if edit == "deleted and made again":
            fleet.strip_finalizers("taken")
            fleet.until_gone("taken")
            fleet.collect_sell("taken", ship, good="COPPER_ORE", units=5)
    harbour.recovered(ship)
    again = [bought_and("sale", "COPPER_ORE", 5)] if edit == "deleted and made again" else []
    if again:
        fleet.until("taken", completed, PATIENCE)
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"), *again)


@LONG
def test_the_operator_is_killed_again_and_again_during_a_compensation(harbour: Harbour):
    fleet, plant = harbour.fleet, harbour.plant
    ship = fleet.new_ship()
    fleet.loaded("stops", ship)
    with fleet.held("sell", "before", ship):
        fleet.patch("stops", state="Cancelled")
        fleet.waits(ship)
        batch = status_of(fleet.asset(ship))["compensation"]["batch"]
        for _ in range(3):
            before = plant.part(OPERATOR)
            plant.kill(before)
            plant.replaced(OPERATOR, before)
            eventually(lambda: held_by(batch)(fleet.asset(ship)), "the compensation has it", PATIENCE)
    fleet.until(f"{batch}-h0", completed, PATIENCE)
    fleet.until_free(ship, seconds=PATIENCE)
    fleet.sold_once(ship, bought_and("sale"))
    assert [one["metadata"]["name"] for one in fleet.batches()] == [batch]
    assert phase_is("Cancelled")(fleet.get("stops"))
