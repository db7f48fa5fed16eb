"""Jobs wait for their ships: the oldest is next, and no two wait for each other. What the API server itself refuses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from itertools import permutations
from typing import Any

import pytest
from tests.integration.assets import goods
from tests.integration.assets.fleet import Fleet, bought_and, held_by, is_free, says, status_of
from tests.integration.assets.yard import Yard, yard
from tests.integration.jobs.workshop import completed, phase_is
from tests.support.plane import RealPlane
from tests.support.stage import Object, condition, eventually

from mainstay.api.meta import API_VERSION
from mainstay.shell.kube import ASSETS, JOBS, path


@pytest.fixture(scope="module")
def one(plane: RealPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with yard(plane, tmp_path_factory.mktemp("waiting")) as built:
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


# --- who is next


def a_second_later(obj: Object) -> None:
    """What is created now is younger than this object: the API server counts in seconds."""
    then = datetime.fromisoformat(obj["metadata"]["creationTimestamp"]).timestamp()
    eventually(lambda: time.time() >= then + 1, "the next second")


def served(fleet: Fleet, ship: str, jobs: dict[str, Object]) -> list[str]:
    """The names of the jobs that bought something with this ship, in order; each had it until it had sold that."""
    names = {obj["metadata"]["uid"]: name for name, obj in jobs.items()}
    lines = fleet.world.get(f"/ledger?ship={ship}")
    order = [names[line["requestId"].partition("/")[0]] for line in lines]
    assert order[::2] == order[1::2], f"two jobs had {ship} at once: {order}"
    assert [line["kind"] for line in lines] == ["purchase", "sale"] * (len(lines) // 2)
    return order[::2]


@pytest.mark.parametrize("killed", [False, True], ids=["", "everything is killed meanwhile"])
def test_six_jobs_for_two_ships(here: Yard, killed: bool):
    """The oldest first, and of one second's in the order of names; the younger ones have the earlier names."""
    fleet = here.fleet
    ships = [fleet.new_ship(), fleet.new_ship()]
    jobs: dict[str, Object] = {}
    queue: dict[str, list[str]] = {ship: [] for ship in ships}
    with fleet.held("sell", "before", ships[0]), fleet.held("sell", "before", ships[1]):
        for age in ("z", "m", "a"):
            for ship in ships:
                name = f"{age}-{ship}"
                jobs[name] = fleet.collect_sell(name, ship)
                queue[ship].append(name)
            if age == "z":
                for ship in ships:
                    fleet.waits(ship)
            a_second_later(jobs[name])
        for name in list(jobs)[2:]:
            seen = fleet.until(name, phase_is("Pending", "AssetHeld"))
            assert f"job z-{name[2:]} has" in condition(seen)["message"]
        if killed:
            here.kill_everything()
            here.stage.restart()
    for name in jobs:
        fleet.until(name, completed)
    fleet.until_free(*ships)
    for ship in ships:
        assert served(fleet, ship, jobs) == queue[ship]


def claiming(fleet: Fleet, name: str, *refs: str) -> Object:
    """A job that needs all of these, declared in this order, and sails with the first."""
    spec = goods.collect_sell(fleet.world.url, refs[0])
    spec["assets"] += [{"name": f"other{n}", "ref": ref} for n, ref in enumerate(refs[1:])]
    return fleet.create(name, spec)


@pytest.mark.parametrize("killed", [False, True], ids=["", "everything is killed meanwhile"])
def test_contrary_orders_are_no_deadlock(here: Yard, killed: bool):
    """Jobs over the same ships in every order in which they can be declared, pairs and all three at once."""
    fleet = here.fleet
    ships = [fleet.new_ship() for _ in range(3)]
    orders = [*permutations(ships, 2), *list(permutations(ships, 3))[:: 1 if killed else 3]]
    jobs = {f"j{n}": claiming(fleet, f"j{n}", *order) for n, order in enumerate(orders)}
    if killed:
        eventually(lambda: fleet.world.get("/ledger"), "the first purchase")
        here.kill_everything()
        here.stage.restart()
    for name in jobs:
        fleet.until(name, completed, 90)
    fleet.until_free(*ships)
    first = {name: order[0] for name, order in zip(jobs, orders, strict=True)}
    for ship in ships:
        assert sorted(served(fleet, ship, jobs)) == sorted(name for name, ref in first.items() if ref == ship)


