"""Stories, each told to a world of its own. Their logs are the golden files."""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.world import World

Story = Callable[[World], None]
STORIES: dict[str, Story] = {}
KNOWN: dict[str, str] = {}
"""Stories that do not end well yet, and why."""


def story(tell: Story) -> Story:
    STORIES[tell.__name__] = tell
    return tell


def play(name: str, seed: int = 1) -> World:
    """Tell a story to a new world; every pass of it is judged by the oracle."""
    world = World(seed)
    STORIES[name](world)
    return world


def up(world: World, *names: str, ports: tuple[int, int] = (8000, 8002), **spec: object) -> None:
    """A pool, an operator, and these runs, settled."""
    world.pool(*ports)
    world.start_operator()
    for name in names:
        world.run(name, **spec)
        until_known(world, name)
        world.advance(1)
    world.converge()


def until_known(world: World, name: str) -> None:
    """Passes until its first status tells what is claimed for it."""
    for _ in range(20):
        if "phase" in world.status(name):
            return
        world._any_pass(resync=False)
    raise AssertionError(f"{name} is never looked at")


def until(world: World, name: str, phase: str, unit: str = "") -> None:
    """Passes until the run is there."""
    for _ in range(60):
        if world.get(name).get("status", {}).get("phase") == phase and unit in ("", world.unit(name).state):
            return
        if not world._any_pass(resync=False):
            world.advance(0.5)
    raise AssertionError(f"{name} never becomes {phase}\n{world.story()}")


@story
def create(world: World) -> None:
    up(world, "a")
    world.say("user: create b without a port")
    world.run("b", controlApi=None)
    world.converge()


@story
def stop(world: World) -> None:
    up(world, "a")
    world.say("user: state Stopped")
    world.edit("a", state="Stopped")
    world.converge()


@story
def stop_by_force(world: World) -> None:
    up(world, "a")
    world.say("user: state Stopped; the program ignores TERM")
    world.runtime.ignore_term("default.a")
    world.edit("a", state="Stopped")
    world.converge()


@story
def resume_gets_the_old_port(world: World) -> None:
    up(world, "a", "b")
    world.say("user: a and b Stopped")
    world.edit("a", state="Stopped")
    world.edit("b", state="Stopped")
    world.converge()
    world.say("user: b Running, then a")
    world.edit("b", state="Running")
    world.converge()
    world.edit("a", state="Running")
    world.converge()


@story
def resume_when_the_old_port_is_leased(world: World) -> None:
    up(world, "a")
    world.edit("a", state="Stopped")
    world.converge()
    world.say("somebody leases 8000; user: a Running")
    world.take_lease(8000)
    world.edit("a", state="Running")
    world.converge()


@story
def resume_when_a_stranger_listens(world: World) -> None:
    up(world, "a")
    world.edit("a", state="Stopped")
    world.converge()
    world.say("a stranger listens on 8000; user: a Running")
    world.runtime.occupy(8000, "pid 7 (nc)")
    world.edit("a", state="Running")
    world.converge()


@story
def a_stranger_comes_before_the_start(world: World) -> None:
    world.pool(8000, 8002)
    world.start_operator()
    world.run("a")
    until(world, "a", "Starting")
    world.say("a stranger listens on 8000")
    world.runtime.occupy(8000, "pid 7 (nc)")
    world.converge()


@story
def pool_full_then_freed(world: World) -> None:
    up(world, "a", "b", "c", ports=(8000, 8000))
    world.say("user: delete a; c looks first when the port is free")
    world.remove("a")
    operator = world.operators[0]
    for _ in range(20):
        operator.deliver()
        for name in "ac":
            operator.queue.add(("run", "default", name))
            world.turn(operator, ("run", "default", name))
    world.converge()
    world.say("user: delete b")
    world.remove("b")
    world.converge()


@story
def fixed_port_taken_then_freed(world: World) -> None:
    up(world, "a", controlApi={"port": 8001})
    world.run("b", controlApi={"port": 8001})
    world.converge()
    world.say("user: stop a")
    world.edit("a", state="Stopped")
    world.converge()


