"""Situations of an asset: the rule in words, and what is made of it, with every look answered at once."""

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
    batch_holder,
    claimant,
    claimed,
    failed,
    job_holder,
)

from mainstay.api.asset import AssetState
from mainstay.core import reasons
from mainstay.core.asset.snapshot import BatchView, HolderState, HolderView

ACTIVE, COMPLETED = HolderView(HolderState.ACTIVE), HolderView(HolderState.COMPLETED)
CANCELLED, FAILED, GONE = (
    HolderView(s) for s in (HolderState.CANCELLED, HolderState.FAILED, HolderState.GONE)
)
NEXT, HAD = claimant("next"), claimant("had", had=True)
TAKER = claimant("taker", take_over=True)
FREE, HELD, ORPHANED, UNKNOWN = AssetState.FREE, AssetState.HELD, AssetState.HELD_ORPHANED, AssetState.UNKNOWN
FULL: dict[str, Any] = {"cargo": IRON}
FAILS: dict[str, Any] = {"probe_fails": "no answer"}
LIVES = {state: HolderView(state, lives=True) for state in HolderState}

# words: (what became of the job that has it; None: nobody has it), the world, (who has it then, state, reason)
JOBS: dict[str, tuple[HolderView | None, dict[str, Any], tuple[str, AssetState, str]]] = {
    "nobody's and empty is free": (None, {}, ("", FREE, reasons.ASSET_FREE)),
    "nobody's, the next job gets it": (None, {"claimants": (NEXT,)}, ("next", HELD, reasons.HELD)),
    "nobody's and full waits for a person": (None, FULL, ("", ORPHANED, reasons.UNCLAIMED)),
    "nobody's and full is not for a job that wants it empty": (
        None, FULL | {"claimants": (NEXT,)}, ("", ORPHANED, reasons.UNCLAIMED)),
    "nobody's and full is for one that takes it over": (
        None, FULL | {"claimants": (NEXT, TAKER)}, ("taker", HELD, reasons.HELD)),
    "nobody's goes back to who had it, full as it is": (
        None, FULL | {"claimants": (TAKER, HAD)}, ("had", HELD, reasons.HELD)),
    "nobody's goes back to who had it, whatever the probe says": (
        None, FAILS | {"claimants": (NEXT, HAD)}, ("had", UNKNOWN, reasons.PROBE_FAILED)),
    "nobody's that can't be looked at is given to nobody": (
        None, FAILS | {"claimants": (NEXT, TAKER)}, ("", UNKNOWN, reasons.PROBE_FAILED)),
    "an active job keeps it, empty": (ACTIVE, {"claimants": (NEXT, TAKER)}, (JOB, HELD, reasons.HELD)),
    "an active job keeps it, full": (ACTIVE, FULL | {"claimants": (NEXT, TAKER)}, (JOB, HELD, reasons.HELD)),
    "an active job keeps it from one that had it": (ACTIVE, {"claimants": (HAD,)}, (JOB, HELD, reasons.HELD)),
    "an active job keeps it while the probe fails": (ACTIVE, FAILS, (JOB, UNKNOWN, reasons.PROBE_FAILED)),
    "a completed job leaves it empty: free": (COMPLETED, {}, ("", FREE, reasons.ASSET_FREE)),
    "a completed job leaves it empty: the next one's": (COMPLETED, {"claimants": (NEXT,)}, ("next", HELD, reasons.HELD)),
    "a completed job's holdings are its result": (COMPLETED, FULL, (JOB, ORPHANED, reasons.HOLDER_COMPLETED)),
    "a completed job's holdings are not for who wants it empty": (
        COMPLETED, FULL | {"claimants": (NEXT,)}, (JOB, ORPHANED, reasons.HOLDER_COMPLETED)),
    "a completed job's holdings are for who takes them over": (
        COMPLETED, FULL | {"claimants": (NEXT, TAKER)}, ("taker", HELD, reasons.HELD)),
    "a completed job's holdings are for who had it": (
        COMPLETED, FULL | {"claimants": (TAKER, HAD)}, ("had", HELD, reasons.HELD)),
    "a completed job's asset that can't be looked at stays its own": (
        COMPLETED, FAILS | {"claimants": (NEXT, TAKER, HAD)}, (JOB, UNKNOWN, reasons.PROBE_FAILED)),
    "a completed job of which a process lives keeps it": (
        LIVES[HolderState.COMPLETED], {"claimants": (NEXT,)}, (JOB, HELD, reasons.HOLDER_LIVES)),
    "a gone job of which a process lives keeps it, full": (
        LIVES[HolderState.GONE], FULL | {"claimants": (TAKER, HAD)}, (JOB, ORPHANED, reasons.HOLDER_LIVES)),
    "a cancelled job of which a process lives keeps it": (
        LIVES[HolderState.CANCELLED], {}, (JOB, HELD, reasons.HOLDER_LIVES)),
    "of two that were told that they have it, the one that has not ended goes on": (
        GONE, FAILS | {"claimants": (NEXT, HAD)}, ("had", UNKNOWN, reasons.PROBE_FAILED)),
}  # fmt: skip
for _ended in (CANCELLED, FAILED, GONE):
    _name = _ended.state.name.lower()
    JOBS |= {
        f"{_name}, empty: free": (_ended, {}, ("", FREE, reasons.ASSET_FREE)),
        f"{_name}, empty: the next job's": (_ended, {"claimants": (NEXT, TAKER)}, ("next", HELD, reasons.HELD)),
        f"{_name}, full: it is emptied": (_ended, FULL, (f"{BATCH}-1", HELD, reasons.COMPENSATING)),
        f"{_name}, full: not for who wants it empty": (
            _ended, FULL | {"claimants": (NEXT,)}, (f"{BATCH}-1", HELD, reasons.COMPENSATING)),
        f"{_name}, full: for who takes it over": (
            _ended, FULL | {"claimants": (NEXT, TAKER)}, ("taker", HELD, reasons.HELD)),
        f"{_name}, and can't be looked at: nothing is released": (
            _ended, FAILS | {"claimants": (NEXT, TAKER)}, (JOB, UNKNOWN, reasons.PROBE_FAILED)),
    }  # fmt: skip


