"""What a stack declares becomes so, with the fewest processes touched."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.stacks.desk import Desk, free, listening
from tests.integration.stacks.desk import desk as make_desk
from tests.integration.stacks.programs import FAILING, SERVER, python, service, stranger
from tests.support.plane import RealPlane
from tests.support.stage import Object, condition, eventually, listener, marked, ready, start_ticks

from mainstay.shell.kube import LEASES

pytestmark = [pytest.mark.xdist_group("stacks"), pytest.mark.timeout(240)]

Build = Callable[..., list[Object]]


@pytest.fixture(scope="module")
def desk(plane: RealPlane) -> Iterator[Desk]:
    with make_desk(plane, runs=0, stacks=False) as one:
        yield one


@pytest.fixture
def names(desk: Desk) -> Iterator[list[str]]:
    """Stacks that this test makes: none is left."""
    made: list[str] = []
    yield made
    for name in made:
        if desk.stage.client.get(desk.url(name)) is not None:
            desk.delete(name)
    assert desk.stage.violations() == []


def three(desk: Desk) -> list[Object]:
    """`front` needs `back`, `aside` needs nobody."""
    one, two = free(desk, 2)
    return [
        service(desk.judge, "back", "Http", one),
        service(desk.judge, "front", "Http", two, after=("back",)),
        service(desk.judge, "aside", "Background"),
    ]


def told(stack: Object, name: str) -> Object:
    found = next((x for x in stack["status"]["services"] if x["name"] == name), None)
    assert found is not None, stack["status"]
    return found


def port_of(stack: Object, name: str) -> Object:
    return next(x for x in stack["status"]["ports"] if x["service"] == name)


def set_env(one: Object) -> None:
    one["program"]["env"].append({"name": "RELEASE", "value": "2"})


EDITS: dict[str, tuple[str, Callable[[Object], Any], tuple[str, ...]]] = {
    "env": ("front", set_env, ("front",)),
    "args": ("back", lambda one: one["program"].update(args=["again"]), ("back",)),
    "readiness": ("front", lambda one: one["program"].update(readiness={"http": {"path": "/"}}), ()),
    "grace": ("back", lambda one: one["program"].update(terminationGracePeriodSeconds=4), ()),
    "order": ("aside", lambda one: one.update(dependsOn=["front"]), ()),
    "no order": ("aside", lambda one: one.pop("dependsOn"), ()),
    "kind": ("back", lambda one: one.update(kind="Background"), ()),
    "policy": ("aside", lambda one: one.update(restartPolicy={"initialBackoffSeconds": 2}), ("aside",)),
}


def test_only_what_is_changed_is_restarted(desk: Desk, names: list[str]):
    names.append("edited")
    desk.create("edited", three(desk))
    desk.running("edited")
    seen = desk.processes("edited")

    def compare(what: str, *touched: str) -> None:
        nonlocal seen
        desk.running("edited")
        now = desk.processes("edited")
        changed = {one for one in now | seen if now.get(one) != seen.get(one)}
        assert changed == set(touched), f"{what} touched {changed}"
        seen = now

    for what, (name, change, touched) in EDITS.items():
        desk.edit("edited", name, change)
        compare(what, *touched)
    desk.patch("edited", timeouts={"flushSeconds": 2, "startSeconds": 50}, logs={"backups": 2})
    compare("timeouts and logs")
    (port,) = free(desk, 1)
    old = desk.ports("edited")["back"]
    desk.edit("edited", "back", lambda one: one.update(port=port, kind="Http"))
    compare("a port", "back")
    assert old not in listening()
    eventually(lambda: old not in leased(desk), "the old port is given back")
    services = desk.get("edited")["spec"]["services"]
    desk.patch("edited", services=[*services, service(desk.judge, "late", "Background", after=("front",))])
    compare("a service that is added", "late")
    desk.patch("edited", services=[x for x in services if x["name"] != "aside"])
    gone = seen["aside"], seen["late"]
    desk.until("edited", lambda o: ready("Running")(o) and len(o["status"]["services"]) == 2)
    compare("services that are removed", "aside", "late")
    assert all(start_ticks(one.pid) != one.ticks for one in gone)
    left = {x.name for x in (desk.scope("edited") / "units").iterdir()}
    assert left == {"back", "front"}, left
    desk.looks_up("edited")


def leased(desk: Desk) -> dict[int, str]:
    return {x["spec"]["port"]: x["spec"]["holder"]["name"] for x in desk.stage.client.items(LEASES)}


def test_a_killed_service_comes_back_alone(desk: Desk, names: list[str]):
    names.append("killed")
    desk.create("killed", three(desk))
    desk.running("killed")
    before = desk.processes("killed")
    os.kill(before["back"].pid, signal.SIGKILL)
    stack = desk.until(
        "killed",
        lambda o: ready("Running")(o) and told(o, "back")["process"]["pid"] != before["back"].pid,
    )
    assert told(stack, "back")["restarts"] == 1
    assert told(stack, "back")["lastExit"]["signal"] == 9
    after = desk.processes("killed")
    assert {one for one in after if after[one] != before[one]} == {"back"}
    desk.looks_up("killed")


def test_one_that_fails_for_good_says_why(desk: Desk, names: list[str]):
    names.append("failing")
    (port,) = free(desk, 1)  # Http: a Background one would count as up before it fails
    never = {"restartPolicy": {"policy": "Never"}}
    doomed = service(desk.judge, "doomed", "Http", port, program=FAILING, after=("fine",), **never)
    behind = service(desk.judge, "behind", "Background", after=("doomed",))
    desk.create("failing", [service(desk.judge, "fine", "Background"), doomed, behind])
    stack = desk.until("failing", lambda o: condition(o, "Stalled").get("status") == "True")
    assert stack["status"]["phase"] == "Degraded"
    assert stack["status"]["ready"] == "1/3", stack["status"]
    one = told(stack, "doomed")
    assert (one["state"], one["reason"], one["lastExit"]["code"]) == ("Fatal", "ProcessFailed", 3)
    assert "exit code 3" in one["message"]
    assert "no licence found" in one["message"]
    assert "doomed: ProcessFailed: " in condition(stack)["message"]
    assert "no licence found" in condition(stack)["message"]
    assert told(stack, "fine")["state"] == "Running"
    desk.until("failing", lambda o: told(o, "behind")["reason"] == "DependencyNotReady")
    assert desk.starts("failing") == {"fine": 1, "doomed": 1}
    desk.edit("failing", "doomed", lambda x: x["program"].update(command=python(SERVER)))
    desk.running("failing")


def test_a_port_that_a_run_has(desk: Desk, names: list[str]):
    port = desk.stage.ports[14]  # of the pool
    desk.stage.create("first", {**listener(desk.judge), "controlApi": {"pool": "stage", "port": port}})
    desk.stage.until("first", ready("Running"))
    names.append("second")
    desk.create(
        "second", [service(desk.judge, "web", "Http", port), service(desk.judge, "aside", "Background")]
    )
    stack = desk.until("second", lambda o: o.get("status") and told(o, "web")["reason"] == "PortTaken")
    assert "StrategyRun" in told(stack, "web")["message"]
    assert "first" in port_of(stack, "web")["holder"]
    assert port_of(stack, "web")["state"] == "Taken"
    eventually(lambda: told(desk.get("second"), "aside")["state"] == "Running")
    assert condition(desk.get("second"), "PortsAllocated")["reason"] == "PortTaken"
    desk.stage.patch("first", state="Stopped")
    desk.running("second")
    desk.looks_up("second")
    # and the other way: the stack has it, also while it is stopped
    desk.patch("second", state="Stopped")
    desk.until("second", ready("Stopped"))
    desk.stage.patch("first", state="Running")
    run = desk.stage.until("first", lambda o: "second" in condition(o).get("message", ""))
    assert run["status"]["phase"] != "Running"
    desk.delete("second")
    desk.stage.until("first", ready("Running"))
    desk.stage.delete("first")
    desk.stage.until_gone("first")


def test_a_stranger_has_the_port_and_gives_it_back(desk: Desk, names: list[str]):
    names.append("taken")
    port, other = free(desk, 2)
    with stranger(port) as one:
        desk.create(
            "taken",
            [
                service(desk.judge, "web", "Http", port),
                service(desk.judge, "watch", "Background", other),
                service(desk.judge, "behind", "Background", after=("web",)),
            ],
        )
        stack = desk.until("taken", lambda o: condition(o, "Stalled").get("status") == "True")
        seen = port_of(stack, "web")
        assert (seen["state"], seen["pid"]) == ("Foreign", one.pid)
        assert f"pid {one.pid} (python" in seen["holder"]
        assert told(stack, "web")["reason"] == "PortForeign"
        assert f"port {port} is held by pid {one.pid} (python" in told(stack, "web")["message"]
        assert "`kubectl mainstay flush taken` ends it" in told(stack, "web")["message"]
        eventually(lambda: told(desk.get("taken"), "watch")["state"] == "Running")
        assert desk.starts("taken") == {"watch": 1}
        assert one.lives
    desk.running("taken")
    desk.looks_up("taken")
    assert port_of(desk.get("taken"), "web")["state"] == "Held"


@pytest.mark.soak
def test_a_stranger_comes_to_a_port_that_nobody_listens_on(desk: Desk, names: list[str]):
    names.append("visited")
    (port,) = free(desk, 1)
    desk.create("visited", [service(desk.judge, "watch", "Background", port)])
    desk.running("visited")
    before = desk.processes("visited")
    with stranger(port) as one:
        stack = desk.until("visited", lambda o: port_of(o, "watch")["state"] == "Foreign")
        assert port_of(stack, "watch")["pid"] == one.pid
        assert desk.processes("visited") == before
    desk.until("visited", lambda o: port_of(o, "watch")["state"] == "Free")
    assert desk.processes("visited") == before


def test_it_is_stopped_and_started_in_order(desk: Desk, names: list[str]):
    names.append("ordered")
    chain = [
        service(desk.judge, "third", "Http", free(desk, 1)[0], after=("second",)),
        service(desk.judge, "second", "Background", after=("first",)),
        service(desk.judge, "first", "Background"),
    ]
    desk.create("ordered", chain)
    desk.running("ordered")
    ports = leased(desk)
    desk.patch("ordered", state="Stopped")
    stack = desk.until("ordered", ready("Stopped"))
    assert {x["state"] for x in stack["status"]["services"]} == {"Stopped"}
    assert desk.processes("ordered") == {}
    assert leased(desk) == ports, "a stopped stack keeps its ports"
    desk.patch("ordered", state="Running")
    desk.running("ordered")
    order = ["first", "second", "third"]
    up = [(one, "start") for one in order]
    down = [(one, "stop") for one in reversed(order)]
    assert [(one, what) for one, what, _ in desk.journal("ordered")] == [*up, *down, *up]


def test_deletion_leaves_nothing(desk: Desk, names: list[str]):
    names.append("deleted")
    uid = desk.create("deleted", three(desk))["metadata"]["uid"]
    desk.running("deleted")
    supervisor, scope = desk.supervised("deleted"), desk.scope("deleted")
    desk.delete("deleted")
    assert [one for one in marked(desk.stage.home_id) if one[2] == uid] == []
    assert start_ticks(supervisor.pid) != supervisor.ticks
    assert "deleted" not in leased(desk).values()
    assert not scope.exists()
    stops = [one for one, what, _ in desk.journal("deleted") if what == "stop"]
    assert stops.index("front") < stops.index("back")


@pytest.mark.parametrize("finalizers", [True, False], ids=["deleted", "deleted by force"])
def test_deleted_and_created_again_while_the_operator_is_dead(
    desk: Desk, names: list[str], *, finalizers: bool
):
    name = "phoenix" if finalizers else "phoenix-forced"
    names.append(name)
    services = three(desk)
    old = desk.create(name, services)["metadata"]["uid"]
    desk.running(name)
    before = desk.processes(name)
    desk.stage.crash()
    try:
        desk.delete(name, wait=False)
        if not finalizers:
            desk.stage.client.merge(desk.url(name), {"metadata": {"finalizers": None}})
            new = desk.create(name, services)["metadata"]["uid"]
    finally:
        desk.stage.restart()
    if finalizers:
        eventually(lambda: desk.stage.client.get(desk.url(name)) is None, f"{name} gone")
        new = desk.create(name, services)["metadata"]["uid"]
    assert new != old
    desk.running(name)
    desk.looks_up(name)
    after = desk.processes(name)
    assert not set(after.values()) & set(before.values())
    assert {uid for _, _, uid, _ in marked(desk.stage.home_id)} & {old, new} == {new}
    holders = {x["spec"]["holder"]["uid"] for x in desk.stage.client.items(LEASES)}
    assert new in holders
    assert old not in holders


def test_services_crash_while_the_operator_is_dead(desk: Desk, names: list[str]):
    names.append("alone")
    desk.create("alone", three(desk))
    desk.running("alone")
    before = desk.processes("alone")
    desk.stage.crash()
    try:
        for one in ("back", "aside"):
            os.kill(before[one].pid, signal.SIGKILL)
        eventually(lambda: desk.starts("alone") == {"back": 2, "front": 1, "aside": 2}, "two starts again")
    finally:
        desk.stage.restart()
    desk.until("alone", lambda o: ready("Running")(o) and told(o, "back")["restarts"] == 1)
    desk.running("alone")
    after = desk.processes("alone")
    assert {one for one in after if after[one] != before[one]} == {"back", "aside"}
    assert set(desk.attempts("alone").values()) == {1}
    desk.looks_up("alone")


def test_a_circle_is_told_and_what_runs_goes_on(desk: Desk, names: list[str]):
    names.append("circle")
    desk.create("circle", three(desk))
    desk.running("circle")
    before = desk.processes("circle")
    desk.edit("circle", "back", lambda one: one.update(dependsOn=["front"]))
    stack = desk.until("circle", lambda o: condition(o).get("reason") == "DependencyCycle")
    words = condition(stack, "Stalled")["message"]
    assert "back → front → back" in words or "front → back → front" in words
    assert desk.processes("circle") == before
    restart = desk.over(desk.ask("circle", "Full"))["status"]
    assert (restart["phase"], restart.get("steps")) == ("Failed", None) or not restart["steps"]
    assert "DependencyCycle" in {c["reason"] for c in restart["conditions"]}
    assert desk.processes("circle") == before
    desk.edit("circle", "back", lambda one: one.pop("dependsOn"))
    desk.running("circle")
    assert desk.processes("circle") == before


REFUSED: dict[str, tuple[Object, Object, str]] = {
    "no owner": ({"owner": {"userId": "u-7"}}, {}, "NotOwner"),
    "a stopped stack": ({"state": "Stopped"}, {}, "StackStopped"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_restart_that_is_refused_touches_nothing(desk: Desk, names: list[str], case: str):
    spec, asked, reason = REFUSED[case]
    name = f"refused-{reason.lower()}"
    names.append(name)
    desk.create(name, [service(desk.judge, "one", "Background")], **spec)
    desk.until(name, ready(spec.get("state", "Running")))
    before = desk.processes(name)
    status = desk.over(desk.ask(name, "Full", **asked))["status"]
    assert status["phase"] == "Failed"
    stalled = next(c for c in status["conditions"] if c["type"] == "Stalled")
    assert stalled["reason"] == reason
    assert name in stalled["message"]
    assert not status.get("steps")
    assert desk.processes(name) == before
    if case == "no owner":
        assert desk.over(desk.ask(name, "Full", owner={"userId": "u-7"}))["status"]["phase"] == "Completed"


def test_a_restart_of_no_stack(desk: Desk):
    status = desk.over(desk.ask("nobody", "Full"))["status"]
    assert next(c for c in status["conditions"] if c["type"] == "Stalled")["reason"] == "StackNotFound"


def test_restarts_take_turns(desk: Desk, names: list[str]):
    names.append("turns")
    desk.create("turns", three(desk))
    desk.running("turns")
    asked = [desk.ask("turns", mode) for mode in ("Quick", "Flush", "Emergency")]
    ends = [desk.over(name)["status"] for name in asked]
    assert [one["phase"] for one in ends] == ["Completed"] * 3
    spans = sorted((one["startedAt"], one["completedAt"]) for one in ends)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans)), spans
    desk.running("turns")
    desk.looks_up("turns")


@pytest.mark.soak
def test_sixty_four_services(desk: Desk, names: list[str]):
    names.append("many")
    services = [
        service(desk.judge, f"s{n}", "Background", after=(f"s{n - 8}",) if n >= 8 else ()) for n in range(64)
    ]
    desk.create("many", services)
    desk.running("many")
    desk.looks_up("many")
    restart = desk.over(desk.ask("many", "Full"), 120)
    assert restart["status"]["phase"] == "Completed", restart["status"]
    assert len(restart["status"]["verified"]) == 64


def test_a_lost_directory_of_a_service(desk: Desk, names: list[str]):
    names.append("lost")
    desk.create("lost", three(desk))
    desk.running("lost")
    before = desk.processes("lost")
    shutil.rmtree(desk.scope("lost") / "units/aside")
    eventually((desk.scope("lost") / "units/aside/spec").exists, "its directory")
    desk.running("lost")
    assert desk.processes("lost") == before
    desk.looks_up("lost")
