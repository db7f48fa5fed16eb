"""Plans that follow one another: what is said once, waited out, or consumed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.core.words import DELETE, PORT, RUN, STOP, U, a_world, check, told, unit
from tests.unit.core.worlds import (
    NOW,
    UID,
    World,
    a_run,
)

from mainstay.api.conditions import find
from mainstay.api.strategyrun import RunPhase
from mainstay.core import reasons
from mainstay.core.plan import (
    Wait,
    Write,
)
from mainstay.core.run.decide import decide
from mainstay.core.snapshot import Problem


@pytest.mark.parametrize("phase", [None, *RunPhase], ids=str)
def test_the_finalizer_comes_first(phase: RunPhase | None) -> None:
    check(phase, unit(U.RUNNING), {"finalizer": False}, {}, "guard")
    check(phase, unit(U.RUNNING), {"finalizer": False} | DELETE, {}, "wait")


def test_trouble_is_told_once_and_waited_out() -> None:
    world = a_world(RunPhase.STARTING, unit(U.ABSENT), RUN)
    problem = Problem(reasons.SECRET_NOT_FOUND, "Secret s does not exist.", True, 5.0)
    first = decide(replace(world.snapshot(), problem=problem))
    assert isinstance(first, Write)
    stalled = find(first.status.conditions, "Stalled")
    assert stalled is not None
    assert (stalled.status, stalled.message) == ("True", "Secret s does not exist.")
    assert (first.status.attempt, first.status.port) == (1, PORT)
    world.apply(first)
    assert decide(replace(world.snapshot(), problem=problem)) == Wait(5.0)
    assert told(world.decide()) == "start 1:8000"


def test_a_rest_of_a_port_is_waited_out() -> None:
    world = a_world(RunPhase.STOPPING, unit(U.EXITED), STOP, quarantine=30)
    stopped = world.decide()
    assert isinstance(stopped, Write)
    assert stopped.status.stopped_at == NOW
    world.apply(stopped)
    assert world.decide() == Wait(30.0)
    world.pass_time(29.0)
    assert world.decide() == Wait(1.0)
    world.pass_time(1.0)
    assert told(world.decide()) == "give back port-8000"


NONCES = {"raised": (3, 7), "lowered": (7, 3), "from nothing": (None, 7)}


@pytest.mark.parametrize(("handled", "nonce"), NONCES.values(), ids=NONCES)
def test_a_nonce_is_consumed_once_by_the_write_before_the_stop(handled: int | None, nonce: int) -> None:
    asked = {"restart_nonce": nonce, "status": {"handled_restart_nonce": handled}}
    world = a_world(RunPhase.RUNNING, unit(U.RUNNING), asked)
    plan = world.decide()
    assert isinstance(plan, Write)
    if handled is None:
        assert told(plan) == "Running Running 1:8000"
        return
    assert told(plan) == "Stopping RestartRequested 1:8000"
    assert plan.status.handled_restart_nonce == nonce
    world.apply(plan)
    world.unit = unit(U.EXITED)
    begun = world.decide()
    assert told(begun) == "Starting Starting 2:8000"
    assert world.snapshot().rolls is None


def test_ready_is_unknown_before_anything_was_settled() -> None:
    world = World(run=a_run())
    plan = world.decide()
    assert isinstance(plan, Write)
    said = {c.type: str(c.status) for c in plan.status.conditions}
    assert said == {"Ready": "Unknown", "Serving": "False", "Reconciling": "True", "Stalled": "False"}
    assert plan.status.run_id == UID
