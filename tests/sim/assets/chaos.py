"""Everything that may happen to ships, their jobs and the operator, one happening at a time, chosen by a number."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.sim.api import NAMESPACE, conflict
from tests.sim.assets import sample
from tests.sim.assets.oracle import STRANDED
from tests.sim.assets.programs import Fate
from tests.sim.assets.world import AssetWorld
from tests.sim.jobs.oracle import OracleError
from tests.sim.steps import OF_THE_API
from tests.sim.world import no_fault

from mainstay.api.phasedjob import FINAL
from mainstay.runtime.base import RuntimeUnavailableError
from mainstay.shell.kube import ASSETS, BATCHES, JOBS, ApiUnavailableError
from mainstay.shell.store import Object

SHIPS = ("ship-1", "ship-2", "ship-3")
FACTORIES = ("factory-1", "factory-2")
SYMBOLS = ("IRON", "SAND", "FUEL")
NAMES = ("z", "a", "m", "b", "y", "c")
TICKS = 0.04
"""Share of moments in which time passes though there is something to do."""
STILL = 12
"""After so many waits with nothing to do nobody will ever have cargo."""
ROUNDS = 8
"""So often a person helps at the end, before it is said that no help helps."""
Happening = Callable[["Chaos"], None]
HAPPENINGS: dict[str, Happening] = {}


def happening(what: Happening) -> Happening:
    HAPPENINGS[what.__name__] = what
    return what


class Chaos:
    """A world to which things happen."""

    def __init__(self, seed: int) -> None:
        self.world = AssetWorld(seed)
        self.world.hasty = True
        self.rng = random.Random(seed)
        self.world.runtime.bad_luck = self.rng.choice([0.0, 0.2, 0.5])
        for name in SHIPS[:2]:
            self.world.ship(name)
        for name in FACTORIES:
            self.world.factory(name, *SYMBOLS[:2])
        self.world.start_operator()

    def happen(self, what: str, number: int) -> None:
        self.rng.seed(number)
        self.world.log.append(f"-- {what} {number}")
        HAPPENINGS[what](self)

    # --- what happenings are made of

    def work(self, most: int) -> None:
        """So many steps at most, and time that passes in between."""
        for _ in range(self.rng.randint(most // 4, most)):
            if self.rng.random() < TICKS:
                self.world.advance(self.rng.choice([0.01, 0.1, 0.4, 1.5]))
            elif not self.world._any_pass(resync=True):
                self.world._sleep(20.0)

    def of(self, plural: str, *phases: str) -> str | None:
        """The name of one of these at random; of those in certain phases."""
        found = [
            obj["metadata"]["name"]
            for obj in self.world.api.all(plural)
            if obj["metadata"]["name"] not in FACTORIES
            and (not phases or obj.get("status", {}).get("phase", "Pending") in phases)
        ]
        return self.rng.choice(found) if found else None

    def fresh(self) -> str | None:
        left = [n for n in NAMES if self.world.api.get(JOBS, NAMESPACE, n) is None]
        return self.rng.choice(left) if left else None

    def failing(self) -> dict[str, object]:
        return {"onFailure": "Fail"} if self.rng.random() < 0.4 else {"retries": self.rng.choice([0, 2])}

    # --- the end of it

    def calm_down(self) -> None:
        """Faults cease, a person helps where only a person can, and everything must come to its end."""
        world = self.world
        world.log.append("-- calm")
        world.hasty, world.fault = False, no_fault
        world.runtime.available, world.runtime.bad_luck, world.runtime.stubborn = True, 0.0, 0.0
        world.runtime.fates.clear()
        world.fleet.failing.clear()
        world.probes.slow.clear()
        for instance in list(world.operators):
            world.crash_operator(instance)
        world.start_operator()
        world.converge()
        for _ in range(ROUNDS):
            if not self._help():
                break
            world.converge()
        else:
            raise OracleError("no help helps: " + ", ".join(self._open()))
        if left := self._open():
            raise OracleError(f"never done: {', '.join(left)}")
        for name in world.fleet.ships:
            if world.api.get(ASSETS, NAMESPACE, name) is not None and world.state(name) != "Free":
                raise OracleError(f"{name} is {world.state(name)} ({world.why(name)}) at the end")
        before = world.api.versions()
        world.restart_operator()
        world.converge()
        if moved := {ref for ref in before if world.api.versions().get(ref) != before[ref]}:
            raise OracleError(f"a new operator writes at a fixed point: {moved}")

    def _open(self) -> list[str]:
        over = {str(phase) for phase in FINAL}
        return [
            obj["metadata"]["name"]
            for obj in self.world.api.all(JOBS)
            if obj.get("status", {}).get("phase") not in over
        ]

    def _help(self) -> bool:
        """What a person does about what needs one; whether there was anything."""
        world, helped = self.world, False
        for name in SHIPS:
            if world.api.get(ASSETS, NAMESPACE, name) is None:
                world.ship(name)
                helped = True
        for plural in (BATCHES, JOBS):
            for obj in list(world.api.all(plural)):
                if "deletionTimestamp" not in obj["metadata"]:
                    helped |= self._let_on(plural, obj)
        for batch in list(world.oracle.left_over()):
            world.remove(batch, BATCHES)
            helped = True
        for name in SHIPS:
            helped |= self._rescue(name)
        return helped

    def _let_on(self, plural: str, obj: Object) -> bool:
        name, phase = obj["metadata"]["name"], obj.get("status", {}).get("phase")
        if obj["spec"].get("state") == "Suspended":
            self.world.api.edit(plural, NAMESPACE, name, state="Running")
            return True
        if plural == JOBS and phase == "ActionRequired":
            self.world.resume(name)
            return True
        return False

    def _rescue(self, name: str) -> bool:
        """Whoever takes over sells what is stranded; of an asset that is being deleted a person unloads it."""
        world, cargo = self.world, self.world.fleet.cargo(name)
        asset = world.asset(name)
        if not cargo or world.why(name) not in (*STRANDED, "Deleting"):
            return False
        if asset["status"]["state"] != "HeldOrphaned" or world.why(name) not in STRANDED:
            return False
        symbol = next(iter(cargo))
        if "deletionTimestamp" in asset["metadata"]:
            world.load(name, symbol, -cargo[symbol])
        elif world.api.get(JOBS, NAMESPACE, rescuer := f"rescue-{name}-{len(world.fleet.ledger)}") is None:
            world.sell(rescuer, name, symbol, cargo[symbol], mode="TakeOver")
        return True


# --- people want work done


@happening
def create_sell(chaos: Chaos) -> None:
    if name := chaos.fresh():
        chaos.world.sell(name, chaos.rng.choice(SHIPS), chaos.rng.choice(SYMBOLS), **chaos.failing())


@happening
def create_deliver(chaos: Chaos) -> None:
    if name := chaos.fresh():
        plant, symbol = chaos.rng.choice(FACTORIES), chaos.rng.choice(SYMBOLS)
        chaos.world.deliver(name, chaos.rng.choice(SHIPS), plant, symbol=symbol, **chaos.failing())


@happening
def create_for_two(chaos: Chaos) -> None:
    if name := chaos.fresh():
        first, *others = chaos.rng.sample(SHIPS, chaos.rng.choice([2, 2, 3]))
        chaos.world.sell(name, first, chaos.rng.choice(SYMBOLS), others=others, **chaos.failing())


@happening
def create_take_over(chaos: Chaos) -> None:
    if name := chaos.fresh():
        chaos.world.sell(name, chaos.rng.choice(SHIPS), chaos.rng.choice(SYMBOLS), mode="TakeOver")


@happening
def create_without_a_sale(chaos: Chaos) -> None:
    """A job that leaves its cargo."""
    if name := chaos.fresh():
        spec = sample.collect_sell(chaos.rng.choice(SHIPS[:2]), chaos.rng.choice(SYMBOLS))
        spec["steps"][0]["phases"].pop()
        chaos.world.job(name, spec)


@happening
def create_batch(chaos: Chaos) -> None:
    name = chaos.rng.choice(["p", "q"])
    if chaos.world.api.get(BATCHES, NAMESPACE, name) is not None:
        return
    made = sample.collect_sell("ship-1", chaos.rng.choice(SYMBOLS), **chaos.failing())
    template = {k: v for k, v in made.items() if k != "assets"}
    picked = [chaos.rng.choice(SHIPS) for _ in range(chaos.rng.randint(1, 3))]
    jobs = [{"name": f"j{n}", "assets": [{"name": "ship", "ref": ref}]} for n, ref in enumerate(picked)]
    chaos.world.batch(name, template=template, jobs=jobs, parallelism=chaos.rng.choice([1, 3]))


# --- and change their minds


@happening
def cancel(chaos: Chaos) -> None:
    if name := chaos.of(JOBS):
        chaos.world.edit(name, state="Cancelled")


@happening
def suspend(chaos: Chaos) -> None:
    if (name := chaos.of(JOBS)) and chaos.world.get(name)["spec"].get("state") != "Cancelled":
        chaos.world.edit(name, state=chaos.rng.choice(["Suspended", "Running"]))


@happening
def resume(chaos: Chaos) -> None:
    if name := chaos.of(JOBS, "ActionRequired") or chaos.of(JOBS):
        chaos.world.resume(name)


@happening
def delete(chaos: Chaos) -> None:
    if name := chaos.of(JOBS):
        chaos.world.remove(name)


@happening
def delete_what_is_over(chaos: Chaos) -> None:
    if name := chaos.of(JOBS, "Completed", "Failed", "Cancelled"):
        chaos.world.remove(name)


@happening
def delete_by_force(chaos: Chaos) -> None:
    if name := chaos.of(JOBS):
        chaos.world.force(JOBS, name)


@happening
def delete_batch(chaos: Chaos) -> None:
    if name := chaos.of(BATCHES):
        chaos.world.remove(name, BATCHES)


@happening
def delete_batch_by_force(chaos: Chaos) -> None:
    if name := chaos.of(BATCHES):
        chaos.world.force(BATCHES, name)


@happening
def suspend_batch(chaos: Chaos) -> None:
    if name := chaos.of(BATCHES):
        chaos.world.api.edit(BATCHES, NAMESPACE, name, state=chaos.rng.choice(["Suspended", "Running"]))


@happening
def strand(chaos: Chaos) -> None:
    """Whoever has a laden ship ends, in one way or another, as soon as there is one."""
    world, still = chaos.world, 0
    for _ in range(300):
        laden = [name for name in SHIPS if world.fleet.ships.get(name) and world.fleet.cargo(name)]
        held = [world.api.get(ASSETS, NAMESPACE, name) for name in laden]
        holders = [a["status"]["holder"] for a in held if a and a.get("status", {}).get("holder")]
        if holders or still > STILL:
            break
        if not world._any_pass(resync=True):
            still += 1
            world._sleep(20.0)
    if not holders:
        return
    holder = chaos.rng.choice(holders)
    plural = JOBS if holder["kind"] == "PhasedJob" else BATCHES
    if world.api.get(plural, NAMESPACE, holder["name"]) is None:
        return
    match chaos.rng.choice(["cancel", "cancel", "delete", "force", "lose", "fail"]):
        case "cancel":
            world.api.edit(plural, NAMESPACE, holder["name"], state="Cancelled")
        case "delete":
            world.remove(holder["name"], plural)
        case "force":
            world.force(plural, holder["name"])
        case "lose":
            lose_a_task(chaos)
        case "fail":
            world.runtime.fates |= {"sell": [Fate(code=1)], "liquidate": [Fate(code=1)]}


# --- assets


@happening
def create_asset(chaos: Chaos) -> None:
    for name in SHIPS:
        if chaos.world.api.get(ASSETS, NAMESPACE, name) is None:
            chaos.world.ship(name)


@happening
def delete_asset(chaos: Chaos) -> None:
    if name := chaos.of(ASSETS):
        chaos.world.remove(name, ASSETS)


@happening
def make_asset_anew(chaos: Chaos) -> None:
    """Its finalizer is removed by hand, and it is made again, perhaps a while later."""
    if name := chaos.of(ASSETS):
        chaos.world.force(ASSETS, name)
        if chaos.rng.random() < 0.5:
            chaos.work(10)
        if chaos.world.api.get(ASSETS, NAMESPACE, name) is None:
            chaos.world.ship(name)


@happening
def null_status(chaos: Chaos) -> None:
    if name := chaos.of(ASSETS):
        chaos.world.advance(6.0)  # a look is good for five seconds, also if a person undoes what it led to
        chaos.world.forget(name)


@happening
def edit_compensation(chaos: Chaos) -> None:
    if name := chaos.of(ASSETS):
        spec = sample.ship(name, compensation=chaos.rng.random() < 0.6)
        chaos.world.api.edit(ASSETS, NAMESPACE, name, compensation=spec.get("compensation")) if (
            "compensation" in spec or "compensation" in chaos.world.asset(name)["spec"]
        ) else None


# --- what goes wrong


@happening
def luck(chaos: Chaos) -> None:
    chaos.world.runtime.bad_luck = chaos.rng.choice([0.1, 0.3, 0.6])
    chaos.world.runtime.stubborn = chaos.rng.choice([0.0, 0.0, 0.5])


@happening
def lose_a_task(chaos: Chaos) -> None:
    if living := chaos.world.living():
        chaos.world.runtime.lose(chaos.rng.choice(living))


@happening
def stop_a_task(chaos: Chaos) -> None:
    if living := chaos.world.living():
        _, _, unit = chaos.rng.choice(living).partition(".")
        chaos.world.stop_from_outside(*unit.split("_"))


@happening
def reboot(chaos: Chaos) -> None:
    for name in chaos.world.living():
        chaos.world.runtime.lose(name)
    die(chaos)


@happening
def probe_fails(chaos: Chaos) -> None:
    chaos.world.fleet.failing.add(chaos.rng.choice((*SHIPS, *FACTORIES)))


@happening
def probes_answer(chaos: Chaos) -> None:
    chaos.world.fleet.failing.clear()
    chaos.world.probes.slow.clear()


@happening
def probe_is_slow(chaos: Chaos) -> None:
    chaos.world.probes.slow.add(chaos.rng.choice((*SHIPS, *FACTORIES)))


@happening
def die(chaos: Chaos) -> None:
    """At any step; another comes after a while."""
    chaos.work(60)
    for instance in list(chaos.world.operators):
        chaos.world.crash_operator(instance)
    chaos.world.advance(chaos.rng.choice([0.0, 0.5, 4.0]))
    chaos.world.start_operator()


@happening
def away(chaos: Chaos) -> None:
    """People act while there is no operator."""
    for instance in list(chaos.world.operators):
        chaos.world.crash_operator(instance)
    for _ in range(chaos.rng.randint(1, 3)):
        what = chaos.rng.choice([cancel, delete, delete_by_force, delete_batch_by_force, create_sell, resume])
        what(chaos)
        chaos.world.advance(chaos.rng.choice([0.1, 2.0]))
    chaos.world.start_operator()


@happening
def a_second_operator(chaos: Chaos) -> None:
    """It hears nothing, and decides about assets by what there was when it came."""
    world = chaos.world
    if len(world.operators) > 1:
        world.crash_operator(world.operators[-1])
        return
    second = world.start_operator("two", "asset")
    second.deaf = True
    chaos.work(100)


@happening
def requests_get_lost(chaos: Chaos) -> None:
    """Some of the next, or their answers; some are refused as conflicts."""
    share, rng = chaos.rng.choice([0.05, 0.2]), random.Random(chaos.rng.random())

    def fault(label: str) -> BaseException | None:
        if rng.random() >= share:
            return None
        if label == "put jobbatches" or label.startswith(("put phasedjobs", "put assets")):
            return rng.choice([conflict(label), ApiUnavailableError(0, "Unavailable", f"lost at {label}")])
        if label.removeprefix("done ").startswith(OF_THE_API):
            return ApiUnavailableError(0, "Unavailable", f"lost at {label}")
        return RuntimeUnavailableError(f"lost at {label}")

    chaos.world.fault = fault
    chaos.work(150)
    chaos.world.fault = no_fault


# --- and the operator works


@happening
def work(chaos: Chaos) -> None:
    chaos.work(400)


@happening
def work_in_order(chaos: Chaos) -> None:
    """For a while whole passes, with nothing in between."""
    chaos.world.hasty = False
    chaos.work(60)
    chaos.world.hasty = True


@happening
def time(chaos: Chaos) -> None:
    chaos.world.advance(chaos.rng.choice([0.2, 1.0, 3.0, 10.0, 40.0]))
