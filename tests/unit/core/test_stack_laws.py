"""What is true of every decision about a stack or a restart, whatever is declared, told and seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainstay.api.meta import FINALIZER
from mainstay.api.servicestack import (
    RESERVED_PORTS,
    RestartRef,
    ServiceStack,
    ServiceState,
    ServiceStatus,
    StackGoal,
)
from mainstay.api.stackrestart import OVER, RestartMode, RestartPhase, StackRestart, StepName
from mainstay.core import plan as p
from mainstay.core.restart.decide import decide as decide_restart
from mainstay.core.restart.snapshot import STEPS, Lately, RestartSnapshot
from mainstay.core.snapshot import LeaseView
from mainstay.core.stack.decide import decide as decide_stack
from mainstay.core.stack.snapshot import RestartView, ServiceView, StackSnapshot, Wish, wish_at
from mainstay.core.stack.spec import inputs_of, ports_of
from mainstay.core.unit import LIVE, Exit, PortHolder, ProbeResult, ProcessId, Unit, UnitState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES = ("a", "b", "c")
PORTS = (8001, 8002, 8003, 5000)  # the last is reserved: the API server would refuse it
STRANGERS = (
    *[{"process": ProcessId(7, 7, "boot")}] * 6,
    {"process": None},
    {"process": ProcessId(8, 8, "boot"), "protected": "it is part of Mainstay"},
)
MANY = settings(
    max_examples=100, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@st.composite
def declared(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, 3))]
    found = []
    for at, name in enumerate(names):
        port = draw(st.sampled_from([None, *PORTS]))
        if port in [one.get("port") for one in found]:
            port = None
        needs = draw(st.lists(st.sampled_from(names[:at] or ["none"]), max_size=2, unique=True)) if at else []
        policy = draw(st.sampled_from(["Always", "OnFailure", "Never"]))
        found.append(
            {
                "name": name,
                "kind": "Http" if port else "Background",
                "program": {"command": [name, draw(st.sampled_from("12"))]},
                "dependsOn": needs,
                "restartPolicy": {"policy": policy},
                **({"port": port} if port else {}),
            }
        )
    return found


@st.composite
def stacks(draw: st.DrawFn) -> ServiceStack:
    services = draw(declared())
    meta = {"name": "web", "namespace": "default", "uid": "u", "generation": 2, "finalizers": [FINALIZER]}
    if draw(st.integers(0, 5)) == 0:
        meta["deletionTimestamp"] = NOW
    told = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        state = draw(st.sampled_from(list(ServiceState)))
        attempt = draw(st.integers(1, 3))
        reason = draw(
            st.sampled_from(["", "Running", "Restarting", "Completed", "InputsChanged", "CrashLoopBackOff"])
        )
        told.append(
            {"name": name, "state": state, "attempt": attempt, "reason": reason, "ready": draw(st.booleans())}
        )
        if one := next((s for s in services if s["name"] == name), None):
            told[-1]["inputsHash"] = draw(st.sampled_from([_hash(one), "sha256:old"]))
    status = {"services": told}
    if draw(st.booleans()):
        status |= {"restart": {"name": "r", "uid": draw(st.sampled_from(["r1", "r0"]))}}
    state = draw(st.sampled_from(["Running", "Running", "Stopped"]))
    return ServiceStack.model_validate(
        {"metadata": meta, "spec": {"services": services, "state": state}, "status": status}
    )


def _hash(service: dict[str, Any]) -> str:
    spec = {"services": [{**service, "dependsOn": []}]}
    return inputs_of(
        ServiceStack.model_validate({"metadata": {"name": "x"}, "spec": spec}).spec.services[0], {}
    ).hash


@st.composite
def units(draw: st.DrawFn, name: str) -> Unit:
    state = draw(st.sampled_from(list(UnitState)))
    if state is UnitState.ABSENT:
        return Unit(name, state, defined=False)
    stopping = draw(st.sampled_from([1.0, 31.0])) if state is UnitState.STOPPING else None
    return Unit(
        name,
        state,
        owner_uid=draw(st.sampled_from(["u", "u", "u", "before"])),
        attempt=draw(st.integers(1, 3)),
        port=draw(st.sampled_from([None, *PORTS])),
        inputs_hash=draw(st.sampled_from(["", "sha256:old"])),
        leader=ProcessId(100 + NAMES.index(name), 7, "boot") if state in LIVE else None,
        started_at=NOW.timestamp() - draw(st.sampled_from([0.1, 1.5, 60.0])),
        restarts=draw(st.integers(0, 2)),
        exit=draw(st.sampled_from([None, Exit(0), Exit(1), Exit(None, 9)])),
        stopping_seconds=stopping,
        held_locally=draw(st.integers(0, 7)) == 0,
        defined=draw(st.integers(0, 7)) > 0,
    )


@st.composite
def holders(
    draw: st.DrawFn, seen: dict[str, Unit], counts: tuple[int, ...] = (0, 0, 0, 1, 2)
) -> dict[int, tuple[PortHolder, ...]]:
    found: dict[int, list[PortHolder]] = {}
    for port in PORTS:
        for _ in range(draw(st.sampled_from(counts))):
            how = draw(st.sampled_from(STRANGERS))
            found.setdefault(port, []).append(PortHolder(port, f"pid 7 (nc {port})", **how))
    for name, unit in seen.items():
        if unit.port is not None and unit.state is UnitState.RUNNING and draw(st.booleans()):
            found.setdefault(unit.port, []).append(PortHolder(unit.port, f"pid ({name})", unit.leader, name))
    return {port: tuple(some) for port, some in found.items()}


@st.composite
def stack_snapshots(draw: st.DrawFn) -> StackSnapshot:
    stack = draw(stacks())
    known = {one.name: one for one in stack.spec.services}
    seen = {name: draw(units(name)) for name in NAMES}
    views = {}
    for name in dict.fromkeys((*known, *(one.name for one in stack.status.services), *NAMES)):
        if name in known or stack.status.service(name) or seen[name].state is not UnitState.ABSENT:
            views[name] = ServiceView(
                name=name,
                spec=known.get(name),
                status=stack.status.service(name) or ServiceStatus(name=name),
                unit=seen[name],
                probe=draw(st.sampled_from([None, ProbeResult(ready=True), ProbeResult(False, "refused")])),
                clock=NOW,
                **({"inputs": inputs_of(known[name], {})} if name in known else {}),
            )
    leased = draw(st.lists(st.sampled_from(PORTS), unique=True))
    taken = {
        port: "StrategyRun default/x" for port in PORTS if port not in leased and draw(st.integers(0, 4)) == 0
    }
    restart = None
    if draw(st.booleans()):
        mode = draw(st.sampled_from(list(RestartMode)))
        step = draw(st.sampled_from([None, *STEPS[mode]]))
        phase = draw(st.sampled_from([None, RestartPhase.PENDING, RestartPhase.RUNNING]))
        restart = RestartView("r", "r1", mode, phase, step)
    return StackSnapshot(
        stack=stack,
        now=NOW,
        services=views,
        leases=tuple(LeaseView(f"port-{port}", port, f"l{port}", "1") for port in leased),
        taken=taken,
        holders=draw(holders(seen)),
        supervisor=draw(st.sampled_from([None, ProcessId(5, 5, "boot")])),
        restart=restart,
    )


def told(s: StackSnapshot, status: Any) -> StackSnapshot:
    """The same world with that status, and what was forgotten and never seen left out."""
    views = {
        name: replace(v, status=status.service(name) or ServiceStatus(name=name))
        for name, v in s.services.items()
        if v.spec is not None or status.service(name) or v.unit.state is not UnitState.ABSENT
    }
    return replace(s, stack=s.stack.model_copy(update={"status": status}), services=views)


def settled(s: StackSnapshot) -> tuple[StackSnapshot, p.Plan[Any]]:
    """With an unchanged world, writes end: a claim, what is found under it, and what follows for the others."""
    for _ in range(8):
        plan = decide_stack(s)
        if not isinstance(plan, p.Write):
            return s, plan
        s = told(s, plan.status)
    raise AssertionError(f"it writes and writes: {s.status}")


def actions(plan: p.Plan[Any]) -> tuple[p.Action, ...]:
    match plan:
        case p.Act(action=action):
            return (action,)
        case p.ActAll(actions=some):
            return some
        case _:
            return ()


@given(stack_snapshots())
@MANY
def test_writes_about_a_stack_end_and_are_never_repeated(s):
    settled_, plan = settled(s)
    assert decide_stack(settled_) == plan


@given(stack_snapshots())
@MANY
def test_a_write_is_a_change_and_no_attempt_falls(s):
    plan = decide_stack(s)
    if isinstance(plan, p.Write):
        assert plan.status != s.status
        for one in s.status.services:
            later = plan.status.service(one.name)
            assert later is None or later.attempt >= one.attempt


@given(stack_snapshots())
@MANY
def test_every_act_on_a_service_has_its_claim(s):
    s, plan = settled(s)
    for action in actions(plan):
        match action:
            case p.StartService(service=name, attempt=attempt):
                _may_start(s, name, attempt)
            case p.StopService(service=name, force=force):
                _may_stop(s, name, force=force)
            case p.RemoveService(service=name):
                assert not s.services[name].live
            case p.CreateLease(port=port):
                assert port in ports_of(s.stack.spec)
                assert port not in {lease.port for lease in s.leases} | s.taken.keys()
            case p.DeleteLease(name=name):
                port = next(lease.port for lease in s.leases if lease.name == name)
                assert not any(v.live and v.unit.port == port for v in s.services.values())
                assert s.deleting or port not in ports_of(s.stack.spec)
            case p.RemoveScope() | p.RemoveFinalizer():
                assert s.deleting
                assert not any(v.live for v in s.services.values())
            case _:
                assert isinstance(action, p.DefineService | p.ResumeService)
                assert s.services[action.service].live


def _may_start(s: StackSnapshot, name: str, attempt: int) -> None:
    view, claim = s.services[name], s.status.service(name)
    assert claim is not None
    assert (claim.state, claim.attempt) == (ServiceState.STARTING, attempt)
    assert not view.live
    assert view.spec is not None
    assert not s.resting
    assert s.wish is Wish.RUN
    assert not view.unit.held_locally
    assert view.spec.port is None or view.spec.port in {lease.port for lease in s.leases}
    assert not [one for one in s.holders.get(view.spec.port or 0, ()) if one.unit != name]
    for other in s.services.values():
        assert other.name == name or not other.live or other.unit.port in (None, *_not(view.spec.port))
    for needed in view.spec.depends_on:
        assert s.services[needed].live
        assert s.services[needed].status.ready


def _not(port: int | None) -> list[int]:
    return [one for one in PORTS if one != port]


def _may_stop(s: StackSnapshot, name: str, *, force: bool) -> None:
    view, claim = s.services[name], s.status.service(name)
    assert claim is not None
    later = claim.attempt > view.unit.attempt
    predecessor = view.unit.owner_uid == "before"
    assert claim.state is ServiceState.STOPPING or later or predecessor
    if force and s.wish is not Wish.KILL:
        assert view.unit.stopping_seconds is not None
        assert view.unit.stopping_seconds >= 10


@st.composite
def under_way(draw: st.DrawFn) -> ServiceStack:
    """A stack that is to run, and has claimed the restart."""
    stack = draw(stacks())
    meta = stack.metadata.model_copy(update={"deletion_timestamp": None})
    status = stack.status.model_copy(update={"restart": RestartRef(name="r", uid="r1")})
    spec = stack.spec.model_copy(update={"state": StackGoal.RUNNING})
    return stack.model_copy(update={"metadata": meta, "status": status, "spec": spec})


@st.composite
def restart_snapshots(draw: st.DrawFn) -> RestartSnapshot:
    mode = draw(st.sampled_from(list(RestartMode)))
    names = STEPS[mode]
    at = draw(st.sampled_from([0, 0, *range(len(names))]))
    phase = draw(st.sampled_from([*["Running"] * 12, None, "Pending", "Completed", "Failed"]))
    status: dict[str, Any] = {"phase": phase}
    if phase == "Running":
        states = ["Completed"] * at + ["Running"] + ["Pending"] * (len(names) - at - 1)
        status |= {
            "step": names[at],
            "steps": [{"name": n, "state": x} for n, x in zip(names, states, strict=True)],
        }
        status["supervisor"] = draw(st.sampled_from([None, {"pid": 5, "startTicks": 5, "bootId": "boot"}]))
    elif phase in ("Completed", "Failed"):
        status["completedAt"] = NOW
    meta = {"name": "r", "namespace": "default", "uid": "r1", "generation": 1}
    spec = {"stack": "web", "mode": mode, "ttlSecondsAfterFinished": draw(st.sampled_from([0, 60]))}
    seen = {name: draw(units(name)) for name in NAMES}
    return RestartSnapshot(
        restart=StackRestart.model_validate({"metadata": meta, "spec": spec, "status": status}),
        now=NOW,
        stack=draw(st.one_of(*[under_way()] * 6, stacks(), st.none())),
        ahead=draw(st.sampled_from(["", "r0"])),
        units=seen,
        probes={name: ProbeResult(draw(st.booleans()), "refused") for name in NAMES if draw(st.booleans())},
        holders=draw(holders(seen, (0, 1, 1))),
        supervisor=draw(st.sampled_from([None, ProcessId(5, 5, "boot"), ProcessId(6, 6, "boot")])),
        lately=Lately(
            draw(st.sampled_from([0.0, 3.0, 25.0, 500.0])),
            draw(st.sampled_from([None, 1.0, 6.0, 60.0])),
            draw(st.booleans()),
            draw(st.sampled_from(["", "no answer"])),
        ),
    )


@given(restart_snapshots())
@settings(MANY, max_examples=200)
def test_every_act_of_a_restart_has_its_step(s):
    plan = decide_restart(s)
    if isinstance(plan, p.Write) and plan.status.step == s.status.step:  # what is told before it is done
        s = replace(s, restart=s.restart.model_copy(update={"status": plan.status}))
        plan = decide_restart(s)
    for action in actions(plan):
        if isinstance(action, p.DeleteRestart):
            assert s.status.phase in OVER
            continue
        assert s.claimed
        assert s.status.phase is RestartPhase.RUNNING
        step = s.status.step
        match action:
            case p.EndHolders(ports=ports, force=force):
                assert step is StepName.FLUSH_PORTS
                assert not set(ports) & set(RESERVED_PORTS)
                assert set(ports) <= ports_of(s.declared.spec).keys()
                assert all(one.endable for one in s.strangers)
                assert not force or (s.lately.flush_seconds or 0) >= s.timeouts.flush_seconds
            case p.EndSupervisor(force=force):
                assert step in (StepName.STOP_SUPERVISOR, StepName.KILL_SUPERVISOR)
                assert force is (s.mode is RestartMode.EMERGENCY)
            case p.StartSupervisor():
                assert step is StepName.START_SUPERVISOR
            case _:
                raise AssertionError(action)


@given(restart_snapshots())
@MANY
def test_a_restart_goes_forward_one_step_at_a_time_and_ends_once(s):
    plan = decide_restart(s)
    if not isinstance(plan, p.Write):
        return
    assert plan.status != s.status
    assert s.status.phase not in OVER
    names = STEPS[s.mode]
    before = names.index(s.status.step) if s.status.step else -1
    match plan.status.phase:
        case RestartPhase.RUNNING:
            assert plan.status.step is not None
            assert names.index(plan.status.step) - before in (0, 1)
            assert s.claimed
        case RestartPhase.COMPLETED:
            assert before == len(names) - 1
            assert all(one.state == "Completed" for one in plan.status.steps)
            assert s.mode is RestartMode.FLUSH or all(one.up for one in plan.status.verified)
        case _:
            assert plan.status.phase in (RestartPhase.PENDING, RestartPhase.FAILED)
    assert (plan.status.phase in OVER) is (plan.status.completed_at is not None)


@given(restart_snapshots())
@MANY
def test_writes_of_a_restart_end(s):
    """With an unchanged world; a step that is done claims the next, so there are no more than there are steps."""
    for _ in range(len(STEPS[s.mode]) + 4):
        plan = decide_restart(s)
        if not isinstance(plan, p.Write):
            return
        s = replace(s, restart=s.restart.model_copy(update={"status": plan.status}))
    raise AssertionError(f"it writes and writes: {s.status}")


@pytest.mark.parametrize("mode", list(RestartMode))
def test_nothing_is_started_before_the_ports_are_verified(mode):
    names = STEPS[mode]
    if mode is RestartMode.FLUSH:
        assert {wish_at(mode, name) for name in names} == {Wish.RUN}
        return
    verified = names.index(StepName.VERIFY_PORTS)
    assert all(wish_at(mode, name) is not Wish.RUN for name in names[: verified + 1])
    assert all(wish_at(mode, name) is Wish.RUN for name in names[verified + 1 :])
    supervisor = {StepName.STOP_SUPERVISOR, StepName.KILL_SUPERVISOR, StepName.START_SUPERVISOR} & set(names)
    assert all(wish_at(mode, name) in (Wish.STOP, Wish.KILL) for name in supervisor)
