"""The events that tell an asset's story: each is told once, when it happens, and never again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.asset.worlds import (
    BATCH,
    BATCH_NAME,
    IRON,
    JOB,
    NOW,
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

from mainstay.api.asset import AssetState, AssetStatus, Delivery
from mainstay.api.conditions import Condition, ConditionStatus
from mainstay.core import plan as p
from mainstay.core.asset.decide import decide
from mainstay.core.asset.snapshot import BatchView, HolderState, HolderView
from mainstay.core.asset.story import compensated, events

EMPTY = AssetStatus()


def status(*told: tuple[str, bool, str], **fields: Any) -> AssetStatus:
    made = tuple(
        Condition(
            type=kind,
            status=ConditionStatus.TRUE if true else ConditionStatus.FALSE,
            reason=reason,
            message=f"about {reason}",
            last_transition_time=NOW,
        )
        for kind, true, reason in told
    )
    return AssetStatus().model_copy(update={"conditions": made, **fields})


SEEN, UNSEEN = ("HoldingsObserved", True, "Observed"), ("HoldingsObserved", False, "ProbeFailed")
JOB_HAS, BATCH_HAS = {"holder": job_holder()}, {"holder": batch_holder(), "summary": "IRON_ORE 40"}
DELIVERY = Delivery(symbol="ORE", units=3, accepted=False, job="haul", task="unload", time=NOW)
OVER = claimed(ended_at=NOW)

STORIES: dict[str, tuple[AssetStatus, AssetStatus, list[tuple[str, str, str]]]] = {
    "claimed": (EMPTY, status(**JOB_HAS), [("Normal", "Claimed", "job haul has it now")]),
    "kept": (status(**JOB_HAS), status(**JOB_HAS), []),
    "from one job to the next": (
        status(**JOB_HAS), status(holder=job_holder("u2", "next")), [("Normal", "Claimed", "job next has it now")]),
    "released": (status(**JOB_HAS), EMPTY, [("Normal", "Released", "it is empty, and nobody's")]),
    "handed over": (
        status(**JOB_HAS), status(**BATCH_HAS),
        [("Warning", "HandedOver", f"{BATCH_NAME} has it now, to empty it of IRON_ORE 40")]),
    "a compensation": (
        EMPTY, status(compensation=claimed(), summary="IRON_ORE 40"),
        [("Warning", "CompensationCreated", f"{BATCH_NAME} is made to empty it of IRON_ORE 40 (HolderCancelled)")]),
    "another compensation": (
        status(compensation=failed()), status(compensation=claimed(attempt=2, failures=1)),
        [("Warning", "CompensationCreated", f"{BATCH_NAME} is made to empty it of  (HolderCancelled)")]),
    "compensated": (
        status(compensation=claimed()), status(compensation=OVER), [("Normal", "Compensated", f"{BATCH_NAME} is over")]),
    "compensation failed": (
        status(compensation=claimed()), status(compensation=failed(), summary="FUEL 1"),
        [("Warning", "CompensationFailed", f"{BATCH_NAME} is over, and FUEL 1 is left")]),
    "compensation over for long": (status(compensation=failed()), status(compensation=OVER), []),
    "the probe fails": (
        status(SEEN), status(UNSEEN), [("Warning", "ProbeFailed", "nothing is released until it answers: about ProbeFailed")]),
    "the probe fails from the beginning": (
        EMPTY, status(UNSEEN), [("Warning", "ProbeFailed", "nothing is released until it answers: about ProbeFailed")]),
    "it fails still": (status(UNSEEN), status(UNSEEN), []),
    "it answers again": (status(UNSEEN), status(SEEN), [("Normal", "ProbeRecovered", "it has nothing")]),
    "it answers for the first time": (EMPTY, status(SEEN), []),
    "what it accepts changed": (
        status(accepts=("A", "B")), status(accepts=("B", "D", "C")),
        [("Normal", "AcceptsChanged", "what it accepts changed: now C, D; no more A")]),
    "what it accepts is known": (EMPTY, status(accepts=("A",)), []),
    "delivered, and not accepted": (
        EMPTY, status(deliveries=(DELIVERY,)),
        [("Warning", "UnexpectedInput", "job haul, task unload delivered 3 ORE, which it does not accept")]),
    "the same again": (
        status(deliveries=(DELIVERY,)), status(deliveries=(DELIVERY, DELIVERY)),
        [("Warning", "UnexpectedInput", "job haul, task unload delivered 3 ORE, which it does not accept")]),
    "the oldest is not shown any more": (status(deliveries=(DELIVERY, DELIVERY)), status(deliveries=(DELIVERY,)), []),
    "delivered, and accepted": (EMPTY, status(deliveries=(DELIVERY.model_copy(update={"accepted": True}),)), []),
}  # fmt: skip
for _reason in (
    "NoCompensation",
    "CompensationBlocked",
    "UnclaimedHoldings",
    "HolderCompleted",
    "HolderProcessesRunning",
):
    _told = status(("Ready", False, _reason), state=AssetState.HELD_ORPHANED)
    STORIES[f"stranded: {_reason}"] = (EMPTY, _told, [("Warning", _reason, f"about {_reason}")])
    STORIES[f"stranded still: {_reason}"] = (_told, _told, [])


@pytest.mark.parametrize("words", STORIES)
def test_stories(words: str) -> None:
    old, new, told = STORIES[words]
    assert [(e.kind, e.reason, e.message) for e in events(old, new)] == told


def test_a_claim_of_a_compensation_is_counted_once() -> None:
    assert compensated(EMPTY, status(compensation=claimed()))
    assert compensated(status(compensation=failed()), status(compensation=claimed(attempt=2)))
    assert not compensated(status(compensation=claimed()), status(compensation=OVER))
    assert not compensated(status(compensation=claimed()), EMPTY)


def test_the_story_of_cargo_from_a_cancelled_job_to_the_next_one() -> None:
    asset = an_asset(holder=job_holder(), state=AssetState.HELD)
    world = World(asset, {JOB: HolderView(HolderState.CANCELLED)}, cargo=IRON, claimants=(claimant("next"),))
    told: list[str] = []

    def live() -> None:
        for _ in range(12):
            old, plan = world.status, world.step()
            if isinstance(plan, p.Write):
                told.extend(event.reason for event in events(old, world.status))

    live()
    world.holders[f"{BATCH}-1"], world.batch = (
        HolderView(HolderState.COMPLETED),
        BatchView(f"{BATCH}-1", over=True),
    )
    world.cargo = ()
    live()
    assert told == ["CompensationCreated", "HandedOver", "Claimed", "Compensated"]
    assert world.holder == "next"


def test_messages_of_any_length_are_events() -> None:
    many = tuple(f"{'S' * 120}{n}" for n in range(400))
    (event,) = events(status(accepts=("A",)), status(accepts=many))
    assert len(event.message) <= 1024
    spec = a_spec(accepts=True)
    world = World(an_asset(spec, holder=job_holder()), {JOB: HolderView(HolderState.ACTIVE)})
    world.reports = (report(1, deliveries=[{"symbol": "S" * 128, "units": 2**53}] * 16),)
    plan = decide(world.snapshot())
    assert isinstance(plan, p.Write)
    told = list(events(world.status, plan.status))
    assert len([e for e in told if e.reason == "UnexpectedInput"]) == 16
    assert all(len(e.message) <= 1024 for e in told)
