"""A run on an API server in memory and the fake runtime: what is lost or changes hands is noticed."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mainstay.api.meta import FINALIZER
from mainstay.core import reasons
from mainstay.core.unit import UnitState
from mainstay.runtime.fake import FakeRuntime
from mainstay.runtime.fake_strategies import FakeShelf
from mainstay.shell.kube import ApiError
from mainstay.shell.runs import RunReconciler
from mainstay.shell.store import Object, Store
from mainstay.shell.strategies.index import StrategyIndex
from mainstay.shell.strategies.sources import Sources
from mainstay.shell.strategies.views import Views

KEY = ("d", "bot")
UNIT = "d.bot"
CREATED = "2030-01-01T00:00:00Z"


@dataclass
class Api:
    """As much of an API server as runs and leases need."""

    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    version: int = 100

    def store(self, plural: str, obj: Object) -> Object:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self.objects[plural, obj["metadata"]["name"]] = obj
        return copy.deepcopy(obj)

    async def get(self, url: str) -> Object | None:
        plural, name = url.rsplit("/", 2)[1:]
        return copy.deepcopy(self.objects.get((plural, name)))

    async def put_status(self, plural: str, obj: Object, status: Object) -> Object:
        return self.store(plural, {**self.objects[plural, obj["metadata"]["name"]], "status": status})

    async def set_finalizer(self, plural: str, obj: Object, present: bool) -> Object:
        known = copy.deepcopy(self.objects[plural, obj["metadata"]["name"]])
        known["metadata"]["finalizers"] = [FINALIZER] if present else []
        return self.store(plural, known)

    async def create(self, plural: str, kind: str, namespace: str | None, obj: Object) -> Object:
        if (plural, obj["metadata"]["name"]) in self.objects:
            raise ApiError(409, "AlreadyExists", kind)
        new = copy.deepcopy(obj)
        new["metadata"]["uid"] = f"uid-{self.version}"
        return self.store(plural, new)

    async def delete(self, plural: str, name: str, uid: str, resource_version: str) -> None:
        known = self.objects.get((plural, name))
        if known is not None and known["metadata"]["uid"] != uid:
            raise ApiError(409, "Conflict", "uid")
        self.objects.pop((plural, name), None)


class Silent:
    """A recorder of no events."""

    def record(self, obj: Object, event: Any) -> None:
        pass


def a_run(name: str = "bot", uid: str = "u1", **more: Any) -> Object:
    spec = {"program": {"command": ["bot"]}, "controlApi": more.pop("api", {})}
    created = more.pop("created", CREATED)
    meta = {"name": name, "namespace": "d", "uid": uid, "generation": 1, "creationTimestamp": created}
    return {"metadata": {**meta, "resourceVersion": "50"}, "spec": spec, **more}


def a_lease(port: int, holder: str) -> Object:
    held = {"kind": "StrategyRun", "namespace": "d", "name": holder, "uid": f"uid-of-{holder}"}
    meta = {"name": f"port-{port}", "uid": f"lease-{port}", "resourceVersion": "10"}
    return {"metadata": meta, "spec": {"pool": "default", "port": port, "holder": held}}


class Site:
    """One run that is reconciled until nothing is left to do."""

    def __init__(self) -> None:
        self.api, self.store, self.runtime = Api(), Store(), FakeRuntime()
        self.store.put_run(self.api.store("strategyruns", a_run()))
        pool = {"metadata": {"name": "default", "uid": "p", "resourceVersion": "3"}}
        self.store.pools.put({**pool, "spec": {"ranges": [{"first": 8000, "last": 8002}]}})
        index, shelf = StrategyIndex(), FakeShelf()
        views = Views(self.store, index, Sources(Path("/"), self.store, index, shelf), shelf)
        self.reconciler = RunReconciler(self.store, self.api, self.runtime, views, Silent())  # type: ignore[arg-type]

    async def settle(self) -> None:
        for _ in range(5):
            await self.reconciler.reconcile(KEY)

    def told(self) -> tuple[str | None, int | None]:
        run = self.store.run(KEY)
        assert run is not None
        return run.status.phase, run.status.port

    def lose_the_lease(self) -> None:
        """Another holder has it, and no event told that ours was deleted."""
        self.store.put_lease(self.api.store("portleases", a_lease(8000, "other")))


@pytest.fixture
async def site() -> Site:
    site = Site()
    await site.settle()
    assert site.told() == ("Running", 8000)
    return site


async def test_a_bot_with_a_port_starts_again_after_a_reboot(site: Site) -> None:
    site.runtime.lose_everything()
    await site.settle()
    assert (await site.runtime.observe(UNIT)).state is UnitState.RUNNING
    assert site.told() == ("Running", 8000)


async def test_a_lease_that_went_to_another_holder_is_no_longer_ours(site: Site) -> None:
    assert len(site.store.leases_of("u1")) == 1
    site.lose_the_lease()
    assert site.store.leases_of("u1") == ()


async def test_a_run_whose_lease_went_to_another_gets_a_port_of_its_own(site: Site) -> None:
    site.lose_the_lease()
    await site.settle()
    assert site.told() == ("Running", 8001)
    assert [x.spec.port for x in site.store.leases_of("u1")] == [8001]


async def test_a_run_whose_lease_went_to_another_can_be_stopped(site: Site) -> None:
    site.lose_the_lease()
    run = copy.deepcopy(site.api.objects["strategyruns", "bot"])
    run["spec"]["state"], run["metadata"]["generation"] = "Stopped", 2
    site.store.put_run(site.api.store("strategyruns", run))
    await site.settle()
    assert site.told()[0] == "Stopped"
    assert ("portleases", "port-8000") in site.api.objects


async def test_who_waits_for_one_fixed_port_keeps_no_other_port_idle() -> None:
    site = Site()
    waits = {
        "type": "PortAllocated",
        "status": "False",
        "reason": reasons.PORT_TAKEN,
        "lastTransitionTime": CREATED,
    }
    older = a_run("old", "u0", api={"port": 8000}, created="2020-01-01T00:00:00Z")
    site.store.put_run({**older, "status": {"phase": "Pending", "conditions": [waits]}})
    for port in (8000, 8001):
        site.store.put_lease(a_lease(port, "x"))
    await site.settle()
    assert site.told() == ("Running", 8002)
