"""What becomes of cargo whose job is gone: it is emptied once, never forgotten, and never given to nobody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.assets import goods
from tests.integration.assets.fleet import Fleet, bought_and, held_by, is_free, says, status_of
from tests.integration.assets.yard import Yard, yard
from tests.integration.jobs.workshop import phase_is
from tests.support.plane import RealPlane
from tests.support.stage import condition, eventually

from mainstay.shell.kube import ASSETS, BATCHES, JOBS

CANCELLED = phase_is("Cancelled")


@pytest.fixture(scope="module")
def one(plane: RealPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with yard(plane, tmp_path_factory.mktemp("compensation")) as built:
        yield built


@pytest.fixture
def here(one: Yard) -> Iterator[Yard]:
    yield one
    if one.stage.shell.dead:
        one.stage.restart()
    one.fleet.delete_all()


@pytest.fixture
def fleet(here: Yard) -> Fleet:
    return here.fleet


def count(here: Yard, name: str, **labels: str) -> float:
    """The value of a series of this operator."""
    value = here.stage.shell.operator.metrics.registry.get_sample_value(name, labels or None)
    assert value is not None, f"there is no series {name} {labels}"
    return value


def emptied(fleet: Fleet, ship: str, cause: str) -> None:
    """Free, after one compensation that did it at once."""
    fleet.until_free(ship)
    c = status_of(fleet.asset(ship))["compensation"]
    assert (c["attempt"], c["failures"], c["cause"]) == (1, 0, cause)
    assert c["holdings"] == [{"symbol": "IRON_ORE", "units": 40}]
    fleet.sold_once(ship, bought_and("sale"))


# --- a job that ends


@pytest.mark.parametrize("away", [False, True], ids=["operator works", "operator away"])
@pytest.mark.parametrize("how", ["cancelled", "deleted"])
def test_a_job_ends_with_cargo(here: Yard, how: str, away: bool):
    fleet = here.fleet
    ship = fleet.new_ship()
    fleet.loaded("ends", ship)
    if away:
        here.stage.crash()
    if how == "cancelled":
        fleet.patch("ends", state="Cancelled")
    else:
        fleet.delete("ends")
    if away:
        here.stage.restart()
    emptied(fleet, ship, "HolderCancelled" if how == "cancelled" else "HolderGone")


def test_a_job_is_deleted_and_made_again_under_its_name_while_the_operator_is_away(here: Yard):
    """Another object is another holder: it waits until its predecessor's cargo is sold, and buys its own."""
    fleet = here.fleet
    ship = fleet.new_ship()
    old = fleet.loaded("again", ship)
    with here.away():
        fleet.delete("again")
        fleet.strip_finalizers("again")
        fleet.until_gone("again")
        new = fleet.collect_sell("again", ship, good="COPPER_ORE", units=30)
    assert old["metadata"]["uid"] != new["metadata"]["uid"]
    fleet.until("again", phase_is("Completed"))
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"), bought_and("sale", "COPPER_ORE", 30))


def test_a_job_fails_for_good(fleet: Fleet):
    ship = fleet.new_ship()
    spec = goods.collect_sell(fleet.world.url, ship, onFailure="Fail")
    spec["steps"][0]["phases"][1]["tasks"] = [goods.task("sell", "no-such-task", retries=0)]
    fleet.create("fails", spec)
    fleet.until("fails", phase_is("Failed"))
    emptied(fleet, ship, "HolderFailed")


def test_a_job_that_waits_for_a_person_keeps_its_ship(fleet: Fleet):
    ship = fleet.new_ship()
    spec = goods.collect_sell(fleet.world.url, ship)
    spec["steps"][0]["phases"][1]["tasks"] = [goods.task("sell", "no-such-task", retries=0)]
    uid = fleet.create("waits", spec)["metadata"]["uid"]
    fleet.until("waits", phase_is("ActionRequired", "TaskFailed"))
    fleet.stays(ship, lambda o: says("Held")(o) and status_of(o)["holder"]["uid"] == uid)
    assert fleet.cargo(ship) == {"IRON_ORE": 40}
    assert fleet.batches() == []


