"""A gatherer of assets, and all that it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.unit.shell.assets.houses import KEY, NOW, STEPS, URL, House, Server

from mainstay.api.asset import ASSET_UID_LABEL
from mainstay.core.asset.snapshot import AssetSnapshot
from mainstay.core.names import compensation_name, task_unit
from mainstay.core.unit import UnitSpec
from mainstay.runtime.fake_tasks import FakeTaskRuntime
from mainstay.shell.assets.gather import AssetGatherer, AssetMemory
from mainstay.shell.jobs.index import JobIndex
from mainstay.shell.kube import JOBS, path
from mainstay.shell.store import Object

HOLDER = {"kind": "PhasedJob", "name": "haul", "uid": "j1", "since": NOW}
NAME = compensation_name("ship-1", "u1", 1)
COMPENSATION = {"batch": NAME, "attempt": 1, "startedAt": NOW}
BATCH_HOLDER = {"kind": "JobBatch", "name": NAME, "uid": "b1", "since": NOW}
HAUL = path(JOBS, "d", "haul")


@dataclass
class Place:
    """A gatherer, and all that it reads."""

    house: House
    jobs: JobIndex = field(default_factory=JobIndex)
    runtime: FakeTaskRuntime = field(default_factory=FakeTaskRuntime)
    memory: AssetMemory = field(default_factory=AssetMemory)

    def __post_init__(self) -> None:
        self.jobs.assets = self.house.index
        server: Any = self.house.server
        self.gatherer = AssetGatherer(
            self.house.index, self.jobs, server, self.runtime, self.house.observer, self.take
        )

    @property
    def server(self) -> Server:
        return self.house.server

    def take(self, plural: str, gone: bool, obj: Object) -> None:
        assert not gone
        (self.jobs.put_job if plural == JOBS else self.jobs.batches.put)(obj)

    def asset(self, **status: Any) -> None:
        self.house.version += 1
        meta = {"name": "ship-1", "namespace": "d", "uid": "u1", "resourceVersion": str(self.house.version)}
        spec = {"holdings": {"probe": {"http": {"url": URL}}}}
        self.house.index.put({"metadata": meta, "spec": spec, "status": status})

    async def look(self) -> AssetSnapshot:
        found = await self.gatherer.snapshot(KEY, self.memory)
        assert found is not None
        return found

    async def runs(self, job: str, *, owner: str, namespace: str = "d", assets: tuple[str, ...] = ()) -> str:
        name = task_unit(namespace, job, "t")
        await self.runtime.start(UnitSpec(name=name, owner_uid=owner, attempt=1, argv=("t",), assets=assets))
        return name


def a_job(
    phase: str | None, *, uid: str = "j1", name: str = "haul", version: int = 5, **fields: Any
) -> Object:
    meta = {
        "name": name,
        "namespace": "d",
        "uid": uid,
        "resourceVersion": str(version),
        "creationTimestamp": NOW,
    }
    spec = {"steps": STEPS, "assets": [{"name": "ship", "ref": "ship-1"}]}
    return {"metadata": {**meta, **fields}, "spec": spec, "status": {"phase": phase} if phase else {}}


def a_batch(
    phase: str | None, *, uid: str = "b1", name: str = NAME, owner: str = "u1", **status: Any
) -> Object:
    meta = {
        "name": name,
        "namespace": "d",
        "uid": uid,
        "resourceVersion": "5",
        "labels": {ASSET_UID_LABEL: owner},
    }
    spec = {"template": {"steps": STEPS}, "jobs": [{"name": "h0"}]}
    return {"metadata": meta, "spec": spec, "status": {**({"phase": phase} if phase else {}), **status}}
