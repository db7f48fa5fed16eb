"""Stories of stacks, each told to a world of its own. Their logs are the golden files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.sim.api import NAMESPACE
from tests.sim.stacks.world import StackWorld, service

from mainstay.shell.kube import LEASES, RESTARTS, STACKS

Story = Callable[[StackWorld], None]
STORIES: dict[str, Story] = {}
DB, API, JOB = 8001, 8002, 8003
WEB = (service("db", DB), service("api", API, "db"), service("job", None, "db"))
OTHER = (service("one", 8101), service("two", 8102, "one"))


def story(tell: Story) -> Story:
    STORIES[tell.__name__] = tell
    return tell


def play(name: str, seed: int = 1, *, crash_at: frozenset[int] = frozenset()) -> StackWorld:
    """Tell a story to a new world; every pass of it is judged by the oracle."""
    world = StackWorld(seed, crash_at=crash_at)
    STORIES[name](world)
    return world


def up(world: StackWorld, *services: Any, other: bool = False, **spec: Any) -> None:
    """An operator and the stack web, settled; and one beside it that nobody means."""
    world.stack("web", *(services or WEB), **spec)
    if other:
        world.stack("other", *OTHER)
    world.start_operator()
    world.converge()


def says(world: StackWorld, stack: str = "web", **services: str) -> None:
    """How each service is told to be, as in `Running#2` or `Pending#0 PortForeign`."""
    for name, words in services.items():
        told = world.service_status(name, stack)
        reason = "" if told["reason"] in ("Running", told["state"], "Stopped") else f" {told['reason']}"
        said = f"{told['state']}#{told['attempt']}{reason}"
        assert said == words, f"{name}: {said}, not {words}"


def came_to(world: StackWorld, restart: str, words: str) -> None:
    """How a restart ended, as in `Completed` or `Failed at Verify: ... not up ...`."""
    told = world.restart_status(restart)
    step = f" at {told['step']}" if told.get("step") else ""
    ready = next(one for one in told["conditions"] if one["type"] == "Ready")
    said = f"{told['phase']}{step}: {ready['reason']}: {ready['message']}"
    phase, _, part = words.partition(": ")
    assert said.startswith(phase), f"{restart}: {said}, not {words}"
    assert part in said, f"{restart}: {said}, not {words}"


def who_listens(world: StackWorld, stack: str = "web") -> list[str]:
    return [one.words for one in world.scope(stack).strangers()]


def flushed(world: StackWorld) -> list[str]:
    """What strangers were sent, in order."""
    return [f"{verb[6:]} {what}" for verb, what in world.scope().acts if verb.startswith("flush")]


# --- stacks


@story
def applied(world: StackWorld) -> None:
    up(world, other=True)
    says(world, db="Running#1", api="Running#1", job="Running#1")
    assert world.stack_status()["phase"] == "Running"


@story
def one_program_is_changed(world: StackWorld) -> None:
    up(world)
    world.say("db has another command")
    world.change("web", "db", program={"command": ["db", "-v"]})
    world.converge()
    says(world, db="Running#2", api="Running#1", job="Running#1")


@story
def what_restarts_nothing_is_changed(world: StackWorld) -> None:
    up(world)
    world.say("kind, order, readiness, grace, times, logs and reserved ports are changed")
    world.change(
        "web",
        "job",
        dependsOn=["db", "api"],
        program={"command": ["job"], "terminationGracePeriodSeconds": 5},
    )
    world.change("web", "api", kind="Background", program={"command": ["api"], "readiness": {"tcp": {}}})
    world.edit_stack("web", timeouts={"flushSeconds": 9}, logs={"backups": 9}, reservedPorts=[5000])
    world.converge()
    says(world, db="Running#1", api="Running#1", job="Running#1")


@story
def a_port_is_changed(world: StackWorld) -> None:
    up(world)
    world.say("api moves to 8009, where a stranger listens")
    world.scope().occupy(8009, "pid 7 (nc)")
    world.change("web", "api", port=8009)
    world.converge()
    says(world, api="Running#1 PortForeign")
    world.say("the stranger goes")
    world.scope().occupy(8009, None)
    world.converge()
    says(world, db="Running#1", api="Running#2")
    assert {x["spec"]["port"] for x in world.api.all(LEASES)} == {DB, 8009}


@story
def two_services_swap_ports(world: StackWorld) -> None:
    up(world, service("a", DB), service("b", API))
    world.say("a and b swap their ports")
    world.edit_stack("web", service("a", API), service("b", DB))
    world.converge()
    assert world.stack_status()["phase"] == "Running"


@story
def a_service_comes_and_one_goes(world: StackWorld) -> None:
    up(world)
    world.say("job goes, new comes")
    world.edit_stack("web", *WEB[:2], service("new", JOB, "api"))
    world.converge()
    says(world, db="Running#1", api="Running#1", new="Running#1")
    world.say("what others needed goes, with its port")
    world.edit_stack("web", service("api", API), service("new", JOB, "api"))
    world.converge()
    says(world, api="Running#1", new="Running#1")


@story
def a_port_moves_to_another_service(world: StackWorld) -> None:
    up(world)
    world.say("api goes, and new has its port")
    world.scope().ignore_term("api")
    world.edit_stack("web", WEB[0], service("new", API, "db", program={"terminationGracePeriodSeconds": 3}))
    world.converge()
    says(world, db="Running#1", new="Running#1")


@story
def one_with_a_port_goes_and_ignores_term(world: StackWorld) -> None:
    up(world)
    world.scope().ignore_term("api")
    world.edit_stack("web", WEB[0], WEB[2])
    world.converge()
    says(world, db="Running#1", job="Running#1")
    assert [x["spec"]["port"] for x in world.api.all(LEASES)] == [DB]


@story
def stopped_and_started(world: StackWorld) -> None:
    up(world)
    world.say("stopped")
    world.edit_stack("web", state="Stopped")
    world.converge()
    assert len(list(world.api.all(LEASES))) == 2
    world.say("and started")
    world.edit_stack("web", state="Running")
    world.converge()
    says(world, db="Running#2", api="Running#2", job="Running#2")


@story
def deleted(world: StackWorld) -> None:
    up(world, other=True)
    world.say("web is deleted")
    world.remove_stack()
    world.converge()
    assert not world.host.at((NAMESPACE, "web")).peek_all()
    assert {x["spec"]["port"] for x in world.api.all(LEASES)} == {8101, 8102}
    says(world, "other", one="Running#1", two="Running#1")


@story
def deleted_while_a_service_ignores_term(world: StackWorld) -> None:
    up(world)
    world.scope().ignore_term("api")
    world.remove_stack()
    world.converge()
    assert not list(world.api.all(STACKS))
    assert not list(world.api.all(LEASES))


@story
def deleted_and_created_while_the_operator_is_down(world: StackWorld) -> None:
    up(world)
    world.crash_operator()
    world.say("the operator is down: the stack goes by force, and comes again")
    world.remove_stack(by_force=True)
    world.stack("web", *WEB[:2])
    world.start_operator()
    world.converge()
    says(world, db="Running#1", api="Running#1")


@story
def gone_by_force(world: StackWorld) -> None:
    """Nobody witnessed the deletion: what runs is left alone, with its ports."""
    up(world)
    world.crash_operator()
    world.remove_stack(by_force=True)
    world.start_operator()
    world.go_on(130)
    assert len(world.scope().living()) == 3
    world.say("its services end")
    for name in world.scope().living():
        world.scope()._records[name].deleting = True
    world.go_on(130)
    world.converge()
    assert not list(world.api.all(LEASES))


@story
def gone_by_force_before_its_eyes(world: StackWorld) -> None:
    up(world)
    world.remove_stack(by_force=True)
    world.go_on(130)
    assert len(world.scope().living()) == 3
    world.say("its services end")
    for name in world.scope().living():
        world.scope()._records[name].deleting = True
    world.go_on(130)
    world.converge()
    assert not list(world.api.all(LEASES))


@story
def a_crash_loop_and_its_end(world: StackWorld) -> None:
    up(world)
    world.say("api dies and dies")
    world.scope().doomed["api"] = 1
    world.go_on(20)
    assert world.stack_status()["phase"] == "Degraded"
    world.say("it is well again")
    world.scope().doomed.clear()
    world.go_on(80)
    world.converge()
    says(world, db="Running#1", api="Running#1", job="Running#1")


@story
def a_dependency_crashes(world: StackWorld) -> None:
    up(world)
    world.scope().crash("db")
    world.go_on(0.5)
    assert world.stack_status()["phase"] == "Degraded"
    world.go_on(10)
    world.converge()
    says(world, db="Running#1", api="Running#1", job="Running#1")


@story
def one_completes_and_one_fails(world: StackWorld) -> None:
    up(
        world,
        service("db", DB),
        service("once", None, restartPolicy={"policy": "Never"}),
        service("try", None, restartPolicy={"policy": "OnFailure"}),
    )
    world.scope().exit_with("try", 0)
    world.scope().exit_with("once", 3)
    world.converge()
    says(world, db="Running#1", once="Fatal#1 ProcessFailed", **{"try": "Completed#1"})
    world.say("once is changed")
    world.change("web", "once", program={"command": ["once", "more"]})
    world.converge()
    says(world, once="Running#2")


@story
def a_stranger_before_the_start(world: StackWorld) -> None:
    world.scope().occupy(DB, "pid 7 (nc)")
    up(world)
    says(
        world,
        db="Pending#0 PortForeign",
        api="Pending#0 DependencyNotReady",
        job="Pending#0 DependencyNotReady",
    )
    world.say("it goes")
    world.scope().occupy(DB, None)
    world.converge()
    says(world, db="Running#1", api="Running#1", job="Running#1")


@story
def a_run_has_the_port(world: StackWorld) -> None:
    world.pool(DB, DB)
    world.run("a")
    world.start_operator()
    world.converge()
    world.say("a stack wants the port of run a")
    world.stack("web", *WEB)
    world.converge()
    says(world, db="Pending#0 PortTaken")
    world.say("the run is stopped")
    world.edit("a", state="Stopped")
    world.converge()
    says(world, db="Running#1", api="Running#1", job="Running#1")


@story
def a_run_wants_the_port(world: StackWorld) -> None:
    up(world)
    world.say("a run wants a port of which one is the stack's, stopped or not")
    world.edit_stack("web", state="Stopped")
    world.pool(DB, DB)
    world.run("a")
    world.converge()
    assert world.status("a")["phase"] == "Pending"
    world.say("the stack goes")
    world.remove_stack()
    world.converge()
    assert world.status("a")["phase"] == "Running"


@story
def two_stacks_want_one_port(world: StackWorld) -> None:
    up(world)
    world.stack("other", service("one", DB), service("two", 8102, "one"))
    world.converge()
    says(world, "other", one="Pending#0 PortTaken")
    world.say("web gives it up")
    world.change("web", "db", port=8009)
    world.converge()
    says(world, "other", one="Running#1", two="Running#1")


@story
def a_lease_is_lost(world: StackWorld) -> None:
    up(world)
    world.say("somebody deletes a lease")
    world.drop_lease(DB)
    world.converge()
    says(world, db="Running#1", api="Running#1")


@story
def held_on_its_host(world: StackWorld) -> None:
    up(world)
    world.scope().brake("api")
    world.converge()
    says(world, api="Stopped#1 HeldLocally")
    world.say("let go")
    world.scope().release("api")
    world.converge()
    says(world, db="Running#1", api="Running#2")


@story
def goes_in_a_circle(world: StackWorld) -> None:
    up(world)
    world.say("db needs api, which needs db")
    world.change("web", "db", dependsOn=["api"])
    world.converge()
    assert len(world.scope().living()) == 3
    world.say("stopped all the same")
    world.edit_stack("web", state="Stopped")
    world.converge()
    assert not world.scope().living()
    world.say("and not started")
    world.edit_stack("web", state="Running")
    world.converge()
    assert not world.scope().living()
    world.change("web", "db", dependsOn=None)
    world.converge()
    assert world.stack_status()["phase"] == "Running"


@story
def a_config_map_comes_and_changes(world: StackWorld) -> None:
    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "x"}}}]
    world.stack("web", service("db", DB), service("api", API, program={"env": env}))
    world.start_operator()
    world.go_on(5)
    says(world, db="Running#1", api="Fatal#0 ConfigMapNotFound")
    world.say("it comes")
    world.config_map("conf", {"x": "1"})
    world.go_on(5)
    says(world, api="Running#1")
    world.say("and changes")
    world.config_map("conf", {"x": "2"})
    world.go_on(5)
    says(world, db="Running#1", api="Running#2")


@story
def the_machine_is_started_again(world: StackWorld) -> None:
    up(world)
    world.crash_operator()
    world.say("the machine reboots")
    world.scope().lose_everything()
    world.start_operator()
    world.converge()
    says(world, db="Running#2", api="Running#2", job="Running#2")


@story
def the_supervisor_dies(world: StackWorld) -> None:
    up(world)
    world.scope().kill_supervisor()
    world.converge()
    says(world, db="Running#1", api="Running#1", job="Running#1")


# --- restarts


@story
def full(world: StackWorld) -> None:
    up(world, other=True)
    world.restart("r")
    world.converge()
    came_to(world, "r", "Completed")
    says(world, db="Running#2", api="Running#2", job="Running#2")
    says(world, "other", one="Running#1", two="Running#1")


@story
def quick(world: StackWorld) -> None:
    up(world, other=True)
    world.restart("r", "Quick")
    world.converge()
    came_to(world, "r", "Completed")
    says(world, db="Running#2", api="Running#2", job="Running#2")
    says(world, "other", one="Running#1", two="Running#1")


@story
def emergency(world: StackWorld) -> None:
    up(world, other=True)
    world.scope().ignore_term("api")
    world.scope().hang_supervisor()
    world.scope().stuck = True
    world.restart("r", "Emergency")
    world.converge()
    came_to(world, "r", "Completed")
    says(world, db="Running#2", api="Running#2", job="Running#2")
    says(world, "other", one="Running#1", two="Running#1")


@story
def flush(world: StackWorld) -> None:
    up(world, service("db", DB), service("aux", JOB, kind="Background"), reservedPorts=[5000, 9000])
    world.scope().listens_on("aux", None)
    world.scope().occupy(JOB, "pid 7 (nc)")
    world.scope().occupy(5000, "pid 8 (airplay)")
    world.converge()
    world.restart("r", "Flush")
    world.converge()
    came_to(world, "r", "Completed: 2 assigned ports without a stranger")
    says(world, db="Running#1", aux="Running#1")
    assert flushed(world) == [f"TERM {JOB}"]
    assert who_listens(world) == ["pid 8 (airplay)"]


@story
def flush_of_a_stopped_stack(world: StackWorld) -> None:
    up(world, state="Stopped")
    world.scope().occupy(DB, "pid 7 (nc)", ends_on="KILL")
    world.restart("r", "Flush")
    world.converge()
    came_to(world, "r", "Completed")
    assert flushed(world)[0] == f"TERM {DB}"
    assert not world.scope().living()


@story
def full_with_a_stranger_that_goes(world: StackWorld) -> None:
    world.scope().occupy(API, "pid 7 (nc)")
    up(world, other=True)
    world.restart("r")
    world.converge()
    came_to(world, "r", "Completed")
    assert flushed(world) == [f"TERM {API}"]
    says(world, db="Running#2", job="Running#2")


@story
def full_with_a_stranger_that_must_be_killed(world: StackWorld) -> None:
    world.scope().occupy(API, "pid 7 (nc)", ends_on="KILL")
    up(world, timeouts={"flushSeconds": 3})
    world.restart("r")
    world.converge()
    came_to(world, "r", "Completed")
    assert flushed(world)[0] == f"TERM {API}"
    assert flushed(world)[-1] == f"KILL {API}"


@story
def full_with_a_protected_stranger(world: StackWorld) -> None:
    world.scope().occupy(API, "pid 7 (mainstay)", protected="it is part of Mainstay")
    world.scope().occupy(DB, "pid 8 (nc)")
    up(world)
    world.restart("r")
    world.converge()
    came_to(world, "r", "Failed at FlushPorts: which is never ended: it is part of Mainstay")
    assert flushed(world) == []
    assert len(who_listens(world)) == 2


@story
def full_with_a_hidden_stranger(world: StackWorld) -> None:
    world.scope().occupy(API, "uid 1001, pid unknown", hidden=True)
    up(world)
    world.restart("r")
    world.converge()
    came_to(world, "r", "Failed at FlushPorts: End it as its own user")
    says(world, db="Running#1", job="Running#1")


@story
def full_with_a_stranger_that_never_goes(world: StackWorld) -> None:
    world.scope().occupy(API, "pid 7 (nc)", ends_on=None)
    up(world)
    world.restart("r")
    world.converge()
    came_to(world, "r", "Failed at FlushPorts: still held, or taken again")
    says(world, db="Running#1", job="Running#1", api="Pending#0 PortForeign")


@story
def full_with_a_stranger_on_a_reserved_port(world: StackWorld) -> None:
    up(world)
    for port in (5000, 7000, 9000, 10000):
        world.scope().occupy(port, f"pid {port} (reserved)")
    world.restart("r")
    world.converge()
    came_to(world, "r", "Completed")
    assert flushed(world) == []
    assert len(who_listens(world)) == 4


@story
def quick_with_a_stranger(world: StackWorld) -> None:
    world.scope().occupy(API, "pid 7 (nc)")
    up(world)
    world.restart("r", "Quick")
    world.converge()
    came_to(world, "r", "Failed at CheckPorts: Nothing was touched")
    says(world, db="Running#1", job="Running#1")
    assert who_listens(world) == ["pid 7 (nc)"]


@story
def emergency_with_strangers(world: StackWorld) -> None:
    world.scope().occupy(API, "pid 7 (nc)")
    world.scope().occupy(9000, "pid 9 (reserved)")
    up(world, other=True)
    world.restart("r", "Emergency")
    world.converge()
    came_to(world, "r", "Completed")
    assert flushed(world) == [f"TERM {API}"]
    says(world, db="Running#2", job="Running#2")


@story
def a_stranger_takes_a_port_in_the_middle(world: StackWorld) -> None:
    up(world)
    world.restart("r")
    world.at_step("r", "StartSupervisor")
    world.scope().occupy(DB, "pid 7 (nc)")
    world.converge()
    came_to(world, "r", "Failed at VerifyPorts: taken after the flush")
    says(world, db="Pending#1 PortForeign")
    world.say("it goes, and the stack goes on by itself")
    world.scope().occupy(DB, None)
    world.converge()
    says(world, db="Running#2", api="Running#2", job="Running#2")


@story
def full_and_a_service_ignores_term(world: StackWorld) -> None:
    up(
        world,
        *(
            service(
                s["name"],
                s.get("port"),
                *s.get("dependsOn", ()),
                program={"terminationGracePeriodSeconds": 7},
            )
            for s in WEB
        ),
    )
    world.scope().ignore_term("api")
    world.restart("r")
    world.converge()
    came_to(world, "r", "Completed")
    says(world, db="Running#2", api="Running#2", job="Running#2")


@story
def full_and_a_service_stays_down(world: StackWorld) -> None:
    up(world)
    world.restart("r")
    world.at_step("r", "StartServices")
    world.scope().doomed["api"] = 1
    world.until(lambda: world.restart_status("r")["phase"] == "Failed")
    came_to(world, "r", "Failed at Verify: api is not up")
    world.scope().doomed.clear()
    world.go_on(30)
    world.converge()
    says(world, db="Running#2", api="Running#2", job="Running#2")


@story
def full_and_a_service_never_answers(world: StackWorld) -> None:
    up(world, timeouts={"startSeconds": 9})
    world.scope().set_ready("api", ready=False, message="connection refused")
    world.restart("r")
    world.converge()
    came_to(world, "r", "Failed at Verify: api is not up: pid")
    says(world, db="Running#2", api="Starting#2 NotReady")


@story
def full_and_a_service_listens_elsewhere(world: StackWorld) -> None:
    up(world)
    world.scope().listens_on("api", 8055)
    world.restart("r")
    world.converge()
    came_to(world, "r", "Failed at Verify: nothing listens on port 8002")


@story
def full_and_the_supervisor_hangs(world: StackWorld) -> None:
    up(world)
    world.scope().stuck = True
    world.scope().hang_supervisor()
    world.restart("r")
    world.converge()
    came_to(world, "r", "Completed")
    says(world, db="Running#2", api="Running#2", job="Running#2")


@story
def full_and_no_supervisor_can_be_started(world: StackWorld) -> None:
    up(world)
    world.scope().stuck = True
    world.restart("r")
    world.at_step("r", "StartSupervisor")
    world.scope().refuse_supervisor("no space left on device")
    world.until(lambda: world.restart_status("r")["phase"] == "Failed")
    came_to(world, "r", "Failed at StartSupervisor: no space left on device")
    world.say("there is space again")
    world.scope().refuse_supervisor(None)
    world.go_on(30)
    world.converge()
    says(world, db="Running#2", api="Running#2", job="Running#2")


def _supervisor(mode: str, step: str, *, hangs: bool) -> Story:
    def tell(world: StackWorld) -> None:
        up(world)
        world.restart("r", mode)
        world.at_step("r", step)
        world.say("the supervisor hangs" if hangs else "the supervisor dies")
        if hangs:
            world.scope().hang_supervisor()
        else:
            world.scope().kill_supervisor()
        world.converge()
        came_to(world, "r", "Completed")
        says(world, db="Running#2", api="Running#2", job="Running#2")

    return tell


for _mode, _steps in {
    "Full": (
        "FlushPorts",
        "StopServices",
        "StopSupervisor",
        "StartSupervisor",
        "VerifyPorts",
        "StartServices",
        "Verify",
    ),
    "Emergency": ("KillServices", "KillSupervisor", "FlushPorts", "StartSupervisor"),
}.items():
    for _step in _steps:
        for _hangs in (True, False):
            _name = f"{_mode}_{_step}_and_the_supervisor_{'hangs' if _hangs else 'dies'}".lower()
            STORIES[_name] = _supervisor(_mode, _step, hangs=_hangs)


@story
def two_restarts_are_asked_for(world: StackWorld) -> None:
    up(world)
    world.restart("r1")
    world.restart("r2", "Quick")
    world.at_step("r1", "StopServices")
    world.go_on(5)
    world.converge()
    came_to(world, "r1", "Completed")
    came_to(world, "r2", "Completed")
    says(world, db="Running#3", api="Running#3", job="Running#3")


@story
def the_one_that_waits_is_taken_back(world: StackWorld) -> None:
    up(world)
    world.restart("r1")
    world.restart("r2")
    world.at_step("r1", "StopServices")
    world.remove_restart("r2")
    world.converge()
    came_to(world, "r1", "Completed")
    says(world, db="Running#2")


def _taken_back(step: str) -> Story:
    def tell(world: StackWorld) -> None:
        up(world)
        world.restart("r")
        world.at_step("r", step)
        world.say("it is deleted")
        world.remove_restart("r")
        world.converge()
        assert world.stack_status()["phase"] == "Running"

    return tell


for _step in (
    "FlushPorts",
    "StopServices",
    "StopSupervisor",
    "StartSupervisor",
    "VerifyPorts",
    "StartServices",
    "Verify",
):
    STORIES[f"taken_back_at_{_step.lower()}"] = _taken_back(_step)


@story
def taken_back_and_another_goes_on(world: StackWorld) -> None:
    up(world)
    world.restart("r1")
    world.restart("r2")
    world.at_step("r1", "StartSupervisor")
    world.remove_restart("r1")
    world.converge()
    came_to(world, "r2", "Completed")


@story
def stopped_in_the_middle(world: StackWorld) -> None:
    up(world)
    world.restart("r")
    world.at_step("r", "StartSupervisor")
    world.edit_stack("web", state="Stopped")
    world.converge()
    came_to(world, "r", "Failed: StackStopped")
    assert not world.scope().living()


@story
def deleted_in_the_middle(world: StackWorld) -> None:
    up(world)
    world.restart("r")
    world.at_step("r", "StartServices")
    world.remove_stack()
    world.converge()
    assert world.restart_status("r")["phase"] == "Failed"
    assert not list(world.api.all(LEASES))


@story
def edited_in_the_middle(world: StackWorld) -> None:
    up(world)
    world.restart("r")
    world.at_step("r", "StopSupervisor")
    world.edit_stack("web", WEB[0], service("new", JOB, "db"))
    world.converge()
    came_to(world, "r", "Completed")
    says(world, db="Running#2", new="Running#1")


@story
def a_circle_in_the_middle(world: StackWorld) -> None:
    up(world)
    world.restart("r")
    world.at_step("r", "StopSupervisor")
    world.change("web", "db", dependsOn=["api"])
    world.converge()
    came_to(world, "r", "Failed at StopSupervisor: DependencyCycle")
    world.change("web", "db", dependsOn=None)
    world.converge()
    assert world.stack_status()["phase"] == "Running"


@story
def refused(world: StackWorld) -> None:
    up(world, owner={"userId": "ada"})
    world.restart("nobody", stack="nowhere")
    world.restart("stranger")
    world.restart("other", owner={"userId": "bob"})
    world.converge()
    came_to(world, "nobody", "Failed: StackNotFound")
    came_to(world, "stranger", "Failed: NotOwner")
    came_to(world, "other", "Failed: NotOwner")
    says(world, db="Running#1")
    world.restart("own", owner={"userId": "ada"})
    world.converge()
    came_to(world, "own", "Completed")
    world.edit_stack("web", state="Stopped")
    world.converge()
    world.restart("late", owner={"userId": "ada"})
    world.converge()
    came_to(world, "late", "Failed: StackStopped")


@story
def kept_for_its_time(world: StackWorld) -> None:
    up(world)
    world.restart("r", ttlSecondsAfterFinished=30)
    world.restart("now", "Flush", ttlSecondsAfterFinished=0)
    world.go_on(20)
    assert [r["metadata"]["name"] for r in world.api.all(RESTARTS)] == ["r"]
    came_to(world, "r", "Completed")
    world.go_on(30)
    assert not list(world.api.all(RESTARTS))
    world.converge()


@story
def one_is_held_on_its_host_in_a_restart(world: StackWorld) -> None:
    up(world)
    world.scope().brake("job")
    world.converge()
    world.restart("r")
    world.converge()
    came_to(world, "r", "Failed at Verify: job is not up: HeldLocally")
    says(world, db="Running#2", api="Running#2", job="Stopped#1 HeldLocally")


@story
def a_restart_of_a_stack_that_crashes(world: StackWorld) -> None:
    up(world)
    world.scope().doomed["db"] = 1
    world.go_on(5)
    world.scope().doomed.clear()
    world.restart("r")
    world.go_on(30)
    world.converge()
    came_to(world, "r", "Completed")