@story
def pool_missing_then_created(world: World) -> None:
    world.start_operator()
    world.run("a")
    world.converge()
    world.say("user: create the pool")
    world.pool(8000, 8002)
    world.converge()


@story
def pause_and_resume_by_signal(world: World) -> None:
    up(world, "a")
    world.say("user: Paused")
    world.edit("a", state="Paused")
    world.converge()
    world.say("user: Running")
    world.edit("a", state="Running")
    world.converge()


@story
def pause_by_http(world: World) -> None:
    up(world, "a", pause={"method": "HTTP", "http": {"path": "/halt"}})
    world.say("user: Paused")
    world.edit("a", state="Paused")
    world.converge()
    world.edit("a", state="Running")
    world.converge()
    world.log.append(f"-- the program was called: {world.runtime.calls('default.a')}")


@story
def paused_and_killed(world: World) -> None:
    up(world, "a")
    world.edit("a", state="Paused")
    world.converge()
    world.say("the paused program is killed")
    world.runtime.crash("default.a", signal=9)
    world.converge()
    world.say("the machine is rebooted")
    world.runtime.lose_everything()
    world.converge()
    world.say("user: Running")
    world.edit("a", state="Running")
    world.converge()


@story
def created_paused(world: World) -> None:
    up(world, "a", state="Paused")
    world.say("user: Running")
    world.edit("a", state="Running")
    world.converge()


@story
def restart_nonce(world: World) -> None:
    up(world, "a", restartNonce=3)
    world.say("user: restartNonce 4")
    world.edit("a", restartNonce=4)
    world.converge()


@story
def inputs_changed(world: World) -> None:
    up(world, "a")
    world.say("user: another program")
    world.edit("a", program={"command": ["bot", "--better"]})
    world.converge()


@story
def inputs_changed_while_starting(world: World) -> None:
    world.pool(8000, 8002)
    world.start_operator()
    world.run("a")
    until(world, "a", "Starting")
    world.say("user: another program, before the first was started")
    world.edit("a", program={"command": ["bot", "--better"]})
    world.converge()


@story
def crash_loop(world: World) -> None:
    up(world, "a", restartPolicy={"initialBackoffSeconds": 20})
    world.say("it crashes")
    world.runtime.crash("default.a", code=3, signal=None, stderr="Traceback\nValueError: no")
    world.converge()


@story
def on_failure_exit_0(world: World) -> None:
    up(world, "a", restartPolicy={"policy": "OnFailure"})
    world.say("it exits with 0")
    world.runtime.exit_with("default.a", 0)
    world.converge()
    world.say("user: restartNonce 1")
    world.edit("a", restartNonce=1)
    world.converge()


@story
def never_exit_1(world: World) -> None:
    up(world, "a", restartPolicy={"policy": "Never"})
    world.say("it exits with 1")
    world.runtime.exit_with("default.a", 1)
    world.converge()
    world.say("user: restartNonce 1")
    world.edit("a", restartNonce=1)
    world.converge()


@story
def delete_while_starting(world: World) -> None:
    world.pool(8000, 8002)
    world.start_operator()
    world.runtime.set_ready("default.a", ready=False)
    world.run("a")
    until(world, "a", "Starting", "Running")
    world.say("user: delete")
    world.remove("a")
    world.converge()


@story
def delete_while_running(world: World) -> None:
    up(world, "a")
    world.say("user: delete")
    world.remove("a")
    world.converge()


@story
def recreated_while_the_operator_was_down(world: World) -> None:
    up(world, "a")
    world.say("the operator is down; a is deleted by force and created again")
    world.crash_operator()
    world.api.set_finalizers(("strategyruns", "default", "a"), world.get("a"), [])
    world.remove("a")
    world.run("a")
    world.advance(5)
    world.start_operator()
    world.converge()


