"""A run at work, by default with a port, its lease and a unit that fits; and plans in a few words."""

from __future__ import annotations

from typing import Any

from tests.unit.core.worlds import (
    GENERATION,
    HASH,
    OLD_HASH,
    UID,
    World,
    a_lease,
    a_run,
    a_unit,
)

from mainstay.api.conditions import find
from mainstay.api.strategyrun import RunPhase
from mainstay.core import reasons
from mainstay.core.plan import (
    Act,
    AddFinalizer,
    CreateLease,
    DefineUnit,
    DeleteLease,
    PauseUnit,
    RemoveFinalizer,
    RemoveUnit,
    ResumeUnit,
    StartUnit,
    StopUnit,
    Wait,
    Write,
)
from mainstay.core.run.decide import RunPlan
from mainstay.core.unit import Unit, UnitState

U = UnitState
PORT = 8000
OTHERS = {PORT: "StrategyRun default/other"}
CLAIMED = {
    "attempt": 1,
    "port": PORT,
    "inputs_hash": HASH,
    "handled_restart_nonce": 0,
    "run_id": UID,
    "observed_generation": GENERATION,
}
RUN, PAUSE, STOP = {"state": "Running"}, {"state": "Paused"}, {"state": "Stopped"}
DELETE = {"deleting": True}
ROLL, NONCE = {"hash": OLD_HASH}, {"restart_nonce": 5}


def told(plan: RunPlan) -> str:
    """A plan in a few words: what is written is phase and reason, with claims where they are new."""
    match plan:
        case Write(status=status):
            ready = find(status.conditions, "Ready")
            return f"{status.phase} {ready.reason if ready else ''} {status.attempt}:{status.port or '-'}"
        case Act(action=CreateLease(port=port)):
            return f"lease {port}"
        case Act(action=DeleteLease(name=name)):
            return f"give back {name}"
        case Act(action=StartUnit() as start):
            return f"start {start.attempt}:{start.port or '-'}" + (" paused" if start.paused else "")
        case Act(action=StopUnit(force=force)):
            return "kill" if force else "stop"
        case Act(action=RemoveUnit()):
            return "forget"
        case Act(action=action):
            words = {
                PauseUnit: "pause",
                ResumeUnit: "resume",
                DefineUnit: "define",
                AddFinalizer: "guard",
                RemoveFinalizer: "let go",
            }
            return words[type(action)]
        case Wait(seconds=seconds, poll=poll):
            return "poll" if poll else f"wait {seconds:g}" if seconds is not None else "wait"
    raise AssertionError(plan)


def a_world(phase: RunPhase | None, unit: Unit, asked: dict[str, Any], **about: Any) -> World:
    """By default a run with a port, its lease held, and a unit that fits its claims."""
    asked = dict(asked)
    status = {**CLAIMED, "phase": phase, "inputs_hash": asked.pop("hash", HASH), **asked.pop("status", {})}
    status["reason"] = asked.pop("reason", reasons.STARTING)
    leases = {port: a_lease(port) for port in about.pop("leased", (PORT,))}
    run = a_run(control_api=asked.pop("api", {}), status=status, **asked)
    return World(run=run, unit=unit, leases=leases, **about)


def unit(state: UnitState, **changes: Any) -> Unit:
    return a_unit(state, **({"port": PORT} | changes if state is not U.ABSENT else {}))


def check(
    phase: RunPhase | None, seen: Unit, asked: dict[str, Any], about: dict[str, Any], plan: str
) -> None:
    world = a_world(phase, seen, asked, **about)
    answer = world.decide()
    assert told(answer) == plan
    if isinstance(answer, Write):
        world.apply(answer)
        again = world.decide()
        assert not isinstance(again, Write) or again.status != answer.status, "the same write again"
