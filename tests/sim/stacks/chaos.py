"""Everything that may happen to a stack, one happening at a time, chosen by a number."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.sim.api import NAMESPACE
from tests.sim.operators import Instance
from tests.sim.stacks.world import StackWorld, service
from tests.sim.steps import Faults

from mainstay.core.unit import UnitState
from mainstay.shell.kube import LEASES, RESTARTS, RUNS, STACKS
from mainstay.shell.operator import WorkKey
from mainstay.shell.store import Object

NAMES = ("a", "b", "c", "d")
PORTS = (8001, 8002, 8003, 8004)
MODES = ("Full", "Quick", "Emergency", "Flush")
Happening = Callable[["Chaos"], None]
HAPPENINGS: dict[str, Happening] = {}


def happening(what: Happening) -> Happening:
    HAPPENINGS[what.__name__] = what
    return what


class Chaos:
    """A world with the stacks web and other, a pool over one of their ports, and one or two operators."""

    def __init__(self, seed: int, *, hasty: bool = False) -> None:
        self.world = StackWorld(seed, hasty=hasty)
        self.rng = random.Random(seed)
        self.restarts = 0
        self.saved: object = None
        self.world.pool(8004, 8005)
        self.world.stack("web", service("a", 8001), service("b", 8002, "a"))
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
        for _, scope in world.host.scopes():
            scope.available, scope.stuck = True, False
            scope.refuse_supervisor(None)
            scope.doomed.clear()
            scope._listens.clear()
            for one in scope.strangers():
                scope.occupy(one.port, None)
            for unit in scope.peek_all():
                scope.set_ready(unit.name)
                if unit.held_locally:
                    scope.release(unit.name)
        world.go_on(120)
        for instance in world.operators:  # a stack that rests looks at no port until something happens to it
            for key in world._everything():
                instance.queue.add(key)
        world.converge()

    # --- helpers

    def name(self) -> str | None:
        found = [name for name in ("web", "other") if self.world.api.get(STACKS, NAMESPACE, name)]
        return self.rng.choice(found) if found else None

    def services(self) -> list[Object]:
        """Some services, each with or without a port, and with needs that make no circle."""
        names = self.rng.sample(NAMES, self.rng.randint(1, 4))
        ports: list[int | None] = [*self.rng.sample(PORTS, 4)]
        found = []
        for at, name in enumerate(names):
            needs = self.rng.sample(names[:at], self.rng.randint(0, min(at, 2)))
            policy = self.rng.choice(
                [{}, {}, {}, {"restartPolicy": {"policy": self.rng.choice(["Never", "OnFailure"])}}]
            )
            program = {"command": [name, str(self.rng.randint(1, 2))], "terminationGracePeriodSeconds": 5}
            port = self.rng.choice([ports[at], ports[at], None])
            found.append(service(name, port, *needs, program=program, **policy))
        return found

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
        for instance in list(self.world.operators):
            if instance.lost:
                self.world.restart_operator(instance)


# --- the operator at work


@happening
def work(chaos: Chaos) -> None:
    for _ in range(chaos.rng.randint(1, 25)):
        for instance in chaos.world.operators:
            instance.deliver()
        if due := chaos.due():
            chaos.world.turn(*due)
        chaos.afresh()


@happening
def work_for_a_while(chaos: Chaos) -> None:
    chaos.world.go_on(chaos.rng.choice([0.5, 3, 12]))


@happening
def work_on_old_news(chaos: Chaos) -> None:
    """Passes without being told anything, or only of one kind."""
    for _ in range(chaos.rng.randint(1, 6)):
        instance = chaos.rng.choice(chaos.world.operators)
        if chaos.rng.random() < 0.5:
            instance.deliver(chaos.rng.choice([STACKS, RESTARTS, LEASES]))
        for what, plural in (("stack", STACKS), ("restart", RESTARTS)):
            for obj in chaos.world.api.all(plural):
                instance.queue.add((what, NAMESPACE, obj["metadata"]["name"]))
        if due := chaos.due():
            chaos.world.turn(*due)
        chaos.afresh()


@happening
def work_at_once(chaos: Chaos) -> None:
    """A step of this pass and a step of that; what one gathered may be old when it acts."""
    world, was = chaos.world, chaos.world.hasty
    world.hasty = True
    errors: dict[tuple[int, WorkKey], BaseException | None] = {}
    for _ in range(chaos.rng.randint(5, 80)):
        instance = chaos.rng.choice(world.operators)
        if chaos.rng.random() < 0.3:
            instance.deliver()
        if chaos.rng.random() < 0.4 and (key := instance.pick(chaos.rng)):
            instance.begin(key)
        if instance.passes:
            key = chaos.rng.choice(list(instance.passes))
            errors[id(instance), key] = world.one_step(instance, key, error=errors.get((id(instance), key)))
            world.oracle.check()
    for instance in world.operators:
        for key in list(instance.passes):
            chaos.finish(instance, key)
    world.hasty = was
    chaos.afresh()


@happening
def die(chaos: Chaos) -> None:
    """Right before or after one of the next effects."""
    world = chaos.world
    world.crash_at = frozenset([len(world.points) + chaos.rng.randint(1, 12)])
    chaos.happen("work", chaos.rng.randrange(10**6))
    world.crash_at = frozenset()


@happening
def call_fails(chaos: Chaos) -> None:
    """A request never arrives, or its answer is lost."""
    for instance in chaos.world.operators:
        instance.deliver()
    if due := chaos.due():
        chaos.world.turn(*due, fault=Faults(chaos.rng.randint(0, 14)))
    chaos.afresh()


@happening
def second_operator(chaos: Chaos) -> None:
    if len(chaos.world.operators) == 1:
        chaos.world.start_operator("two")
    else:
        chaos.world.crash_operator(chaos.rng.choice(chaos.world.operators))


@happening
def time(chaos: Chaos) -> None:
    chaos.world.advance(chaos.rng.choice([0.01, 1, 5, 30]))


# --- people


@happening
def create(chaos: Chaos) -> None:
    name = chaos.rng.choice(["web", "other"])
    if chaos.world.api.get(STACKS, NAMESPACE, name) is None:
        chaos.world.stack(name, *chaos.services(), timeouts={"startSeconds": 8, "flushSeconds": 2})


@happening
def edit_services(chaos: Chaos) -> None:
    if name := chaos.name():
        chaos.world.edit_stack(name, *chaos.services())


@happening
def edit_state(chaos: Chaos) -> None:
    if name := chaos.name():
        chaos.world.edit_stack(name, state=chaos.rng.choice(["Running", "Running", "Stopped"]))


@happening
def delete(chaos: Chaos) -> None:
    if name := chaos.name():
        chaos.world.remove_stack(name)


@happening
def restart(chaos: Chaos) -> None:
    if name := chaos.name():
        chaos.restarts += 1
        chaos.world.restart(f"r{chaos.restarts}", chaos.rng.choice(MODES), name)


@happening
def take_back_a_restart(chaos: Chaos) -> None:
    if found := list(chaos.world.api.all(RESTARTS)):
        chaos.world.remove_restart(chaos.rng.choice(found)["metadata"]["name"])


@happening
def run(chaos: Chaos) -> None:
    """A run that may be leased a port which a stack declares."""
    if chaos.world.api.get(RUNS, NAMESPACE, "run") is None:
        chaos.world.run("run")
    else:
        chaos.world.edit("run", state=chaos.rng.choice(["Running", "Stopped"]))


@happening
def drop_lease(chaos: Chaos) -> None:
    found = [x for x in chaos.world.api.all(LEASES) if x["spec"]["holder"]["kind"] == "ServiceStack"]
    if found:
        chaos.world.drop_lease(chaos.rng.choice(found)["spec"]["port"])


@happening
def brake(chaos: Chaos) -> None:
    scope = chaos.world.scope()
    if units := scope.peek_all():
        unit = chaos.rng.choice(units)
        (scope.release if unit.held_locally else scope.brake)(unit.name)


# --- programs and the host


@happening
def program_ends(chaos: Chaos) -> None:
    for _, scope in chaos.world.host.scopes():
        executing = [u for u in scope.peek_all() if u.state is UnitState.RUNNING]
        if executing:
            scope.exit_with(chaos.rng.choice(executing).name, chaos.rng.choice([0, 1]))


@happening
def program_loops(chaos: Chaos) -> None:
    chaos.world.scope().doomed = {chaos.rng.choice(NAMES): 1} if chaos.rng.random() < 0.5 else {}


@happening
def readiness(chaos: Chaos) -> None:
    chaos.world.scope().set_ready(chaos.rng.choice(NAMES), chaos.rng.random() < 0.5)


@happening
def term_ignored(chaos: Chaos) -> None:
    chaos.world.scope().ignore_term(chaos.rng.choice(NAMES), chaos.rng.random() < 0.5)


@happening
def listens_elsewhere(chaos: Chaos) -> None:
    scope = chaos.world.scope()
    scope._listens.clear()
    if chaos.rng.random() < 0.5:
        scope.listens_on(chaos.rng.choice(NAMES), None)


@happening
def stranger(chaos: Chaos) -> None:
    """On an assigned port or a reserved one; but never where a service listens."""
    scope, port = chaos.world.scope(), chaos.rng.choice([*PORTS, 9000])
    carried = {u.port for _, s in chaos.world.host.scopes() for u in s.peek_all() if u.leader}
    if chaos.rng.random() < 0.4:
        scope.occupy(port, None)
    elif port not in carried:
        how = chaos.rng.choice(["TERM", "TERM", "KILL", None])
        protected = chaos.rng.choice(["", "", "", "it is part of Mainstay"])
        scope.occupy(port, f"pid {port} (nc)", ends_on=how, protected=protected)


@happening
def stranger_and_flush(chaos: Chaos) -> None:
    """One that hardly goes, or never, on an assigned port, shared with a service or not; and somebody wants it gone."""
    stack = chaos.world.api.get(STACKS, NAMESPACE, "web")
    ports = [one["port"] for one in stack["spec"]["services"] if "port" in one] if stack else []
    if ports and not chaos.world.scope().strangers():
        port, how = chaos.rng.choice(ports), chaos.rng.choice(["KILL", "KILL", "TERM", None])
        chaos.world.scope().occupy(port, f"pid {port} (nc)", ends_on=how)
        chaos.restarts += 1
        chaos.world.restart(f"r{chaos.restarts}", chaos.rng.choice(["Flush", "Full", "Emergency"]))


@happening
def supervisor(chaos: Chaos) -> None:
    scope = chaos.world.scope()
    match chaos.rng.randint(0, 4):
        case 0:
            scope.kill_supervisor()
        case 1:
            scope.hang_supervisor()
        case 2:
            scope.stuck = True
            scope.kill_supervisor()
        case 3:
            scope.refuse_supervisor("no space left")
        case _:
            scope.stuck = False
            scope.refuse_supervisor(None)


@happening
def reboot(chaos: Chaos) -> None:
    for _, scope in chaos.world.host.scopes():
        scope.lose_everything()


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