@story
def lost_unit(world: World) -> None:
    up(world, "a")
    world.say("program, record and files are gone")
    world.runtime.lose_everything()
    world.runtime._records.clear()
    world.runtime._tell("default.a")
    world.converge()


@story
def reboot(world: World) -> None:
    up(world, "a", "b")
    world.say("reboot: operator and processes are gone")
    world.crash_operator()
    world.runtime.lose_everything()
    world.advance(5)
    world.start_operator()
    world.converge()


@story
def supervisor_lost(world: World) -> None:
    up(world, "a")
    world.say("a new supervisor knows nothing of the program, which lives on")
    world.runtime.supervisor_lost()
    world.converge()


@story
def held_locally_and_released(world: World) -> None:
    up(world, "a")
    world.say("mainstay stop --offline")
    world.runtime.brake("default.a")
    world.converge()
    world.say("mainstay release")
    world.runtime.release("default.a")
    world.converge()


@story
def etcd_restored(world: World) -> None:
    up(world, "a")
    world.say("user: Stopped and Running again, on another port")
    saved = world.backup()
    world.edit("a", state="Stopped")
    world.converge()
    world.runtime.occupy(8000, "pid 7 (nc)")
    world.edit("a", state="Running")
    world.converge()
    world.runtime.occupy(8000, None)
    world.say("etcd is restored from before that")
    world.restore(saved)
    world.converge()


@story
def etcd_restored_without_operator(world: World) -> None:
    up(world, "a")
    saved = world.backup()
    world.edit("a", restartNonce=1)
    world.converge()
    world.say("etcd is restored while the operator is down")
    world.crash_operator()
    world.restore(saved)
    world.advance(5)
    world.start_operator()
    world.converge()


@story
def lease_deleted_by_hand(world: World) -> None:
    up(world, "a")
    world.say("user: kubectl delete pl port-8000; create b")
    world.drop_lease(8000)
    world.run("b")
    world.converge()


@story
def quarantine(world: World) -> None:
    world.pool(8000, 8001, quarantineSeconds=30)
    world.start_operator()
    world.run("a")
    world.converge()
    world.say("user: Stopped")
    world.edit("a", state="Stopped")
    world.converge()
    world.say("user: Running, then Stopped and Running again within the quarantine")
    world.edit("a", state="Running")
    world.converge()
    world.edit("a", state="Stopped")
    until(world, "a", "Stopped")
    world.advance(10)
    world.edit("a", state="Running")
    world.converge()


@story
def two_pools_overlap(world: World) -> None:
    world.pool(8000, 8001)
    world.pool(8001, 8002, name="other")
    world.start_operator()
    for name, pool in (("a", "default"), ("b", "other"), ("c", "default"), ("d", "other")):
        world.run(name, controlApi={"pool": pool})
        world.advance(1)
        world.converge()


@story
def program_not_ready(world: World) -> None:
    world.runtime.set_ready("default.a", ready=False, message="connection refused")
    up(world, "a")
    world.say("it answers")
    world.runtime.set_ready("default.a")
    world.converge()


@story
def deleted_by_force(world: World) -> None:
    up(world, "a")
    world.say("user: takes the finalizer away and deletes: nobody asked for the end of the process")
    world.api.set_finalizers(("strategyruns", "default", "a"), world.get("a"), [])
    world.remove("a")
    world.forgotten.add("default.a")
    world.converge()


@story
def two_operators(world: World) -> None:
    world.pool(8000, 8002)
    world.start_operator("one")
    world.start_operator("two")
    world.run("a")
    alternate(world, 12)
    world.converge()
    world.say("user: Stopped; each acts on what it knew before the other wrote")
    world.edit("a", state="Stopped")
    alternate(world, 12)
    world.converge()


def alternate(world: World, turns: int) -> None:
    """Operators take turns; each hears what happened only after the other's next pass."""
    for turn in range(turns):
        instance = world.operators[turn % 2]
        late = list(instance.inbox)
        instance.inbox.clear()
        if key := instance.pick(world.rng):
            world.turn(instance, key)
        instance.inbox[:0] = late
        instance.deliver()
