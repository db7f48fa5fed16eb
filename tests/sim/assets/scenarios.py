"""Stories of assets: what happens, and how it must end. Every story can be played by any seed, and interrupted at any step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.sim.api import NAMESPACE
from tests.sim.assets import sample
from tests.sim.assets.programs import AFTER, BEFORE, Fate
from tests.sim.assets.world import AssetWorld

from mainstay.core.names import task_unit
from mainstay.shell.kube import ASSETS, BATCHES, JOBS

Story = Callable[[AssetWorld], None]
STORIES: dict[str, Story] = {}


def story(tell: Story) -> Story:
    STORIES[tell.__name__] = tell
    return tell


def play(name: str, seed: int = 1, *, hasty: bool = False, crash_at: int | None = None) -> AssetWorld:
    """Live through a story with the oracle watching. `crash_at`: the operator dies after that many steps of its passes."""
    world = AssetWorld(seed)
    world.hasty, world.crash_at = hasty, crash_at
    try:
        STORIES[name](world)
    except AssertionError as error:
        error.add_note(f"{name}, seed {seed}\n" + "\n".join(world.log[-80:]))
        raise
    finally:
        world.close()
    return world


def sold(world: AssetWorld, ship: str) -> list[str]:
    """Who sold from a ship, one after the other."""
    entries = [e for e in world.fleet.ledger if e.ship == ship and e.verb == "sells"]
    return [world.oracle.jobs[e.by].name for e in entries]


def bought(world: AssetWorld, ship: str) -> list[str]:
    """Who bought into it."""
    entries = [e for e in world.fleet.ledger if e.ship == ship and e.verb == "buys"]
    return [world.oracle.jobs[e.by].name for e in entries]


def laden(world: AssetWorld, ship: str = "ship-1") -> Callable[[], bool]:
    return lambda: bool(world.fleet.cargo(ship))


def runs(world: AssetWorld, unit: str) -> Callable[[], bool]:
    """`job/task` lives."""
    job, _, task = unit.partition("/")
    return lambda: task_unit(NAMESPACE, job, task) in world.living()


def fates(world: AssetWorld, **by_task: Any) -> None:
    world.runtime.fates |= {task: list(fates) for task, fates in by_task.items()}


def all_free(world: AssetWorld) -> None:
    assert {name: world.state(name) for name in world.fleet.ships} == dict.fromkeys(world.fleet.ships, "Free")
    assert not any(world.fleet.cargo(name) for name in world.fleet.ships)


def delivered(world: AssetWorld, factory: str = "factory-1") -> dict[str, int]:
    told = world.asset(factory)["status"].get("delivered", ())
    return {one["symbol"]: one["units"] for one in told}


def compensations(world: AssetWorld, ship: str = "ship-1") -> int:
    found: int = world.asset(ship)["status"].get("compensation", {}).get("attempt", 0)
    return found


# --- work


@story
def collects_and_sells(world: AssetWorld) -> None:
    world.ship("ship-1")
    world.sell("a", "ship-1")
    world.start_operator()
    world.converge()
    assert world.phase("a") == "Completed"
    all_free(world)


@story
def killed_before_its_purchase(world: AssetWorld) -> None:
    fates(world, collect=[Fate(lost=BEFORE)])
    collects_and_sells(world)
    assert world.executions("a") == {"collect": 2, "sell": 1}
    assert len(bought(world, "ship-1")) == 1


@story
def killed_after_its_purchase(world: AssetWorld) -> None:
    """The cargo is the proof: it is not bought again."""
    fates(world, collect=[Fate(lost=AFTER)])
    collects_and_sells(world)
    assert world.executions("a") == {"collect": 1, "sell": 1}


@story
def killed_after_its_sale(world: AssetWorld) -> None:
    fates(world, sell=[Fate(lost=AFTER)])
    collects_and_sells(world)
    assert len(sold(world, "ship-1")) == 1


@story
def killed_after_its_delivery(world: AssetWorld) -> None:
    """Delivered once, reported by the second execution, counted once."""
    world.ship("ship-1")
    world.factory("factory-1", "SAND")
    fates(world, deliver=[Fate(lost=AFTER)])
    world.deliver("a", "ship-1", "factory-1")
    world.start_operator()
    world.converge()
    assert delivered(world) == {"SAND": 20}
    assert world.executions("a") == {"acquire": 1, "deliver": 2}
    all_free(world)


@story
def deliveries_of_many(world: AssetWorld) -> None:
    """Some are not accepted, and counted all the same."""
    world.factory("factory-1", "SAND")
    for n, symbol in enumerate(("SAND", "ICE", "SAND")):
        world.ship(f"ship-{n}")
        world.deliver(f"job-{n}", f"ship-{n}", "factory-1", symbol=symbol, units=10 + n)
    world.start_operator()
    world.converge()
    assert delivered(world) == {"SAND": 22, "ICE": 11}
    assert not world.asset("factory-1")["status"].get("taken")


@story
def one_ship_for_three(world: AssetWorld) -> None:
    """The oldest first, whatever they are called."""
    for name in ("z", "m", "a"):
        world.sell(name, "ship-1")
        world.advance(2)
    world.start_operator()
    world.converge()
    world.ship("ship-1")
    world.converge()
    assert bought(world, "ship-1") == ["z", "m", "a"]
    all_free(world)


@story
def two_ships_named_in_contrary_orders(world: AssetWorld) -> None:
    for ship in ("ship-1", "ship-2"):
        world.ship(ship)
    world.sell("a", "ship-2", others=["ship-1"])
    world.sell("b", "ship-1", others=["ship-2"])
    world.sell("c", "ship-2", others=["ship-1"])
    world.start_operator()
    world.converge()
    assert {world.phase(name) for name in "abc"} == {"Completed"}
    all_free(world)


@story
def ships_that_come_later(world: AssetWorld) -> None:
    """Two wait for what is not there yet, each with the other's second ship in hand if order were forgotten."""
    world.sell("a", "ship-2", others=["ship-1"])
    world.sell("b", "ship-1", others=["ship-2"])
    world.start_operator()
    world.converge()
    for ship in ("ship-2", "ship-1"):
        world.ship(ship)
        world.converge()
    assert {world.phase(name) for name in "ab"} == {"Completed"}
    all_free(world)