def test_a_suspended_job_keeps_its_ship_and_goes_on(here: Yard):
    fleet = here.fleet
    ship = fleet.new_ship()
    with fleet.held("sell", "before", ship):
        fleet.collect_sell("pauses", ship)
        fleet.waits(ship)
        fleet.patch("pauses", state="Suspended")
        here.kill_everything()
    here.stage.restart()
    fleet.until("pauses", phase_is("Suspended"))
    fleet.stays(ship, lambda o: says("Held")(o) and held_by("pauses")(o))
    assert (fleet.cargo(ship), fleet.batches()) == ({"IRON_ORE": 40}, [])
    fleet.patch("pauses", state="Running")
    fleet.until("pauses", phase_is("Completed"))
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"))


def test_every_good_gets_a_job_of_its_own(fleet: Fleet):
    ship = fleet.new_ship()
    fleet.loaded("many", ship)
    fleet.world.act(ship, "purchase", symbol="COPPER_ORE", units=7)
    fleet.look(ship)
    fleet.patch("many", state="Cancelled")
    fleet.until_free(ship)
    c = status_of(fleet.asset(ship))["compensation"]
    assert c["holdings"] == [{"symbol": "COPPER_ORE", "units": 7}, {"symbol": "IRON_ORE", "units": 40}]
    assert {(kind, good) for kind, good, _ in fleet.world.trades(ship) if kind == "sale"} == {
        ("sale", "IRON_ORE"),
        ("sale", "COPPER_ORE"),
    }
    assert len(fleet.world.trades(ship)) == 4


def test_a_completed_job_that_leaves_cargo_is_told_of(fleet: Fleet):
    """Whoever completed meant it so: a job with mode TakeOver may have it, and the ship is not Free."""
    ship = fleet.new_ship()
    spec = goods.collect_sell(fleet.world.url, ship)
    del spec["steps"][0]["phases"][1]
    fleet.create("brings", spec)
    fleet.until_asset(ship, says("HeldOrphaned", "HolderCompleted"))
    fleet.stays(ship, says("HeldOrphaned", "HolderCompleted"))
    assert fleet.batches() == []
    taker = goods.collect_sell(fleet.world.url, ship)
    taker["assets"][0]["mode"] = "TakeOver"
    fleet.create("takes", taker)
    fleet.until("takes", phase_is("Completed"))
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"))


def test_a_job_is_removed_by_force_while_its_worker_sells(here: Yard):
    """Nobody else sells that cargo, nor buys any, while a process of that job lives."""
    fleet = here.fleet
    ship = fleet.new_ship()
    with fleet.held("sell", "before", ship):
        fleet.collect_sell("torn", ship)
        fleet.waits(ship)
        fleet.collect_sell("next", ship, good="COPPER_ORE", units=5)
        with here.away():
            fleet.delete("torn")
            fleet.strip_finalizers("torn")
            fleet.until_gone("torn")
        lives = says("HeldOrphaned", "HolderProcessesRunning")
        fleet.until_asset(ship, lives, never="Free")
        fleet.until_event(ship, "HolderProcessesRunning")
        fleet.stays(ship, lives)
        assert len(here.workers("torn", "sell")) == len(fleet.waits(ship)) == 1
        assert (fleet.batches(), status_of(fleet.get("next"))["phase"]) == ([], "Pending")
    fleet.until("next", phase_is("Completed"))
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"), bought_and("sale", "COPPER_ORE", 5))
    assert fleet.batches() == []


def test_a_job_is_removed_by_force_and_its_worker_is_killed(here: Yard):
    """What it leaves is emptied, once nothing of it lives."""
    fleet = here.fleet
    ship = fleet.new_ship()
    with fleet.held("sell", "before", ship):
        fleet.collect_sell("torn", ship)
        fleet.waits(ship)
        with here.away():
            fleet.delete("torn")
            fleet.strip_finalizers("torn")
            fleet.until_gone("torn")
        fleet.until_asset(ship, says("HeldOrphaned", "HolderProcessesRunning"), never="Free")
        here.kill_worker("torn", "sell")
        fleet.until_asset(ship, lambda o: bool(status_of(o).get("compensation")), never="Free")
    emptied(fleet, ship, "HolderGone")


# --- a batch that is gone


