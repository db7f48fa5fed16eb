"""The truth can't be had: nothing is released, nothing is given away, and it is told; then all settles.

Also what is no truth at all: answers that make no sense, Secrets that are missing, and a Secret that must not be seen.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.assets import goods
from tests.integration.assets.fleet import Fleet, bought_and, held_by, says, status_of
from tests.integration.assets.yard import Yard, yard
from tests.integration.jobs.workshop import phase_is, tasks_of
from tests.support.plane import RealPlane
from tests.support.stage import Object, condition, eventually
from tests.support.world import World

from mainstay.shell.kube import ASSETS, core_path

CANARY = "canary-3f9c1e7a"


@pytest.fixture(scope="module")
def one(plane: RealPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with yard(plane, tmp_path_factory.mktemp("probes")) as built:
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


def fails(words: str = "") -> Any:
    """The probe is told to fail, in such words."""

    def is_so(obj: Object) -> bool:
        seen = condition(obj, "HoldingsObserved")
        return (seen.get("status"), seen.get("reason")) == ("False", "ProbeFailed") and words in seen[
            "message"
        ]

    return is_so


def blind(fleet: Fleet, ship: str) -> None:
    """The world answers no probe of this ship; its workers it serves as ever."""
    fleet.world.set("failures", operation="ship", status=503, ship=ship)


# --- it fails while a ship changes hands


@pytest.mark.parametrize("how", ["cancelled", "deleted"])
def test_a_job_ends_while_nobody_knows_what_is_aboard(here: Yard, how: str):
    fleet = here.fleet
    ship = fleet.new_ship()
    fleet.loaded("ends", ship)
    here.kill_everything()
    blind(fleet, ship)
    if how == "deleted":
        fleet.delete("ends")
    else:
        fleet.patch("ends", state="Cancelled")
    fleet.collect_sell("next", ship, good="COPPER_ORE", units=5)
    here.stage.restart()
    unknown = says("Unknown", "ProbeFailed")
    seen = fleet.until_asset(ship, unknown, never="Free")
    assert "503" in condition(seen)["message"]
    fleet.until_event(ship, "ProbeFailed")
    fleet.until("next", phase_is("Pending", "AssetUnknown"))
    fleet.stays(ship, unknown)
    assert status_of(fleet.asset(ship))["holder"]["name"] == "ends"
    assert (fleet.batches(), fleet.cargo(ship)) == ([], {"IRON_ORE": 40})
    fleet.world.forget("failures")
    fleet.until("next", phase_is("Completed"))
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"), bought_and("sale", "COPPER_ORE", 5))


def test_a_job_completes_while_nobody_can_see_that_the_ship_is_empty(fleet: Fleet):
    ship = fleet.new_ship()
    with fleet.held("sell", "after", ship):
        fleet.collect_sell("sells", ship)
        fleet.waits(ship)
        blind(fleet, ship)
    fleet.until("sells", phase_is("Completed"))
    fleet.until_asset(ship, says("Unknown", "ProbeFailed"), never="Free")
    fleet.stays(ship, says("Unknown", "ProbeFailed"))
    fleet.world.forget("failures")
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"))


@pytest.mark.parametrize("point", ["before", "after"])
def test_everything_was_killed_and_nobody_knows_what_is_aboard(here: Yard, point: str):
    """A job doesn't go on, nor begin a phase anew, before it is known whether that phase is done."""
    fleet = here.fleet
    ship = fleet.new_ship()
    with fleet.held("purchase", point, ship):
        fleet.collect_sell("waits", ship)
        fleet.waits(ship)
        here.kill_everything()
    blind(fleet, ship)
    here.stage.restart()
    seen = fleet.until("waits", phase_is("InProgress", "AssetUnknown"))
    assert "503" in condition(seen)["message"]
    fleet.until_asset(ship, fails("503"), never="Free")
    fleet.stays(ship, held_by("waits"))
    trades = fleet.world.trades(ship)
    assert trades == ([("purchase", "IRON_ORE", 40)] if point == "after" else [])
    assert tasks_of(fleet.get("waits") or {})["collect"]["attempt"] == 1
    fleet.world.forget("failures")
    fleet.until("waits", phase_is("Completed"))
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"))


def test_the_world_dies_with_everything_else(here: Yard):
    fleet = here.fleet
    ship = fleet.new_ship()
    with_cargo = fleet.world
    fleet.loaded("sails", ship)
    fleet.patch("sails", inputs={"go": {}}, state="Suspended")
    fleet.until("sails", phase_is("Suspended"))
    here.kill_everything()
    with_cargo.kill()
    fleet.patch("sails", state="Running")
    here.stage.restart()
    fleet.until_asset(ship, fails("no connection"), never="Free")
    fleet.stays(ship, held_by("sails"))
    with_cargo.start()
    fleet.until("sails", phase_is("Completed"))
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"))


# --- answers that make no sense