@story
def a_circle_that_must_not_close(world: AssetWorld) -> None:
    """One has the ship that comes first and waits for the second, which an older one wants too."""
    world.job("a", sample.collect_sell("ship-2", others=["ship-1"], state="Suspended"))
    world.advance(2)
    world.sell("c", "ship-2")
    for ship in ("ship-1", "ship-2"):
        world.ship(ship)
    world.start_operator()
    world.until(laden(world, "ship-2"))
    world.edit("c", state="Suspended")
    world.converge()
    world.sell("b", "ship-1", others=["ship-2"])
    world.converge()
    assert [world.holder(ship) for ship in ("ship-1", "ship-2")] == ["b", "c"]
    for name in ("a", "c"):
        world.edit(name, state="Running")
        world.converge()
    assert {world.phase(name) for name in "abc"} == {"Completed"}
    all_free(world)


@story
def cargo_that_nobody_put_there(world: AssetWorld) -> None:
    world.ship("ship-1")
    world.load("ship-1", "FUEL", 3)
    world.sell("a", "ship-1")
    world.advance(100)
    world.start_operator()
    world.converge()
    assert (world.state("ship-1"), world.why("ship-1")) == ("HeldOrphaned", "UnclaimedHoldings")
    world.load("ship-1", "FUEL", -3)
    world.converge()
    assert world.phase("a") == "Completed"
    all_free(world)


@story
def a_second_operator_that_hears_nothing(world: AssetWorld) -> None:
    """It looks at the ship, and does not know whose it is before it asks."""
    world.ship("ship-1")
    world.start_operator("one")
    world.start_operator("two", "asset").deaf = True
    world.converge()
    world.sell("a", "ship-1")
    world.until(laden(world))
    world.edit("a", state="Suspended")
    world.converge()
    world.edit("a", state="Running")
    world.converge()
    assert compensations(world) == 0
    assert bought(world, "ship-1") == sold(world, "ship-1") == ["a"]


# --- whose holder is over


@story
def cancelled_with_cargo(world: AssetWorld) -> None:
    world.ship("ship-1")
    world.sell("a", "ship-1")
    world.sell("b", "ship-1", "FUEL")
    world.start_operator()
    world.until(laden(world))
    world.edit("a", state="Cancelled")
    world.converge()
    assert world.phase("a") == "Cancelled"
    assert world.phase("b") == "Completed"
    assert compensations(world) == 1
    all_free(world)


