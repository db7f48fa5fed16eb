"""The sample world's worker: killed anywhere and run again, each good is bought, sold, delivered and reported once."""

import contextlib
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.world import Worker, running_world, wait_for

IRON = {"symbol": "IRON_ORE", "units": 40}
COPPER = {"symbol": "COPPER", "units": 25}
SAND = {"symbol": "QUARTZ_SAND", "units": 40}
BOUGHT, SOLD = ("purchase", "IRON_ORE", 40), ("sale", "IRON_ORE", 40)
DELIVERED = ("delivery", "QUARTZ_SAND", 40)
BOTH = {"ship": "ship-1", "factory": "factory-1"}
ASSET = {"asset": "ship-1"}


@pytest.fixture
def world(tmp_path):
    with running_world(tmp_path) as running:
        yield running


@pytest.fixture
def start(world, tmp_path):
    """Starts workers; those still alive at the end are killed."""
    started = []

    def begin(task, inputs=IRON, **given):
        directory = tmp_path / f"attempt-{len(started)}"
        started.append(Worker(world, directory, task, inputs=inputs, **given))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.kill()
        one.process.stderr.close()


# --- what each does


def test_collect_and_sell(world, start):
    collected = start("collect").done()
    assert (collected["units"], collected["credits"], world.cargo("ship-1")) == (
        40,
        40 * 42,
        {"IRON_ORE": 40},
    )
    sold = start("sell").done()
    assert (sold["symbol"], sold["units"], sold["credits"]) == ("IRON_ORE", 40, 40 * 68), (
        "the best of two prices"
    )
    assert world.trades() == [BOUGHT, SOLD]
    assert world.cargo("ship-1") == {}
    world.assert_sound()


def test_acquire_and_deliver(world, start):
    start("acquire", SAND).done()
    outputs = start("deliver", SAND, assets=BOTH).done()
    made = {"symbol": "QUARTZ_SAND", "units": 40}
    assert outputs["assets"] == {"factory": {"deliveries": [made]}}
    assert world.get("/factories/factory-1")["delivered"] == [made]
    world.assert_sound()


def test_only_the_difference_is_bought(world, start):
    world.act("ship-1", "purchase", symbol="IRON_ORE", units=15)
    assert start("collect").done()["units"] == 25
    assert start("collect", uid="u-2").done()["units"] == 0, "it is all there"
    assert world.cargo("ship-1") == {"IRON_ORE": 40}


def test_a_job_sells_its_own_good_and_no_other(world, start):
    world.act("ship-1", "purchase", symbol="COPPER_ORE", units=5)
    start("collect").done()
    start("sell").done()
    assert world.cargo("ship-1") == {"COPPER_ORE": 5}


def test_a_delivery_that_is_not_accepted_is_reported_all_the_same(world, start):
    start("acquire").done()
    world.set("accepts/factory-1", accepts=["QUARTZ_SAND"])
    worker = start("deliver", assets=BOTH)
    status, err, outputs = worker.end()
    assert (status, "factory-1 does not accept IRON_ORE" in err) == (0, True)
    assert outputs["assets"]["factory"]["deliveries"] == [IRON]


def test_what_a_market_buys_is_liquidated_by_selling(world, start):
    world.act("ship-1", "purchase", **IRON)
    assert start("liquidate", assets=ASSET).done()["credits"] == 40 * 68
    assert start("liquidate", assets=ASSET, uid="u-2").done()["units"] == 0, "it is gone"
    assert world.trades() == [BOUGHT, SOLD]


def test_what_no_market_buys_goes_overboard_only_when_told_so(world, start):
    world.act("ship-1", "purchase", **SAND)
    status, err, outputs = start("liquidate", SAND, assets=ASSET).end()
    assert (status, outputs) == (1, None)
    assert err == "liquidate: no market buys QUARTZ_SAND; with inputs.jettison: true it is thrown overboard\n"
    assert world.cargo("ship-1") == {"QUARTZ_SAND": 40}
    start("liquidate", {**SAND, "jettison": True}, assets=ASSET).done()
    assert (world.cargo("ship-1"), world.trades()[-1]) == ({}, ("jettison", "QUARTZ_SAND", 40))
    world.assert_sound()


# --- killed


KILLED = {
    # task: operation, what was there before, how it ends, its inputs and assets
    "collect": ("purchase", [], [BOUGHT], IRON, {"ship": "ship-1"}),
    "sell": ("sell", [IRON], [BOUGHT, SOLD], IRON, {"ship": "ship-1"}),
    "acquire": ("purchase", [], [("purchase", "COPPER", 25)], COPPER, {"ship": "ship-1"}),
    "deliver": ("deliver", [SAND], [("purchase", "QUARTZ_SAND", 40), DELIVERED], SAND, BOTH),
    "liquidate": ("sell", [IRON], [BOUGHT, SOLD], IRON, ASSET),
}


