"""Assets as a job sees them: its own, its batch's, or somebody's; and only what was seen for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.unit.shell.assets.houses import JOB, KEY, NOW, STEPS, URL, Clock, House, until

from mainstay.api.phasedjob import PhasedJob
from mainstay.core.asset.observation import ObservationError
from mainstay.core.job.snapshot import AssetView
from mainstay.shell.assets.views import AssetViews


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    house = House(Clock.of(monkeypatch, "mainstay.shell.assets.observer"))
    yield house
    await house.observer.close()


def put(house: House, *, deleting: bool = False, probe: bool = True, **status: Any) -> None:
    house.version += 1
    meta = {"name": "ship-1", "namespace": "d", "uid": "u1", "resourceVersion": str(house.version)}
    spec = {"type": "Ship"} | ({"holdings": {"probe": {"http": {"url": URL}}}} if probe else {})
    house.index.put(
        {"metadata": meta | ({"deletionTimestamp": NOW} if deleting else {}), "spec": spec, "status": status}
    )


def view(house: House, *, uid: str = "j1", batch: str = "") -> AssetView:
    owners = [{"kind": "JobBatch", "name": "night", "uid": batch, "controller": True}] if batch else []
    meta = {"name": "night-haul", "namespace": "d", "uid": uid, "ownerReferences": owners}
    spec = {"steps": STEPS, "assets": [{"name": "ship", "ref": "ship-1"}]}
    return AssetViews(house.index, house.observer).of(
        PhasedJob.model_validate({"metadata": meta, "spec": spec})
    )["ship"]


def holder(uid: str, kind: str = "PhasedJob", name: str = "mine-7") -> dict[str, Any]:
    return {"kind": kind, "name": name, "uid": uid, "since": NOW}


async def test_one_that_is_not_there(house: House) -> None:
    assert view(house) == AssetView("ship-1")


@pytest.mark.parametrize(
    ("has", "batch", "mine", "words"),
    [
        (None, "", False, ""),
        (holder("j1"), "", True, "job mine-7"),
        (holder("j2"), "", False, "job mine-7"),
        (holder("b1", "JobBatch", "c1"), "", False, "batch c1"),
        (holder("b1", "JobBatch", "c1"), "b1", True, "batch c1"),
        (holder("b2", "JobBatch", "c2"), "b1", False, "batch c2"),
        (holder("j1"), "b1", True, "job mine-7"),
    ],
)
async def test_whose_it_is(house: House, has: Any, batch: str, mine: bool, words: str) -> None:
    """The jobs that empty an asset have what their batch has."""
    put(house, **({"holder": has} if has else {}))
    seen = view(house, batch=batch)
    assert (seen.mine, seen.holder, seen.exists, seen.uid, seen.type) == (mine, words, True, "u1", "Ship")


async def test_what_was_seen_counts_for_what_asked_for_it(house: House) -> None:
    put(house, holdings=[{"symbol": "OLD", "units": 1}], accepts=["FUEL"], taken=["x/t/1"], state="Held")
    first = view(house)
    assert [one.symbol for one in first.holdings] == ["OLD"]
    assert (first.purposes, first.probed, first.accepts) == (frozenset(), True, ("FUEL",))
    assert (first.taken, first.state) == ({"x/t/1"}, "Held")
    house.observer.ask(KEY, "mine", JOB)
    assert view(house).asking == {"mine"}
    await until(lambda: JOB in house.woken)
    seen = view(house)
    assert [one.symbol for one in seen.holdings] == ["IRON_ORE"]
    assert (seen.purposes, seen.asking, seen.error) == ({"mine"}, frozenset(), "")


async def test_what_failed_counts_for_nothing_and_what_was_seen_before_neither(house: House) -> None:
    put(house)
    house.observer.ask(KEY, "mine", JOB)
    await until(lambda: JOB in house.woken)
    house.probes.answers[URL] = ObservationError("no answer")
    house.observer.ask(KEY, "other", JOB)
    await until(lambda: house.looked() == "no answer")
    seen = view(house)
    assert (seen.purposes, seen.error) == (frozenset(), "no answer")
    assert seen.next_look_seconds == 1.0


async def test_without_a_probe_it_has_what_status_says(house: House) -> None:
    put(house, probe=False, holdings=[{"symbol": "OLD", "units": 1}])
    seen = view(house)
    assert (seen.probed, [one.symbol for one in seen.holdings]) == (False, ["OLD"])


READY = {
    "type": "Ready",
    "status": "False",
    "reason": "R",
    "message": "it has IRON_ORE 40",
    "lastTransitionTime": NOW,
}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"deleting": True, "state": "Free"}, "it is being deleted"),
        ({"state": "HeldOrphaned", "conditions": [READY]}, "it has IRON_ORE 40"),
        ({"state": "Unknown", "conditions": [READY]}, "it has IRON_ORE 40"),
        ({"state": "Unknown", "conditions": [{**READY, "status": "Unknown"}]}, ""),
        ({"state": "Held", "conditions": [READY]}, ""),
        ({"state": "Free", "conditions": [{**READY, "status": "True"}]}, ""),
        ({}, ""),
    ],
)
async def test_why_nobody_can_have_it(house: House, fields: dict[str, Any], words: str) -> None:
    put(house, **fields)
    assert view(house).trouble == words
