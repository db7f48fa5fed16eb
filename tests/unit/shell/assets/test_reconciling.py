"""An asset converged from end to end: looks, claims, the batch that empties it, and an API server that says no."""

from __future__ import annotations

from collections.abc import AsyncIterator
from copy import deepcopy
from typing import Any

import pytest
from tests.unit.shell.assets.houses import CARGO, KEY, NOW, STEPS, URL, Clock, House, Server, until

from mainstay.api.asset import ASSET_UID_LABEL
from mainstay.api.meta import FINALIZER
from mainstay.core.names import compensation_name
from mainstay.core.run.story import Event
from mainstay.runtime.fake_tasks import FakeTaskRuntime
from mainstay.shell.assets.assets import REFUSED_SECONDS, AssetReconciler
from mainstay.shell.assets.observer import FRESH_SECONDS
from mainstay.shell.jobs.index import JobIndex
from mainstay.shell.kube import ASSETS, BATCHES, JOBS, ApiError, ApiUnavailableError, path
from mainstay.shell.store import Object

NAME = compensation_name("ship-1", "u1", 1)
BATCH, SHIP = path(BATCHES, "d", NAME), path(ASSETS, "d", "ship-1")
HOLDER = {"kind": "PhasedJob", "name": "haul", "uid": "j1", "since": NOW}