def a_world(view: HolderView | None, spec: dict[str, Any] | None = None, **fields: Any) -> World:
    holder = None if view is None else job_holder()
    state = AssetState.UNKNOWN if view is None else AssetState.HELD
    return World(
        an_asset(spec, holder=holder, state=state), holders={} if view is None else {JOB: view}, **fields
    )


@pytest.mark.parametrize("words", JOBS)
def test_a_job_has_it(words: str) -> None:
    view, fields, then = JOBS[words]
    world = a_world(view, **fields)
    world.settle()
    assert (world.holder, world.status.state, world.reason()) == then
    assert world.made == (1 if then[2] == reasons.COMPENSATING else 0)


@pytest.mark.parametrize(
    "words",
    [w for w, (view, *_) in JOBS.items() if view is not None and view.state is not HolderState.ACTIVE],
)
def test_what_was_seen_before_its_end_does_not_count(words: str) -> None:
    """It was seen to be empty, and full, a moment ago, for other purposes: nothing changes hands on that."""
    view, fields, _ = JOBS[words]
    world = a_world(view, **fields)
    if any(one.had for one in world.claimants) and view == GONE:
        return  # to who had it, it is given without a look
    world.look("periodic", "left:another:0", f"emptied:{JOB}", "nobodys:next", "nobodys:unclaimed")
    for _ in range(5):
        if world.looks:
            break
        world.step()
        assert world.holder == JOB
        assert world.status.state is not AssetState.FREE
        assert world.status.compensation is None
    waits = bool(world.probe_fails) or (view is not None and view.lives)
    assert world.looks == ([] if waits else [f"left:{JOB}:0"])


