"""Assets: what gathering, deciding and acting are for one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from mainstay.api.asset import ASSET_ANNOTATION, ASSET_UID_LABEL, Asset, AssetStatus
from mainstay.api.meta import API_VERSION
from mainstay.core import reasons
from mainstay.core.asset.check import CLAIM, claiming
from mainstay.core.asset.decide import decide
from mainstay.core.asset.snapshot import AssetSnapshot
from mainstay.core.asset.story import compensated, events
from mainstay.core.names import compensation_job
from mainstay.core.plan import (
    Action,
    AddFinalizer,
    AssetEffect,
    CreateCompensation,
    DeleteCompensation,
    ObserveAccepts,
    ObserveAssets,
    Plan,
    RemoveFinalizer,
)
from mainstay.core.snapshot import Problem
from mainstay.runtime.base import TaskRuntime
from mainstay.shell.assets.gather import AssetGatherer, AssetMemory, empties
from mainstay.shell.assets.index import AssetIndex
from mainstay.shell.assets.observer import Observer
from mainstay.shell.copies import Take
from mainstay.shell.jobs.index import JobIndex
from mainstay.shell.kube import ASSETS, BATCHES, CONFLICTS, ApiError, ApiUnavailableError, Kube, path
from mainstay.shell.reconcile import Reconciler
from mainstay.shell.recorder import Recorder
from mainstay.shell.store import Key, Object

REFUSED_SECONDS = 10.0
"""How often to try again what the API server refused: no event tells that a quota, or a policy, is another."""


class AssetReconciler(Reconciler[AssetSnapshot, AssetStatus, AssetMemory]):
    """Converges assets."""

    plural = ASSETS
    kind = "Asset"

    def __init__(
        self,
        index: AssetIndex,
        jobs: JobIndex,
        kube: Kube,
        runtime: TaskRuntime,
        observer: Observer,
        recorder: Recorder,
        take: Take,
    ) -> None:
        super().__init__(kube, index.assets)
        self._index = index
        self._observer = observer
        self._recorder = recorder
        self._take = take
        self._gatherer = AssetGatherer(index, jobs, kube, runtime, observer, take)
        self.compensated: Callable[[], None] = lambda: None
        """Called when a compensation was claimed."""

    def _memory(self) -> AssetMemory:
        return AssetMemory()

    async def _snapshot(self, key: Key, memory: AssetMemory) -> AssetSnapshot | None:
        return await self._gatherer.snapshot(key, memory)

    def _decide(self, snapshot: AssetSnapshot) -> Plan[AssetStatus]:
        return decide(snapshot)

    def _seen(self, snapshot: AssetSnapshot) -> str:
        return snapshot.asset.metadata.resource_version

    def _put(self, obj: Object) -> None:
        self._index.put(obj)

    def _drop(self, obj: Object) -> None:
        self._index.drop(obj)

    def _written(self, snapshot: AssetSnapshot, status: AssetStatus, obj: Object) -> None:
        before, after = snapshot.status.holder, status.holder
        if (before and before.uid) != (after and after.uid):
            meta = snapshot.asset.metadata
            self._observer.changed_hands((meta.namespace, meta.name))
        for event in events(snapshot.status, status):
            self._recorder.record(obj, event)
        if compensated(snapshot.status, status):
            self.compensated()

    async def _act(
        self, key: Key, snapshot: AssetSnapshot, actions: tuple[Action, ...], memory: AssetMemory
    ) -> None:
        for action in actions:
            try:
                await self._one(key, snapshot.asset, action, memory)
            except ApiError as error:
                if error.code not in CONFLICTS:
                    raise
                await self.refresh(key)

    async def _one(self, key: Key, asset: Asset, action: Action, memory: AssetMemory) -> None:
        if isinstance(action, AddFinalizer | RemoveFinalizer):
            await self.set_finalizer(key, present=isinstance(action, AddFinalizer))
            return
        assert isinstance(action, AssetEffect)
        match action:
            case ObserveAssets(purpose=purpose):
                self._observer.ask(key, purpose, ("asset", *key))
            case ObserveAccepts():
                self._observer.look_up(key)
            case CreateCompensation():
                await self._create(key, asset, memory)
            case DeleteCompensation(name=name, uid=uid):
                where = path(BATCHES, key[0], name)
                await self._kube.delete_object(where, uid=uid)
                if (current := await self._kube.get(where)) is not None:
                    self._take(BATCHES, False, current)

    async def _create(self, key: Key, asset: Asset, memory: AssetMemory) -> None:
        body = compensation_of(asset)
        name = body["metadata"]["name"]
        try:
            obj = await self._kube.create(BATCHES, "JobBatch", key[0], body)
        except ApiUnavailableError:
            raise
        except ApiError as error:
            existing = None
            words = error.message
            if error.code == HTTPStatus.CONFLICT:
                existing = await self._kube.get(path(BATCHES, key[0], name))
            if existing is None or not empties(existing, asset):
                problem = Problem(reasons.COMPENSATION_BLOCKED, words, needs_person=True, retry_seconds=0.0)
                memory.problem = (problem, time.monotonic() + REFUSED_SECONDS)
                return
            obj = existing
        memory.problem = None
        self._take(BATCHES, False, obj)


def compensation_of(asset: Asset) -> Object:
    """The JobBatch of the claim in status: a job per holding. Always the same bytes for the same claim."""
    meta, c, spec = asset.metadata, asset.status.compensation, asset.spec.compensation
    assert c is not None
    assert spec is not None
    template = claiming(meta.name, spec.template)
    shape: dict[str, Any] = template.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_unset=True
    )
    shape |= {"onFailure": str(template.on_failure), "assets": [one.wire() for one in template.assets]}
    jobs = [
        {
            "name": compensation_job(index),
            "inputs": {CLAIM: meta.name, "symbol": one.symbol, "units": one.units},
        }
        for index, one in enumerate(c.holdings)
    ]
    body: dict[str, Any] = {"parallelism": spec.parallelism, "template": shape, "jobs": jobs}
    if asset.spec.owner is not None:
        body["owner"] = asset.spec.owner.wire()
    labels, annotations = {ASSET_UID_LABEL: meta.uid}, {ASSET_ANNOTATION: meta.name}
    made: Object = {
        "name": c.batch,
        "namespace": meta.namespace,
        "labels": labels,
        "annotations": annotations,
    }
    if meta.deletion_timestamp is None:
        made["ownerReferences"] = [_owner(asset)]
    return {"metadata": made, "spec": body}


def _owner(asset: Asset) -> Object:
    """What shows the batch below its asset.

    Not while the asset is being deleted: with `--cascade=foreground`, as GitOps tools delete, the cluster's garbage
    collector would delete each compensation that the asset's own end waits for.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": "Asset",
        "name": asset.metadata.name,
        "uid": asset.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