def test_a_batch_is_removed_by_force(here: Yard):
    """Its jobs are nobody's: they end, and what they had aboard is emptied."""
    fleet = here.fleet
    ships = [fleet.new_ship(), fleet.new_ship()]
    jobs = [{"name": f"j{n}", "assets": [{"name": "ship", "ref": ship}]} for n, ship in enumerate(ships)]
    template = goods.collect_sell(fleet.world.url, "none", ask=True)
    del template["assets"]
    fleet.create("pipeline", {"template": template, "jobs": jobs, "parallelism": 2}, BATCHES)
    for n in range(2):
        fleet.until(f"pipeline-j{n}", phase_is("ActionRequired", "ActionRequired"))
    with here.away(), fleet.connect() as client:
        url = fleet.url("pipeline", plural=BATCHES)
        client.ok("DELETE", f"{url}?propagationPolicy=Background")
        client.merge(url, {"metadata": {"finalizers": None}})
        fleet.until_gone("pipeline", plural=BATCHES)
    for n, ship in enumerate(ships):
        fleet.until_free(ship)
        fleet.sold_once(ship, bought_and("sale"))
        assert phase_is("Cancelled", "Orphaned")(fleet.get(f"pipeline-j{n}"))
    for status in ("orphaned", "cargo_recovered"):  # this operator has counted from its start
        assert count(here, "mainstay_tasks_recovered_total", status=status) == 2, status


# --- a compensation that fails


def refusing(fleet: Fleet, job: str, **changes: Any) -> str:
    """A ship whose job was cancelled with its cargo, while the world takes nothing back."""
    ship = fleet.new_ship(compensation=goods.compensation(fleet.world.url, retries=0, **changes))
    fleet.loaded(job, ship)
    fleet.world.set("failures", operation="sell", status=503, ship=ship)
    fleet.patch(job, state="Cancelled")
    return ship


def test_a_compensation_fails_until_the_world_is_well(here: Yard):
    fleet = here.fleet
    ship = refusing(fleet, "refused", initialBackoffSeconds=0.2, maxBackoffSeconds=0.4)

    def failed(times: int) -> Any:
        return lambda o: (status_of(o).get("compensation") or {}).get("failures", 0) >= times

    fleet.until_asset(ship, failed(2), never="Free")
    seen = fleet.until_asset(ship, says("HeldOrphaned", "CompensationRetrying"), never="Free")
    assert "IRON_ORE 40" in condition(seen)["message"]
    assert condition(seen)["status"] == "False"
    assert "IRON_ORE 40 is left" in fleet.until_event(ship, "CompensationFailed")
    here.stage.crash()
    here.stage.restart()
    fleet.until_asset(ship, failed(3), never="Free")
    fleet.world.forget("failures")
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"))
    assert status_of(fleet.asset(ship))["compensation"]["failures"] == 0
    fleet.until_event(ship, "Compensated")
    eventually(lambda: len(fleet.batches()) == 1, "the last compensation alone is kept")


def test_a_compensation_waits_out_its_backoff(fleet: Fleet):
    """It is not tried before its time, whatever else happens to the ship."""
    ship = refusing(fleet, "slow", initialBackoffSeconds=3000, maxBackoffSeconds=3600)
    retrying = says("HeldOrphaned", "CompensationRetrying")
    fleet.until_asset(ship, retrying, never="Free")
    fleet.world.forget("failures")
    fleet.stays(ship, lambda o: retrying(o) and status_of(o)["compensation"]["attempt"] == 1)
    fleet.patch(ship, ASSETS, compensation={"initialBackoffSeconds": 0, "maxBackoffSeconds": 1})
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"))


def test_nobody_buys_it(fleet: Fleet):
    """The compensation as it is declared can't do it; once it may jettison, it does."""
    ship = fleet.new_ship(compensation=goods.compensation(fleet.world.url, retries=0))
    fleet.loaded("sand", ship, good="QUARTZ_SAND")
    fleet.patch("sand", state="Cancelled")
    fleet.until_asset(ship, says("HeldOrphaned", "CompensationRetrying"), never="Free")
    better = goods.compensation(fleet.world.url, retries=0, jettison=True)
    fleet.patch(ship, ASSETS, compensation=better)
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("jettison", "QUARTZ_SAND"))