@story
def cancelled_in_mid_purchase(world: AssetWorld) -> None:
    """What ignores TERM buys after all, and the look that counts comes after its end."""
    world.ship("ship-1")
    world.runtime.stubborn = 1.0
    fates(world, collect=[Fate(effect_seconds=4.0, end_seconds=9.0)])
    world.sell("a", "ship-1")
    world.sell("b", "ship-1", "FUEL")
    world.start_operator()
    world.until(runs(world, "a/collect"))
    world.edit("a", state="Cancelled")
    world.converge()
    assert sorted(bought(world, "ship-1")) == ["a", "b"]
    assert compensations(world) == 1
    all_free(world)


@story
def deleted_with_cargo(world: AssetWorld) -> None:
    world.ship("ship-1")
    world.sell("a", "ship-1")
    world.start_operator()
    world.until(laden(world))
    world.remove("a")
    world.converge()
    assert world.api.get(JOBS, NAMESPACE, "a") is None
    assert compensations(world) == 1
    all_free(world)


@story
def deleted_without_an_operator(world: AssetWorld) -> None:
    """By force, while nobody looks: its process goes on, and nobody else gets the ship before it ends."""
    world.ship("ship-1")
    fates(world, collect=[Fate(effect_seconds=6.0, end_seconds=9.0)])
    world.sell("a", "ship-1")
    world.sell("b", "ship-1", "FUEL")
    world.start_operator()
    world.until(runs(world, "a/collect"))
    world.crash_operator()
    world.force(JOBS, "a")
    world.start_operator()
    world.converge()
    assert world.phase("b") == "Completed"
    assert compensations(world) == 1
    all_free(world)


@story
def failed_for_good(world: AssetWorld) -> None:
    world.ship("ship-1")
    fates(world, sell=[Fate(code=1)])
    world.sell("a", "ship-1", onFailure="Fail")
    world.start_operator()
    world.converge()
    assert world.phase("a") == "Failed"
    assert compensations(world) == 1
    all_free(world)


@story
def waits_for_a_person_with_its_cargo(world: AssetWorld) -> None:
    """Nobody else gets the ship, and nobody empties it; the resumed job sells what it had."""
    world.ship("ship-1")
    fates(world, sell=[Fate(code=1)])
    world.sell("a", "ship-1")
    world.sell("b", "ship-1", "FUEL")
    world.start_operator()
    world.converge()
    assert world.phase("a") == "ActionRequired"
    assert world.holder("ship-1") == "a"
    assert world.reason("b") == "AssetHeld"
    world.resume("a")
    world.converge()
    assert bought(world, "ship-1") == sold(world, "ship-1") == ["a", "b"]
    assert compensations(world) == 0
    all_free(world)


@story
def suspended_with_its_cargo(world: AssetWorld) -> None:
    world.ship("ship-1")
    world.sell("a", "ship-1")
    world.start_operator()
    world.until(laden(world))
    world.edit("a", state="Suspended")
    world.converge()
    assert world.phase("a") == "Suspended"
    assert world.holder("ship-1") == "a"
    world.edit("a", state="Running")
    world.converge()
    assert world.phase("a") == "Completed"
    all_free(world)


@story
def completed_with_cargo_left(world: AssetWorld) -> None:
    """Told, not emptied; a job that takes over gets it, one that does not waits."""
    world.ship("ship-1")
    world.sell("a", "ship-1")
    spec = world.api.objects[JOBS, NAMESPACE, "a"]["spec"]
    world.edit("a", steps=[{**spec["steps"][0], "phases": spec["steps"][0]["phases"][:1]}])
    world.sell("b", "ship-1")
    world.start_operator()
    world.converge()
    assert (world.state("ship-1"), world.why("ship-1")) == ("HeldOrphaned", "HolderCompleted")
    assert world.reason("b") in ("AssetHeld", "AssetUnknown")
    world.sell("c", "ship-1", mode="TakeOver")
    world.converge()
    assert bought(world, "ship-1") == ["a", "b"]
    assert sold(world, "ship-1") == ["c", "b"]
    all_free(world)


