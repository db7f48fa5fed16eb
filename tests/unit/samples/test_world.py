"""The sample world: what it tells, what it refuses, how it is slowed down and stopped, and many clients at once."""

import json
import os
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.world import running_world, wait_for

HARBOUR, REFINERY, YARD = "X1-DF55-A1", "X1-DF55-B2", "X1-DF55-D4"
ORE = {"symbol": "IRON_ORE", "units": 40}


@pytest.fixture
def world(tmp_path):
    with running_world(tmp_path) as running:
        yield running


def lines(world):
    return [json.loads(line) for line in (world.data / "ledger.jsonl").read_text().splitlines()]


# --- what it tells


def test_a_ship_in_spacetraders_shape(world):
    assert world.get("/my/ships/ship-1") == {
        "symbol": "ship-1",
        "nav": {"systemSymbol": "X1-DF55", "waypointSymbol": HARBOUR, "status": "DOCKED"},
        "cargo": {"capacity": 60, "units": 0, "version": 0, "inventory": []},
    }
    assert [ship["symbol"] for ship in world.get("/my/ships")] == ["ship-1", "ship-2", "ship-3", "ship-4"]
    assert world.get("/my/ships/ship-2/cargo") == world.get("/my/ships/ship-2")["cargo"]


def test_markets(world):
    assert len(world.get("/markets")) == 3
    goods = {one["symbol"]: one for one in world.get(f"/markets/{REFINERY}")["tradeGoods"]}
    assert goods["IRON_ORE"] == {"symbol": "IRON_ORE", "purchasePrice": 74, "sellPrice": 68}
    assert "QUARTZ_SAND" not in goods


def test_buy_and_sell(world):
    status, bought = world.act("ship-1", "purchase", **ORE)
    assert status == 200
    assert (bought["transaction"]["price"], bought["transaction"]["totalPrice"]) == (42, 1680)
    assert bought["cargo"] == world.get("/my/ships/ship-1/cargo")
    assert world.act("ship-1", "navigate", waypointSymbol=REFINERY)[1]["nav"]["waypointSymbol"] == REFINERY
    status, sold = world.act("ship-1", "sell", symbol="IRON_ORE", units=15)
    assert (status, world.cargo("ship-1")) == (200, {"IRON_ORE": 25})
    assert sold["agent"]["credits"] == 1_000_000 - 40 * 42 + 15 * 68 == world.get("/my/agent")["credits"]
    assert world.trades() == [("purchase", "IRON_ORE", 40), ("sale", "IRON_ORE", 15)]
    world.assert_sound()


def test_a_factory_takes_what_it_accepts_and_what_it_does_not(world):
    world.act("ship-1", "purchase", **ORE)
    world.act("ship-1", "navigate", waypointSymbol=YARD)
    before = world.get("/factories/factory-1")
    assert before["accepts"] == ["IRON_ORE", "QUARTZ_SAND"]
    status, made = world.act("ship-1", "deliver", symbol="IRON_ORE", units=30, factory="factory-1")
    assert (status, made["transaction"]["accepted"]) == (200, True)
    after = world.get("/factories/factory-1")
    assert after["delivered"] == [{"symbol": "IRON_ORE", "units": 30}]
    (ore,) = [one for one in after["supply"] if one["symbol"] == "IRON_ORE"]
    assert (ore["level"], 25 <= ore["units"] <= 30) == ("MODERATE" if ore["units"] == 30 else "LIMITED", True)
    world.set("accepts/factory-1", accepts=["QUARTZ_SAND"])
    assert world.get("/factories/factory-1")["accepts"] == ["QUARTZ_SAND"]
    status, made = world.act("ship-1", "deliver", symbol="IRON_ORE", units=10, factory="factory-1")
    assert (status, made["transaction"]["accepted"]) == (200, False)
    world.kill()
    world.start()
    assert world.get("/factories/factory-1")["accepts"] == ["QUARTZ_SAND"]
    assert world.get("/factories/factory-1")["delivered"] == [{"symbol": "IRON_ORE", "units": 40}]
    world.assert_sound()