def test_there_is_no_compensation_and_a_job_takes_over(here: Yard):
    fleet = here.fleet
    ship = fleet.new_ship(compensation=None)
    fleet.loaded("leaves", ship)
    fleet.patch("leaves", state="Cancelled")
    fleet.until_asset(ship, says("HeldOrphaned", "NoCompensation"), never="Free")
    fleet.until_event(ship, "NoCompensation")
    fleet.collect_sell("exclusive", ship, good="COPPER_ORE", units=5)
    here.stage.crash()
    here.stage.restart()
    fleet.until("exclusive", phase_is("Pending"))
    fleet.stays(ship, says("HeldOrphaned", "NoCompensation"))
    taker = goods.collect_sell(fleet.world.url, ship)
    taker["assets"][0]["mode"] = "TakeOver"
    fleet.create("takes", taker)
    fleet.until("takes", phase_is("Completed"))
    fleet.until("exclusive", phase_is("Completed"))
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"), bought_and("sale", "COPPER_ORE", 5))


# --- the asset itself


def test_an_asset_is_deleted_while_its_job_has_cargo(fleet: Fleet):
    """It goes when it is empty, and not before."""
    ship = fleet.new_ship()
    fleet.loaded("sails", ship)
    fleet.delete(ship, ASSETS)
    fleet.until_asset(ship, says("Held", "Deleting"))
    fleet.patch("sails", inputs={"go": {}})
    fleet.until("sails", phase_is("Completed"))
    fleet.until_gone(ship, plural=ASSETS)
    fleet.sold_once(ship, bought_and("sale"))


def test_an_asset_is_deleted_and_its_job_cancelled(fleet: Fleet):
    """It is emptied first."""
    ship = fleet.new_ship()
    fleet.loaded("stops", ship)
    fleet.delete(ship, ASSETS)
    fleet.until_asset(ship, says("Held", "Deleting"))
    fleet.patch("stops", state="Cancelled")
    fleet.until_gone(ship, plural=ASSETS)
    fleet.sold_once(ship, bought_and("sale"))


@pytest.mark.parametrize("away", [False, True], ids=["operator works", "operator away"])
def test_an_asset_is_removed_by_force_and_made_again(here: Yard, away: bool):
    """The new one learns from the job whose it is, and is never Free meanwhile."""
    fleet = here.fleet
    ship = fleet.new_ship()
    fleet.loaded("sails", ship)
    if away:
        here.stage.crash()
    with fleet.connect() as client:
        client.ok("DELETE", fleet.url(ship, plural=ASSETS))
        client.merge(fleet.url(ship, plural=ASSETS), {"metadata": {"finalizers": None}})
    fleet.until_gone(ship, plural=ASSETS)
    rival = fleet.collect_sell("rival", ship, good="COPPER_ORE", units=5)
    fleet.create(ship, goods.ship(fleet.world.url, ship), ASSETS)
    if away:
        here.stage.restart()
    fleet.until_asset(ship, held_by("sails"), never="Free")
    fleet.patch("sails", inputs={"go": {}})
    fleet.until("sails", phase_is("Completed"))
    fleet.until(rival["metadata"]["name"], phase_is("Completed"))
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"), bought_and("sale", "COPPER_ORE", 5))


def test_an_asset_is_made_again_and_nobody_is_left_who_had_it(here: Yard):
    """Its cargo is nobody's: told, and emptied as soon as that is wanted."""
    fleet = here.fleet
    ship = fleet.new_ship()
    fleet.loaded("lost", ship)
    with here.away():
        for name, plural in ((ship, ASSETS), ("lost", JOBS)):
            with fleet.connect() as client:
                client.ok("DELETE", fleet.url(name, plural=plural))
                client.merge(fleet.url(name, plural=plural), {"metadata": {"finalizers": None}})
            fleet.until_gone(name, plural=plural)
        fleet.create(ship, goods.ship(fleet.world.url, ship), ASSETS)
    fleet.until_asset(ship, says("HeldOrphaned", "UnclaimedHoldings"), never="Free")
    fleet.patch(ship, ASSETS, compensation={"unclaimed": True})
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"))


def test_the_finalizer_is_taken_from_an_asset(fleet: Fleet):
    """It comes back, and the holder stays."""
    ship = fleet.new_ship()
    uid = fleet.loaded("keeps", ship)["metadata"]["uid"]
    with fleet.connect() as client:
        client.merge(fleet.url(ship, plural=ASSETS), {"metadata": {"finalizers": None}})
    seen = fleet.until_asset(ship, lambda o: bool(o["metadata"].get("finalizers")), never="Free")
    assert status_of(seen)["holder"]["uid"] == uid
    assert not is_free(seen)
