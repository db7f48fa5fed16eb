"""Situations between two steps, or after an edit by hand: each of them ends where the spec asks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.core.test_laws import PASSES, ends_as_asked
from tests.unit.core.words import NONCE, PAUSE, PORT, RUN, STOP, U, a_world, told, unit
from tests.unit.core.worlds import NOW, OLD_HASH, OTHER_UID, PROBLEM, World

from mainstay.api.conditions import find
from mainstay.api.strategyrun import RunPhase
from mainstay.core import reasons
from mainstay.core.plan import Wait, Write
from mainstay.core.run.decide import decide
from mainstay.core.snapshot import Inputs, Problem
from mainstay.core.unit import Exit, Unit

STRANGER = {PORT: "pid 7 (nc)"}
SECRET = Inputs(problem=(reasons.SECRET_IN_ARGS, "spec.program.args use $(A)"))
UNUSABLE = Inputs(problem=PROBLEM)
CHANGED = {"inputs_hash": OLD_HASH}
NEVER, ON_FAILURE = ({"restart_policy": {"policy": policy}} for policy in ("Never", "OnFailure"))

Found = tuple[RunPhase | None, Unit, dict[str, Any], dict[str, Any]]
ENDS: dict[str, Found] = {
    "held at its start, and should run": (RunPhase.STARTING, unit(U.HELD), RUN, {}),
    "held at its start beside a stranger's listener": (
        RunPhase.STARTING,
        unit(U.HELD),
        RUN,
        {"foreign": STRANGER},
    ),
    "gone while its pool is gone": (RunPhase.RUNNING, unit(U.EXITED), RUN, {"pool": None}),
    "gone while a stranger took its only port": (
        RunPhase.RUNNING,
        unit(U.EXITED),
        RUN,
        {"pool": (PORT,), "foreign": STRANGER},
    ),
    "no port asked any more, between claim and start": (
        RunPhase.STARTING,
        unit(U.ABSENT),
        {"api": None, "status": CHANGED},
        {},
    ),
    "another port asked, between claim and start": (
        RunPhase.STARTING,
        unit(U.ABSENT),
        {"api": {"port": 8001}, "status": CHANGED},
        {},
    ),
    "a port asked, between claim and start": (
        RunPhase.STARTING,
        unit(U.ABSENT),
        {"status": CHANGED | {"port": None}},
        {"leased": ()},
    ),
    "a secret in its arguments, between claim and start": (
        RunPhase.STARTING,
        unit(U.ABSENT),
        RUN,
        {"inputs": SECRET},
    ),
    "a secret in its arguments, its definition lost": (
        RunPhase.RUNNING,
        unit(U.RUNNING, defined=False),
        {"reason": reasons.RUNNING},
        {"inputs": SECRET},
    ),
    "alive under a spec that can't be started": (
        RunPhase.RUNNING,
        unit(U.RUNNING),
        {"reason": reasons.RUNNING},
        {"inputs": UNUSABLE},
    ),
    "ended under a spec that can't be started": (
        RunPhase.STOPPING,
        unit(U.EXITED),
        RUN,
        {"inputs": UNUSABLE},
    ),
    "a restart asked while it gives its port back": (
        RunPhase.STOPPING,
        unit(U.EXITED),
        {"reason": reasons.COMPLETED} | NONCE | ON_FAILURE,
        {},
    ),
    "never started, and its port rests": (
        None,
        unit(U.ABSENT),
        STOP | {"status": {"attempt": 0, "port": None}},
        {"quarantine": 30},
    ),
    "completed before the spec was changed": (
        RunPhase.STOPPED,
        unit(U.EXITED),
        {"reason": reasons.COMPLETED, "status": {"observed_generation": 2}},
        {"leased": ()},
    ),
    "deleted while its predecessor lives on its port": (
        RunPhase.PENDING,
        unit(U.RUNNING, owner_uid=OTHER_UID),
        {"deleting": True},
        {},
    ),
}


@pytest.mark.parametrize(("phase", "seen", "asked", "about"), ENDS.values(), ids=ENDS)
def test_it_ends_where_the_spec_asks(
    phase: RunPhase | None, seen: Unit, asked: dict[str, Any], about: dict[str, Any]
) -> None:
    ends_as_asked(a_world(phase, seen, asked, **about))


def test_a_restart_asked_while_the_operator_was_away_is_obeyed_though_the_start_ended() -> None:
    world = a_world(RunPhase.STARTING, unit(U.EXITED, exit=Exit(1)), NONCE | NEVER)
    steps = _steps(world)
    assert "start 2:8000" in steps


def test_a_pause_asked_while_it_waits_out_a_crash_needs_no_time() -> None:
    world = a_world(RunPhase.STARTING, unit(U.BACKOFF), PAUSE | {"reason": reasons.CRASH_LOOP})
    assert _steps(world) == ["Pausing Pausing 1:8000", "pause", "Paused Paused 1:8000"]


def test_trouble_with_a_predecessor_is_told_once_however_often_it_is_tried() -> None:
    seen = unit(U.RUNNING, owner_uid=OTHER_UID)
    world = a_world(RunPhase.PENDING, seen, {"reason": reasons.PREDECESSOR}, leased=())
    problem = Problem(reasons.RUNTIME_UNAVAILABLE, "it does not answer", False, 1.0)
    writes = 0
    for tried in range(10):
        s = world.snapshot()
        plan = decide(s if tried % 2 else replace(s, problem=problem))
        if isinstance(plan, Write):
            writes += 1
            world.apply(plan)
    assert writes <= 2


def test_status_names_no_process_that_is_gone() -> None:
    world = a_world(RunPhase.RUNNING, unit(U.RUNNING), {"reason": reasons.RUNNING})
    assert _steps(world) == ["Running Running 1:8000"]
    assert world.run is not None
    assert world.run.status.process is not None
    world.unit, world.inputs = unit(U.EXITED), UNUSABLE
    _steps(world)
    assert world.run.status.process is None
    assert world.run.status.stopped_at == NOW


@pytest.mark.parametrize(("asked", "ready"), [(STOP, "True"), (RUN, "False"), (PAUSE, "False")], ids=str)
def test_a_brake_keeps_only_what_asks_for_a_process_from_being_ready(
    asked: dict[str, Any], ready: str
) -> None:
    seen = unit(U.EXITED, held_locally=True)
    world = a_world(RunPhase.STOPPED, seen, asked | {"reason": reasons.STOPPED}, leased=())
    _steps(world)
    assert world.run is not None
    said = {c.type: str(c.status) for c in world.run.status.conditions}
    assert (said["Ready"], said["HeldLocally"]) == (ready, "True")
    assert said["Stalled"] == ("False" if ready == "True" else "True")
    told_ready = find(world.run.status.conditions, "Ready")
    assert told_ready is not None
    assert told_ready.reason == (reasons.STOPPED if ready == "True" else reasons.HELD_LOCALLY)


@pytest.mark.parametrize("phase", [RunPhase.PENDING, RunPhase.STOPPED, RunPhase.FAILED, None], ids=str)
def test_what_lives_as_claimed_is_adopted_whatever_phase_was_written_by_hand(phase: RunPhase | None) -> None:
    world = a_world(phase, unit(U.RUNNING), RUN)
    assert _steps(world) == ["Starting Starting 1:8000", "Running Running 1:8000"]


def _steps(world: World) -> list[str]:
    """What is done before anything has to be waited for."""
    steps = []
    for _ in range(PASSES):
        plan = world.decide()
        if isinstance(plan, Wait):
            return steps
        steps.append(told(plan))
        world.apply(plan)
    raise AssertionError(("no end", steps))
