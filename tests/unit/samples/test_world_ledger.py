"""The sample world's ledger: what was answered has happened, once, whenever the server is killed; and it all adds up."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.world import World, audit, running_world

HARBOUR, REFINERY, YARD = "X1-DF55-A1", "X1-DF55-B2", "X1-DF55-D4"
ORE = {"symbol": "IRON_ORE", "units": 40}


@pytest.fixture
def world(tmp_path):
    with running_world(tmp_path) as running:
        yield running


def lines(world):
    return [json.loads(line) for line in (world.data / "ledger.jsonl").read_text().splitlines()]


# --- what it forgets, and what not


def test_a_killed_server_knows_what_it_answered(world):
    world.act("ship-1", "purchase", **ORE)
    world.act("ship-1", "navigate", waypointSymbol=REFINERY)
    world.act("ship-1", "sell", symbol="IRON_ORE", units=1, requestId="r")
    before = world.get("/my/ships"), world.get("/ledger"), world.get("/my/agent")
    world.kill()
    world.start()
    assert (world.get("/my/ships"), world.get("/ledger"), world.get("/my/agent")) == before
    world.assert_sound()


@pytest.mark.parametrize(("point", "made"), [("before", 0), ("after", 1)])
def test_a_server_killed_around_its_line(world, point, made):
    """After the line it has happened, though nobody was answered; asked again by name, it happens once in all."""
    world.set("hold", operation="purchase", point=point)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(world.act, "ship-1", "purchase", **ORE, requestId="r")
        (held,) = world.wait_held()
        assert (held["operation"], held["point"], held["request"]) == ("purchase", point, "r")
        world.kill()
        with pytest.raises(OSError):
            asked.result()
    world.start()
    assert world.trades() == [("purchase", "IRON_ORE", 40)] * made
    status, answer = world.act("ship-1", "purchase", **ORE, requestId="r")
    assert (status, answer["cargo"]["units"], answer["transaction"]["units"]) == (200, 40, 40)
    assert world.trades() == [("purchase", "IRON_ORE", 40)]
    world.assert_sound()


def test_a_torn_line_never_happened(world):
    world.act("ship-1", "purchase", **ORE)
    world.kill()
    with (world.data / "ledger.jsonl").open("a") as file:
        file.write('{"id":3,"kind":"sale","ship":"ship-1","symbol":"IRON_')
    assert audit(world.data)[0] == 0
    world.start()
    assert world.cargo("ship-1") == {"IRON_ORE": 40}
    world.act("ship-1", "jettison", symbol="IRON_ORE", units=1)
    assert [line["id"] for line in lines(world)] == [1, 2, 3]
    world.assert_sound()


def test_one_server_to_a_ledger(world):
    with pytest.raises(AssertionError, match="another world has the ledger"):
        World(world.data)


def test_more_ships_and_a_new_beginning(world):
    world.act("ship-1", "purchase", **ORE)
    world.kill()
    world._options = ("--ships=200",)
    world.start()
    assert (len(world.get("/my/ships")), world.cargo("ship-1")) == (200, {"IRON_ORE": 40})
    assert world.ask("POST", "/admin/reset", {"ships": 2, "capacity": 100})[0] == 200
    assert [ship["cargo"]["capacity"] for ship in world.get("/my/ships")] == [100, 100]
    assert (world.trades(), len(lines(world))) == ([], 4)
    assert world.act("ship-1", "purchase", symbol="IRON_ORE", units=100)[0] == 200
    world.assert_sound()


# --- a request that has a name


def test_the_same_request_again(world):
    first = world.act("ship-1", "purchase", **ORE, requestId="r")
    world.act("ship-1", "jettison", symbol="IRON_ORE", units=1)
    assert world.act("ship-1", "purchase", **ORE, requestId="r") == first, "the very answer of then"
    world.kill()
    world.start()
    assert world.act("ship-1", "purchase", **ORE, requestId="r") == first
    assert world.act("ship-1", "purchase", symbol="COPPER_ORE", units=1, requestId="r")[0] == 409
    assert world.act("ship-2", "purchase", **ORE, requestId="r")[0] == 409
    assert world.trades() == [("purchase", "IRON_ORE", 40), ("jettison", "IRON_ORE", 1)]


def test_the_same_request_many_times_at_once(world):
    with ThreadPoolExecutor(20) as pool:
        asked = [
            pool.submit(world.act, "ship-1", "purchase", symbol="IRON_ORE", units=1, requestId="r")
            for _ in range(60)
        ]
    assert {json.dumps(one.result()) for one in asked} == {json.dumps(asked[0].result())}
    assert world.cargo("ship-1") == {"IRON_ORE": 1}


# --- the law


def test_the_audit_adds_up(world):
    world.act("ship-1", "purchase", **ORE)
    world.act("ship-1", "jettison", symbol="IRON_ORE", units=3)
    world.act("ship-1", "navigate", waypointSymbol=REFINERY)
    world.act("ship-1", "sell", symbol="IRON_ORE", units=5)
    row = {"bought": 40, "sold": 5, "delivered": 0, "jettisoned": 3, "cargo": 32, "ok": True}
    assert world.get("/audit")["symbols"] == {"IRON_ORE": row}
    status, words = audit(world.data)
    assert (status, words.splitlines()[1].split()) == (0, ["IRON_ORE", "40", "5", "0", "3", "32"])


def _without(line):
    def change(all_lines):
        return [one for one in all_lines if one["id"] != line]

    return change


def _twice(all_lines):
    return [*all_lines, {**all_lines[-1], "id": len(all_lines) + 1}]


def _more(all_lines):
    return [{**one, "units": one["units"] + 1} if one["id"] == 2 else one for one in all_lines]


TAMPERED = {
    "a purchase is missing": (_without(2), "line 3 (sale 4): ship-1 then has -5 IRON_ORE"),
    "a sale is there twice": (_twice, "requestId s took effect twice"),
    "a purchase was larger": (_more, "ship-1 has 41 IRON_ORE, the line says 40"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_the_audit_finds(world, name):
    change, words = TAMPERED[name]
    world.act("ship-1", "purchase", **ORE)
    world.act("ship-1", "navigate", waypointSymbol=REFINERY)
    world.act("ship-1", "sell", symbol="IRON_ORE", units=5, requestId="s")
    world.kill()
    assert audit(world.data)[0] == 0
    path = world.data / "ledger.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in change(lines(world))))
    status, told = audit(world.data)
    assert (status, words in told, told.splitlines()[-1]) == (1, True, "VIOLATED"), told


def test_the_audit_of_nothing(tmp_path):
    status, words = audit(tmp_path)
    assert (status, "ledger.jsonl" in words) == (1, True)
