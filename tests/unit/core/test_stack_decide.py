"""What is decided about a stack: each service by its status and its unit, ports, order, and what restarts whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mainstay.api.meta import FINALIZER
from mainstay.api.servicestack import ServiceStack, ServiceState, ServiceStatus
from mainstay.api.stackrestart import RestartMode, RestartPhase, StepName
from mainstay.core import plan as p
from mainstay.core.snapshot import LeaseView, Problem
from mainstay.core.stack.decide import decide
from mainstay.core.stack.service import Next, advance
from mainstay.core.stack.snapshot import RestartView, ServiceView, StackSnapshot
from mainstay.core.stack.spec import inputs_of
from mainstay.core.unit import Exit, PortHolder, ProbeResult, ProcessId, Unit, UnitState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIVING = (
    UnitState.RUNNING,
    UnitState.PAUSED,
    UnitState.STOPPING,
    UnitState.WAITING,
    UnitState.HELD,
    UnitState.BACKOFF,
)


def service(name: str, port: int | None = None, *needs: str, **more: Any) -> dict[str, Any]:
    kind = "Http" if port else "Background"
    program = {"command": [name], **more.pop("program", {})}
    one = {"name": name, "kind": kind, "program": program, "dependsOn": list(needs), **more}
    return one | ({"port": port} if port else {})


def stack(
    *services: dict[str, Any], told: Any = (), deleting: bool = False, claim: str = "", **spec: Any
) -> ServiceStack:
    meta = {"name": "web", "namespace": "default", "uid": "u", "finalizers": [FINALIZER], "generation": 1}
    if deleting:
        meta["deletionTimestamp"] = NOW
    status = {"services": list(told), **({"restart": {"name": "r", "uid": claim}} if claim else {})}
    return ServiceStack.model_validate(
        {"metadata": meta, "spec": {"services": services, **spec}, "status": status}
    )


def unit(name: str, state: str = "Running", attempt: int = 1, **more: Any) -> Unit:
    found = UnitState(state)
    if found is UnitState.ABSENT:
        return Unit(name, found, defined=False)
    leader = ProcessId(100 + attempt, 7, "boot") if found in LIVING else None
    seen = {"owner_uid": "u", "leader": leader, "started_at": NOW.timestamp() - 60}
    if found is UnitState.STOPPING:
        seen["stopping_seconds"] = 1.0
    return Unit(name, found, attempt=attempt, **{**seen, **more})


def snap(
    of: ServiceStack,
    *units: Unit,
    leased: tuple[int, ...] | None = None,
    ready: bool = True,
    problem: Problem | None = None,
    **more: Any,
) -> StackSnapshot:
    """A snapshot in which every declared port is leased, and every probe answers."""
    seen = {one.name: one for one in units}
    declared = {one.name: one for one in of.spec.services}
    ports = [one.port for one in of.spec.services if one.port] if leased is None else leased
    views = {}
    for name in dict.fromkeys((*declared, *(one.name for one in of.status.services), *seen)):
        spec = declared.get(name)
        inputs = {"inputs": inputs_of(spec, {})} if spec else {}
        views[name] = ServiceView(
            name=name,
            spec=spec,
            status=of.status.service(name) or ServiceStatus(name=name),
            unit=seen.get(name, Unit(name, UnitState.ABSENT, defined=False)),
            probe=ProbeResult(ready, "" if ready else "connection refused"),
            problem=problem,
            clock=NOW,
            **inputs,
        )
    leases = tuple(LeaseView(f"port-{port}", port, f"l{port}", "1") for port in ports)
    return StackSnapshot(stack=of, now=NOW, services=views, leases=leases, **more)


def hash_of(one: dict[str, Any]) -> str:
    return inputs_of(stack(one).spec.services[0], {}).hash


def told(one: dict[str, Any], state: str = "Running", attempt: int = 1, **more: Any) -> ServiceStatus:
    status = {"name": one["name"], "state": state, "attempt": attempt, "inputsHash": hash_of(one), **more}
    return ServiceStatus.model_validate(status | {"ready": more.get("ready", state == "Running")})


def word(v: ServiceView, following: Next) -> str:
    """What is next for one service: what its status turns to, or what is done, or a dot for nothing."""
    if following.status is None:
        return "forget"
    old, new = v.status, following.status
    if (old.state, old.attempt) != (new.state, new.attempt):
        return f"{new.state}#{new.attempt}"
    if old.reason != new.reason:
        return new.reason or "''"
    match following.action:
        case None:
            return "."
        case p.StopService(force=force):
            return "kill" if force else "stop"
        case action:
            return type(action).__name__.removesuffix("Service").lower()


def after(s: StackSnapshot, name: str = "a") -> str:
    """The same of one service of a snapshot."""
    return word(s.services[name], advance(s, s.services[name], ordered=True))


# --- every state of a service, with every state of its unit, under every wish

A = service("a")
UNITS = ("Absent", "Waiting", "Held", "Backoff", "Running", "Paused", "Stopping", "Exited")
FULL = RestartView("r", "r1", RestartMode.FULL, RestartPhase.RUNNING, StepName.FLUSH_PORTS)
KILLS = replace(FULL, mode=RestartMode.EMERGENCY, step=StepName.KILL_SERVICES)
WISHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "run": ({}, {}),
    "hold": ({"claim": "r1"}, {"restart": FULL}),
    "stop": ({"state": "Stopped"}, {}),
    "delete": ({"deleting": True}, {}),
    "kill": ({"claim": "r1"}, {"restart": KILLS}),
}
TABLE = """
#                  Absent      Waiting           Held               Backoff           Running     Paused             Stopping    Exited
run     Pending    Starting#1  Starting#1        Starting#1         Starting#1        Starting#1  Starting#1         Stopping#1  Starting#2
run     Starting   start       .                 Running#1          Backoff#1         Running#1   Running#1          Stopping#1  Starting#2
run     Running    Starting#1  Backoff#1         SuspendedBySignal  Backoff#1         Running     SuspendedBySignal  Stopping#1  Starting#2
run     Backoff    Starting#1  CrashLoopBackOff  Running#1          CrashLoopBackOff  Running#1   Running#1          Stopping#1  Starting#2
run     Stopping   Starting#1  Starting#1        Starting#1         Starting#1        Starting#1  Starting#1         .           Starting#2
run     Stopped    Starting#1  Starting#1        Starting#1         Starting#1        Starting#1  Starting#1         Stopping#1  Starting#2
run     Completed  Starting#1  Starting#1        Starting#1         Starting#1        Starting#1  Starting#1         Stopping#1  Starting#2
run     Fatal      Starting#1  Starting#1        Starting#1         Starting#1        Starting#1  Starting#1         Stopping#1  Starting#2
hold    Pending    .           Starting#1        Starting#1         Starting#1        Starting#1  Starting#1         Stopping#1  .
hold    Starting   .           .                 Running#1          Backoff#1         Running#1   Running#1          Stopping#1  .
hold    Running    .           Backoff#1         SuspendedBySignal  Backoff#1         Running     SuspendedBySignal  Stopping#1  .
hold    Backoff    .           CrashLoopBackOff  Running#1          CrashLoopBackOff  Running#1   Running#1          Stopping#1  .
hold    Stopping   .           Starting#1        Starting#1         Starting#1        Starting#1  Starting#1         .           .
hold    Stopped    .           Starting#1        Starting#1         Starting#1        Starting#1  Starting#1         Stopping#1  .
hold    Completed  .           Starting#1        Starting#1         Starting#1        Starting#1  Starting#1         Stopping#1  .
hold    Fatal      .           Starting#1        Starting#1         Starting#1        Starting#1  Starting#1         Stopping#1  .
stop    Pending    Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
stop    Starting   Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
stop    Running    Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
stop    Backoff    Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
stop    Stopping   Stopped#1   stop              stop               stop              stop        stop               .           Stopped#1
stop    Stopped    Stopped     Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped
stop    Completed  Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
stop    Fatal      Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
delete  Pending    Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
delete  Starting   Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
delete  Running    Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
delete  Backoff    Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
delete  Stopping   Stopped#1   stop              stop               stop              stop        stop               .           Stopped#1
delete  Stopped    Removed     Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Removed
delete  Completed  Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
delete  Fatal      Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
kill    Pending    Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
kill    Starting   Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
kill    Running    Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
kill    Backoff    Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
kill    Stopping   Stopped#1   kill              kill               kill              kill        kill               kill        Stopped#1
kill    Stopped    Restarting  Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Restarting
kill    Completed  Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
kill    Fatal      Stopped#1   Stopping#1        Stopping#1         Stopping#1        Stopping#1  Stopping#1         Stopping#1  Stopped#1
"""


def cell(wish: str, state: str, seen: str) -> str:
    spec, more = WISHES[wish]
    s = snap(stack(A, told=[told(A, state)], **spec), unit("a", seen), **more)
    return after(s)


CELLS = [
    (line.split()[0], line.split()[1], seen, expected)
    for line in TABLE.strip().splitlines()[1:]
    for seen, expected in zip(UNITS, line.split()[2:], strict=True)
]


@pytest.mark.parametrize(("wish", "state", "seen", "expected"), CELLS)
def test_one_service(wish, state, seen, expected):
    assert cell(wish, state, seen) == expected


def test_the_table_is_whole():
    assert {cell[:3] for cell in CELLS} == {(w, s, u) for w in WISHES for s in ServiceState for u in UNITS}


# --- ports

DB, API = service("db", 8001), service("api", 8002, "db")
NC = PortHolder(8001, "pid 7 (nc)", ProcessId(7, 7, "boot"))
OWN = PortHolder(8001, "pid 101 (db)", ProcessId(101, 7, "boot"), unit="db")
PORTS = {
    "a stranger listens: it waits": ({"holders": {8001: (NC,)}}, "PortForeign", "flush web"),
    "a protected one: no flush would help": (
        {"holders": {8001: (replace(NC, protected="it is part of Mainstay"),)}},
        "PortForeign",
        "another port",
    ),
    "one that can't be seen": (
        {"holders": {8001: (replace(NC, process=None),)}},
        "PortForeign",
        "end it, or give",
    ),
    "another service of the stack": (
        {"holders": {8001: (replace(OWN, unit="api"),)}},
        "PortForeign",
        "service api",
    ),
    "leased to another": ({"taken": {8001: "StrategyRun default/a"}}, "PortTaken", "StrategyRun default/a"),
    "its own earlier process": ({"holders": {8001: (OWN,)}}, "Starting#1", "starting attempt 1"),
    "free": ({}, "Starting#1", "starting attempt 1"),
}


@pytest.mark.parametrize(("more", "expected", "words"), PORTS.values(), ids=PORTS)
def test_before_a_start(more, expected, words):
    s = snap(stack(DB, told=[ServiceStatus(name="db")]), **more)
    following = advance(s, s.services["db"], ordered=True)
    assert word(s.services["db"], following) == expected
    assert following.status is not None
    assert words in following.status.message


def port_told(**more: Any) -> str:
    plan = decide(snap(stack(DB), unit("db", port=8001), **more))
    assert isinstance(plan, p.Write)
    (port,) = plan.status.ports
    return f"{port.state} {port.holder}".strip()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "Free"),
        ({"holders": {8001: (OWN,)}}, "Held db"),
        ({"holders": {8001: (OWN, NC)}}, "Foreign pid 7 (nc)"),
        ({"holders": {8001: (NC, NC)}}, "Foreign pid 7 (nc)"),
        ({"taken": {8001: "StrategyRun default/a"}}, "Taken StrategyRun default/a"),
    ],
    ids=["free", "held", "shared with a stranger", "two of a kind", "taken"],
)
def test_who_has_a_port_is_told(more, expected):
    assert port_told(**more) == expected


def settled(s: StackSnapshot, *, writes: int = 5) -> tuple[StackSnapshot, p.Plan[Any]]:
    """Decide until nothing more is to be written."""
    for _ in range(writes + 1):
        plan = decide(s)
        if not isinstance(plan, p.Write):
            return s, plan
        written = s.stack.model_copy(update={"status": plan.status})
        views = {
            name: replace(v, status=plan.status.service(name) or ServiceStatus(name=name))
            for name, v in s.services.items()
        }
        s = replace(s, stack=written, services=views)
    raise AssertionError(f"still writing after {writes} writes")


def acts(s: StackSnapshot) -> list[str]:
    """What is done once everything is told."""
    _, plan = settled(s)
    match plan:
        case p.Act(action=action):
            return [type(action).__name__]
        case p.ActAll(actions=actions):
            return [
                " ".join([type(a).__name__, *([a.service] if hasattr(a, "service") else [])]) for a in actions
            ]
        case _:
            return []


def test_a_start_waits_for_its_lease():
    s = snap(stack(DB), leased=())
    assert acts(s) == ["CreateLease"]
    assert acts(snap(stack(DB))) == ["StartService db"]


def test_a_port_that_is_taken_is_not_asked_for():
    assert acts(snap(stack(DB), leased=(), taken={8001: "StrategyRun default/a"})) == []


def test_a_reserved_port_is_not_leased_even_if_it_got_in():
    assert acts(snap(stack(service("x", 5000)), leased=())) == []


LEFT = {
    "while its service lives": (unit("old", port=8009), 8009, False),
    "while it is stopping": (unit("old", "Stopping", port=8009), 8009, False),
    "once it has ended": (unit("old", "Exited", port=8009), 8009, True),
    "when nobody ever had it": (unit("old", "Absent"), 8009, True),
}


@pytest.mark.parametrize(("seen", "port", "given"), LEFT.values(), ids=LEFT)
def test_a_port_that_is_declared_no_longer(seen, port, given):
    assert ("DeleteLease" in acts(snap(stack(A), seen, leased=(port,)))) is given


def test_leases_are_kept_while_the_stack_is_stopped_and_given_back_with_it():
    assert acts(snap(stack(DB, state="Stopped"))) == []
    assert acts(snap(stack(DB, deleting=True))) == ["DeleteLease"]
    assert acts(snap(stack(DB, deleting=True), leased=())) == ["RemoveScope"]
    assert acts(snap(stack(DB, deleting=True), leased=(), scope=False)) == ["RemoveFinalizer"]


def test_nothing_is_given_up_while_one_lives():
    alive = snap(stack(DB, deleting=True), unit("db", "Stopping", port=8001, stopping_seconds=1.0))
    assert acts(alive) == []


# --- order

CHAIN = (service("a"), service("b", None, "a"), service("c", None, "b"))


def test_started_after_what_it_needs():
    assert acts(snap(stack(*CHAIN))) == ["StartService a"]
    assert acts(snap(stack(*CHAIN, told=[told(CHAIN[0])]), unit("a"))) == ["StartService b"]


def test_side_by_side_when_none_needs_the_other():
    assert acts(snap(stack(service("a"), service("b")))) == ["StartService a", "StartService b"]


@pytest.mark.parametrize("state", ["Backoff", "Paused", "Exited"])
def test_a_dependency_that_is_not_up_is_waited_for(state):
    s = snap(
        stack(service("a", restartPolicy={"policy": "Never"}), CHAIN[1], told=[told(CHAIN[0])]),
        unit("a", state, exit=Exit(1)),
    )
    assert not [one for one in acts(s) if one == "StartService b"]


def test_a_dependency_that_has_done_its_work_is_enough():
    """As one that prepares a database, and ends with exit code 0."""
    once = service("a", restartPolicy={"policy": "OnFailure"})
    done = told(once, "Completed", reason="Completed")
    assert (
        acts(snap(stack(once, CHAIN[1], told=[done]), unit("a", "Exited", exit=Exit(0))))[0]
        == "StartService b"
    )


def test_stopped_before_what_it_needs():
    all_up = [told(one) for one in CHAIN]
    s = snap(stack(*CHAIN, told=all_up, state="Stopped"), unit("a"), unit("b"), unit("c"))
    assert acts(s) == ["StopService c"]
    assert acts(snap(s.stack, unit("a"), unit("b"), unit("c", "Exited"))) == ["StopService b"]
    assert acts(snap(s.stack, unit("a"), unit("b", "Exited"), unit("c", "Exited"))) == ["StopService a"]


def test_killed_all_at_once():
    all_up = [told(one) for one in CHAIN]
    s = snap(stack(*CHAIN, told=all_up, claim="r1"), unit("a"), unit("b"), unit("c"), restart=KILLS)
    assert acts(s) == ["StopService a", "StopService b", "StopService c"]


def test_a_dependency_that_crashes_takes_nobody_along():
    s = snap(stack(*CHAIN, told=[told(one) for one in CHAIN]), unit("a", "Backoff"), unit("b"), unit("c"))
    assert acts(s) == []


CIRCLE = (service("a", None, "b"), service("b", None, "a"), service("c"))


def test_a_circle_starts_nothing_and_stops_nothing():
    assert acts(snap(stack(*CIRCLE))) == []
    running, plan = settled(snap(stack(*CIRCLE, told=[told(one) for one in CIRCLE]), *map(unit, "abc")))
    assert isinstance(plan, p.Wait)
    ready = next(one for one in running.status.conditions if one.type == "Ready")
    assert (running.status.phase, ready.reason) == ("Degraded", "DependencyCycle")
    assert "a" in ready.message
    assert "b" in ready.message


def test_a_circle_is_stopped_all_at_once():
    s = snap(stack(*CIRCLE, told=[told(one) for one in CIRCLE], state="Stopped"), *map(unit, "abc"))
    assert acts(s) == ["StopService a", "StopService b", "StopService c"]


def test_without_an_order_what_is_dead_is_told():
    s = snap(stack(*CIRCLE, told=[told(one) for one in CIRCLE]), unit("a", "Exited"), unit("b"), unit("c"))
    plan = decide(s)
    assert isinstance(plan, p.Write)
    a = plan.status.service("a")
    assert (a.state, a.reason, a.ready, a.process) == ("Pending", "DependencyCycle", False, None)


# --- what restarts what

CHANGES: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({}, False),
    "command": ({"program": {"command": ["a", "-v"]}}, True),
    "args": ({"program": {"command": ["a"], "args": ["-v"]}}, True),
    "env": ({"program": {"command": ["a"], "env": [{"name": "X", "value": "1"}]}}, True),
    "workingDir": ({"program": {"command": ["a"], "workingDir": "/srv"}}, True),
    "user": ({"program": {"command": ["a"], "user": "app"}}, True),
    "umask": ({"program": {"command": ["a"], "umask": "022"}}, True),
    "nice": ({"program": {"command": ["a"], "nice": 5}}, True),
    "port": ({"port": 8005}, True),
    "restartPolicy": ({"restartPolicy": {"policy": "OnFailure"}}, True),
    "kind": ({"kind": "Http", "port": None}, False),
    "dependsOn": ({"dependsOn": ["b"]}, False),
    "readiness": ({"program": {"command": ["a"], "readiness": {"exec": {"command": ["true"]}}}}, False),
    "grace period": ({"program": {"command": ["a"], "terminationGracePeriodSeconds": 3}}, False),
}


@pytest.mark.parametrize(("change", "restarts"), CHANGES.values(), ids=CHANGES)
def test_only_what_sees_the_change_is_restarted(change, restarts):
    old, other = service("a"), service("b")
    new = {k: v for k, v in {**old, **change}.items() if v is not None}
    if change.get("kind"):
        old, new = service("a", 8001), {**service("a", 8001), "kind": "Background"}
    was = hash_of(old)
    s = snap(
        stack(new, other, told=[told(old), told(other)]),
        unit("a", inputs_hash=was, port=old.get("port")),
        unit("b", inputs_hash=hash_of(other)),
    )
    assert acts(s) == (["StopService a"] if restarts else [])


def test_a_change_of_the_port_waits_for_the_stranger():
    moved = service("db", 8005)
    s = snap(
        stack(moved, told=[told(DB)]),
        unit("db", port=8001, inputs_hash=hash_of(DB)),
        holders={8005: (replace(NC, port=8005),)},
    )
    assert acts(s) == []
    plan = decide(s)
    assert isinstance(plan, p.Write)
    db = plan.status.service("db")
    assert (db.state, db.reason, db.ready) == ("Running", "PortForeign", False)  # it isn't what is declared
    assert {c.type: c.status for c in plan.status.conditions}["Ready"] != "True"
    assert acts(replace(s, holders={})) == ["StopService db"]


NONCES = {
    "raised": (1, 0, True),
    "raised again": (2, 1, True),
    "consumed": (1, 1, False),
    "taken away by an apply": (0, 1, False),
    "brought back by an older manifest": (1, 2, False),
    "there at creation": (3, None, False),
}


@pytest.mark.parametrize(("nonce", "handled", "restarts"), NONCES.values(), ids=NONCES)
def test_a_restart_of_one_service_is_asked_for_once(nonce, handled, restarts):
    one = service("a", restartNonce=nonce)
    s = snap(
        stack(one, service("b"), told=[told(one, handledRestartNonce=handled), told(service("b"))]),
        unit("a", inputs_hash=hash_of(one)),
        unit("b", inputs_hash=hash_of(service("b"))),
    )
    assert acts(s) == (["StopService a"] if restarts else [])


def test_status_has_room_for_what_goes_before_what_comes():
    old = [service(f"old{n}") for n in range(120)]
    new = [service(f"new{n}") for n in range(64)]
    s = snap(
        stack(*new, told=[told(one, "Stopping", reason="Removed") for one in old]),
        *(unit(one["name"], "Stopping") for one in old),
    )
    plan = decide(s)
    assert isinstance(plan, p.Write)
    assert len(plan.status.services) == 128
    assert {one["name"] for one in old} <= {one.name for one in plan.status.services}


GRACES = {"its own": (120.0, 120.0), "unknown": (None, 30.0)}


@pytest.mark.parametrize(("known", "grace"), GRACES.values(), ids=GRACES)
def test_what_is_declared_no_longer_has_its_own_time_to_end(known, grace):
    gone = told(service("gone"), "Stopping", reason="Removed")
    s = snap(
        stack(service("a"), told=[told(service("a")), gone]), unit("a"), unit("gone", grace_seconds=known)
    )
    (stop,) = [one for one in decide(settled(s)[0]).actions if isinstance(one, p.StopService)]
    assert stop.grace_seconds == grace


def test_closed_connections_are_waited_for_and_no_stranger():
    """Those of a listener without SO_REUSEADDR: the kernel keeps them for a minute."""
    kept = PortHolder(8001, "closed connections, which the kernel keeps", passing=True)
    s = snap(stack(DB), holders={8001: (kept,)})
    plan = decide(s)
    assert isinstance(plan, p.Write)
    db = plan.status.service("db")
    assert (db.state, db.reason) == ("Pending", "PortClosing")
    assert [one.state for one in plan.status.ports] == ["Free"]
    assert {c.type: c.status for c in plan.status.conditions}["Stalled"] == "False"


@pytest.mark.parametrize(("more", "ready"), [({"state": "Stopped"}, True), ({"deleting": True}, False)])
def test_a_stack_at_rest_is_ready_and_one_that_goes_is_not(more, ready):
    s = snap(stack(*CIRCLE, **more), leased=())
    plan = decide(s)
    assert isinstance(plan, p.Write)
    said = {c.type: c.status for c in plan.status.conditions}
    assert (said["Ready"] == "True", said["Stalled"]) == (ready, "False")


def test_two_that_swap_their_ports_both_make_room():
    x, y = service("x", 8002), service("y", 8001)
    was = (service("x", 8001), service("y", 8002))
    holders = {
        8001: (PortHolder(8001, "pid 101", ProcessId(101, 7, "boot"), unit="x"),),
        8002: (PortHolder(8002, "pid 102", ProcessId(102, 7, "boot"), unit="y"),),
    }
    units = (
        unit("x", port=8001, inputs_hash=hash_of(was[0])),
        unit("y", port=8002, inputs_hash=hash_of(was[1])),
    )
    s = snap(stack(x, y, told=[told(one) for one in was]), *units, holders=holders)
    assert acts(s) == ["StopService x", "StopService y"]


def test_one_that_waits_for_a_neighbour_that_stays_goes_on():
    x, y = service("x", 8002), service("y", 8002)
    holders = {8002: (PortHolder(8002, "pid 102", ProcessId(102, 7, "boot"), unit="y"),)}
    s = snap(
        stack(x, y, told=[told(service("x", 8001)), told(y)]),
        unit("x", port=8001, inputs_hash=hash_of(service("x", 8001))),
        unit("y", port=8002, inputs_hash=hash_of(y)),
        holders=holders,
    )
    assert acts(s) == []


# --- what is found

ELSE = unit("a", owner_uid="before")


def test_a_predecessor_is_ended_and_forgotten_first():
    assert acts(snap(stack(A), ELSE)) == ["StopService a"]
    assert acts(snap(stack(A), replace(ELSE, state=UnitState.EXITED, leader=None))) == ["RemoveService a"]
    s, _ = settled(snap(stack(A), ELSE))
    service_told = s.status.service("a")
    assert service_told is not None
    assert service_told.reason == "PredecessorStopping"


def test_what_lives_is_adopted_with_its_attempt_and_inputs():
    s, plan = settled(snap(stack(A), unit("a", attempt=7, inputs_hash=hash_of(A))))
    assert isinstance(plan, p.Wait)
    found = s.status.service("a")
    assert found is not None
    assert (found.state, found.attempt, found.ready) == ("Running", 7, True)


def test_a_restored_api_server_does_not_use_an_attempt_twice():
    assert after(snap(stack(A), unit("a", "Exited", attempt=7))) == "Starting#8"


def test_an_older_attempt_is_ended_under_the_claim_of_a_later_one():
    s = snap(stack(A, told=[told(A, "Starting", 2)]), unit("a", attempt=1))
    assert after(s) == "stop"


def test_one_that_is_held_on_its_host_is_stopped_alone():
    two = (A, service("b", None, "a"))
    s = snap(stack(*two, told=[told(one) for one in two]), unit("a", "Held", held_locally=True), unit("b"))
    assert acts(s) == ["StopService a"]
    s, plan = settled(snap(s.stack, unit("a", "Exited", held_locally=True), unit("b")))
    found = s.status.service("a")
    assert isinstance(plan, p.Wait)
    assert found is not None
    assert (found.state, found.reason) == ("Stopped", "HeldLocally")
    assert "release stack/web/a" in found.message


def test_one_that_is_declared_no_longer_is_stopped_forgotten_and_untold():
    assert acts(snap(stack(A, told=[told(service("b"))]), unit("b"))) == ["StartService a", "StopService b"]
    gone = snap(stack(A, told=[told(A), told(service("b"), "Stopped")]), unit("a"), unit("b", "Exited"))
    assert acts(gone) == ["RemoveService b"]
    s, _ = settled(snap(gone.stack, unit("a")))
    assert [one.name for one in s.status.services] == ["a"]


TERMS = {
    "asked": ({"state": "Running"}, "stop"),
    "asked in vain": ({"state": "Stopping", "stopping_seconds": 29.9}, "."),
    "not told yet": ({"state": "Stopping", "stopping_seconds": 1.0, "stop_told": False}, "stop"),
    "out of patience": ({"state": "Stopping", "stopping_seconds": 30.0}, "kill"),
}


@pytest.mark.parametrize(("seen", "expected"), TERMS.values(), ids=TERMS)
def test_term_and_its_time_before_kill(seen, expected):
    s = snap(stack(A, told=[told(A, "Stopping", reason="StopRequested")], state="Stopped"), unit("a", **seen))
    assert after(s) == expected


def test_a_stop_that_was_begun_is_finished_before_the_wish_to_run():
    s = snap(
        stack(A, told=[told(A, "Stopping", reason="Restarting")]),
        unit("a", "Stopping", stopping_seconds=40.0),
    )
    assert after(s) == "kill"


# --- problems

PROBLEMS = {
    "refused for good": (
        Problem("RunAsRootRefused", "no", needs_person=True, retry_seconds=60, refused=True),
        "Fatal#0",
    ),
    "tried again later": (
        Problem("RuntimeUnavailable", "no", needs_person=False, retry_seconds=2),
        "RuntimeUnavailable",
    ),
}


@pytest.mark.parametrize(("problem", "expected"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_start_that_failed_is_told_until_it_is_due(problem, expected):
    s = snap(stack(A, told=[ServiceStatus(name="a")]), problem=problem)
    assert after(s) == expected
    assert advance(s, s.services["a"], ordered=True).seconds == problem.retry_seconds


ENDS = {
    "always, 0": ("Always", Exit(0), "Starting#2"),
    "always, 3": ("Always", Exit(3), "Starting#2"),
    "on failure, 0": ("OnFailure", Exit(0), "Completed#1"),
    "on failure, 3": ("OnFailure", Exit(3), "Starting#2"),
    "never, 0": ("Never", Exit(0), "Completed#1"),
    "never, 3": ("Never", Exit(3), "Fatal#1"),
    "never, unseen": ("Never", Exit(), "Fatal#1"),
}


@pytest.mark.parametrize(("policy", "seen", "expected"), ENDS.values(), ids=ENDS)
def test_how_it_ended_and_what_its_policy_says(policy, seen, expected):
    one = service("a", restartPolicy={"policy": policy})
    s = snap(stack(one, told=[told(one)]), unit("a", "Exited", exit=seen))
    assert after(s) == expected


def test_one_that_completed_stays_so_until_it_is_changed():
    one = service("a", restartPolicy={"policy": "Never"})
    done = told(one, "Completed", reason="Completed")
    assert after(snap(stack(one, told=[done]), unit("a", "Exited", exit=Exit(0)))) == "."
    changed = {**one, "program": {"command": ["a", "-v"]}}
    assert after(snap(stack(changed, told=[done]), unit("a", "Exited", exit=Exit(0)))) == "Starting#2"


def test_one_that_completed_is_started_again_by_stop_and_start():
    one = service("a", restartPolicy={"policy": "Never"})
    done = told(one, "Completed", reason="Completed")
    s, _ = settled(snap(stack(one, told=[done], state="Stopped"), unit("a", "Exited", exit=Exit(0))))
    running = stack(one, told=s.status.services)
    assert after(snap(running, unit("a", "Exited", exit=Exit(0)))) == "Starting#2"


def test_before_the_finalizer_nothing_is_done():
    bare = stack(A)
    bare = bare.model_copy(update={"metadata": bare.metadata.model_copy(update={"finalizers": ()})})
    assert decide(snap(bare)) == p.Act(p.AddFinalizer())


def test_what_was_stopped_by_a_signal_goes_on():
    assert acts(snap(stack(A, told=[told(A)]), unit("a", "Paused"))) == ["ResumeService a"]


def test_a_lost_definition_is_written_again():
    assert acts(snap(stack(A, told=[told(A)]), unit("a", defined=False))) == ["DefineService a"]


def test_a_port_is_not_given_to_two_while_nobody_listens_between_two_crashes():
    x, y = service("x"), service("y", 8001)
    was = service("x", 8001, restartPolicy={"policy": "Always"})
    s = snap(stack(x, y, told=[told(was, "Backoff")]), unit("x", "Backoff", port=8001))
    assert "StartService y" not in acts(s)