@pytest.mark.parametrize("late", [False, True], ids=["", "late"])
@pytest.mark.parametrize("point", ["before", "after"])
@pytest.mark.parametrize("task", KILLED)
def test_killed_around_the_line(world, start, task, point, late):
    """The next attempt does what is left, and puts out what the job has done: also when the killed one's request arrives
    after all, and last."""
    operation, before, after, inputs, assets = KILLED[task]
    for one in before:
        world.act("ship-1", "purchase", **one)
    world.set("hold", operation=operation, point=point, late=late)
    first = start(task, inputs, assets=assets)
    world.wait_held()
    assert world.trades() == (after if point == "after" else after[:-1])
    first.kill()
    if point == "before" and late:
        second = start(task, inputs, assets=assets)  # meets the same hold: both are on their way
        world.wait_held(2)
        world.forget("hold")
    else:
        world.forget("hold")
        second = start(task, inputs, assets=assets)
    outputs = second.done()
    wait_for(lambda: not world.get("/admin/held"))
    assert world.trades() == after
    assert (outputs["symbol"], outputs["units"]) == (inputs["symbol"], inputs["units"])
    if task == "deliver":
        assert outputs["assets"]["factory"]["deliveries"] == [SAND]
    world.assert_sound()


def test_a_delivery_is_told_by_whoever_asks_again(world, start):
    """However often: with the cargo empty, and with new cargo that belongs to nobody's delivery."""
    start("acquire", SAND).done()
    first = start("deliver", SAND, assets=BOTH).done()
    assert start("deliver", SAND, assets=BOTH).done() == first
    world.act("ship-1", "navigate", waypointSymbol="X1-DF55-A1")
    world.act("ship-1", "purchase", symbol="QUARTZ_SAND", units=7)
    assert start("deliver", SAND, assets=BOTH).done() == first
    assert world.cargo("ship-1") == {"QUARTZ_SAND": 7}
    other = start("deliver", {**SAND, "units": 7}, assets=BOTH, uid="u-2").done()
    assert (other["units"], other["delivery"] > first["delivery"]) == (7, True)


def test_a_ship_that_was_emptied_is_filled_again(world, start):
    """The name of a purchase is true of one cargo: a later one is no repetition."""
    start("collect").done()
    world.act("ship-1", "jettison", **IRON)
    assert start("collect").done()["units"] == 80, "what the job has bought, in all"
    assert world.cargo("ship-1") == {"IRON_ORE": 40}


def test_the_server_is_killed_instead(world, start):
    world.set("hold", operation="purchase", point="after")
    first = start("collect")
    world.wait_held()
    world.kill()
    status, err, outputs = first.end()
    assert (status, outputs) == (75, None)
    assert err.startswith(f"collect: no answer from {world.url}: ")
    assert start("collect").end()[0] == 75, "nobody is there"
    world.start()
    assert start("collect").done()["units"] == 40
    assert world.trades() == [BOUGHT]


# --- what it says when it can't


def test_out_of_order_may_be_later(world, start):
    world.set("failures", operation="purchase", times=1)
    status, err, _ = start("collect").end()
    assert (status, err) == (
        75,
        "collect: POST /my/ships/ship-1/purchase was answered 503: purchase is told to fail\n",
    )
    start("collect").done()


FAILED = {
    "no room": ("collect", {**IRON, "units": 61}, 1, "has room for 60 units, not for 61"),
    "nobody sells it": ("collect", {**IRON, "symbol": "HONEY"}, 1, "no market sells HONEY"),
    "nothing to deliver": ("deliver", SAND, 1, "ship-1 has 0 units of QUARTZ_SAND, not 40"),
    "no symbol": ("collect", {"units": 1}, 2, "'symbol' is missing"),
    "units that are none": ("collect", {**IRON, "units": "40"}, 2, "inputs.units is a whole number"),
    "no world": ("sell", {**IRON, "world": None}, 2, "inputs.world is the world's URL"),
    "no task": ("dance", IRON, 2, "usage: worker.py TASK, one of collect"),
}


@pytest.mark.parametrize("name", FAILED)
def test_why_it_fails(world, start, name):
    task, inputs, status, words = FAILED[name]
    worker = start(task, inputs, assets=BOTH)
    ended, err, outputs = worker.end()
    assert (ended, outputs, words in err, err.count("\n")) == (status, None, True, 1), err
    assert world.trades() == []


def test_an_asset_that_is_not_given(start):
    assert start("deliver", SAND).end()[:2] == (2, "deliver: 'factory' is missing\n")


def test_a_world_with_a_token(tmp_path):
    (tmp_path / "token").write_text("open-sesame")
    with running_world(tmp_path, f"--token-file={tmp_path / 'token'}") as world:
        status, err, _ = Worker(world, tmp_path / "a", "collect", inputs=IRON).end()
        assert (status, "401" in err) == (1, True)
        env = {"WORLD_AUTHORIZATION": "Bearer open-sesame"}
        assert Worker(world, tmp_path / "b", "collect", inputs=IRON, env=env).done()["units"] == 40


def test_a_fleet_killed_at_any_instant(tmp_path):
    """Twelve jobs side by side; each attempt is killed a bit later than the one before, until one completes."""
    with running_world(tmp_path, "--ships=12") as world:

        def job(number):
            given = {"uid": f"u-{number}", "inputs": IRON, "assets": {"ship": f"ship-{number}"}}
            for task in ("collect", "sell"):
                for instant in range(1, 100):
                    worker = Worker(world, tmp_path / f"{number}", task, **given)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        worker.process.wait(0.02 * number * instant)
                    worker.kill()
                    if worker.process.returncode == 0:
                        break
            return world.trades(f"ship-{number}")

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(job, range(1, 13))) == [[BOUGHT, SOLD]] * 12
        world.assert_sound()
