"""What is told of assets in numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric

from mainstay.api.asset import AssetState
from mainstay.core import reasons
from mainstay.shell.gauges import by, gauge
from mainstay.shell.store import Object, condition_of

COMPENSATIONS = ("running", "retrying", "blocked")
STRANDED = frozenset(
    {reasons.NO_COMPENSATION, reasons.COMPENSATION_BLOCKED, reasons.UNCLAIMED, reasons.HOLDER_COMPLETED}
)
"""Reasons of Ready of an asset that has holdings, and only a person can change that."""


def asset_gauges(assets: Iterable[Object], jobs: Iterable[Object]) -> Iterator[Metric]:
    """What assets are, and what becomes of those that nobody has."""
    states = dict.fromkeys(map(str, AssetState), 0)
    compensations = dict.fromkeys(COMPENSATIONS, 0)
    unexpected = 0
    for obj in assets:
        status = obj.get("status") or {}
        state = status.get("state") or "Unknown"
        states[state if state in states else "Unknown"] += 1
        truths = {c.get("type"): (c.get("status"), c.get("reason")) for c in status.get("conditions") or ()}
        unexpected += truths.get("UnexpectedInput", ("",))[0] == "True"
        if kind := _compensation(truths.get("Ready", ("", ""))[1]):
            compensations[kind] += 1
    waiting = sum(condition_of(obj, "Ready").get("reason") == reasons.ASSET_HELD for obj in jobs)
    yield gauge("mainstay_assets", "Assets by state.", ["state"], by(states))
    yield gauge(
        "mainstay_asset_compensations",
        "Assets whose holder is gone and that have holdings, by what becomes of them: a compensation is made or runs, "
        "waits until it is tried again after a failure, or waits for a person (blocked).",
        ["state"],
        by(compensations),
    )
    yield gauge(
        "mainstay_assets_unexpected_inputs",
        "Assets to which something was delivered that they do not accept.",
        [],
        {(): unexpected},
    )
    yield gauge(
        "mainstay_jobs_waiting_for_assets",
        "Jobs that wait for an asset that somebody else has.",
        [],
        {(): waiting},
    )


def _compensation(reason: str | None) -> str | None:
    """What becomes of holdings that nobody has, by the reason of Ready; None where there are none."""
    if reason in STRANDED:
        return "blocked"
    return {reasons.COMPENSATING: "running", reasons.COMPENSATION_RETRYING: "retrying"}.get(reason or "")
