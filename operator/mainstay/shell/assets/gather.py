"""Gathering: one frozen snapshot of an asset, who has it, who wants it and what was seen in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import ValidationError

from mainstay.api.asset import ASSET_UID_LABEL, Asset, AssetState, Holder
from mainstay.api.jobbatch import BatchPhase
from mainstay.api.phasedjob import FINAL, JobPhase, PhasedJob
from mainstay.core.asset.check import problems
from mainstay.core.asset.claims import claimant, reachable
from mainstay.core.asset.snapshot import (
    AssetSnapshot,
    BatchView,
    Claimant,
    HolderState,
    HolderView,
    ReportView,
)
from mainstay.core.batch.decide import OVER
from mainstay.core.job.assets import report_id
from mainstay.core.names import compensation_name, task_key
from mainstay.core.snapshot import Problem
from mainstay.core.unit import LIVE
from mainstay.runtime.base import TaskRuntime
from mainstay.shell.assets.index import AssetIndex
from mainstay.shell.assets.observer import Observer
from mainstay.shell.copies import Take
from mainstay.shell.jobs.gather import now
from mainstay.shell.jobs.index import JobIndex
from mainstay.shell.kube import BATCHES, JOBS, Kube, path
from mainstay.shell.reconcile import Memory
from mainstay.shell.store import Key, Object, condition_of

KEPT = 3
"""So many earlier compensations are looked for, to be deleted."""
_ENDS: Mapping[str, HolderState] = {
    JobPhase.COMPLETED: HolderState.COMPLETED,
    JobPhase.FAILED: HolderState.FAILED,
    JobPhase.CANCELLED: HolderState.CANCELLED,
}
_BATCH_ENDS: Mapping[str, HolderState] = {
    BatchPhase.COMPLETED: HolderState.COMPLETED,
    BatchPhase.CANCELLED: HolderState.CANCELLED,
    BatchPhase.PARTIALLY_COMPLETED: HolderState.FAILED,
    BatchPhase.FAILED: HolderState.FAILED,
}


@dataclass(slots=True)
class AssetMemory(Memory):
    """What is remembered of an asset between passes."""

    generation: int = -1
    invalid: tuple[str, str] | None = None
    gone: str = ""  # uid of a holder that the API server was asked for, and has not
    problem: tuple[Problem, float] | None = None  # why the compensation could not be made, and until when


class AssetGatherer:
    """Reads our copies, the runtime and the clocks; asks the API server for a holder that our copies lack."""

    def __init__(
        self,
        index: AssetIndex,
        jobs: JobIndex,
        kube: Kube,
        runtime: TaskRuntime,
        observer: Observer,
        take: Take,
    ) -> None:
        self._index = index
        self._jobs = jobs
        self._kube = kube
        self._runtime = runtime
        self._observer = observer
        self._take = take

    async def snapshot(self, key: Key, memory: AssetMemory) -> AssetSnapshot | None:
        """The asset as of now, or None if it is gone. Raises what the API server and the runtime raise."""
        asset = self._index.assets.get(key)
        if asset is None:
            self._observer.forget(key)
            return None
        holder = asset.status.holder
        await self._look_for(key, holder, memory)
        lives = await self._lives(key, holder)
        # From here on nothing awaits.
        current = self._index.assets.get(key)
        if current is None or (current.status.holder and current.status.holder.uid) != (
            holder and holder.uid
        ):
            return await self.snapshot(key, memory)
        self._declared(current, memory)
        sight = self._observer.sight(key, current)
        every = current.spec.accepts.every_seconds if current.spec.accepts else 0
        return AssetSnapshot(
            asset=current,
            now=now(),
            invalid=memory.invalid,
            looked=sight.looked,
            purposes=self._observer.good_for(sight),
            asking=self._observer.asking(sight),
            next_look_seconds=self._observer.next_look(sight),
            looked_up=sight.looked_up,
            looking_up=sight.up_task is not None,
            next_look_up_seconds=self._observer.next_look_up(sight, every),
            holder=self._holder(key, holder, lives=lives),
            stray=lives and holder is None,
            claimants=self._claimants(key),
            reports=self._reports(key),
            batch=self._batch(key, current),
            older=self._older(key, current),
            problem=self._problem(memory),
        )

    def _declared(self, asset: Asset, memory: AssetMemory) -> None:
        meta = asset.metadata
        if memory.uid != meta.uid:
            memory.uid, memory.generation, memory.problem = meta.uid, -1, None
        if memory.generation != meta.generation:
            memory.invalid = next(problems(meta.name, asset.spec), None)
            memory.generation, memory.problem = meta.generation, None

    @staticmethod
    def _problem(memory: AssetMemory) -> Problem | None:
        if memory.problem is None:
            return None
        problem, until = memory.problem
        return replace(problem, retry_seconds=max(0.0, until - time.monotonic()))

    # -- the holder

    def _known(self, key: Key, holder: Holder) -> Object | None:
        kind = self._jobs.jobs if holder.kind == "PhasedJob" else self._jobs.batches
        obj = kind.objects.get((key[0], holder.name))
        return obj if obj is not None and obj["metadata"]["uid"] == holder.uid else None

    async def _look_for(self, key: Key, holder: Holder | None, memory: AssetMemory) -> None:
        """Only a consistent read proves that a holder is gone."""
        if holder is None or memory.gone == holder.uid or self._known(key, holder) is not None:
            return
        plural = JOBS if holder.kind == "PhasedJob" else BATCHES
        obj = await self._kube.get(path(plural, key[0], holder.name))
        if obj is not None and obj["metadata"]["uid"] == holder.uid:
            self._take(plural, False, obj)
        else:
            memory.gone = holder.uid

    async def _lives(self, key: Key, holder: Holder | None) -> bool:
        """Whether a process may live, or start, that works with the asset though nobody is to have it any more.

        Of a holder that has ended or is gone, whatever its status was made to say; and of any job that has no object:
        deleted by force, or forgotten by an API server that was restored.
        """
        obj = self._known(key, holder) if holder is not None else None
        if obj is not None and holder is not None and not _ended(holder, obj):
            return False
        if holder is None and not self._claimants(key):
            return False
        if (
            holder is not None
            and holder.kind == "JobBatch"
            and any(
                _phase(job) not in FINAL for job in self._jobs.children((key[0], holder.name), holder.uid)
            )
        ):
            return True
        for name in await self._runtime.names():
            namespace, job, _ = task_key(name)
            if namespace != key[0]:
                continue
            theirs = holder is not None and (
                job == holder.name if holder.kind == "PhasedJob" else job.startswith(f"{holder.name}-")
            )
            if not theirs and (namespace, job) in self._jobs.jobs.objects:
                continue
            unit = await self._runtime.observe(name)
            if unit.state in LIVE and (
                key[1] in unit.assets or (theirs and self._of(holder, unit.owner_uid))
            ):
                return True
        return False

    @staticmethod
    def _of(holder: Holder | None, owner: str) -> bool:
        return holder is not None and (holder.kind == "JobBatch" or owner in ("", holder.uid))

    def _holder(self, key: Key, holder: Holder | None, *, lives: bool) -> HolderView | None:
        if holder is None:
            return None
        obj = self._known(key, holder)
        if obj is None:
            return HolderView(HolderState.GONE, lives=lives)
        if holder.kind == "PhasedJob":
            return HolderView(_ENDS.get(_phase(obj), HolderState.ACTIVE), lives=lives)
        over = _BATCH_ENDS.get(_phase(obj))
        stands = _needs_person(obj) or _phase(obj) == BatchPhase.SUSPENDED
        words = _ready_words(obj) if over is None and stands else ""
        return HolderView(over or HolderState.ACTIVE, lives=lives, words=words)

    # -- who wants it

    def _claimants(self, key: Key) -> tuple[Claimant, ...]:
        found = []
        for job_key in self._index.claimers(key):
            job = self._job(job_key)
            if job is None or self._emptying(job):
                continue
            one = claimant(job, key[1], lambda ref: self._index.holder_of((key[0], ref)))
            if one and (one.had or reachable(job, lambda ref: self._index.get((key[0], ref)))):
                found.append(one)
        return tuple(found)

    def _emptying(self, job: PhasedJob) -> bool:
        """Whether a job is of a compensation, and so has what its batch has and nothing of its own; or of no batch any more."""
        owners = [o for o in job.metadata.owner_references if o.kind == "JobBatch" and o.uid]
        if not owners:
            return False
        batch = self._jobs.batches.objects.get((job.metadata.namespace, owners[0].name))
        return batch is None or ASSET_UID_LABEL in (batch["metadata"].get("labels") or {})

    def _reports(self, key: Key) -> tuple[ReportView, ...]:
        return tuple(
            ReportView(
                id=report_id(job.metadata.uid, task),
                job=job.metadata.name,
                task=task.name,
                ended_at=task.completed_at or task.started_at or now(),
                report=report,
            )
            for job in map(self._job, self._index.carriers(key))
            if job is not None
            for task in job.status.tasks()
            for report in task.reports
            if report.ref == key[1]
        )

    def _job(self, key: Key) -> PhasedJob | None:
        try:
            return self._jobs.jobs.get(key)
        except ValidationError:
            return None

    # -- its compensation

    def _batch(self, key: Key, asset: Asset) -> BatchView | None:
        c = asset.status.compensation
        obj = self._ours(key, asset, c.batch) if c is not None and c.ended_at is None else None
        if obj is None:
            return None
        return BatchView(
            uid=obj["metadata"]["uid"],
            over=_over(obj),
            words=_ready_words(obj),
            why=self._why(obj),
            needs_person=_needs_person(obj),
        )

    def _why(self, batch: Object) -> str:
        """What the first of its jobs that failed says of that."""
        key = (batch["metadata"]["namespace"], batch["metadata"]["name"])
        jobs = sorted(
            self._jobs.children(key, batch["metadata"]["uid"]), key=lambda job: str(job["metadata"]["name"])
        )
        failures = ((job.get("status") or {}).get("lastFailure") or {} for job in jobs)
        return next((f"task {one['task']} {one['message']}" for one in failures if one.get("message")), "")

    def _ours(self, key: Key, asset: Asset, name: str) -> Object | None:
        obj = self._jobs.batches.objects.get((key[0], name))
        return obj if obj is not None and empties(obj, asset) else None

    def _older(self, key: Key, asset: Asset) -> tuple[tuple[str, str], ...]:
        """Compensations that nobody needs: the last one that did its work alone is kept, to be read.

        Also one that was made and then passed over, as a job that had the asset came back: its jobs would wait for ever.
        """
        c, meta, holder = asset.status.compensation, asset.metadata, asset.status.holder
        found = []
        if meta.deletion_timestamp is not None and asset.status.state is AssetState.FREE:
            return tuple(
                (obj["metadata"]["name"], obj["metadata"]["uid"])
                for batch, obj in self._jobs.batches.objects.items()
                if batch[0] == key[0] and empties(obj, asset) and not obj["metadata"].get("deletionTimestamp")
            )
        for attempt in range(max(1, c.attempt - KEPT), c.attempt + 1) if c is not None else ():
            obj = self._ours(key, asset, compensation_name(meta.name, meta.uid, attempt))
            if obj is None or obj["metadata"].get("deletionTimestamp"):
                continue
            needed = c is not None and attempt == c.attempt and (c.ended_at is None or _over(obj))
            if not needed and (holder is None or holder.uid != obj["metadata"]["uid"]):
                found.append((obj["metadata"]["name"], obj["metadata"]["uid"]))
        return tuple(found)


def empties(batch: Object, asset: Asset) -> bool:
    """Whether the batch was made to empty this very asset."""
    return (batch["metadata"].get("labels") or {}).get(ASSET_UID_LABEL) == asset.metadata.uid


def _ended(holder: Holder, obj: Object) -> bool:
    return _over(obj) if holder.kind == "JobBatch" else _phase(obj) in FINAL


def _phase(obj: Object) -> str:
    return (obj.get("status") or {}).get("phase") or "Pending"


def _over(batch: Object) -> bool:
    return _phase(batch) in OVER


def _ready_words(obj: Object) -> str:
    return str(condition_of(obj, "Ready").get("message", ""))


def _needs_person(obj: Object) -> bool:
    return condition_of(obj, "Stalled").get("status") == "True"