@story
def stranded_without_a_template(world: AssetWorld) -> None:
    world.ship("ship-1", compensation=False)
    world.sell("a", "ship-1")
    world.start_operator()
    world.until(laden(world))
    world.edit("a", state="Cancelled")
    world.converge()
    assert (world.state("ship-1"), world.why("ship-1")) == ("HeldOrphaned", "NoCompensation")
    world.sell("b", "ship-1", mode="TakeOver")
    world.converge()
    assert sold(world, "ship-1") == ["b"]
    all_free(world)


@story
def orphans_of_a_batch(world: AssetWorld) -> None:
    """A batch is deleted by force: its jobs are over, and their ships are emptied."""
    for ship in ("ship-1", "ship-2"):
        world.ship(ship)
    template = {k: v for k, v in sample.collect_sell("ship-1").items() if k != "assets"}
    jobs = [{"name": n, "assets": [{"name": "ship", "ref": f"ship-{n}"}]} for n in ("1", "2")]
    world.batch("pipe", template=template, jobs=jobs)
    fates(world, sell=[Fate(effect_seconds=500, end_seconds=500)] * 2)
    world.start_operator()
    world.until(lambda: laden(world)() and laden(world, "ship-2")())
    world.force(BATCHES, "pipe")
    world.converge()
    assert {world.phase(n) for n in ("pipe-1", "pipe-2")} == {"Cancelled"}
    assert [compensations(world, ship) for ship in ("ship-1", "ship-2")] == [1, 1]
    all_free(world)


# --- looks


@story
def the_probe_fails(world: AssetWorld) -> None:
    """Nothing is released until it answers."""
    world.ship("ship-1")
    world.sell("a", "ship-1")
    world.sell("b", "ship-1")
    world.start_operator()
    world.until(laden(world))
    world.fleet.failing.add("ship-1")
    world.edit("a", state="Cancelled")
    world.converge()
    assert (world.state("ship-1"), world.why("ship-1")) == ("Unknown", "ProbeFailed")
    assert world.holder("ship-1") == "a"
    world.fleet.failing.clear()
    world.converge()
    assert compensations(world) == 1
    assert world.phase("b") == "Completed"
    all_free(world)


@story
def an_old_answer_comes_late(world: AssetWorld) -> None:
    """It was asked when the ship was empty, and is told when its job is over and it is not."""
    world.ship("ship-1")
    world.sell("a", "ship-1")
    fates(world, collect=[Fate(effect_seconds=70, end_seconds=100)])
    world.start_operator()
    world.until(runs(world, "a/collect"))
    asked = len(world.probes.asked)
    world.probes.slow.add("ship-1")
    world.until(lambda: len(world.probes.asked) > asked and not world.fleet.cargo("ship-1"))
    world.until(laden(world))
    world.edit("a", state="Cancelled")
    world.until(lambda: world.phase("a") == "Cancelled")
    world.sell("b", "ship-1", "FUEL")
    world.until(lambda: world.get("b").get("status", {}).get("phase") == "Pending")
    world.probes.slow.clear()
    world.converge()
    assert compensations(world) == 1
    assert world.phase("b") == "Completed"
    all_free(world)


# --- compensations


@story
def a_compensation_that_fails(world: AssetWorld) -> None:
    world.ship("ship-1")
    fates(world, liquidate=[Fate(code=1), Fate(code=1)])
    world.sell("a", "ship-1")
    world.start_operator()
    world.until(laden(world))
    world.edit("a", state="Cancelled")
    world.converge()
    assert compensations(world) == 3
    assert world.asset("ship-1")["status"]["compensation"].get("failures", 0) == 0
    all_free(world)


@story
def a_compensation_deleted_by_force(world: AssetWorld) -> None:
    """What it runs ends first; then there is another one."""
    world.ship("ship-1")
    fates(world, liquidate=[Fate(effect_seconds=8, end_seconds=9)])
    world.sell("a", "ship-1")
    world.start_operator()
    world.until(laden(world))
    world.edit("a", state="Cancelled")
    world.until(lambda: any("liquidate" in unit for unit in world.living()))
    batch = next(b["metadata"]["name"] for b in world.api.all(BATCHES))
    world.force(BATCHES, batch)
    world.converge()
    assert len(sold(world, "ship-1")) == 1
    all_free(world)


