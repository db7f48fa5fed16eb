"""What is decided about a restart: refusals, whose turn it is, and each step: done, failed, to be done, or waiting."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from mainstay.api.conditions import find
from mainstay.api.servicestack import ServiceStack
from mainstay.api.stackrestart import RestartMode, StackRestart
from mainstay.core import plan as p
from mainstay.core.restart.decide import TURN_SECONDS, decide
from mainstay.core.restart.snapshot import STEPS, Lately, RestartSnapshot
from mainstay.core.restart.steps import Do, Done, Failed, Outcome, Waiting, step
from mainstay.core.unit import Exit, PortHolder, ProbeResult, ProcessId, Unit, UnitState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD, NEW = ProcessId(50, 5, "boot"), ProcessId(60, 6, "boot")
CLAIM = {"pid": 50, "startTicks": 5, "bootId": "boot"}
LIVING = (UnitState.RUNNING, UnitState.PAUSED, UnitState.STOPPING, UnitState.BACKOFF)


def service(name: str, port: int | None = None, *needs: str, **more: Any) -> dict[str, Any]:
    program = {"command": [name], **more.pop("program", {})}
    kind = more.pop("kind", "Http" if port else "Background")
    one = {"name": name, "kind": kind, "program": program, "dependsOn": list(needs), **more}
    return one | ({"port": port} if port else {})


DB, API, JOB = service("db", 8001), service("api", 8002, "db"), service("job")


def stack(
    *services: dict[str, Any], told: Any = (), claim: str = "r1", deleting: bool = False, **spec: Any
) -> ServiceStack:
    meta = {
        "name": "web",
        "namespace": "default",
        "uid": "u",
        **({"deletionTimestamp": NOW} if deleting else {}),
    }
    status = {"services": list(told), **({"restart": {"name": "r", "uid": claim}} if claim else {})}
    spec = {"services": services or (DB, API, JOB), **spec}
    return ServiceStack.model_validate({"metadata": meta, "spec": spec, "status": status})


def status(mode: str = "Full", at: str | None = None, **more: Any) -> dict[str, Any]:
    """Of a restart at that step."""
    names = [str(name) for name in STEPS[RestartMode(mode)]]
    if at is None:
        return dict(more)
    passed = names[: names.index(at)]
    details = more.pop("details", ())
    steps = [
        {"name": n, "state": "Completed" if n in passed else "Running" if n == at else "Pending"}
        | ({"details": details} if n == at else {})
        for n in names
    ]
    return {"phase": "Running", "step": at, "steps": steps, "startedAt": NOW, **more}


def snap(
    mode: str = "Full",
    at: str | None = None,
    of: ServiceStack | None = None,
    *,
    told: dict[str, Any] | None = None,
    owner: dict[str, Any] | None = None,
    ttl: int = 60,
    **more: Any,
) -> RestartSnapshot:
    spec = {"stack": "web", "mode": mode, "ttlSecondsAfterFinished": ttl, "owner": owner}
    meta = {"name": "r", "namespace": "default", "uid": "r1", "generation": 1}
    restart = StackRestart.model_validate(
        {"metadata": meta, "spec": spec, "status": status(mode, at, **(told or {}))}
    )
    return RestartSnapshot(restart=restart, now=NOW, stack=stack() if of is None else of, **more)


def unit(name: str, state: str = "Running", age: float = 60, **more: Any) -> Unit:
    found = UnitState(state)
    leader = ProcessId(100, 7, "boot") if found in LIVING else None
    return Unit(
        name, found, owner_uid="u", attempt=1, leader=leader, started_at=NOW.timestamp() - age, **more
    )


def units(*some: Unit) -> dict[str, Unit]:
    return {one.name: one for one in some}


def nc(port: int = 8001, **more: Any) -> PortHolder:
    return PortHolder(port, f"pid 7 (nc {port})", **{"process": ProcessId(7, 7, "boot"), **more})


def own(name: str, port: int) -> PortHolder:
    return PortHolder(port, f"pid 100 ({name})", ProcessId(100, 7, "boot"), unit=name)


def at_port(*holders: PortHolder) -> dict[int, tuple[PortHolder, ...]]:
    return {port: tuple(h for h in holders if h.port == port) for port in sorted({h.port for h in holders})}


def told(state: str, *names: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "state": state, "ready": state == "Running", **more}
        for name in names or ("db", "api", "job")
    ]


ALL_UP = units(unit("db"), unit("api"), unit("job"))
HELD = at_port(own("db", 8001), own("api", 8002))
ANSWERS = {"db": ProbeResult(ready=True), "api": ProbeResult(ready=True)}
ENDED = units(
    unit("db", "Exited", exit=Exit(0)),
    unit("api", "Exited", exit=Exit(None, 9)),
    unit("job", "Exited", exit=Exit(None, 15)),
)

STEP_CASES: dict[str, tuple[RestartSnapshot, type, str]] = {
    # --- FlushPorts
    "flush: nobody there": (snap("Full", "FlushPorts"), Done, "no stranger held an assigned port"),
    "flush: own services are no strangers": (snap("Full", "FlushPorts", holders=HELD), Done, "no stranger"),
    "flush: asked to stop first": (snap("Full", "FlushPorts", holders=at_port(nc())), Do, "ask 8001"),
    "flush: waits for its time": (
        snap(
            "Full",
            "FlushPorts",
            holders=at_port(nc()),
            told={"details": ["port 8001: pid 7 (nc 8001) was asked to stop"]},
            lately=Lately(flush_seconds=4.9),
        ),
        Waiting,
        "poll",
    ),
    "flush: a new one meanwhile is asked too": (
        snap(
            "Full",
            "FlushPorts",
            holders=at_port(nc(), nc(8002)),
            told={"details": ["port 8001: pid 7 (nc 8001) was asked to stop"]},
            lately=Lately(flush_seconds=1),
        ),
        Do,
        "ask 8001 8002",
    ),
    "flush: killed after its time": (
        snap("Full", "FlushPorts", holders=at_port(nc()), lately=Lately(flush_seconds=5)),
        Do,
        "kill 8001",
    ),
    "flush: its time is flushSeconds": (
        snap(
            "Full",
            "FlushPorts",
            stack(timeouts={"flushSeconds": 60}),
            holders=at_port(nc()),
            lately=Lately(flush_seconds=59),
        ),
        Do,
        "ask 8001",
    ),
    "flush: back after the kill": (
        snap("Full", "FlushPorts", holders=at_port(nc()), lately=Lately(flush_seconds=10)),
        Failed,
        "still held, or taken again after they were ended: port 8001 by pid 7 (nc 8001)",
    ),
    "flush: one of two is protected, none is ended": (
        snap("Full", "FlushPorts", holders=at_port(nc(), nc(8002, protected="it is part of Mainstay"))),
        Failed,
        "never ended: it is part of Mainstay. Give one of the two another port. Nothing of it was ended",
    ),
    "flush: one of two can't be seen, none is ended": (
        snap("Full", "FlushPorts", holders=at_port(nc(), nc(8002, process=None))),
        Failed,
        "can't be seen from here. End it as its own user. Nothing of it was ended",
    ),
    "flush: gone, and told of": (
        snap("Full", "FlushPorts", told={"details": ["port 8001: pid 7 (nc 8001) was asked to stop"]}),
        Done,
        "1 listener of strangers ended",
    ),
    "flush: a holder of a reserved port is nobody": (
        snap("Full", "FlushPorts", holders=at_port(nc(5000))),
        Done,
        "no stranger held an assigned port",
    ),
    # --- CheckPorts
    "check: free": (snap("Quick", "CheckPorts", holders=HELD), Done, "no stranger holds an assigned port"),
    "check: a stranger": (snap("Quick", "CheckPorts", holders=at_port(nc())), Failed, "Nothing was touched"),
    # --- StopServices
    "stop: one lives": (snap("Full", "StopServices", units=units(unit("db", "Stopping"))), Waiting, ""),
    "stop: none lives, and status doesn't say so yet": (
        snap("Full", "StopServices", stack(told=told("Starting")), units=ENDED),
        Waiting,
        "",
    ),
    "stop: all are told to be stopped": (
        snap("Full", "StopServices", stack(told=told("Stopped")), units=ENDED),
        Done,
        "3 services stopped, 1 of them killed",
    ),
    "stop: one that isn't declared lives": (
        snap("Full", "StopServices", stack(told=told("Stopped")), units=units(unit("old"))),
        Waiting,
        "",
    ),
    "stop: the kernel holds one": (
        snap("Full", "StopServices", units=units(unit("db", "Stopping")), lately=Lately(121)),
        Failed,
        "still alive after 120 s and KILL: db (pid 100). The kernel holds them",
    ),
    "kill: nobody is told to be killed in particular": (
        snap("Emergency", "KillServices", stack(told=told("Stopped")), units=ENDED),
        Done,
        "3 services stopped",
    ),
    # --- StopSupervisor
    "supervisor: to be ended": (
        snap("Full", "StopSupervisor", told={"supervisor": CLAIM}, supervisor=OLD),
        Do,
        "end 10",
    ),
    "supervisor: by KILL in an emergency": (
        snap("Emergency", "KillSupervisor", told={"supervisor": CLAIM}, supervisor=OLD),
        Do,
        "end 10 by force",
    ),
    "supervisor: ended by us": (
        snap("Full", "StopSupervisor", told={"supervisor": CLAIM}, lately=Lately(ended=True)),
        Done,
        "supervisord (pid 50) stopped; socket and pid file removed",
    ),
    "supervisor: killed by us": (
        snap("Emergency", "KillSupervisor", told={"supervisor": CLAIM}, lately=Lately(ended=True)),
        Done,
        "supervisord (pid 50) killed",
    ),
    "supervisor: another answers already": (
        snap("Full", "StopSupervisor", told={"supervisor": CLAIM}, supervisor=NEW),
        Done,
        "supervisord (pid 50) stopped",
    ),
    "supervisor: silent, so it may still be there": (
        snap("Full", "StopSupervisor", told={"supervisor": CLAIM}),
        Do,
        "end 10",
    ),
    "supervisor: hung when it was claimed": (snap("Full", "StopSupervisor"), Do, "end 10"),
    "supervisor: hung, and ended": (
        snap("Full", "StopSupervisor", lately=Lately(ended=True)),
        Done,
        "supervisord, which did not answer, stopped",
    ),
    "supervisor: can't be ended": (
        snap("Full", "StopSupervisor", supervisor=OLD, lately=Lately(31, trouble="no answer")),
        Failed,
        "supervisord can't be ended: no answer",
    ),
    # --- StartSupervisor
    "start supervisor: to be started": (
        snap("Full", "StartSupervisor", told={"supervisor": CLAIM}),
        Do,
        "start",
    ),
    "start supervisor: the old one still answers": (
        snap("Full", "StartSupervisor", told={"supervisor": CLAIM}, supervisor=OLD),
        Do,
        "start",
    ),
    "start supervisor: a new one answers": (
        snap("Full", "StartSupervisor", told={"supervisor": CLAIM}, supervisor=NEW),
        Done,
        "supervisord (pid 60) answers",
    ),
    "start supervisor: tried again": (
        snap("Full", "StartSupervisor", lately=Lately(19, trouble="no space left")),
        Do,
        "start",
    ),
    "start supervisor: in vain": (
        snap("Full", "StartSupervisor", lately=Lately(21, trouble="no space left")),
        Failed,
        "supervisord does not start: no space left",
    ),
    # --- VerifyPorts
    "ports: free": (snap("Full", "VerifyPorts"), Done, "2 assigned ports free"),
    "ports: a socket of our own that is going": (snap("Full", "VerifyPorts", holders=HELD), Waiting, "poll"),
    "ports: and doesn't go": (
        snap("Full", "VerifyPorts", holders=HELD, lately=Lately(2.1)),
        Failed,
        "port 8001 is held by service db of this stack",
    ),
    "ports: a stranger since the flush": (
        snap("Full", "VerifyPorts", holders=at_port(nc())),
        Failed,
        "It was taken after the flush",
    ),
    "ports: a stranger, and no flush": (
        snap("Quick", "VerifyPorts", holders=at_port(nc())),
        Failed,
        "`kubectl mainstay flush web` ends it.",
    ),
    # --- StartServices
    "start: on their way": (snap("Full", "StartServices", stack(told=told("Starting"))), Waiting, ""),
    "start: nothing told yet": (snap("Full", "StartServices"), Waiting, ""),
    "start: all up": (
        snap("Full", "StartServices", stack(told=told("Running"))),
        Done,
        "3 of 3 services started",
    ),
    "start: too late": (
        snap("Full", "StartServices", stack(told=told("Starting")), lately=Lately(60)),
        Done,
        "0 of 3 services started; not up after 60 s: db, api, job",
    ),
    "start: one crashes once": (
        snap(
            "Full",
            "StartServices",
            stack(told=[*told("Running", "db", "api"), *told("Backoff", "job", restarts=1)]),
        ),
        Waiting,
        "",
    ),
    "start: one crashes and crashes": (
        snap(
            "Full",
            "StartServices",
            stack(told=[*told("Running", "db", "api"), *told("Backoff", "job", restarts=2)]),
        ),
        Done,
        "2 of 3 services started",
    ),
    "start: what it needs is Fatal": (
        snap(
            "Full",
            "StartServices",
            stack(
                told=[
                    *told("Fatal", "db", reason="ProcessFailed"),
                    *told("Pending", "api", reason="DependencyNotReady"),
                    *told("Running", "job"),
                ]
            ),
        ),
        Done,
        "1 of 3 services started",
    ),
    "start: what it needs is on its way": (
        snap(
            "Full",
            "StartServices",
            stack(
                told=[
                    *told("Starting", "db"),
                    *told("Pending", "api", reason="DependencyNotReady"),
                    *told("Running", "job"),
                ]
            ),
        ),
        Waiting,
        "",
    ),
    "start: its port is a stranger's": (
        snap(
            "Full",
            "StartServices",
            stack(told=[*told("Pending", "db", reason="PortForeign"), *told("Running", "api", "job")]),
        ),
        Done,
        "2 of 3 services started",
    ),
    "start: one is held on its host": (
        snap(
            "Full",
            "StartServices",
            stack(told=[*told("Stopped", "db", reason="HeldLocally"), *told("Running", "api", "job")]),
        ),
        Done,
        "2 of 3 services started",
    ),
    "start: one has completed": (
        snap("Full", "StartServices", stack(told=[*told("Running", "db", "api"), *told("Completed", "job")])),
        Done,
        "3 of 3 services started",
    ),
    # --- Verify
    "verify: all up": (
        snap("Full", "Verify", stack(told=told("Running")), units=ALL_UP, holders=HELD, probes=ANSWERS),
        Done,
        "3 of 3 services up",
    ),
    "verify: an Http one that doesn't listen, yet": (
        snap(
            "Full",
            "Verify",
            stack(told=told("Running")),
            units=ALL_UP,
            holders=at_port(own("db", 8001)),
            probes=ANSWERS,
        ),
        Waiting,
        "poll",
    ),
    "verify: an Http one that doesn't listen": (
        snap(
            "Full",
            "Verify",
            stack(told=told("Running")),
            units=ALL_UP,
            holders=at_port(own("db", 8001)),
            probes=ANSWERS,
            lately=Lately(3),
        ),
        Failed,
        "api is not up: pid 100, but nothing listens on port 8002",
    ),
    "verify: one that doesn't answer": (
        snap(
            "Full",
            "Verify",
            stack(told=told("Running")),
            units=ALL_UP,
            holders=HELD,
            probes={**ANSWERS, "api": ProbeResult(ready=False, message="503")},
            lately=Lately(3),
        ),
        Failed,
        "api is not up: pid 100, holds port 8002, but does not answer: 503",
    ),
    "verify: one that wasn't asked": (
        snap("Full", "Verify", stack(told=told("Running")), units=ALL_UP, holders=HELD, lately=Lately(3)),
        Failed,
        "but does not answer: it was not asked",
    ),
    "verify: a stranger shares the port": (
        snap(
            "Full",
            "Verify",
            stack(told=told("Running")),
            units=ALL_UP,
            holders=at_port(own("db", 8001), own("api", 8002), nc(8002)),
            probes=ANSWERS,
            lately=Lately(3),
        ),
        Failed,
        "api is not up: pid 100, but port 8002 is held by pid 7 (nc 8002)",
    ),
    "verify: a Background one without a listener": (
        snap(
            "Full",
            "Verify",
            stack(service("aux", 8003, kind="Background"), told=told("Running", "aux")),
            units=units(unit("aux")),
        ),
        Done,
        "1 of 1 service up",
    ),
    "verify: a Background one with a stranger on its port": (
        snap(
            "Full",
            "Verify",
            stack(service("aux", 8003, kind="Background"), told=told("Running", "aux")),
            units=units(unit("aux")),
            holders=at_port(nc(8003)),
            lately=Lately(3),
        ),
        Failed,
        "aux is not up: pid 100, but port 8003 is held by pid 7 (nc 8003)",
    ),
    "verify: a young process": (
        snap("Full", "Verify", stack(JOB, told=told("Running", "job")), units=units(unit("job", age=0.4))),
        Waiting,
        "0.6",
    ),
    "verify: young again and again": (
        snap(
            "Full",
            "Verify",
            stack(JOB, told=told("Running", "job")),
            units=units(unit("job", age=0.4)),
            lately=Lately(3),
        ),
        Failed,
        "job is not up: it does not stay up: started again, pid 100",
    ),
    "verify: a crash loop": (
        snap(
            "Full",
            "Verify",
            stack(JOB, told=told("Backoff", "job", reason="CrashLoopBackOff", message="exit code 1: boom")),
            units=units(unit("job", "Backoff")),
            lately=Lately(3),
        ),
        Failed,
        "job is not up: CrashLoopBackOff: exit code 1: boom",
    ),
    "verify: completed": (
        snap("Full", "Verify", stack(JOB, told=told("Completed", "job")), units=units(unit("job", "Exited"))),
        Done,
        "1 of 1 service up",
    ),
    "verify: one never started": (
        snap("Full", "Verify", stack(JOB, told=told("Pending", "job")), lately=Lately(3)),
        Failed,
        "job is not up: Pending: it is not running",
    ),
    "verify a flush: nobody": (
        snap("Flush", "Verify", holders=HELD),
        Done,
        "2 assigned ports without a stranger",
    ),
    "verify a flush: back already": (snap("Flush", "Verify", holders=at_port(nc())), Failed, "Ask again"),
}


def words_of(outcome: Outcome) -> str:
    match outcome:
        case Done(message=message) | Failed(message=message):
            return message
        case Waiting(seconds=seconds, poll=poll):
            return "poll" if poll else f"{seconds:.1f}" if seconds and seconds < 1 else ""
        case Do(action=p.EndHolders(ports=ports, force=force)):
            return f"{'kill' if force else 'ask'} {' '.join(map(str, ports))}"
        case Do(action=p.EndSupervisor(seconds=seconds, force=force)):
            return f"end {seconds:.0f}" + (" by force" if force else "")
        case _:
            return "start"


@pytest.mark.parametrize(("s", "expected", "words"), STEP_CASES.values(), ids=STEP_CASES)
def test_a_step(s, expected, words):
    outcome = step(s)
    assert type(outcome) is expected
    assert words in words_of(outcome)
    if expected is Do:
        assert words == words_of(outcome)


def test_every_step_has_its_cases():
    seen = {s.status.step for s, _, _ in STEP_CASES.values()}
    assert seen >= {name for names in STEPS.values() for name in names} - {"KillServices"}


KINDS: dict[str, dict[str, Any] | None] = {
    "nobody": None,
    "a stranger": {},
    "a protected one": {"protected": "it is part of Mainstay"},
    "an unseen one": {"process": None},
    "own": {"unit": "db"},
}


@pytest.mark.parametrize("mode", ["Full", "Emergency", "Flush"])
@pytest.mark.parametrize("since", [None, 1.0, 6.0, 60.0])
def test_whom_a_flush_ends(mode, since):
    """Whoever is on two assigned ports and a reserved one: all strangers on the assigned, or none; TERM, then KILL."""
    for kinds in product(KINDS, repeat=3):
        found = zip((8001, 8002, 5000), kinds, strict=True)
        listening = at_port(*(nc(port, **how) for port, kind in found if (how := KINDS[kind]) is not None))
        s = snap(mode, "FlushPorts", holders=listening, lately=Lately(flush_seconds=since))
        plan = decide(s)
        if isinstance(plan, p.Write) and plan.status.step is s.status.step:
            plan = decide(applied(s, plan.status))  # what is told before it is done
        asked = tuple(port for port, kind in zip((8001, 8002), kinds, strict=False) if kind == "a stranger")
        bound = {"a protected one", "an unseen one"} & set(kinds[:2])
        if asked and not bound and since != 60.0:
            expected = p.Act(p.EndHolders(asked, force=since == 6.0))
            assert plan == (p.Wait(poll=True) if since == 1.0 else expected), kinds
        else:
            assert not isinstance(plan, p.Act), kinds


# --- from step to step


def written(s: RestartSnapshot) -> Any:
    plan = decide(s)
    assert isinstance(plan, p.Write)
    return plan.status


def applied(s: RestartSnapshot, told_: Any) -> RestartSnapshot:
    return replace(s, restart=s.restart.model_copy(update={"status": told_}))


def test_it_begins_with_its_first_step():
    status_ = written(snap("Quick"))
    assert (status_.phase, status_.step, status_.steps[0].state) == ("Running", "CheckPorts", "Running")
    assert [one.name for one in status_.steps] == list(STEPS[RestartMode.QUICK])
    assert status_.started_at == NOW


def test_a_step_that_is_done_claims_the_next():
    status_ = written(snap("Full", "FlushPorts"))
    assert (status_.step, status_.steps[0].state, status_.steps[1].state) == (
        "StopServices",
        "Completed",
        "Running",
    )
    assert status_.steps[0].completed_at == NOW


@pytest.mark.parametrize(("mode", "before"), [("Full", "StopServices"), ("Emergency", "KillServices")])
def test_the_supervisor_that_is_to_go_is_claimed_first(mode, before):
    done = snap(mode, before, stack(told=told("Stopped")), units=ENDED, supervisor=OLD)
    claim = written(done).supervisor
    assert (claim.pid, claim.start_ticks, claim.boot_id) == (50, 5, "boot")
    assert written(replace(done, supervisor=None)).supervisor is None


def test_it_is_told_before_a_stranger_is_asked():
    s = snap("Full", "FlushPorts", holders=at_port(nc()))
    status_ = written(s)
    assert status_.steps[0].details == ("port 8001: pid 7 (nc 8001) was asked to stop",)
    assert decide(applied(s, status_)) == p.Act(p.EndHolders((8001,)))


def test_and_before_it_is_killed():
    s = snap(
        "Full",
        "FlushPorts",
        holders=at_port(nc()),
        told={"details": ["port 8001: pid 7 (nc 8001) was asked to stop"]},
        lately=Lately(flush_seconds=5),
    )
    status_ = written(s)
    assert status_.steps[0].details == ("port 8001: pid 7 (nc 8001) was killed",)
    assert decide(applied(s, status_)) == p.Act(p.EndHolders((8001,), force=True))


def test_one_that_comes_back_under_another_pid_is_told_of_too():
    first = "port 8001: pid 7 (nc 8001) was killed"
    s = snap(
        "Full",
        "FlushPorts",
        holders=at_port(replace(nc(), words="pid 8 (nc 8001)")),
        told={"details": [first]},
        lately=Lately(flush_seconds=6),
    )
    assert written(s).steps[0].details == (first, "port 8001: pid 8 (nc 8001) was killed")


def test_the_last_step_completes_it():
    s = snap("Full", "Verify", stack(told=told("Running")), units=ALL_UP, holders=HELD, probes=ANSWERS)
    status_ = written(s)
    assert (status_.phase, status_.step, status_.completed_at) == ("Completed", None, NOW)
    assert {one.name: one.up for one in status_.verified} == {"db": True, "api": True, "job": True}
    complete = find(status_.conditions, "Complete")
    assert complete is not None
    assert complete.status == "True"


def test_a_step_that_fails_ends_it_where_it_is():
    status_ = written(snap("Quick", "CheckPorts", holders=at_port(nc())))
    assert (status_.phase, status_.step, status_.steps[0].state) == ("Failed", "CheckPorts", "Failed")
    stalled = find(status_.conditions, "Stalled")
    assert stalled is not None
    assert stalled.reason == "StepFailed"
    assert stalled.message.startswith("step CheckPorts: ")


# --- refusals, and whose turn it is

CIRCLE = stack(service("a", None, "b"), service("b", None, "a"))
OWNED = stack(owner={"userId": "ada"})
REFUSALS: dict[str, tuple[RestartSnapshot, str]] = {
    "no such stack": (replace(snap(lately=Lately(step_seconds=10)), stack=None), "StackNotFound"),
    "being deleted": (snap(of=stack(deleting=True)), "StackDeleted"),
    "owned, nobody asks": (snap(of=OWNED), "NotOwner"),
    "owned, another asks": (snap(of=OWNED, owner={"userId": "bob"}), "NotOwner"),
    "stopped": (snap(of=stack(state="Stopped")), "StackStopped"),
    "in a circle": (snap(of=CIRCLE), "DependencyCycle"),
    "stopped in the middle": (snap("Full", "StopServices", stack(state="Stopped")), "StackStopped"),
    "gone in the middle": (replace(snap("Full", "StopServices"), stack=None), "StackNotFound"),
    "not even its turn": (snap(of=stack(state="Stopped", claim="r0"), ahead="r0"), "StackStopped"),
}


@pytest.mark.parametrize(("s", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refused(s, reason):
    status_ = written(s)
    ready = find(status_.conditions, "Ready")
    assert ready is not None
    assert (status_.phase, ready.status, ready.reason, status_.completed_at) == (
        "Failed",
        "False",
        reason,
        NOW,
    )
    assert ready.message


def test_a_stack_may_be_applied_after_its_restart():
    s = replace(snap(), stack=None)
    first = written(s)
    assert (first.phase, find(first.conditions, "Ready").reason) == ("Pending", "StackNotFound")
    assert decide(applied(s, first)) == p.Wait(10.0)


def test_many_ways_to_wait_for_one_are_one():
    """Two services on each of 32 layers, each needing both of the layer before: 2^32 paths to the first."""
    layers = [("a0", "b0")]
    services = [service("a0"), service("b0")]
    for n in range(1, 32):
        services += [service(f"{x}{n}", None, *layers[-1]) for x in "ab"]
        layers.append((f"a{n}", f"b{n}"))
    waiting = {"state": "Pending", "reason": "DependencyNotReady"}
    begun = {"state": "Starting", "reason": "Starting"}
    status_ = [{"name": one["name"], **(waiting if one["dependsOn"] else begun)} for one in services]
    s = snap("Full", "StartServices", stack(*services, told=status_))
    assert step(s) == Waiting(1.0)


ALLOWED = {
    "its owner asks": snap(of=OWNED, owner={"userId": "ada"}),
    "nobody owns it": snap(owner={"userId": "bob"}),
    "a flush of a stopped stack": snap("Flush", of=stack(state="Stopped")),
    "a flush of one in a circle": snap("Flush", of=CIRCLE),
}


@pytest.mark.parametrize("s", ALLOWED.values(), ids=ALLOWED)
def test_allowed(s):
    assert written(s).phase == "Running"


TURNS = {
    "claimed": (snap(), "Running"),
    "just asked for": (snap(of=stack(claim="")), TURN_SECONDS),
    "not claimed for long": (snap(of=stack(claim=""), lately=Lately(TURN_SECONDS)), "waits for its turn"),
    "another's turn": (snap(of=stack(claim="r0"), ahead="r0"), "waits for restart r0"),
}


@pytest.mark.parametrize(("s", "expected"), TURNS.values(), ids=TURNS)
def test_one_after_the_other(s, expected):
    plan = decide(s)
    if isinstance(plan, p.Wait):
        assert plan.seconds == expected
        return
    assert isinstance(plan, p.Write)
    ready = find(plan.status.conditions, "Ready")
    assert ready is not None
    assert expected in (plan.status.phase, ready.message)
    if plan.status.phase == "Pending":
        assert decide(applied(s, plan.status)) == p.Wait()


def test_one_that_lost_its_claim_does_nothing():
    s = snap("Full", "FlushPorts", stack(claim="r0"), holders=at_port(nc()))
    assert not isinstance(decide(s), p.Act)


# --- afterwards

OVER = {"phase": "Completed", "completedAt": NOW - timedelta(seconds=50)}
KEPT = {
    "for the rest of its time": (snap(told=OVER), p.Wait(10.0)),
    "until its time is over": (snap(told=OVER, ttl=50), p.Act(p.DeleteRestart("r", "r1"))),
    "not at all": (
        snap(told={"phase": "Failed", "completedAt": NOW}, ttl=0),
        p.Act(p.DeleteRestart("r", "r1")),
    ),
    "also when its stack is gone": (replace(snap(told=OVER), stack=None), p.Wait(10.0)),
}


@pytest.mark.parametrize(("s", "expected"), KEPT.values(), ids=KEPT)
def test_kept(s, expected):
    assert decide(s) == expected


def test_one_that_is_being_deleted_is_left_alone():
    s = snap("Full", "FlushPorts", holders=at_port(nc()))
    meta = s.restart.metadata.model_copy(update={"deletion_timestamp": NOW})
    assert decide(replace(s, restart=s.restart.model_copy(update={"metadata": meta}))) == p.Wait()