def test_an_older_job_that_comes_later_is_no_deadlock(fleet: Fleet):
    """Who waits for a first ship has no second one, or the two would wait for each other for ever."""
    one, two = sorted(fleet.new_ship() for _ in range(2))
    fleet.loaded("has", one)
    claiming(fleet, "older", one, two)
    fleet.patch("older", state="Suspended")
    older = fleet.until("older", phase_is("Suspended"))
    a_second_later(older)
    claiming(fleet, "younger", two, one)
    fleet.until("younger", phase_is("Pending", "AssetHeld"))
    fleet.stays(two, is_free)
    fleet.patch("older", state="Running")
    fleet.until("older", phase_is("Pending", "AssetHeld"))
    fleet.patch("has", inputs={"go": {}})
    for name in ("has", "older", "younger"):
        fleet.until(name, completed)
    fleet.until_free(one, two)


def test_a_ship_that_does_not_exist_yet(fleet: Fleet):
    ship = f"ship-{next(fleet.numbers)}"
    fleet.ships.append(ship)
    fleet.collect_sell("early", ship)
    seen = fleet.until("early", phase_is("Pending", "AssetNotFound"))
    assert ship in condition(seen)["message"]
    fleet.create(ship, goods.ship(fleet.world.url, ship), ASSETS)
    fleet.until("early", completed)
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"))


def test_a_job_that_waits_is_cancelled_or_deleted(fleet: Fleet):
    """Who never had it leaves nothing behind, and the next one gets it."""
    ship = fleet.new_ship()
    fleet.loaded("has", ship)
    for name in ("cancelled", "deleted", "last"):
        fleet.collect_sell(name, ship, good="COPPER_ORE", units=5)
        fleet.until(name, phase_is("Pending", "AssetHeld"))
    fleet.patch("cancelled", state="Cancelled")
    fleet.until("cancelled", phase_is("Cancelled"))
    fleet.delete("deleted")
    fleet.until_gone("deleted")
    assert held_by("has")(fleet.asset(ship))
    fleet.patch("has", inputs={"go": {}})
    fleet.until("last", completed)
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"), bought_and("sale", "COPPER_ORE", 5))


# --- what the API server refuses


def refused(fleet: Fleet, body: Object, words: str, plural: str = ASSETS) -> None:
    """Neither created, nor what it said repeated as it is."""
    with fleet.connect() as client:
        code, answer = client.ask("POST", path(plural, fleet.namespace), body)
    assert code == 422, answer
    assert words in answer["message"], answer["message"]


def asset(fleet: Fleet, **changes: Any) -> Object:
    spec = goods.ship(fleet.world.url, "ship-1", **changes)
    return {"apiVersion": API_VERSION, "kind": "Asset", "metadata": {"name": "bad"}, "spec": spec}


def probing(**http: Any) -> Object:
    return {"probe": {"http": {"url": "http://127.0.0.1:1/x", **http}}, "everySeconds": 60}


