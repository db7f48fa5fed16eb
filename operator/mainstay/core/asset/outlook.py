"""An asset's next status: whose it is and what is in it, told in fields and conditions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

from mainstay.api.asset import AssetState, AssetStatus
from mainstay.api.conditions import Condition, ConditionStatus, condition, find, merge
from mainstay.core import reasons
from mainstay.core.asset.draft import Draft
from mainstay.core.asset.reports import unexpected

READY = (AssetState.FREE, AssetState.HELD)


def outlook(d: Draft) -> AssetStatus:
    """The status that says what the draft came to."""
    s, old = d.s, d.s.status
    if (
        d.failing
        and d.state is not AssetState.UNKNOWN
        and not (d.stalled and d.reason == reasons.SPEC_INVALID)
    ):
        d.tell(AssetState.UNKNOWN, reasons.PROBE_FAILED, _both(d), stalled=d.stalled)
    changed = d.holdings != old.holdings
    failing = d.failing or (s.looked_up is not None and s.looked_up.error)
    conditions = [_calm(one, old.conditions) if failing else one for one in _conditions(d)]
    return old.model_copy(
        update={
            "observed_generation": s.asset.metadata.generation,
            "state": d.state,
            "holder": d.holder,
            "holdings": d.holdings,
            "summary": d.summary,
            "holdings_changed_at": s.now if changed else old.holdings_changed_at,
            "accepts": d.accepts,
            "delivered": d.delivered,
            "deliveries": d.deliveries,
            "taken": d.taken,
            "compensation": d.compensation,
            "conditions": merge(old.conditions, conditions, s.now.replace(microsecond=0)),
        }
    )


def _both(d: Draft) -> str:
    return f"{d.words}; the probe fails: {d.failing}" if d.words else f"the probe fails: {d.failing}"


def _calm(new: Condition, before: Iterable[Condition]) -> Condition:
    """The old words where only numbers in them are others: ports, times and pids of an error are no news."""
    old = find(before, new.type)
    same = old is not None and (old.status, old.reason) == (new.status, new.reason)
    if old is None or not same or _without_numbers(old.message) != _without_numbers(new.message):
        return new
    return new.model_copy(update={"message": old.message})


def _without_numbers(text: str) -> str:
    return re.sub(r"[0-9]+", "0", text)


def _conditions(d: Draft) -> list[Condition]:
    s = d.s
    tell = partial(condition, now=s.now.replace(microsecond=0), generation=s.asset.metadata.generation)
    ready: ConditionStatus | bool = d.state in READY and not d.stalled and not s.deleting
    if d.reason in (reasons.COMPENSATING, reasons.HOLDER_LIVES):
        ready = False
    if d.reason == reasons.NOT_OBSERVED:
        ready = ConditionStatus.UNKNOWN
    told = [
        tell("Ready", ready, d.reason, d.words),
        tell("Reconciling", ready is not True and not d.stalled, d.reason, ""),
        tell("Stalled", d.stalled, d.reason, d.words if d.stalled else ""),
    ]
    if s.spec.holdings is not None and s.looked is not None:
        error = s.looked.error
        told.append(
            tell("HoldingsObserved", not error, reasons.PROBE_FAILED if error else reasons.OBSERVED, error)
        )
    elif s.spec.holdings is not None:
        told += [c for c in s.status.conditions if c.type == "HoldingsObserved"]
    if s.spec.accepts is not None and s.looked_up is not None:
        error = s.looked_up.error
        told.append(
            tell("AcceptsObserved", not error, reasons.PROBE_FAILED if error else reasons.OBSERVED, error)
        )
    elif s.spec.accepts is not None:
        told += [c for c in s.status.conditions if c.type == "AcceptsObserved"]
    if s.spec.accepts is not None and d.deliveries:
        odd = unexpected(d)
        words = f"delivered, and not accepted: {', '.join(odd)}" if odd else ""
        told.append(
            tell(
                "UnexpectedInput",
                bool(odd),
                reasons.UNEXPECTED_INPUT if odd else reasons.INPUTS_ACCEPTED,
                words,
            )
        )
    return told