class Writable(Server):
    """Keeps what is written, with versions."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 100
        self.created: list[Object] = []
        self.refusal: Exception | None = None

    def _kept(self, url: str, obj: Object) -> Object:
        self.version += 1
        made = deepcopy(obj)
        made["metadata"]["resourceVersion"] = str(self.version)
        self.objects[url] = made
        return deepcopy(made)

    async def put_status(self, plural: str, obj: Object, status: Object) -> Object:
        assert plural == ASSETS
        assert not (status["state"] == "Free" and status["holdings"])
        return self._kept(SHIP, {**obj, "status": status})

    async def set_finalizer(self, plural: str, obj: Object, *, present: bool) -> Object:
        return self._kept(
            SHIP, {**obj, "metadata": {**obj["metadata"], "finalizers": [FINALIZER] if present else []}}
        )

    async def create(self, plural: str, kind: str, namespace: str, obj: Object) -> Object:
        assert (plural, kind, namespace) == (BATCHES, "JobBatch", "d")
        self.created.append(obj)
        if self.refusal is not None:
            raise self.refusal
        if BATCH in self.objects:
            raise ApiError(409, "AlreadyExists", "there is one")
        return self._kept(BATCH, {**obj, "metadata": {**obj["metadata"], "uid": "b1"}})


class Place:
    """A reconciler of a ship that a cancelled job left full."""

    def __init__(self, clock: Clock) -> None:
        self.house = House(clock)
        self.server = Writable()
        self.house.server = self.server
        self.jobs = JobIndex(assets=self.house.index)
        self.told: list[str] = []
        self.compensations = 0
        parts: Any = (
            self.house.index,
            self.jobs,
            self.server,
            FakeTaskRuntime(),
            self.house.observer,
            self,
            self.take,
        )
        self.reconciler = AssetReconciler(*parts)
        self.reconciler.compensated = self.count
        meta = {"name": "ship-1", "namespace": "d", "uid": "u1", "resourceVersion": "1", "generation": 1}
        spec = {"holdings": {"probe": {"http": {"url": URL}}}, "compensation": {"template": {"steps": STEPS}}}
        ship = {"metadata": meta, "spec": spec, "status": {"state": "Held", "holder": HOLDER}}
        self.server.objects[SHIP] = ship
        self.house.index.put(deepcopy(ship))
        job = {
            "metadata": meta | {"name": "haul", "uid": "j1"},
            "spec": {"steps": STEPS},
            "status": {"phase": "Cancelled"},
        }
        self.jobs.put_job(job)

    def count(self) -> None:
        self.compensations += 1

    def record(self, obj: Object, event: Event) -> None:
        """As the recorder does."""
        assert obj["metadata"]["uid"] == "u1"
        self.told.append(event.reason)

    def take(self, plural: str, gone: bool, obj: Object) -> None:
        kind = self.jobs.batches if plural == BATCHES else self.jobs.jobs
        assert plural in (BATCHES, JOBS)
        assert not gone
        kind.put(obj)

    async def settle(self) -> float | None:
        """Reconciled again whenever a look wakes it, until nothing is under way."""
        wait = await self.reconciler.reconcile(KEY)
        for _ in range(20):
            if not self.house.asking() and not self.house.woken and not (wait is not None and wait < 0.5):
                return wait
            if self.house.asking():
                await until(lambda: bool(self.house.woken))
            self.house.woken.clear()
            wait = await self.reconciler.reconcile(KEY)
        raise AssertionError(f"never at rest: {self.status()}")

    def status(self) -> Object:
        return self.server.objects[SHIP]["status"]

    def holder(self) -> str:
        return (self.status().get("holder") or {}).get("uid", "")

    def ready(self) -> tuple[str, str]:
        found = next(c for c in self.status()["conditions"] if c["type"] == "Ready")
        return found["reason"], found["message"]


@pytest.fixture
async def place(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    modules = ("observer", "gather", "assets")
    place = Place(Clock.of(monkeypatch, *(f"mainstay.shell.assets.{module}" for module in modules)))
    yield place
    await place.house.observer.close()


async def test_what_a_cancelled_job_left_is_emptied(place: Place) -> None:
    await place.settle()
    assert place.server.objects[SHIP]["metadata"]["finalizers"] == [FINALIZER]
    assert place.holder() == "b1"
    (made,) = place.server.created
    assert made["metadata"]["labels"] == {ASSET_UID_LABEL: "u1"}
    assert place.told == ["CompensationCreated", "HandedOver"]
    assert place.compensations == 1
    batch = place.server.objects[BATCH]
    place.house.probes.answers[URL] = []
    place.take(
        BATCHES,
        False,
        {
            **batch,
            "metadata": {**batch["metadata"], "resourceVersion": "900"},
            "status": {"phase": "Completed"},
        },
    )
    await place.settle()
    assert (place.holder(), place.status()["state"]) == ("", "Free")
    assert len(place.server.created) == 1


async def test_nothing_is_made_of_an_empty_one(place: Place) -> None:
    place.house.probes.answers[URL] = []
    await place.settle()
    assert (place.holder(), place.status()["state"], place.server.created) == ("", "Free", [])


async def test_one_of_ours_that_is_there_already_is_success(place: Place) -> None:
    """Made before a crash, and not in our copy yet."""
    meta = {
        "name": NAME,
        "namespace": "d",
        "uid": "b7",
        "resourceVersion": "50",
        "labels": {ASSET_UID_LABEL: "u1"},
    }
    place.server.objects[BATCH] = {
        "metadata": meta,
        "spec": {"template": {"steps": STEPS}, "jobs": [{"name": "h0"}]},
    }
    await place.settle()
    assert place.holder() == "b7"
    assert len(place.server.created) == 1


async def test_one_of_that_name_that_is_not_ours_is_left_alone(place: Place) -> None:
    meta = {"name": NAME, "namespace": "d", "uid": "b7", "resourceVersion": "50"}
    place.server.objects[BATCH] = {
        "metadata": meta,
        "spec": {"template": {"steps": STEPS}, "jobs": [{"name": "h0"}]},
    }
    await place.settle()
    assert place.holder() == "j1"
    assert place.ready()[0] == "CompensationBlocked"


async def test_a_refusal_is_told_and_tried_again_when_it_is_due(place: Place) -> None:
    place.server.refusal = ApiError(403, "Forbidden", "exceeded quota")
    wait = await place.settle()
    assert wait is not None
    assert 0 < wait <= REFUSED_SECONDS
    assert (place.holder(), place.status()["state"], place.ready()[0]) == (
        "j1",
        "HeldOrphaned",
        "CompensationBlocked",
    )
    assert "exceeded quota" in place.ready()[1]
    assert len(place.server.created) == 1
    place.server.refusal = None
    place.house.clock.now += REFUSED_SECONDS
    await place.settle()
    assert (place.holder(), len(place.server.created)) == ("b1", 2)


async def test_a_refusal_does_not_keep_what_was_emptied_by_hand(place: Place) -> None:
    place.server.refusal = ApiError(403, "Forbidden", "exceeded quota")
    await place.settle()
    place.house.probes.answers[URL] = []
    place.house.clock.now += FRESH_SECONDS + REFUSED_SECONDS
    await place.settle()
    assert (place.holder(), place.status()["state"]) == ("", "Free")


async def test_an_api_server_that_is_away_is_no_refusal(place: Place) -> None:
    place.server.refusal = ApiUnavailableError(503, "ServiceUnavailable", "away")
    with pytest.raises(ApiUnavailableError):
        await place.settle()
    assert place.status()["compensation"]["batch"] == NAME
    place.server.refusal = None
    await place.settle()
    assert place.holder() == "b1"
    assert place.house.probes.answers[URL] == CARGO