BOTH = {"probe": {"http": {"url": "http://127.0.0.1:1/x"}, "exec": {"command": ["true"]}}}
REF = {"name": "token", "key": "key"}
REFUSED = {
    "a probe with http and exec": (BOTH, "set exactly one of http and exec"),
    "a probe with neither": ({"probe": {"path": "body"}}, "set exactly one of http and exec"),
    "a header with value and secretKeyRef": (
        probing(headers=[{"name": "A", "value": "b", "secretKeyRef": REF}]),
        "set value or secretKeyRef",
    ),
    "a header with neither": (probing(headers=[{"name": "A"}]), "set value or secretKeyRef"),
    "a header whose name is none": (probing(headers=[{"name": "A: b", "value": "c"}]), "headers[0].name"),
    "a header with two lines": (probing(headers=[{"name": "A", "value": "b\nc"}]), "headers[0].value"),
    "two headers of one name": (
        probing(headers=[{"name": "A", "value": "b"}, {"name": "A", "value": "c"}]),
        "Duplicate value",
    ),
    "an url without a scheme": (probing(url="127.0.0.1:8090/x"), "http.url"),
    "an url of another scheme": (probing(url="file:///etc/passwd"), "http.url"),
    "an url with a newline": (probing(url="http://127.0.0.1:1/x\nHost: y"), "http.url"),
    "an url with a blank": (probing(url="http://127.0.0.1:1/x y"), "http.url"),
    "a command of nothing": ({"probe": {"exec": {"command": []}}}, "command"),
    "every 0 seconds": ({**probing(), "everySeconds": 0}, "everySeconds"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_declaration_is_refused(fleet: Fleet, case: str):
    holdings, words = REFUSED[case]
    refused(fleet, asset(fleet, holdings=holdings), words)


def test_a_claim_of_no_asset_is_refused(fleet: Fleet):
    """Names are those of expressions, and of objects; no two alike."""
    for claim, words in (
        ({"name": "my-ship", "ref": "a"}, "assets[0].name"),
        ({"name": "ship", "ref": "A_B"}, "assets[0].ref"),
        ({"name": "ship", "ref": "a", "mode": "Borrowed"}, "assets[0].mode"),
    ):
        spec = {**goods.collect_sell(fleet.world.url, "a"), "assets": [claim]}
        meta = {"name": "bad"}
        refused(
            fleet,
            {"apiVersion": API_VERSION, "kind": "PhasedJob", "metadata": meta, "spec": spec},
            words,
            JOBS,
        )


def test_status_by_hand(here: Yard):
    """Free with holdings, and a holder that just leaves, are refused: to whoever writes a status, the operator too."""
    fleet = here.fleet
    ship = fleet.new_ship()
    fleet.loaded("has", ship)
    fleet.look(ship)
    url = path(ASSETS, fleet.namespace, ship, "status")

    def patch(status: Object) -> tuple[int, str]:
        with fleet.connect() as client:
            code, answer = client.ask("PATCH", url, {"status": status}, "application/merge-patch+json")
        return code, answer.get("message", "")

    with here.away():
        before = fleet.asset(ship)["status"]
        code, words = patch({"state": "Free"})
        assert (code, "never Free while it has holdings" in words) == (422, True), words
        code, words = patch({"holder": None})
        assert (code, "a holder is followed by another" in words) == (422, True), words
        code, words = patch({"state": "Free", "holder": None})
        assert code == 422, words
        assert fleet.asset(ship)["status"] == before
        # what it allows is not believed: the truth is looked at, and the job has it still
        code, words = patch({"state": "Free", "holder": None, "holdings": [], "summary": ""})
        assert code == 200, words
        rival = fleet.collect_sell("rival", ship, good="COPPER_ORE", units=5)
    fleet.until_asset(ship, held_by("has"))
    fleet.patch("has", inputs={"go": {}})
    fleet.until(rival["metadata"]["name"], completed)
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"), bought_and("sale", "COPPER_ORE", 5))


# --- what is told instead


def template(fleet: Fleet, **changes: Any) -> Object:
    found = goods.compensation(fleet.world.url)
    found["template"] |= changes
    return found


def steps(complete_when: str) -> list[Object]:
    return [{"name": "s", "phases": [goods.phase("liquidate", complete_when)]}]


TOLD: dict[str, tuple[Any, str]] = {
    "a path that does not compile": (
        lambda f: {"holdings": goods.probe(f"{f.world.url}/x", "body.data[")},
        "spec.holdings.probe.path",
    ),
    "a path over something else than body": (
        lambda f: {"holdings": goods.probe(f"{f.world.url}/x", "answer.data")},
        "spec.holdings.probe.path",
    ),
    "a path of accepts": (
        lambda f: {"accepts": goods.probe(f"{f.world.url}/x", "body.")},
        "spec.accepts.probe.path",
    ),
    "another asset of its own": (
        lambda f: {"compensation": template(f, assets=[{"name": "tug", "ref": "tug-1"}])},
        "spec.compensation.template.assets: tug: mode must be Shared",
    ),
    "an asset that takes its name": (
        lambda f: {"compensation": template(f, assets=[{"name": "asset", "ref": "tug-1", "mode": "Shared"}])},
        "spec.compensation.template.assets: asset: the asset itself is there already",
    ),
    "an expression about an unknown asset": (
        lambda f: {"compensation": template(f, steps=steps("!assets.ship.holdings.exists(h, true)"))},
        "spec.compensation.template.steps",
    ),
    "an expression that does not compile": (
        lambda f: {"compensation": template(f, steps=steps("assets.asset.holdings.exists("))},
        "spec.compensation.template.steps",
    ),
}


@pytest.mark.parametrize("case", TOLD)
def test_a_mistake_is_told_with_its_place(fleet: Fleet, case: str):
    """Nobody gets such a ship; corrected, the one who waits does."""
    mistake, words = TOLD[case]
    ship = fleet.new_ship(**mistake(fleet))
    seen = fleet.until_asset(ship, lambda o: condition(o).get("reason") == "SpecInvalid", never="Free")
    assert condition(seen)["message"].startswith(words), condition(seen)["message"]
    assert condition(seen, "Stalled")["status"] == "True"
    fleet.collect_sell("waits", ship)
    fleet.until("waits", lambda o: status_of(o).get("phase") == "Pending")
    assert "holder" not in fleet.asset(ship)["status"]
    good = goods.ship(fleet.world.url, ship)
    fleet.patch(ship, ASSETS, **good | {"accepts": None, "compensation": None})
    fleet.patch(ship, ASSETS, compensation=good["compensation"])
    fleet.until("waits", completed)
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"))


def test_a_mistake_made_while_it_is_held(fleet: Fleet):
    """The job has it still, nothing is emptied by a declaration that can't, and no holder is lost."""
    ship = fleet.new_ship()
    fleet.loaded("has", ship)
    good = fleet.asset(ship)["spec"]["compensation"]
    tug = [{"name": "tug", "ref": "tug-1"}]
    fleet.patch(ship, ASSETS, compensation={"template": {"assets": tug}})
    fleet.until_asset(ship, lambda o: condition(o).get("reason") == "SpecInvalid", never="Free")
    assert held_by("has")(fleet.asset(ship))
    fleet.patch("has", state="Cancelled")
    fleet.until("has", phase_is("Cancelled"))
    fleet.stays_so(ship, lambda o: held_by("has")(o) and not is_free(o))
    assert (fleet.batches(), fleet.cargo(ship)) == ([], {"IRON_ORE": 40})
    good["template"]["assets"] = None
    fleet.patch(ship, ASSETS, compensation=good)
    fleet.until_free(ship)
    fleet.sold_once(ship, bought_and("sale"))


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("assets.boat.holdings.exists(h, true)", "boat"),
        ("assets.ship.holdings.exists(", "completeWhen"),
        ("cargo.ship == 1", "cargo"),
    ],
)
def test_a_job_with_a_mistake_in_what_it_asks_of_its_ship(fleet: Fleet, expression: str, words: str):
    ship = fleet.new_ship()
    spec = goods.collect_sell(fleet.world.url, ship)
    spec["steps"][0]["phases"][0]["completeWhen"] = expression
    fleet.create("odd", spec)
    seen = fleet.until("odd", lambda o: condition(o).get("reason") == "SpecInvalid")
    assert words in condition(seen)["message"]
    assert "phases" in condition(seen)["message"]
    fleet.stays(ship, is_free)
    assert says("Free")(fleet.asset(ship))
    assert status_of(seen).get("phase") == "Pending"


def test_what_kubectl_shows(here: Yard):
    """One line tells whose it is, and what is in it."""
    fleet = here.fleet
    ship = fleet.new_ship()
    fleet.loaded("shown", ship)
    fleet.look(ship)
    out = here.stage.plane.kubectl("get", "asset", ship, "-n", fleet.namespace)
    assert out.splitlines()[1].split()[:6] == [ship, "Ship", "Held", "shown", "IRON_ORE", "40"]
    out = here.stage.plane.kubectl(
        "get", "assets", "-n", fleet.namespace, "--field-selector=status.state=Held", "-o", "name"
    )
    assert out.split() == [f"asset.mainstay.dev/{ship}"]
