"""Plans that follow one another: what is said once, waited out, or consumed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.core.words import DELETE, PORT, RUN, STOP, U, a_world, check, told, unit
from tests.unit.core.worlds import (
    NOW,
    OTHER_UID,
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


RESTS = {
    "stopped": (STOP, {}, "Stopped Stopped"),
    "completed": ({"reason": reasons.COMPLETED}, {}, "Stopped Completed"),
    "failed": ({"reason": reasons.FAILED}, {}, "Failed ProcessFailed"),
    "without a port": (RUN, {"pool": ()}, "Pending PoolExhausted"),
}


@pytest.mark.parametrize(("asked", "about", "said"), RESTS.values(), ids=RESTS)
def test_what_rests_says_so_once_gives_its_port_back_and_waits(
    asked: dict[str, Any], about: dict[str, Any], said: str
) -> None:
    world = a_world(RunPhase.STOPPING, unit(U.EXITED), asked, **about)
    steps = []
    while not isinstance(plan := world.decide(), Wait):
        steps.append(told(plan))
        world.apply(plan)
    assert sorted(steps) == sorted([f"{said} 1:8000", "give back port-8000"])
    assert world.decide() == Wait()


def test_a_run_without_a_port_says_so_before_it_gives_its_lease_back() -> None:
    """The other way round, a crash between the two would leave a claim without its lease."""
    world = a_world(RunPhase.PENDING, unit(U.ABSENT), RUN, pool=())
    steps = []
    while not isinstance(plan := world.decide(), Wait):
        steps.append(told(plan))
        world.apply(plan)
    assert steps == ["Pending PoolExhausted 1:8000", "give back port-8000"]


def test_what_is_held_at_its_start_and_should_run_is_resumed_under_a_claim() -> None:
    world = a_world(RunPhase.STARTING, unit(U.HELD), RUN)
    steps = []
    while not isinstance(plan := world.decide(), Wait):
        steps.append(told(plan))
        world.apply(plan)
    assert steps == ["Resuming Resuming 1:8000", "resume", "Running Running 1:8000"]


def test_a_deleted_run_ends_its_predecessor_first() -> None:
    seen = unit(U.RUNNING, owner_uid=OTHER_UID)
    world = a_world(None, seen, DELETE)
    steps = []
    while world.run is not None:
        plan = world.decide()
        steps.append(told(plan))
        if isinstance(plan, Wait):
            world.pass_time(plan.seconds or 1.0)
        else:
            world.apply(plan)
    expected = ["Pending PredecessorStopping 1:8000", "stop", "wait 30", "forget", "give back port-8000"]
    assert steps == [*expected, "let go"]


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
def test_a_nonce_is_consumed_once_by_the_claim_before_the_stop(handled: int | None, nonce: int) -> None:
    asked = {"restart_nonce": nonce, "status": {"handled_restart_nonce": handled}}
    world = a_world(RunPhase.RUNNING, unit(U.RUNNING), asked)
    plan = world.decide()
    assert isinstance(plan, Write)
    if handled is None:
        assert told(plan) == "Running Running 1:8000"
        return
    assert told(plan) == "Starting RestartRequested 2:8000"
    assert plan.status.handled_restart_nonce == nonce
    expected = ["Starting RestartRequested 2:8000", "stop", "wait 30", "start 2:8000", "poll"]
    for words in (*expected, "Running Running 2:8000"):
        plan = world.decide()
        assert told(plan) == words
        if isinstance(plan, Wait):
            world.pass_time(plan.seconds or 1.0)
        else:
            world.apply(plan)
        assert world.snapshot().rolls is None
        assert set(world.leases) == {PORT}, "its port is kept throughout"
    assert told(world.decide()) == "wait 10"


def test_ready_is_unknown_before_anything_was_settled() -> None:
    world = World(run=a_run())
    plan = world.decide()
    assert isinstance(plan, Write)
    said = {c.type: str(c.status) for c in plan.status.conditions}
    assert said == {"Ready": "Unknown", "Serving": "False", "Reconciling": "True", "Stalled": "False"}
    assert plan.status.run_id == UID
