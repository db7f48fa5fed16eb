"""JobBatches: what gathering, deciding and acting are for one of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from mainstay.api.jobbatch import BATCH_LABEL, SHORT_MAX, JobBatch, JobBatchStatus
from mainstay.api.meta import API_VERSION
from mainstay.api.phasedjob import JobGoal, JobPhase
from mainstay.core import reasons
from mainstay.core.batch.decide import BLOCKED_SECONDS, BatchSnapshot, ChildView, decide, events
from mainstay.core.plan import (
    Action,
    AddFinalizer,
    BatchEffect,
    CreateJob,
    DeleteJob,
    Plan,
    RemoveFinalizer,
    SetJobState,
)
from mainstay.shell.jobs.gather import now
from mainstay.shell.jobs.index import JobIndex
from mainstay.shell.kube import BATCHES, CONFLICTS, JOBS, ApiError, ApiUnavailableError, Kube, path
from mainstay.shell.reconcile import Memory, Reconciler
from mainstay.shell.recorder import Recorder
from mainstay.shell.store import Key, Object, condition_of, key_of

_PHASES = {str(phase): phase for phase in JobPhase}
_WAITS = frozenset(
    {
        reasons.ASSET_HELD,
        reasons.ASSET_NOT_FOUND,
        reasons.ASSET_UNKNOWN,
        reasons.NOT_OWNER,
        reasons.WAITING_FOR_ASSET,
    }
)
_GOALS = {str(goal): goal for goal in JobGoal}


@dataclass(slots=True)
class BatchMemory(Memory):
    """What is remembered of a batch between passes."""

    counted_at: float = -1e9
    refused: dict[str, tuple[str, float]] = field(default_factory=dict)  # job → why, and when that was


class BatchReconciler(Reconciler[BatchSnapshot, JobBatchStatus, BatchMemory]):
    """Converges batches."""

    plural = BATCHES
    kind = "JobBatch"

    def __init__(self, index: JobIndex, kube: Kube, recorder: Recorder) -> None:
        super().__init__(kube, index.batches)
        self._index = index
        self._recorder = recorder
        self.changed: Callable[[Object], None] = lambda _: None
        """Called with a batch whose status was written, or that is gone."""
        self.touched: Callable[[Key], None] = lambda _: None
        """Called with a job that was made, changed or deleted here: the watch tells nothing new of it."""

    def _memory(self) -> BatchMemory:
        return BatchMemory()

    async def _snapshot(self, key: Key, memory: BatchMemory) -> BatchSnapshot | None:
        batch = self._index.batches.get(key)
        if batch is None:
            return None
        if memory.uid != batch.metadata.uid:
            memory.uid = batch.metadata.uid
            memory.refused.clear()
        views = [_view(obj) for obj in self._index.children(key, batch.metadata.uid)]
        jobs = {short: view for view in views if (short := _short(key[1], view.name)) is not None}
        at = time.monotonic()
        refused = {name: why for name, (why, _) in memory.refused.items()}
        return BatchSnapshot(
            batch=batch,
            now=now(),
            jobs=jobs,
            strangers=tuple(view for view in views if _short(key[1], view.name) is None),
            blocked={**refused, **self._taken(key, batch, jobs)},
            due=frozenset(n for n, (_, since) in memory.refused.items() if at - since >= BLOCKED_SECONDS),
            counted_seconds_ago=at - memory.counted_at,
        )

    def _taken(self, key: Key, batch: JobBatch, jobs: Mapping[str, ChildView]) -> dict[str, str]:
        """Names that other jobs have."""
        found = {}
        for job in batch.spec.jobs:
            obj = self._index.jobs.objects.get((key[0], f"{key[1]}-{job.name}"))
            if obj is not None and job.name not in jobs:
                owners = obj["metadata"].get("ownerReferences") or []
                whose = f"{owners[0]['kind']} {owners[0]['name']}" if owners else "a job of its own"
                found[job.name] = f"its name belongs to {whose}"
        return found

    def _decide(self, snapshot: BatchSnapshot) -> Plan[JobBatchStatus]:
        return decide(snapshot)

    def _seen(self, snapshot: BatchSnapshot) -> str:
        return snapshot.batch.metadata.resource_version

    def _put(self, obj: Object) -> None:
        self._index.batches.put(obj)

    def _drop(self, obj: Object) -> None:
        if self._index.batches.drop(obj):
            self.changed(obj)

    def _written(self, snapshot: BatchSnapshot, status: JobBatchStatus, obj: Object) -> None:
        meta = snapshot.batch.metadata
        self._memories[meta.namespace, meta.name].counted_at = time.monotonic()
        for event in events(snapshot.batch.status, status):
            self._recorder.record(obj, event)
        self.changed(obj)

    async def _act(
        self, key: Key, snapshot: BatchSnapshot, actions: tuple[Action, ...], memory: BatchMemory
    ) -> None:
        done = await asyncio.gather(
            *(self._one(key, snapshot.batch, action) for action in actions), return_exceptions=True
        )
        for error in (outcome for outcome in done if isinstance(outcome, BaseException)):
            if not (isinstance(error, ApiError) and error.code in CONFLICTS):
                raise error
            await self.refresh(key)

    async def _one(self, key: Key, batch: JobBatch, action: Action) -> None:
        if isinstance(action, AddFinalizer | RemoveFinalizer):
            await self.set_finalizer(key, present=isinstance(action, AddFinalizer))
            return
        assert isinstance(action, BatchEffect)
        match action:
            case CreateJob(name=short):
                await self._create(key, batch, short)
            case SetJobState(name=name, uid=uid, state=state):
                self._take(await self._kube.patch_state(JOBS, key[0], name, uid, {"state": state}))
            case DeleteJob(name=name, uid=uid):
                where = path(JOBS, key[0], name)
                await self._kube.delete_object(where, uid=uid)
                current = await self._kube.get(where)
                if current is not None:
                    self._take(current)
                elif (known := self._index.jobs.objects.get((key[0], name))) is not None:
                    self._index.drop_job(known)

    async def _create(self, key: Key, batch: JobBatch, short: str) -> None:
        name, memory = f"{key[1]}-{short}", self._memories[key]
        try:
            obj = await self._kube.create(JOBS, "PhasedJob", key[0], job_of(batch, name, short))
        except ApiUnavailableError:
            raise
        except ApiError as error:
            if error.code != HTTPStatus.CONFLICT:  # a quota, a policy, a name that is too long: say so
                memory.refused[short] = (error.message, time.monotonic())
                return
            existing = await self._kube.get(path(JOBS, key[0], name))
            if existing is not None:
                self._take(existing)
        else:
            self._take(obj)
        memory.refused.pop(short, None)

    def _take(self, job: Object) -> None:
        self._index.put_job(job)
        self.touched(key_of(job))


def job_of(batch: JobBatch, name: str, short: str) -> Object:
    """The PhasedJob of one entry: the template, the entry's inputs laid over it, the batch's owner."""
    meta = batch.metadata
    entry = next(job for job in batch.spec.jobs if job.name == short)
    spec: dict[str, Any] = batch.spec.template.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_unset=True
    )
    spec["inputs"] = {**batch.spec.template.inputs, **entry.inputs}
    assets = {claim.name: claim.wire() for claim in (*batch.spec.template.assets, *entry.assets)}
    if assets:
        spec["assets"] = list(assets.values())
    if batch.spec.owner is not None:
        spec["owner"] = batch.spec.owner.wire()
    return {
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": {BATCH_LABEL: meta.name},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "JobBatch",
                    "name": meta.name,
                    "uid": meta.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": spec,
    }


def _short(batch: str, name: str) -> str | None:
    """The name within its batch; None for one that no job of the batch can have."""
    short = name.removeprefix(f"{batch}-")
    return short if short != name and 0 < len(short) <= SHORT_MAX else None


def _view(obj: Object) -> ChildView:
    """As much of a job as its batch needs; one that doesn't parse counts as waiting for a person."""
    status = obj.get("status") or {}
    phase = status.get("phase") or "Pending"
    stalled = condition_of(obj, "Stalled").get("status") == "True"
    state = (obj.get("spec") or {}).get("state") or "Running"
    return ChildView(
        name=obj["metadata"]["name"],
        uid=obj["metadata"]["uid"],
        phase=_PHASES.get(phase, JobPhase.ACTION_REQUIRED),
        state=_GOALS.get(state, JobGoal.RUNNING),
        deleting=bool(obj["metadata"].get("deletionTimestamp")),
        waits=condition_of(obj, "Ready").get("reason") in _WAITS,
        stuck=phase in ("Pending", "InProgress") and stalled,
    )
