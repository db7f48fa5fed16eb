"""What a pass over an asset does, asks and waits for, once its status says all that is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.core.asset.worlds import (
    BATCH,
    IRON,
    JOB,
    World,
    a_spec,
    an_asset,
    claimant,
    job_holder,
    refused,
)

from mainstay.api.asset import AssetState
from mainstay.core import plan as p
from mainstay.core import reasons
from mainstay.core.asset.decide import LIVES_SECONDS, PERIODIC, decide
from mainstay.core.asset.snapshot import HolderState, HolderView, Looked, LookedUp

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


@pytest.mark.parametrize("state", [None, AssetState.UNKNOWN])
def test_one_that_was_never_looked_at_is_not_free(state: AssetState | None) -> None:
    """Not even when the last that was known of it is that it was empty: nobody knows under which declaration."""
    world = World(an_asset(state=state))
    assert at_rest(world) == look("nobodys:unclaimed")
    assert (world.status.state, world.reason()) == (AssetState.UNKNOWN, reasons.NOT_OBSERVED)
    world.look("another")
    world.settle()
    assert world.status.state is AssetState.FREE


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