# what is declared, and whether anyone is there to be told: the rest of `cancelled, full`
DECLARED: dict[str, tuple[HolderView | None, dict[str, Any], tuple[str, AssetState, str]]] = {
    "no template: a person is told": (CANCELLED, a_spec(template=False), (JOB, ORPHANED, reasons.NO_COMPENSATION)),
    "no template, completed: told as such": (COMPLETED, a_spec(template=False), (JOB, ORPHANED, reasons.HOLDER_COMPLETED)),
    "nobody's, no template": (None, a_spec(template=False), ("", ORPHANED, reasons.UNCLAIMED)),
    "nobody's, and unclaimed holdings are emptied too": (
        None, a_spec(unclaimed=True), (f"{BATCH}-1", HELD, reasons.COMPENSATING)),
    "unclaimed does not concern what a completed job left": (
        COMPLETED, a_spec(unclaimed=True), (JOB, ORPHANED, reasons.HOLDER_COMPLETED)),
}  # fmt: skip


@pytest.mark.parametrize("words", DECLARED)
def test_declared(words: str) -> None:
    view, spec, then = DECLARED[words]
    world = a_world(view, spec, cargo=IRON)
    world.settle()
    assert (world.holder, world.status.state, world.reason()) == then


@pytest.mark.parametrize(
    ("view", "cause"), [(CANCELLED, "HolderCancelled"), (FAILED, "HolderFailed"), (GONE, "HolderGone")]
)
def test_a_claim_says_why_and_what_for(view: HolderView, cause: str) -> None:
    world = a_world(view, cargo=IRON)
    while world.status.compensation is None:
        world.step()
    c = world.status.compensation
    assert (c.cause, c.attempt, c.failures, c.holdings, c.started_at) == (cause, 1, 0, IRON, world.now)
    assert (c.ended_at, c.retry_at, world.made, world.holder) == (None, None, 0, JOB)


# a compensation is claimed: (holder, its view, the batch in our copy, the claim), the cargo, → the same and failures
BATCH_VIEW, OVER = BatchView(BATCH, over=False), BatchView(BATCH, over=True)
COMPENSATIONS: dict[str, tuple[Any, Any, Any, Any, Any, tuple[str, AssetState, str, int]]] = {
    "claimed: it is made, then named in one write": (
        job_holder(), CANCELLED, None, claimed(), FULL, (f"{BATCH}-1", HELD, reasons.COMPENSATING, 0)),
    "made: named": (job_holder(), CANCELLED, BATCH_VIEW, claimed(), FULL, (BATCH, HELD, reasons.COMPENSATING, 0)),
    "the holder was forgotten in between: named all the same": (
        None, None, BATCH_VIEW, claimed(), FULL, (BATCH, HELD, reasons.COMPENSATING, 0)),
    "claimed for nobody's: made and named all the same": (
        None, None, None, claimed(), FULL, (f"{BATCH}-1", HELD, reasons.COMPENSATING, 0)),
    "named, and runs": (batch_holder(), ACTIVE, BATCH_VIEW, claimed(), FULL, (BATCH, HELD, reasons.COMPENSATING, 0)),
    "over, and empty: free": (batch_holder(), COMPLETED, OVER, claimed(), {}, ("", FREE, reasons.ASSET_FREE, 0)),
    "over, and empty for the third time: its failures are history": (
        batch_holder(), COMPLETED, OVER, claimed(failures=2), {}, ("", FREE, reasons.ASSET_FREE, 0)),
    "failed, and empty all the same: free": (
        batch_holder(), FAILED, OVER, claimed(), {}, ("", FREE, reasons.ASSET_FREE, 0)),
    "over, and empty: the next job's": (
        batch_holder(), COMPLETED, OVER, claimed(), {"claimants": (NEXT,)}, ("next", HELD, reasons.HELD, 0)),
    "completed, and full: tried again": (
        batch_holder(), COMPLETED, OVER, claimed(), FULL, (BATCH, ORPHANED, reasons.COMPENSATION_RETRYING, 1)),
    "failed, and full: tried again": (
        batch_holder(), FAILED, OVER, claimed(failures=4), FULL, (BATCH, ORPHANED, reasons.COMPENSATION_RETRYING, 5)),
    "deleted, and full: tried again": (
        batch_holder(), GONE, None, claimed(), FULL, (BATCH, ORPHANED, reasons.COMPENSATION_RETRYING, 1)),
    "over, and a process of it lives": (
        batch_holder(), LIVES[HolderState.GONE], None, claimed(), FULL, (BATCH, ORPHANED, reasons.HOLDER_LIVES, 0)),
    "over, and can't be looked at": (
        batch_holder(), COMPLETED, OVER, claimed(), FAILS, (BATCH, UNKNOWN, reasons.PROBE_FAILED, 0)),
    "failed, not due yet": (
        batch_holder(), FAILED, OVER, failed(2), FULL, (BATCH, ORPHANED, reasons.COMPENSATION_RETRYING, 2)),
    "failed, not due yet, emptied by hand: free": (
        batch_holder(), FAILED, OVER, failed(2), {}, ("", FREE, reasons.ASSET_FREE, 0)),
    "failed, not due yet: for who takes it over": (
        batch_holder(), FAILED, OVER, failed(2), FULL | {"claimants": (TAKER,)}, ("taker", HELD, reasons.HELD, 0)),
}  # fmt: skip


