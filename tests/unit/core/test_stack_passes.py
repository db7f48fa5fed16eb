"""What a stack writes at once, what it writes later, and what a restart looks at: passes cost more than decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.core import test_restart_decide as restarts
from tests.unit.core.test_stack_decide import NOW, hash_of, service, snap, stack, told, unit

from mainstay.api.servicestack import PortState, ServiceStackStatus, ServiceState
from mainstay.api.stackrestart import RestartMode
from mainstay.core.plan import ActAll, StartService, StopService, Wait, Write
from mainstay.core.restart.snapshot import STEPS, Lately, Look
from mainstay.core.restart.steps import looks, step
from mainstay.core.stack.decide import decide
from mainstay.core.stack.snapshot import StackSnapshot
from mainstay.core.unit import PortHolder, ProbeResult, Unit

DB, API, APP = service("db"), service("api", 8001, "db"), service("app", None, "api")
ALL = (APP, API, DB)


def written(s: StackSnapshot) -> StackSnapshot:
    """The snapshot after its write; the plan must be one."""
    plan = decide(s)
    assert isinstance(plan, Write)
    status: ServiceStackStatus = plan.status
    views = {name: replace(v, status=status.service(name) or v.status) for name, v in s.services.items()}
    return replace(s, stack=s.stack.model_copy(update={"status": status}), services=views)


def settled(s: StackSnapshot) -> StackSnapshot:
    """The snapshot after all the writes that follow from it."""
    for _ in range(5):
        if not isinstance(decide(s), Write):
            return s
        s = written(s)
    raise AssertionError("it never stops writing")


def seen(s: StackSnapshot, one: Unit, **more: Any) -> StackSnapshot:
    """The same, but for what is seen of a service."""
    view = replace(s.services[one.name], unit=one, **more)
    return replace(s, services={**s.services, one.name: view})


def states(s: StackSnapshot) -> dict[str, str]:
    return {one.name: str(one.state) for one in s.status.services}


# --- starting


def starting() -> StackSnapshot:
    """db is claimed and started, the others wait for it."""
    s = settled(snap(stack(*ALL)))
    assert states(s) == {"app": "Pending", "api": "Pending", "db": "Starting"}
    return s


def test_who_waited_is_claimed_in_the_write_that_tells_that_it_is_ready():
    s = written(seen(starting(), unit("db", inputs_hash=hash_of(DB))))
    assert states(s) == {"app": "Pending", "api": "Starting", "db": "Running"}
    assert decide(s) == ActAll((StartService("api", 1),))


def test_but_only_who_needs_nothing_else():
    s = starting()
    assert states(written(seen(s, unit("db", inputs_hash=hash_of(DB)))))["app"] == "Pending"


def test_a_service_that_stops_being_ready_holds_up_who_waits_in_the_same_pass():
    s = settled(snap(stack(API, DB, told=[told(DB)]), unit("db", inputs_hash=hash_of(DB))))
    assert states(s)["api"] == "Starting"
    crashed = seen(s, unit("db", "Backoff", inputs_hash=hash_of(DB)))
    assert states(written(crashed)) == {"api": "Pending", "db": "Backoff"}


def young(name: str, of: dict[str, Any], age: float) -> Unit:
    return unit(name, inputs_hash=hash_of(of), started_at=NOW.timestamp() - age)


@pytest.mark.parametrize(("age", "waits"), [(0.1, True), (1.9, True), (2.1, False)])
def test_the_process_and_port_of_a_service_that_starts_are_told_with_what_comes_of_it(age, waits):
    no = {"probe": ProbeResult(False, "connection refused")}
    s = settled(snap(stack(service("api", 8001))))
    held = {8001: (PortHolder(8001, "pid 101 (api)", unit("api").leader, "api"),)}
    s = replace(seen(s, young("api", service("api", 8001), age), **no), holders=held)
    assert isinstance(decide(s), Wait if waits else Write)


def test_a_stranger_is_told_at_once():
    s = settled(snap(stack(DB, service("api", 8001))))
    s = seen(s, young("db", DB, 0.1))
    s = settled(s)
    s = replace(s, holders={8001: (PortHolder(8001, "pid 7 (nc)"),)})
    assert written(s).status.ports[0].state is PortState.FOREIGN


# --- stopping


def stopping() -> StackSnapshot:
    """All claimed to be stopped, and nobody asked yet."""
    port = service("api", None, "db")
    services = (service("app", None, "api"), port, DB)
    running = [told(one) for one in services]
    units = [unit(one["name"], inputs_hash=hash_of(one)) for one in services]
    return settled(snap(stack(*services, told=running, state="Stopped"), *units))


def test_the_next_is_asked_to_end_before_it_is_told_that_one_has_ended():
    s = stopping()
    assert decide(s) == ActAll((StopService("app", 30.0),))
    s = seen(s, unit("app", "Exited"))
    assert decide(s) == ActAll((StopService("api", 30.0),))


def test_and_that_is_told_as_soon_as_it_was_asked():
    s = seen(seen(stopping(), unit("app", "Exited")), unit("api", "Stopping"))
    assert states(written(s)) == {"app": "Stopped", "api": "Stopping", "db": "Stopping"}


def test_nobody_is_asked_to_end_without_a_claim():
    s = stopping()
    unclaimed = replace(s.services["api"], status=told(service("api", None, "db")))
    status = s.status.model_copy(
        update={
            "services": tuple(unclaimed.status if one.name == "api" else one for one in s.status.services)
        }
    )
    s = replace(s, stack=s.stack.model_copy(update={"status": status}))
    s = replace(s, services={**s.services, "api": unclaimed})
    s = seen(s, unit("app", "Exited"))
    plan = decide(s)
    assert isinstance(plan, Write)
    assert plan.status.service("api").state is ServiceState.STOPPING


# --- what a restart looks at

EMPTY = {Look.UNITS: "units", Look.PORTS: "holders", Look.PROBES: "probes"}
SITUATIONS = [
    pytest.param(mode, name, state, seconds, id=f"{mode}-{name}-{state}-{seconds:.0f}")
    for mode in RestartMode
    for name in STEPS[mode]
    for state in ("Stopped", "Running")
    for seconds in (0.0, 1000.0)
]


@pytest.mark.parametrize(("mode", "name", "state", "seconds"), SITUATIONS)
def test_what_a_step_comes_to_does_not_change_by_what_it_does_not_look_at(mode, name, state, seconds):
    services = [restarts.DB, restarts.API, restarts.JOB]
    status = [{"name": one["name"], "state": state, "ready": state == "Running"} for one in services]
    s = restarts.snap(
        str(mode),
        str(name),
        restarts.stack(told=status),
        told={"supervisor": restarts.CLAIM},
        units={one["name"]: restarts.unit(one["name"]) for one in services},
        holders={8001: (PortHolder(8001, "pid 7 (nc)"),)},
        probes={"api": ProbeResult(True)},
        supervisor=restarts.NEW,
        lately=Lately(step_seconds=seconds),
    )
    bare = replace(s, **{word: {} for look, word in EMPTY.items() if look not in looks(s)})
    if Look.SUPERVISOR not in looks(s):
        bare = replace(bare, supervisor=None)
    assert looks(bare) == looks(s)
    assert step(bare) == step(s)