def answering(text: str, **more: Any) -> Object:
    """A probe whose command says this."""
    return {"probe": {"exec": {"command": ["/bin/sh", "-c", text], **more}}, "everySeconds": goods.QUIET}


MANY = 'awk \'BEGIN {printf "["; for (i = 0; i < 10000; i++) printf "%s{\\"symbol\\": \\"S%d\\", \\"units\\": 1}", i ? "," : "", i; print "]"}\''
NONSENSE = {
    "ten thousand holdings": (MANY, "10000 different holdings"),
    "a fraction of a unit": ('echo \'[{"symbol": "ICE", "units": 0.5}]\'', "units of ICE are 0.5"),
    "less than nothing": ('echo \'[{"symbol": "ICE", "units": -1}]\'', "units of ICE are -1"),
    "a number in a text": ('echo \'[{"symbol": "ICE", "units": "4"}]\'', "units of ICE are '4'"),
    "no list": ("echo 7", "not a list of {symbol, units}"),
    "no JSON": ("echo oops", "is no JSON"),
    "nothing": ("true", ""),
    "exit 3": ("echo 'the port is closed' >&2; exit 3", "exited with 3: the port is closed"),
    "no answer in time": ("exec sleep 60", "1 s"),
    "NaN": ('echo \'[{"symbol": "ICE", "units": NaN}]\'', ""),
}


SHORT = ("ten thousand holdings", "a fraction of a unit", "exit 3", "no answer in time")
"""Of these always; the others with `make soak`: unit tests have them all."""


@pytest.mark.parametrize(
    "case", [one if one in SHORT else pytest.param(one, marks=pytest.mark.soak) for one in NONSENSE]
)
def test_an_answer_that_makes_no_sense(fleet: Fleet, case: str):
    """The ship is held with its cargo by a job that is over: it stays so until an answer makes sense."""
    text, words = NONSENSE[case]
    ship = fleet.new_ship()
    fleet.loaded("ends", ship)
    good = fleet.asset(ship)["spec"]["holdings"]
    bad = answering(text)
    bad["probe"] |= {"timeoutSeconds": 1 if case == "no answer in time" else 20, "http": None, "path": None}
    fleet.patch(ship, ASSETS, holdings=bad)
    fleet.until_asset(ship, fails(words), never="Free")
    fleet.patch("ends", state="Cancelled")
    fleet.until_asset(ship, says("Unknown", "ProbeFailed"), never="Free")
    assert (fleet.batches(), fleet.cargo(ship)) == ([], {"IRON_ORE": 40})
    fleet.patch(ship, ASSETS, holdings={**good, "probe": {**good["probe"], "exec": None}})
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"))


# --- Secrets


def secret(fleet: Fleet, name: str, value: str | None) -> None:
    """Make a Secret with `key`, or take it away."""
    with fleet.connect() as client:
        client.ask("DELETE", core_path("secrets", fleet.namespace, name))
        if value is not None:
            data = {"key": base64.b64encode(value.encode()).decode()}
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
            client.ok("POST", core_path("secrets", fleet.namespace), body)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[World]:
    """A world that wants a token."""
    (tmp_path / "token").write_text(CANARY)
    world = World(tmp_path / "world", "--ships=2", f"--token-file={tmp_path}/token")
    try:
        yield world
    finally:
        world.kill()


def test_a_secret_of_a_header(here: Yard, guarded: World, caplog: pytest.LogCaptureFixture):
    """Missing: told, and nothing is released. There: used. Wrong: told. Nowhere is it to be seen."""
    caplog.set_level(logging.DEBUG)
    fleet = here.fleet
    header = {"name": "Authorization", "secretKeyRef": {"name": "token", "key": "key"}}
    url = f"{guarded.url}/my/ships/ship-1?key={CANARY}"
    spec = goods.ship(guarded.url, "ship-1", holdings=goods.probe(url, headers=[header]), compensation=None)
    fleet.create("guarded", spec, ASSETS)
    fleet.until_asset("guarded", fails("token"), never="Free")
    assert says("Unknown")(fleet.asset("guarded"))
    secret(fleet, "token", f"Bearer {CANARY}")
    fleet.until_asset("guarded", says("Free", "Free"))
    for value, words in ((f"Bearer {CANARY}x", "401"), (f"Bearer {CANARY}\nx: y", "line"), (None, "token")):
        secret(fleet, "token", value)
        fleet.look("guarded")
        fleet.until_asset("guarded", fails(words), never="")
    env = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "token", "key": "key"}}}]
    secret(fleet, "token", CANARY)
    said = answering('echo "$KEY is wrong" >&2; exit 1', env=env)
    said["probe"] |= {"http": None, "path": None}
    fleet.patch("guarded", ASSETS, holdings=said)
    fleet.until_asset("guarded", fails("is wrong"))
    fleet.until_event("guarded", "ProbeFailed")
    with fleet.connect() as client:
        events = client.ok("GET", f"/api/v1/namespaces/{fleet.namespace}/events?limit=500")
    status = status_of(fleet.asset("guarded"))
    assert CANARY not in json.dumps([status, events])
    assert CANARY not in caplog.text
    assert "guarded" in caplog.text, "the operator's log was read"
    here.stage.crash()  # nothing of it is left on disk either
    kept = [p for p in here.stage.home.rglob("*") if p.is_file() and CANARY.encode() in p.read_bytes()]
    assert kept == []