@pytest.mark.parametrize("words", COMPENSATIONS)
def test_compensation(words: str) -> None:
    holder, view, batch, claim, fields, then = COMPENSATIONS[words]
    asset = an_asset(holder=holder, state=AssetState.HELD, holdings=IRON, compensation=claim)
    world = World(asset, holders={holder.uid: view} if holder else {}, batch=batch, **fields)
    world.settle()
    c = world.status.compensation
    assert c is not None
    assert (world.holder, world.status.state, world.reason(), c.failures) == then
    assert (c.attempt, c.batch, c.cause) == (1, claim.batch, claim.cause)
    assert (c.ended_at is None) == (
        then[2] in (reasons.COMPENSATING, reasons.HOLDER_LIVES, reasons.PROBE_FAILED)
    )


@pytest.mark.parametrize(("due_in", "attempt"), [(1.0, 1), (0.0, 2), (-60.0, 2), (601.0, 2)])
def test_a_retry_when_it_is_due(due_in: float, attempt: int) -> None:
    """And at once where the clock was set, so that the wait would be longer than any backoff."""
    asset = an_asset(
        holder=batch_holder(), state=ORPHANED, holdings=IRON, compensation=failed(3, due_in=due_in)
    )
    world = World(asset, {BATCH: FAILED}, cargo=IRON, batch=OVER)
    for _ in range(4):
        world.step()
        if world.status.compensation is not None and world.status.compensation.attempt > 1:
            world.batch = None
    c = world.status.compensation
    assert c is not None
    assert (c.attempt, c.failures, c.cause) == (attempt, 3, "HolderCancelled")
    assert (c.retry_at is None) == (attempt == 2)
    if attempt == 1:
        assert world.settle().seconds == due_in


def test_a_person_is_told_of_a_batch_that_waits_for_one() -> None:
    asset = an_asset(holder=batch_holder(), state=HELD, holdings=IRON, compensation=claimed())
    world = World(asset, {BATCH: replace(ACTIVE, words="task sell failed")}, cargo=IRON, batch=BATCH_VIEW)
    world.settle()
    assert (world.reason("Stalled"), world.status.state) == (reasons.COMPENSATION_BLOCKED, HELD)
    assert "task sell failed" in world.message()
