"""What a pass over an asset does, asks and waits for, once its status says all that is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.core.asset.worlds import (
    BATCH,
    EVERY,
    IRON,
    JOB,
    World,
    a_spec,
    an_asset,
    batch_holder,
    claimant,
    claimed,
    failed,
    job_holder,
    refused,
)

from mainstay.api.asset import AssetState
from mainstay.core import plan as p
from mainstay.core import reasons
from mainstay.core.asset.decide import LIVES_SECONDS, PERIODIC, decide
from mainstay.core.asset.snapshot import BatchView, HolderState, HolderView, Looked, LookedUp
from mainstay.core.snapshot import Problem

CANCELLED = HolderView(HolderState.CANCELLED)
ACTIVE = HolderView(HolderState.ACTIVE)


def look(purpose: str) -> p.ActAll[Any]:
    return p.ActAll((p.ObserveAssets(("ship-1",), purpose),))


def at_rest(world: World, **changes: Any) -> Any:
    """The plan once everything is written, of a snapshot that is changed then."""
    for _ in range(5):
        made = world.snapshot(**changes)
        plan = decide(made)
        if not isinstance(plan, p.Write):
            return plan
        world.write(plan.status)
    raise AssertionError("it is never at rest")


def left(**fields: Any) -> World:
    return World(an_asset(holder=job_holder(), state=AssetState.HELD), {JOB: CANCELLED}, **fields)


# --- guarding


def test_nothing_before_the_finalizer_and_nothing_after_it() -> None:
    assert decide(World(an_asset(finalizer=False)).snapshot()) == p.Act(p.AddFinalizer())
    assert decide(World(an_asset(finalizer=False, deleting=True)).snapshot()) == p.Wait()


def test_a_free_asset_goes_once_it_was_seen_to_be_empty_for_that() -> None:
    world = World(an_asset(deleting=True, state=AssetState.FREE), claimants=(claimant(),))
    world.look("nobodys:uid-of-next", "nobodys:unclaimed", PERIODIC)
    assert at_rest(world) == look("nobodys:deleted")
    world.look("nobodys:deleted")
    world.settle()
    assert world.gone
    assert world.holder == ""


@pytest.mark.parametrize(
    ("asset", "holders", "reason"),
    [
        (an_asset(deleting=True, holder=job_holder()), {JOB: ACTIVE}, reasons.DELETING),
        (an_asset(deleting=True), {}, reasons.UNCLAIMED),
        (an_asset(a_spec(template=False), deleting=True, holder=job_holder()), {JOB: CANCELLED}, reasons.NO_COMPENSATION),
        (an_asset(deleting=True, holder=job_holder()), {JOB: HolderView(HolderState.COMPLETED)}, reasons.HOLDER_COMPLETED),
        (an_asset(deleting=True, holder=job_holder()), {JOB: CANCELLED}, reasons.COMPENSATING),
    ],
)  # fmt: skip
def test_one_that_is_not_empty_does_not_go(asset: Any, holders: Any, reason: str) -> None:
    """Not even to a job that takes it over: it is on its way out."""
    world = World(asset, holders, cargo=IRON, claimants=(claimant(take_over=True),))
    world.settle()
    assert (world.gone, world.reason()) == (False, reason)
    assert world.holder in ("", JOB, f"{BATCH}-1")


def test_deleted_while_a_job_has_it_it_goes_after_the_job() -> None:
    world = World(an_asset(deleting=True, holder=job_holder()), {JOB: ACTIVE})
    world.settle()
    world.holders[JOB] = CANCELLED
    world.settle()
    assert world.gone
    assert f"left:{JOB}:0" in world.looks
    assert world.status.state is AssetState.FREE


# --- looking


def test_a_look_for_a_decision_is_not_kept_waiting_and_asked_for_once() -> None:
    world = left(looked=Looked(holdings=()), next_look=20.0)
    purpose = f"left:{JOB}:0"
    assert at_rest(world) == look(purpose)
    assert at_rest(world, asking=frozenset({"other"})) == look(purpose)
    assert at_rest(world, asking=frozenset({purpose})) == p.Wait()
    assert at_rest(world, asking=frozenset({purpose}), next_look_seconds=0.0) == p.Wait()


def test_one_that_fails_is_asked_again_when_it_is_due() -> None:
    world = left(looked=Looked(error="no answer"), next_look=8.0)
    assert at_rest(world) == p.Wait(8.0)
    assert at_rest(world, next_look_seconds=0.0) == look(f"left:{JOB}:0")


def test_periodic_looks() -> None:
    world = World(an_asset(holder=job_holder()), {JOB: ACTIVE}, looked=Looked(holdings=IRON), next_look=7.0)
    assert at_rest(world) == p.Wait(7.0)
    assert at_rest(world, next_look_seconds=0.0) == look(PERIODIC)
    assert at_rest(world, next_look_seconds=0.0, asking=frozenset({"other"})) == p.Wait()


@pytest.mark.parametrize("looking_up", [False, True])
def test_looking_up_what_it_accepts(looking_up: bool) -> None:
    spec = a_spec(probe=False, accepts=True)
    world = World(an_asset(spec, holder=job_holder()), {JOB: ACTIVE})
    assert at_rest(world) == p.Wait(300.0)
    plan = at_rest(world, next_look_up_seconds=0.0, looking_up=looking_up, looked_up=None)
    assert plan == (p.Wait() if looking_up else p.ActAll((p.ObserveAccepts(),)))


def test_without_a_probe_nothing_is_asked() -> None:
    world = World(
        an_asset(a_spec(probe=False), holder=job_holder()), {JOB: CANCELLED}, claimants=(claimant(),)
    )
    assert at_rest(world) == p.Wait()
    assert (world.holder, world.looks) == ("uid-of-next", [])


def test_processes_of_the_last_holder_are_looked_for() -> None:
    world = left(looked=Looked(holdings=()), next_look=20.0)
    world.holders[JOB] = replace(CANCELLED, lives=True)
    assert at_rest(world) == p.Wait(LIVES_SECONDS)


# --- compensating


def making(**fields: Any) -> World:
    asset = an_asset(
        holder=job_holder(), state=AssetState.HELD_ORPHANED, compensation=claimed(), holdings=IRON
    )
    return World(asset, {JOB: CANCELLED}, cargo=IRON, looked=Looked(holdings=IRON), next_look=20.0, **fields)


def test_it_is_made_under_its_claim_and_never_before() -> None:
    world = left(cargo=IRON)
    for _ in range(10):
        plan = world.step()
        if isinstance(plan, p.ActAll) and p.CreateCompensation() in plan.actions:
            break
        assert world.made == 0
    assert (world.made, world.holder) == (1, JOB)
    assert world.status.compensation == claimed(started_at=world.now)


def test_what_was_refused_is_told_and_tried_again_later() -> None:
    problem = Problem(reasons.COMPENSATION_BLOCKED, "quota", needs_person=True, retry_seconds=4.0)
    world = making(problem=problem)
    assert at_rest(world) == p.Wait(4.0)
    assert (world.status.state, world.reason("Stalled")) == (
        AssetState.HELD_ORPHANED,
        reasons.COMPENSATION_BLOCKED,
    )
    assert "quota" in world.message()
    world.problem = replace(problem, retry_seconds=0.0)
    assert at_rest(world) == p.ActAll((p.CreateCompensation(),))


def test_it_is_named_once_and_not_made_again() -> None:
    world = making(batch=BatchView(BATCH, over=False))
    assert isinstance(world.step(), p.Write)
    assert world.holder == BATCH
    assert at_rest(world) == p.Wait(20.0)


def test_one_that_is_gone_is_not_made_again_under_the_same_claim() -> None:
    asset = an_asset(holder=batch_holder(), state=AssetState.HELD, compensation=claimed(), holdings=IRON)
    world = World(asset, cargo=IRON)
    world.settle()
    assert (world.made, world.status.compensation and world.status.compensation.failures) == (0, 1)


def test_the_backoff_doubles_to_its_cap() -> None:
    waits = []
    asset = an_asset(
        a_spec(initialBackoffSeconds=10, maxBackoffSeconds=60), holder=job_holder(), state=AssetState.HELD
    )
    world = World(asset, {JOB: CANCELLED}, cargo=IRON)
    for attempt in range(1, 6):
        world.settle()
        assert world.made == attempt
        assert world.batch is not None
        world.holders[world.holder] = HolderView(HolderState.FAILED)
        world.batch = None
        world.settle()
        c = world.status.compensation
        assert c is not None
        assert c.retry_at is not None
        assert (c.attempt, c.failures, c.cause) == (attempt, attempt, "HolderCancelled")
        waits.append((c.retry_at - world.now).total_seconds())
        world.wait(waits[-1])
    assert waits == [10, 20, 40, 60, 60]


def test_earlier_ones_that_are_over_are_deleted() -> None:
    world = World(
        an_asset(holder=job_holder()), {JOB: ACTIVE}, looked=Looked(holdings=()), next_look=float(EVERY)
    )
    plan = at_rest(world, older=(("b-1", "u1"), ("b-2", "u2")))
    assert plan == p.ActAll((p.DeleteCompensation("b-1", "u1"), p.DeleteCompensation("b-2", "u2")))


def test_after_it_is_empty_the_next_one_is_the_first_of_its_row() -> None:
    """Another holder, another cause: failures of earlier rows are history, the attempt is not."""
    asset = an_asset(
        holder=job_holder(), state=AssetState.HELD, compensation=failed(3).model_copy(update={"failures": 0})
    )
    world = World(asset, {JOB: HolderView(HolderState.FAILED)}, cargo=IRON)
    world.step()
    while world.status.compensation is not None and world.status.compensation.attempt == 1:
        world.wait(20.0)
        world.step()
        world.step()
    c = world.status.compensation
    assert c is not None
    assert (c.attempt, c.cause, c.failures) == (2, "HolderFailed", 0)


# --- a declaration with a mistake


@pytest.mark.parametrize("state", [*AssetState, None])
@pytest.mark.parametrize("cargo", [(), IRON])
@pytest.mark.parametrize("holder", [None, job_holder()])
def test_one_with_a_mistake_is_kept_as_it_is(state: AssetState | None, cargo: Any, holder: Any) -> None:
    """What was seen under it may be news all the same: a status that says so is one the API server takes."""
    asset = an_asset(state=state, holder=holder)
    world = World(asset, {JOB: CANCELLED}, claimants=(claimant(),), looked=Looked(holdings=cargo))
    old = world.status
    world.purposes = frozenset({f"left:{JOB}:0", "nobodys:uid-of-next"})
    plan = decide(world.snapshot(invalid=("spec.compensation", "no")))
    assert isinstance(plan, p.Write)
    assert refused(old, plan.status) == ""
    assert plan.status.holder == holder
    world.write(plan.status)
    assert world.reason("Stalled") == reasons.SPEC_INVALID
    assert at_rest(world, invalid=("spec.compensation", "no")) == p.Wait()


def test_what_a_probe_said_of_accepts_is_kept_when_it_fails() -> None:
    spec = a_spec(probe=False, accepts=True)
    world = World(an_asset(spec, holder=job_holder(), accepts=("ORE",)), {JOB: ACTIVE})
    at_rest(world, looked_up=LookedUp(error="no answer"))
    assert world.status.accepts == ("ORE",)
    assert world.reason("AcceptsObserved") == reasons.PROBE_FAILED
    at_rest(world, looked_up=LookedUp(accepts=("FUEL",)))
    assert (world.status.accepts, world.reason("AcceptsObserved")) == (("FUEL",), reasons.OBSERVED)
