"""How an asset is emptied: when the batch is made, named, judged, tried again, and when it stands in nobody's way."""

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
    report,
)

from mainstay.api.asset import REPORTS_MAX, AssetState
from mainstay.core import plan as p
from mainstay.core import reasons
from mainstay.core.asset.decide import decide
from mainstay.core.asset.reports import FORGETTING_SECONDS
from mainstay.core.asset.snapshot import BatchView, HolderState, HolderView, Looked
from mainstay.core.snapshot import Problem

CANCELLED = HolderView(HolderState.CANCELLED)
ACTIVE = HolderView(HolderState.ACTIVE)


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


BLOCKED = Problem(reasons.COMPENSATION_BLOCKED, "quota", needs_person=True, retry_seconds=4.0)


def test_what_was_refused_is_told_and_tried_again_later() -> None:
    world = making(problem=BLOCKED)
    assert world.settle() == p.Wait(4.0)
    assert (world.status.state, world.reason("Stalled")) == (
        AssetState.HELD_ORPHANED,
        reasons.COMPENSATION_BLOCKED,
    )
    assert "quota" in world.message()
    world.problem = replace(BLOCKED, retry_seconds=0.0)
    assert at_rest(world) == p.ActAll((p.CreateCompensation(),))


@pytest.mark.parametrize("blocked", ["refused", "no template"])
@pytest.mark.parametrize("holder", [job_holder(), None])
@pytest.mark.parametrize(
    ("cargo", "taker", "then"),
    [((), None, ""), ((), "next", "next"), (IRON, "next", "next"), (IRON, None, "still")],
)
def test_one_that_can_not_be_made_stands_in_nobodys_way(
    blocked: str, holder: Any, cargo: Any, taker: str | None, then: str
) -> None:
    """Emptied by hand it is free, and a job that takes it over gets it, as the words in its condition say."""
    asset = an_asset(
        a_spec(template=blocked == "refused"), holder=holder, compensation=claimed(), holdings=IRON
    )
    takers = (claimant(taker, take_over=True),) if taker else ()
    problem = BLOCKED if blocked == "refused" else None
    world = World(asset, {JOB: CANCELLED}, cargo=cargo, claimants=takers, problem=problem)
    world.settle()
    c = world.status.compensation
    assert c is not None
    if then == "still":
        assert (world.status.holder, world.status.state) == (holder, AssetState.HELD_ORPHANED)
        assert c.ended_at is None
        assert world.reason() == (reasons.COMPENSATION_BLOCKED if problem else reasons.NO_COMPENSATION)
    else:
        assert (world.holder, c.attempt, c.ended_at) == (then, 1, world.now)
    assert world.made == 0


# --- what tasks told, of an asset without a probe


@pytest.mark.parametrize("full", ["taken", "accepts"])
@pytest.mark.parametrize("deleting", [False, True])
def test_nothing_is_released_while_a_task_told_what_is_not_counted(full: str, deleting: bool) -> None:
    spec = a_spec(probe=False, accepts=full == "accepts")
    before = tuple(report(i, deliveries=[{"symbol": "X", "units": 1}]) for i in range(REPORTS_MAX))
    told = report(REPORTS_MAX, at=9, holdings=[{"symbol": "IRON_ORE", "units": 40}])
    taken = tuple(one.id for one in before) if full == "taken" else ()
    reports = (*before, told) if full == "taken" else (told,)
    asset = an_asset(spec, holder=job_holder(), state=AssetState.HELD, taken=taken, deleting=deleting)
    world = World(asset, {JOB: CANCELLED}, reports=reports, claimants=(claimant(),))
    plan = at_rest(world, looked_up=None, next_look_up_seconds=0.0)
    assert plan == (p.Wait(FORGETTING_SECONDS) if full == "taken" else p.ActAll((p.ObserveAccepts(),)))
    assert (world.holder, world.status.compensation) == (JOB, None)
    world.reports = (told,)
    world.settle()
    assert world.status.holdings == IRON
    assert world.holder == f"{BATCH}-1"


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


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("task sell ended with exit code 4", "task sell ended with exit code 4"),
        ("", "its jobs came to their end, and IRON_ORE 40 is still there"),
    ],
)
def test_why_it_failed_is_told_until_it_is_empty(why: str, words: str) -> None:
    world = World(
        an_asset(holder=batch_holder(), state=AssetState.HELD, holdings=IRON, compensation=claimed()),
        {BATCH: HolderView(HolderState.FAILED)},
        cargo=IRON,
        batch=BatchView(uid=BATCH, over=True, why=why),
    )
    world.settle()
    c = world.status.compensation
    assert c is not None
    assert c.message == words
    assert world.message() == f"compensation failed once, and is tried again; IRON_ORE 40 is left: {words}"