@story
def two_kinds_of_cargo(world: AssetWorld) -> None:
    world.ship("ship-1")
    world.load("ship-1", "FUEL", 3)
    world.sell("a", "ship-1", mode="TakeOver")
    world.start_operator()
    world.until(lambda: len(world.fleet.cargo("ship-1")) == 2)
    world.edit("a", state="Cancelled")
    world.converge()
    assert len(sold(world, "ship-1")) == 2
    assert compensations(world) == 1
    all_free(world)


# --- persons


@story
def a_status_nulled_while_it_is_held(world: AssetWorld) -> None:
    world.ship("ship-1")
    world.sell("a", "ship-1")
    world.sell("b", "ship-1")
    world.start_operator()
    world.until(laden(world))
    world.forget("ship-1")
    world.converge()
    assert bought(world, "ship-1") == sold(world, "ship-1") == ["a", "b"]
    all_free(world)


@story
def a_status_nulled_while_an_older_one_waits(world: AssetWorld) -> None:
    """Nothing is in it yet, and who had it has it still."""
    world.ship("ship-1")
    world.job("b", sample.collect_sell("ship-1", state="Suspended"))
    world.advance(2)
    fates(world, collect=[Fate(effect_seconds=9, end_seconds=10)])
    world.sell("a", "ship-1")
    world.start_operator()
    world.until(runs(world, "a/collect"))
    world.edit("b", state="Running")
    world.until(lambda: world.reason("b") == "AssetHeld")
    world.forget("ship-1")
    world.converge()
    assert bought(world, "ship-1") == sold(world, "ship-1") == ["a", "b"]
    all_free(world)


@story
def a_status_nulled_when_its_job_is_gone(world: AssetWorld) -> None:
    """What was seen before it forgot everything is too old to say that it is free."""
    world.ship("ship-1")
    fates(world, collect=[Fate(effect_seconds=7, end_seconds=8)])
    world.sell("a", "ship-1")
    world.start_operator()
    world.until(laden(world))
    world.force(JOBS, "a")
    world.forget("ship-1")
    world.converge()
    assert (world.state("ship-1"), world.why("ship-1")) == ("HeldOrphaned", "UnclaimedHoldings")
    world.sell("b", "ship-1", mode="TakeOver")
    world.converge()
    assert sold(world, "ship-1") == ["b"]
    all_free(world)


@story
def deleted_before_its_delivery_is_seen(world: AssetWorld) -> None:
    """Its task has ended well, and nobody has looked yet."""
    world.ship("ship-1")
    world.factory("factory-1", "SAND")
    world.deliver("a", "ship-1", "factory-1")
    world.start_operator()
    world.until(lambda: bool(world.oracle.reported))
    world.remove("a")
    world.converge()
    assert delivered(world) == {"SAND": 20}


@story
def an_asset_made_anew_while_it_is_held(world: AssetWorld) -> None:
    world.ship("ship-1")
    world.sell("a", "ship-1")
    world.sell("b", "ship-1")
    world.start_operator()
    world.until(laden(world))
    world.force(ASSETS, "ship-1")
    world.ship("ship-1")
    world.converge()
    assert bought(world, "ship-1") == sold(world, "ship-1") == ["a", "b"]
    all_free(world)


@story
def an_asset_deleted_while_it_is_held(world: AssetWorld) -> None:
    """It goes when it is empty; who waited for it waits on."""
    world.ship("ship-1")
    world.sell("a", "ship-1")
    world.sell("b", "ship-1")
    world.start_operator()
    world.until(laden(world))
    world.remove("ship-1", ASSETS)
    world.converge()
    assert world.api.get(ASSETS, NAMESPACE, "ship-1") is None
    assert world.phase("a") == "Completed"
    assert world.reason("b") == "AssetNotFound"


@story
def deleted_before_its_delivery_is_counted(world: AssetWorld) -> None:
    """It waits until the factory has taken in what was delivered."""
    world.ship("ship-1")
    world.factory("factory-1", "SAND")
    world.probes.slow.add("factory-1")  # what it accepts is not known, and nothing is counted before
    world.deliver("a", "ship-1", "factory-1")
    world.start_operator()
    world.until(lambda: world.get("a").get("status", {}).get("phase") == "Completed")
    world.remove("a")
    world.until(lambda: "deletionTimestamp" in world.get("a")["metadata"])
    for _ in range(40):
        world._any_pass(resync=True)
    world.probes.slow.clear()
    world.converge()
    assert delivered(world) == {"SAND": 20}
    assert world.api.get(JOBS, NAMESPACE, "a") is None