def test_supplies_dwindle_as_a_replay_finds_too(tmp_path):
    """The ledger alone says when what was delivered: a server that starts later knows what was used meanwhile."""
    data, then = tmp_path / "world", time.time() - 120
    data.mkdir()
    trade = {"ship": "ship-1", "symbol": "IRON_ORE", "units": 40, "at": YARD}
    written = [
        {"id": 1, "time": then, "kind": "ships", "ships": 1, "capacity": 60},
        {"id": 2, "time": then, "kind": "purchase", "price": 42, "held": 40, **trade},
        {"id": 3, "time": then, "kind": "delivery", "factory": "factory-1", "accepted": True, "held": 0}
        | trade,
    ]
    (data / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written))
    with running_world(tmp_path) as world:
        factory = world.get("/factories/factory-1")
        world.assert_sound()
    (ore,) = [one for one in factory["supply"] if one["symbol"] == "IRON_ORE"]
    assert 20 <= ore["units"] <= 28  # six a minute
    assert 6 <= factory["produces"][0]["units"] <= 10  # of two units each


REFUSED = {
    "nothing sells it there": (422, "purchase", {"symbol": "COPPER", "units": 1}),
    "nothing buys it there": (422, "sell", {"symbol": "QUARTZ_SAND", "units": 1}),
    "no room": (422, "purchase", {"symbol": "IRON_ORE", "units": 61}),
    "not in the cargo": (422, "jettison", {"symbol": "IRON_ORE", "units": 1}),
    "no units": (422, "purchase", {"symbol": "IRON_ORE"}),
    "less than one": (422, "purchase", {"symbol": "IRON_ORE", "units": 0}),
    "a part of one": (422, "purchase", {"symbol": "IRON_ORE", "units": 1.5}),
    "a boolean": (422, "purchase", {"symbol": "IRON_ORE", "units": True}),
    "not where the factory is": (422, "deliver", {**ORE, "factory": "factory-1"}),
    "no such factory": (404, "deliver", {**ORE, "factory": "factory-9"}),
    "no such place": (422, "navigate", {"waypointSymbol": "X1-DF55-Z9"}),
    "no such operation": (404, "scrap", {}),
    "a requestId that is none": (422, "purchase", {**ORE, "requestId": 7}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_changes_nothing(world, name):
    status, operation, body = REFUSED[name]
    before = lines(world)
    answered, message = world.act("ship-1", operation, **body)
    assert (answered, bool(message)) == (status, True)
    assert lines(world) == before


def test_strangers_are_refused(tmp_path):
    (tmp_path / "token").write_text("open-sesame\n")
    with running_world(tmp_path, f"--token-file={tmp_path / 'token'}") as world:
        assert world.ask("GET", "/health")[0] == 200
        assert world.ask("GET", "/my/ships")[0] == 401
        assert world.ask("GET", "/my/ships", Authorization="Bearer ö")[0] == 401
        assert world.ask("GET", "/my/ships", Authorization="Bearer open-sesame")[0] == 200
        web = {"Authorization": "Bearer open-sesame", "Origin": "https://evil.example"}
        assert world.ask("POST", "/my/ships/ship-1/purchase", ORE, **web)[0] == 403


# --- to make it slow, to make it fail, to stop it


def test_a_failure_is_used_up_and_does_nothing(world):
    world.act("ship-1", "purchase", **ORE)
    world.act("ship-1", "navigate", waypointSymbol=REFINERY)
    world.set("failures", operation="sell", times=2, status=502)
    sales = [world.act("ship-1", "sell", symbol="IRON_ORE", units=10)[0] for _ in range(3)]
    assert sales == [502, 502, 200]
    assert world.cargo("ship-1") == {"IRON_ORE": 30}


def test_reads_fail_until_told_otherwise(world):
    world.set("failures", operation="ship", ship="ship-1")
    assert [world.ask("GET", f"/my/ships/{one}")[0] for one in ("ship-1", "ship-1", "ship-2")] == [
        503,
        503,
        200,
    ]
    assert world.ask("GET", "/my/ships/ship-1/cargo")[0] == 200, "what workers read is not what probes read"
    world.set("failures", operation="cargo")
    assert world.ask("GET", "/my/ships/ship-2")[0] == world.ask("GET", "/my/ships/ship-2/cargo")[0] == 503
    world.forget("failures")
    assert world.cargo("ship-1") == {}


def test_latency(world):
    world.set("latency", operation="purchase", seconds=0.2)
    assert world.get("/admin/latency") == {"purchase": 0.2}
    asked = time.monotonic()
    world.cargo("ship-1")
    assert time.monotonic() - asked < 0.2
    asked = time.monotonic()
    world.act("ship-1", "purchase", **ORE)
    assert time.monotonic() - asked >= 0.2
    world.set("latency", seconds=0)
    assert world.get("/admin/latency") == {}


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_held_request_goes_on_when_it_is_let_go(world, point):
    world.set("hold", operation="purchase", point=point, ship="ship-1")
    assert world.act("ship-2", "purchase", **ORE)[0] == 200, "another ship"
    assert world.act("ship-1", "purchase", symbol="NONE", units=1)[0] == 422, "it would write no line"
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(world.act, "ship-1", "purchase", **ORE)
        (held,) = world.wait_held()
        assert len(world.trades("ship-1")) == (1 if point == "after" else 0)
        assert held["id"] == (world.get("/ledger")[-1]["id"] if point == "after" else None)
        world.forget("hold")
        assert asked.result()[0] == 200
    assert (world.get("/admin/held"), world.cargo("ship-1")) == ([], {"IRON_ORE": 40})


INVALID = {
    "latency": [{"seconds": -1}, {"seconds": "1"}, {"seconds": True}, {"seconds": 1, "operation": "sale"}],
    "failures": [
        {},
        {"operation": "sell", "times": 0},
        {"operation": "sell", "status": 200},
        {"operation": []},
    ],
    "hold": [
        {"operation": "cargo", "point": "after"},
        {"operation": "sell"},
        {"operation": "sell", "point": "at"},
    ],
    "accepts/factory-1": [{}, {"accepts": "IRON"}, {"accepts": [1]}],
    "nothing": [{}],
}


@pytest.mark.parametrize(
    ("what", "body"), [(what, body) for what, bodies in INVALID.items() for body in bodies]
)
def test_settings_that_are_none(world, what, body):
    status, message = world.ask("PUT", f"/admin/{what}", body)
    assert (status in (404, 422), bool(message)) == (True, True)


# --- many at once


def test_two_hundred_clients(tmp_path):
    """Each has its ship, and all ask at the same instant, three times over."""
    count = 200
    with running_world(tmp_path, f"--ships={count}") as world:
        together = threading.Barrier(count, timeout=30)

        def client(number):
            ship, seen = f"ship-{number}", []
            for _ in range(3):
                together.wait()
                seen.append(world.act(ship, "purchase", symbol="IRON_ORE", units=10)[0])
            return seen, world.cargo(ship)

        with ThreadPoolExecutor(count) as pool:
            found = list(pool.map(client, range(1, count + 1)))
        assert found == [([200] * 3, {"IRON_ORE": 30})] * count
        assert [line["id"] for line in lines(world)] == list(range(1, 3 * count + 2))
        world.assert_sound()


def test_it_ends_when_asked(world):
    world.process.terminate()
    assert world.process.wait(10) == 0


def test_a_client_that_hangs_up_is_no_trouble(world):
    world.set("hold", operation="purchase", point="before", ship="ship-1")
    with pytest.raises(OSError):  # noqa: PT012
        content = json.dumps(ORE).encode()
        request = urllib.request.Request(f"{world.url}/my/ships/ship-1/purchase", content, method="POST")
        urllib.request.urlopen(request, timeout=0.3)
    world.wait_held()
    world.forget("hold")
    wait_for(lambda: not world.get("/admin/held"))
    assert world.act("ship-1", "purchase", symbol="COPPER_ORE", units=1)[0] == 200
    assert world.cargo("ship-1") == {"COPPER_ORE": 1}, "its own request was dropped"
    world.process.terminate()
    assert (world.process.wait(10), world.process.stderr.read()) == (0, "")
    assert os.listdir(world.data) == ["ledger.jsonl"]
