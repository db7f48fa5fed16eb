"""A status with the most of everything is one that the API server takes, and reads as it was written."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.core.asset.worlds import (
    JOB,
    NOW,
    World,
    a_spec,
    an_asset,
    claimed,
    job_holder,
    report,
    wired,
)

from mainstay.api.asset import ACCEPTS_MAX, DELIVERIES_SHOWN, REPORTS_MAX, TOTALS_MAX, AssetState, AssetStatus
from mainstay.api.holdings import HOLDINGS_MAX, Holding
from mainstay.core import plan as p
from mainstay.core.asset.decide import decide
from mainstay.core.asset.snapshot import HolderState, HolderView, Looked, LookedUp

MOST = 2**53


def symbols(count: int, length: int) -> tuple[str, ...]:
    return tuple(f"{'S' * (length - 4)}{number:04}" for number in range(count))


def the_most(length: int, words: int) -> AssetStatus:
    """Every list as long as it may be, of symbols of that length."""
    held = tuple(Holding(symbol=one, units=MOST) for one in symbols(HOLDINGS_MAX, length))
    named = job_holder(name="j" * 253)
    asset = an_asset(
        a_spec(accepts=True),
        holder=named,
        state=AssetState.HELD,
        compensation=claimed(holdings=held, failures=3, ended_at=NOW, retry_at=NOW + timedelta(seconds=5)),
    )
    tasks = [
        report(number, at=number, deliveries=[{"symbol": one, "units": MOST // 3}])
        for number, one in enumerate(symbols(REPORTS_MAX, length))
    ]
    tasks = [
        replace(one, id=f"{JOB:x<36}/{'t' * 63}/{n:05}", job="j" * 253, task="t" * 63)
        for n, one in enumerate(tasks)
    ]
    world = World(asset, {JOB: HolderView(HolderState.CANCELLED)}, reports=tuple(tasks))
    seen: dict[str, Any] = {
        "looked": Looked(holdings=held),
        "looked_up": LookedUp(accepts=symbols(ACCEPTS_MAX, length - 1)),
        "purposes": frozenset({f"left:{JOB}:3"}),
    }
    plan = decide(world.snapshot(**seen))
    assert isinstance(plan, p.Write)
    told = tuple(c.model_copy(update={"message": "w" * words}) for c in plan.status.conditions)
    assert len(told) == 6
    return plan.status.model_copy(update={"conditions": told})


@pytest.mark.parametrize(("length", "words", "limit"), [(12, 512, 96 * 1024), (128, 4096, 256 * 1024)])
def test_the_most_there_can_be(length: int, words: int, limit: int) -> None:
    """An object of the API server may have 1.5 MiB; an ordinary symbol has about a dozen characters."""
    status = the_most(length, words)
    assert [
        len(x)
        for x in (status.holdings, status.delivered, status.deliveries, status.taken, status.accepts or ())
    ] == [*(HOLDINGS_MAX, TOTALS_MAX, DELIVERIES_SHOWN, REPORTS_MAX, ACCEPTS_MAX)]
    assert wired(status) == status
    assert len(json.dumps(status.wire()).encode()) < limit


def test_the_summary_counts_what_it_has_no_room_for() -> None:
    summary = the_most(128, 1).summary
    assert len(summary) <= 256
    assert summary.endswith(f"{MOST} and {HOLDINGS_MAX - 1} more")