# --- what is accepted


def test_a_factory_that_accepts_something_else_now(here: Yard):
    """A delivery of an unexpected good is counted all the same, and told; what is accepted is asked at a start."""
    fleet = here.fleet
    fleet.new_factory("factory-2")
    ship = fleet.new_ship()
    with fleet.held("deliver", "before", ship):
        fleet.acquire_deliver("sand", ship, to="factory-2")
        fleet.waits(ship)
    fleet.until("sand", phase_is("Completed"))
    odd = fleet.until_asset("factory-2", lambda o: condition(o, "UnexpectedInput").get("status") == "True")
    assert status_of(odd)["delivered"] == [{"symbol": "QUARTZ_SAND", "units": 40, "count": 1}]
    assert [d["accepted"] for d in status_of(odd)["deliveries"]] == [False]
    fleet.until_event("factory-2", "UnexpectedInput")
    with here.away():
        fleet.world.set("accepts/factory-2", accepts=["COPPER", "QUARTZ_SAND"])
    fleet.until_asset("factory-2", lambda o: status_of(o).get("accepts") == ["COPPER", "QUARTZ_SAND"])
    fleet.until_asset("factory-2", lambda o: condition(o, "UnexpectedInput").get("status") == "False")
    fleet.world.set("accepts/factory-2", accepts=["COPPER", "ICE_WATER"])
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("delivery", "QUARTZ_SAND"))


# --- numbers


def test_numbers(here: Yard):
    """What a scrape says of assets: by state, what is emptied, who waits, and how probes do."""
    fleet = here.fleet

    def value(name: str, **labels: str) -> float:
        found = here.stage.shell.operator.metrics.registry.get_sample_value(name, labels or None)
        assert found is not None, (name, labels)
        return found

    def becomes(number: float, name: str, **labels: str) -> None:
        eventually(lambda: value(name, **labels) == number, f"{name} {labels} is {number}")

    ok, failed = (value("mainstay_asset_probes_total", result=r) for r in ("ok", "failed"))
    recovered = value("mainstay_tasks_recovered_total", status="cargo_recovered")
    seconds = value("mainstay_asset_probe_duration_seconds_count")
    free, kept, blocked = fleet.new_ship(), fleet.new_ship(), fleet.new_ship(compensation=None)
    slow = fleet.new_ship(
        compensation=goods.compensation(
            fleet.world.url, retries=0, initialBackoffSeconds=3000, maxBackoffSeconds=3600
        )
    )
    unseen = fleet.new_ship(holdings=goods.probe(f"{fleet.world.url}/nothing-here"))
    fleet.loaded("keeps", kept)
    fleet.collect_sell("waits", kept)
    fleet.loaded("leaves", blocked)
    fleet.patch("leaves", state="Cancelled")
    fleet.world.set("failures", operation="sell", status=503, ship=slow)
    fleet.loaded("slow", slow)
    fleet.patch("slow", state="Cancelled")
    fleet.until_free(free)
    becomes(1, "mainstay_assets", state="Free")
    becomes(1, "mainstay_assets", state="Held")
    becomes(2, "mainstay_assets", state="HeldOrphaned")
    becomes(1, "mainstay_assets", state="Unknown")
    becomes(1, "mainstay_asset_compensations", state="blocked")
    becomes(1, "mainstay_asset_compensations", state="retrying")
    becomes(0, "mainstay_asset_compensations", state="running")
    becomes(1, "mainstay_jobs_waiting_for_assets")
    becomes(0, "mainstay_assets_unexpected_inputs")
    assert says("Unknown", "ProbeFailed")(fleet.asset(unseen))
    assert value("mainstay_asset_probes_total", result="ok") >= ok + 4
    assert value("mainstay_asset_probes_total", result="failed") > failed
    assert value("mainstay_asset_probe_duration_seconds_count") >= seconds + 5
    assert value("mainstay_tasks_recovered_total", status="cargo_recovered") == recovered + 1
    with fleet.held("sell", "before", slow):
        fleet.world.forget("failures")
        fleet.patch(slow, ASSETS, compensation={"initialBackoffSeconds": 0, "maxBackoffSeconds": 0})
        fleet.waits(slow)
        becomes(1, "mainstay_asset_compensations", state="running")
        becomes(0, "mainstay_asset_compensations", state="retrying")
    fleet.until_free(slow)
    becomes(2, "mainstay_assets", state="Free")
    fleet.patch(blocked, ASSETS, compensation=goods.compensation(fleet.world.url))
    fleet.until_free(blocked)
    becomes(0, "mainstay_asset_compensations", state="blocked")
