"""The events that tell an asset's story in `kubectl describe`: who got it, what was left in it, what was made of that."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.api.asset import AssetState, AssetStatus, Delivery
from mainstay.api.conditions import find
from mainstay.core import reasons
from mainstay.core.run.story import Event


def events(old: AssetStatus, new: AssetStatus) -> Iterator[Event]:
    """What happened between two statuses that is worth telling."""
    yield from _holder(old, new)
    yield from _compensation(old, new)
    yield from _turn(old, new)
    if old.accepts is not None and new.accepts is not None and old.accepts != new.accepts:
        came, went = set(new.accepts) - set(old.accepts), set(old.accepts) - set(new.accepts)
        told = [
            f"{word} {', '.join(sorted(which))}"
            for word, which in (("now", came), ("no more", went))
            if which
        ]
        yield Event("Normal", "AcceptsChanged", f"what it accepts changed: {'; '.join(told)}"[:1024])
    for one in _new_deliveries(old, new):
        if not one.accepted:
            words = (
                f"job {one.job}, task {one.task} delivered {one.units} {one.symbol}, which it does not accept"
            )
            yield Event("Warning", reasons.UNEXPECTED_INPUT, words)


def compensated(old: AssetStatus, new: AssetStatus) -> bool:
    """Whether a compensation was claimed between the two."""
    return new.compensation is not None and (
        old.compensation is None or old.compensation.attempt != new.compensation.attempt
    )


def _holder(old: AssetStatus, new: AssetStatus) -> Iterator[Event]:
    before, after = old.holder, new.holder
    if (before and before.uid) == (after and after.uid):
        return
    if after is None:
        yield Event("Normal", "Released", "it is empty, and nobody's")
    elif after.kind == "JobBatch":
        yield Event("Warning", "HandedOver", f"{after.name} has it now, to empty it of {new.summary}")
    else:
        yield Event("Normal", "Claimed", f"job {after.name} has it now")


def _compensation(old: AssetStatus, new: AssetStatus) -> Iterator[Event]:
    c = new.compensation
    if c is None:
        return
    if compensated(old, new):
        yield Event(
            "Warning", "CompensationCreated", f"{c.batch} is made to empty it of {new.summary} ({c.cause})"
        )
    elif old.compensation is not None and old.compensation.ended_at is None and c.ended_at is not None:
        if c.failures:
            yield Event("Warning", "CompensationFailed", f"{c.batch} is over, and {new.summary} is left")
        else:
            yield Event("Normal", "Compensated", f"{c.batch} is over")


def _turn(old: AssetStatus, new: AssetStatus) -> Iterator[Event]:
    before, after = find(old.conditions, "HoldingsObserved"), find(new.conditions, "HoldingsObserved")
    if after is not None and (before is None or before.status != after.status):
        if after.reason == reasons.PROBE_FAILED:
            yield Event(
                "Warning", reasons.PROBE_FAILED, f"nothing is released until it answers: {after.message}"
            )
        elif before is not None:
            yield Event("Normal", "ProbeRecovered", f"it has {new.summary or 'nothing'}")
    was, ready = find(old.conditions, "Ready"), find(new.conditions, "Ready")
    if (
        new.state in (AssetState.HELD_ORPHANED, AssetState.HELD)
        and ready is not None
        and ready.message
        and (was is None or was.reason != ready.reason)
    ):
        told = (
            reasons.NO_COMPENSATION,
            reasons.COMPENSATION_BLOCKED,
            reasons.UNCLAIMED,
            reasons.HOLDER_COMPLETED,
        )
        if ready.reason in told or ready.reason == reasons.HOLDER_LIVES:
            yield Event("Warning", ready.reason, ready.message)


def _new_deliveries(old: AssetStatus, new: AssetStatus) -> Iterator[Delivery]:
    known = list(old.deliveries)
    for one in new.deliveries:
        if one in known:
            known.remove(one)
        else:
            yield one
