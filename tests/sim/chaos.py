"""Everything that may happen to a world, one happening at a time, chosen by a number."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.sim.api import NAMESPACE
from tests.sim.operators import Instance
from tests.sim.steps import Faults
from tests.sim.world import World

from mainstay.core.unit import GONE, UnitState
from mainstay.shell.kube import LEASES, RUNS
from mainstay.shell.operator import WorkKey

NAMES = ("a", "b", "c")
PORTS = (8000, 8001, 8002)
STATES = ("Running", "Running", "Paused", "Stopped")
POLICIES = ("Always", "Always", "OnFailure", "Never")
T = TypeVar("T")
Happening = Callable[["Chaos"], None]
HAPPENINGS: dict[str, Happening] = {}


def happening(what: Happening) -> Happening:
    HAPPENINGS[what.__name__] = what
    return what


class Chaos:
    """A world to which things happen; the quarantine is in seconds."""

    def __init__(self, seed: int, *, hasty: bool = False, quarantine: int = 0) -> None:
        self.world = World(seed, hasty=hasty)
        self.rng = random.Random(seed)
        self.saved = None
        self.world.pool(PORTS[0], PORTS[-1], quarantineSeconds=quarantine)
        self.world.start_operator("one")

    def happen(self, what: str, number: int) -> None:
        """One thing happens, in one of the ways that the number picks."""
        self.rng.seed(number)
        self.world.log.append(f"-- {what} {number}")
        HAPPENINGS[what](self)
        self.world.oracle.check()

    def calm_down(self) -> None:
        """The disturbance ends; the fixed point must be reached."""
        world = self.world
        world.say("calm")
        for instance in list(world.operators):
            for key in list(instance.passes):
                self.finish(instance, key)
        world.hasty = False
        for instance in world.operators[1:]:
            world.crash_operator(instance)
        for port in PORTS:
            world.runtime.occupy(port, None)
        for name in NAMES:
            world.runtime.set_ready(f"{NAMESPACE}.{name}")
            if world.unit(name).held_locally:
                world.runtime.release(f"{NAMESPACE}.{name}")
        world.converge()

    # --- helpers

    def pick(self, things: Sequence[T]) -> T | None:
        return self.rng.choice(things) if things else None

    def run(self) -> str | None:
        return self.pick([n for n in NAMES if self.world.api.get(RUNS, NAMESPACE, n)])

    def due(self) -> tuple[Instance, WorkKey] | None:
        """A pass that could begin now."""
        instance = self.rng.choice(self.world.operators)
        key = instance.pick(self.rng)
        return None if key is None else (instance, key)

    def finish(self, instance: Instance, key: WorkKey) -> None:
        error = None
        while key in instance.passes:
            error = self.world.one_step(instance, key, error=error)

    def afresh(self) -> None:
        """Operators that lost history are started again, as who runs them does."""
        for instance in list(self.world.operators):
            if instance.lost:
                self.world.restart_operator(instance)


# --- the operator at work


@happening
def work(chaos: Chaos) -> None:
    """A few passes, with everything that happened told before each."""
    for _ in range(chaos.rng.randint(1, 12)):
        for instance in chaos.world.operators:
            instance.deliver()
        if due := chaos.due():
            chaos.world.turn(*due)
        chaos.afresh()


@happening
def work_on_old_news(chaos: Chaos) -> None:
    """Passes without being told anything, or only of one kind."""
    for _ in range(chaos.rng.randint(1, 6)):
        instance = chaos.rng.choice(chaos.world.operators)
        if chaos.rng.random() < 0.5:
            instance.deliver(chaos.rng.choice([RUNS, LEASES]))
        for obj in chaos.world.api.all(RUNS):
            instance.queue.add(("run", NAMESPACE, obj["metadata"]["name"]))
        if due := chaos.due():
            chaos.world.turn(*due)
        chaos.afresh()


@happening
def work_at_once(chaos: Chaos) -> None:
    """Passes of several keys, and operators, a step of this and a step of that."""
    if not chaos.world.hasty:
        return
    errors: dict[tuple[int, WorkKey], BaseException | None] = {}
    for _ in range(chaos.rng.randint(5, 60)):
        instance = chaos.rng.choice(chaos.world.operators)
        if chaos.rng.random() < 0.3:
            instance.deliver()
        if chaos.rng.random() < 0.4 and (key := instance.pick(chaos.rng)):
            instance.begin(key)
        if instance.passes:
            key = chaos.rng.choice(list(instance.passes))
            errors[id(instance), key] = chaos.world.one_step(
                instance, key, error=errors.get((id(instance), key))
            )
            chaos.world.oracle.check()
    for instance in chaos.world.operators:
        for key in list(instance.passes):
            chaos.finish(instance, key)
    chaos.afresh()


@happening
def crash_between_steps(chaos: Chaos) -> None:
    """The operator dies in the middle of a pass: before or after an effect. A new one comes, now or later."""
    for instance in chaos.world.operators:
        instance.deliver()
    if (due := chaos.due()) is None:
        return
    instance, key = due
    instance.begin(key)
    for _ in range(chaos.rng.randint(1, 8)):
        if key in instance.passes:
            chaos.world.one_step(instance, key)
    chaos.world.restart_operator(instance)


@happening
def call_fails(chaos: Chaos) -> None:
    """A request never arrives, or its answer is lost."""
    for instance in chaos.world.operators:
        instance.deliver()
    if due := chaos.due():
        chaos.world.turn(*due, fault=Faults(chaos.rng.randint(0, 7)))
    chaos.afresh()


@happening
def resync(chaos: Chaos) -> None:
    for instance in chaos.world.operators:
        instance.resync()
    chaos.afresh()


@happening
def second_operator(chaos: Chaos) -> None:
    if len(chaos.world.operators) == 1:
        chaos.world.start_operator("two")
    else:
        chaos.world.crash_operator(chaos.rng.choice(chaos.world.operators))


@happening
def time(chaos: Chaos) -> None:
    chaos.world.advance(chaos.rng.choice([0.01, 1, 5, 30, 100]))


# --- people


@happening
def create(chaos: Chaos) -> None:
    name = chaos.rng.choice(NAMES)
    if chaos.world.api.get(RUNS, NAMESPACE, name) is None:
        chaos.world.run(
            name,
            state=chaos.rng.choice(STATES),
            restartPolicy={
                "policy": chaos.rng.choice(POLICIES),
                "initialBackoffSeconds": chaos.rng.choice([0, 1]),
                "maxBackoffSeconds": 8,
            },
            controlApi=chaos.rng.choice([{}, {}, {}, None, {"port": 8001}]),
            restartNonce=chaos.rng.choice([0, 3]),
        )


@happening
def edit_state(chaos: Chaos) -> None:
    if name := chaos.run():
        chaos.world.edit(name, state=chaos.rng.choice(STATES))


@happening
def edit_nonce(chaos: Chaos) -> None:
    if name := chaos.run():
        chaos.world.edit(name, restartNonce=chaos.rng.randint(0, 5))


@happening
def edit_program(chaos: Chaos) -> None:
    if name := chaos.run():
        chaos.world.edit(name, program={"command": ["bot", str(chaos.rng.randint(1, 3))]})


@happening
def edit_port(chaos: Chaos) -> None:
    if name := chaos.run():
        chaos.world.edit(name, controlApi=chaos.rng.choice([None, {}, {"port": 8000}, {"port": 8002}]))


@happening
def delete(chaos: Chaos) -> None:
    if name := chaos.run():
        chaos.world.remove(name)


@happening
def recreate(chaos: Chaos) -> None:
    """Deleted without a teardown, and created again under the same name."""
    if name := chaos.run():
        world = chaos.world
        obj = world.get(name)
        world.api.set_finalizers((RUNS, NAMESPACE, name), obj, [])
        if world.api.get(RUNS, NAMESPACE, name):
            world.remove(name)
        world.run(name, **obj["spec"])


@happening
def drop_lease(chaos: Chaos) -> None:
    if lease := chaos.pick(list(chaos.world.api.all(LEASES))):
        chaos.world.drop_lease(lease["spec"]["port"])


@happening
def brake(chaos: Chaos) -> None:
    name = chaos.rng.choice(NAMES)
    if chaos.world.unit(name).state is not UnitState.ABSENT:
        if chaos.world.unit(name).held_locally:
            chaos.world.runtime.release(f"{NAMESPACE}.{name}")
        else:
            chaos.world.runtime.brake(f"{NAMESPACE}.{name}")


# --- programs and machines


@happening
def program_ends(chaos: Chaos) -> None:
    executing = (UnitState.RUNNING, UnitState.PAUSED)
    if unit := chaos.pick([u for u in chaos.world.runtime.peek_all() if u.state in executing]):
        code = chaos.rng.choice([0, 1, None])
        chaos.world.runtime.crash(unit.name, code=code, signal=None if code is not None else 9)


@happening
def readiness(chaos: Chaos) -> None:
    chaos.world.runtime.set_ready(f"{NAMESPACE}.{chaos.rng.choice(NAMES)}", chaos.rng.random() < 0.5)


@happening
def term_ignored(chaos: Chaos) -> None:
    chaos.world.runtime.ignore_term(f"{NAMESPACE}.{chaos.rng.choice(NAMES)}", chaos.rng.random() < 0.5)


@happening
def stranger(chaos: Chaos) -> None:
    port = chaos.rng.choice(PORTS)
    carried = {u.port for u in chaos.world.runtime.peek_all() if u.state not in GONE}
    if port not in carried:
        chaos.world.runtime.occupy(port, chaos.rng.choice(["pid 7 (nc)", None]))


@happening
def supervisor_lost(chaos: Chaos) -> None:
    chaos.world.runtime.supervisor_lost()


@happening
def reboot(chaos: Chaos) -> None:
    chaos.world.runtime.lose_everything()


# --- history


@happening
def back_up(chaos: Chaos) -> None:
    chaos.saved = chaos.world.backup()


@happening
def restore(chaos: Chaos) -> None:
    if chaos.saved is not None:
        chaos.world.restore(chaos.saved)
        for instance in list(chaos.world.operators):
            chaos.world.restart_operator(instance)


@happening
def roll_back(chaos: Chaos) -> None:
    name = chaos.run()
    past = [o for o in chaos.world.api.past if o["metadata"]["name"] == name and o.get("status")]
    if old := chaos.pick(past):
        chaos.world.api.roll_back(old)
        chaos.world.rewound()
