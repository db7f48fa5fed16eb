"""How an asset is emptied: a batch is claimed, made, named holder in one write, and judged by what it left."""

from __future__ import annotations

from datetime import timedelta

from mainstay.api.asset import AssetState, CompensationStatus, Holder
from mainstay.core import reasons
from mainstay.core.asset.draft import Draft
from mainstay.core.asset.snapshot import HolderState
from mainstay.core.backoff import delay
from mainstay.core.names import compensation_name

CAUSES = {
    HolderState.CANCELLED: reasons.HOLDER_CANCELLED,
    HolderState.FAILED: reasons.HOLDER_FAILED,
    HolderState.COMPLETED: reasons.HOLDER_COMPLETED,
    HolderState.GONE: reasons.HOLDER_GONE,
}


def compensate(d: Draft, state: HolderState | None) -> bool:
    """One step on from holdings without a holder; True when the compensation is over and the asset empty.

    `state`: what became of the holder in status; None where it has none.
    """
    if d.compensating():
        return _onward(d)
    _claim(d, state)
    return False


def settled(d: Draft) -> None:
    """It is empty, or a job has it: no compensation is under way, and the last one's failures are history."""
    c = d.compensation
    if c is not None:
        over = {"ended_at": c.ended_at or d.s.now, "failures": 0, "retry_at": None, "message": ""}
        d.compensation = c.model_copy(update=over)


def _onward(d: Draft) -> bool:
    """A compensation is claimed: have it made, name it holder, or judge it."""
    c, batch = d.compensation, d.s.batch
    assert c is not None
    if d.handed_over():
        return _judge(d, c)
    if batch is None:
        if d.s.spec.compensation is None:
            _not_declared(d)
            return False
        d.unmade = True
        if d.s.problem is not None:
            words = f"{c.batch} can't be made: {d.s.problem.message}"
            d.tell(AssetState.HELD_ORPHANED, reasons.COMPENSATION_BLOCKED, words, stalled=True)
        else:
            d.tell(AssetState.HELD_ORPHANED, reasons.COMPENSATING, f"{c.batch} is being made to empty it")
    else:
        d.holder = Holder(kind="JobBatch", name=c.batch, uid=batch.uid, since=d.s.now)
        d.tell(AssetState.HELD, reasons.COMPENSATING, f"{c.batch} empties it")
    return False


def _judge(d: Draft, c: CompensationStatus) -> bool:
    """It had the asset, and is over or gone: what is seen in the asset now says whether it did its work."""
    holder = d.holder
    assert holder is not None
    if not d.seen(f"emptied:{holder.uid}"):
        words = f"{c.batch} is over; it is free once it is seen to be empty"
        if d.failing:
            d.tell(AssetState.UNKNOWN, reasons.PROBE_FAILED, f"{words}; the probe fails: {d.failing}")
        else:
            d.keep()
        return False
    if not d.holdings:
        return True
    spec = d.s.spec.compensation
    failures = c.failures + 1
    initial, cap = (spec.initial_backoff_seconds, spec.max_backoff_seconds) if spec else (10.0, 600.0)
    wait = delay(failures, initial=initial, cap=cap)
    batch = d.s.batch
    why = batch.why if batch is not None else f"{c.batch} is gone"
    told = {
        "ended_at": d.s.now,
        "failures": failures,
        "retry_at": d.s.now + timedelta(seconds=wait),
        "message": (why or f"its jobs came to their end, and {d.summary} is still there")[:512],
    }
    d.compensation = c.model_copy(update=told)
    _retrying(d)
    return False


def _not_declared(d: Draft) -> None:
    words = f"it has {d.summary}, and spec.compensation does not say how to empty it: {d.way_out()}"
    d.tell(AssetState.HELD_ORPHANED, reasons.NO_COMPENSATION, words, stalled=True)


def _claim(d: Draft, state: HolderState | None) -> None:
    spec, c, meta = d.s.spec.compensation, d.compensation, d.s.asset.metadata
    if spec is None:
        _not_declared(d)
        return
    left = _seconds_left(d)
    if left > 0:
        _retrying(d)
        d.timers.append(left)
        return
    attempt = (c.attempt if c else 0) + 1
    again = c is not None and c.failures > 0
    d.compensation = CompensationStatus(
        batch=compensation_name(meta.name, meta.uid, attempt),
        attempt=attempt,
        failures=c.failures if c is not None else 0,
        message=c.message if c is not None and again else "",
        cause=c.cause
        if c is not None and again
        else reasons.UNCLAIMED
        if state is None
        else CAUSES.get(state, reasons.HOLDER_GONE),
        holdings=d.holdings,
        started_at=d.s.now,
    )
    d.tell(
        AssetState.HELD_ORPHANED, reasons.COMPENSATING, f"{d.compensation.batch} is being made to empty it"
    )


def _retrying(d: Draft) -> None:
    c = d.compensation
    assert c is not None
    times = "once" if c.failures == 1 else f"{c.failures} times"
    words = f"compensation failed {times}, and is tried again; {d.summary} is left: {c.message or c.batch}"
    d.tell(AssetState.HELD_ORPHANED, reasons.COMPENSATION_RETRYING, words)


def _seconds_left(d: Draft) -> float:
    """Until the next one; never more than its backoff can be, wherever the clock was set."""
    c, spec = d.compensation, d.s.spec.compensation
    if c is None or c.retry_at is None or spec is None:
        return 0.0
    left = (c.retry_at - d.s.now).total_seconds()
    return left if left <= spec.max_backoff_seconds else 0.0
