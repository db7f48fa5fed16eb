"""PhasedJobs: what gathering, deciding and acting are for one of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mainstay.api.phasedjob import PhasedJobStatus
from mainstay.core.job.decide import decide
from mainstay.core.job.snapshot import JobSnapshot
from mainstay.core.job.story import events, orphaned, recovered
from mainstay.core.plan import Action, AddFinalizer, JobEffect, Plan, RemoveFinalizer, StartTask
from mainstay.runtime.base import TaskRuntime
from mainstay.shell.assets.observer import Observer
from mainstay.shell.jobs.executor import JobExecutor
from mainstay.shell.jobs.gather import JobGatherer, JobMemory
from mainstay.shell.jobs.index import JobIndex, holding
from mainstay.shell.kube import CONFLICTS, JOBS, ApiError, Kube
from mainstay.shell.problems import TOLD, problem_of
from mainstay.shell.reconcile import Reconciler
from mainstay.shell.recorder import Recorder
from mainstay.shell.store import Key, Object, Store


class JobReconciler(Reconciler[JobSnapshot, PhasedJobStatus, JobMemory]):
    """Converges jobs."""

    plural = JOBS
    kind = "PhasedJob"

    def __init__(
        self,
        store: Store,
        index: JobIndex,
        kube: Kube,
        runtime: TaskRuntime,
        observer: Observer,
        recorder: Recorder,
    ) -> None:
        super().__init__(kube, index.jobs)
        self._index = index
        self._recorder = recorder
        self._gatherer = JobGatherer(store, index, runtime, kube, observer)
        self._executor = JobExecutor(store, kube, runtime, observer)
        self.changed: Callable[[Object], None] = lambda _: None
        """Called with a job whose status was written, or that is gone."""
        self.recovered: Callable[[str, int], None] = lambda *_: None
        """Called with how many were saved, and how: tasks that are run again because their attempt was lost or cut off
        (restarted), a job that was ended because its batch is gone (orphaned)."""

    def _memory(self) -> JobMemory:
        return JobMemory()

    async def _snapshot(self, key: Key, memory: JobMemory) -> JobSnapshot | None:
        return await self._gatherer.snapshot(key, memory)

    def _decide(self, snapshot: JobSnapshot) -> Plan[PhasedJobStatus]:
        return decide(snapshot)

    def _seen(self, snapshot: JobSnapshot) -> str:
        return snapshot.job.metadata.resource_version

    def _put(self, obj: Object) -> None:
        self._index.put_job(obj)

    def _drop(self, obj: Object) -> None:
        if self._index.drop_job(obj):  # by our own last write: the watch tells its batch nothing new
            self.changed(obj)

    def _claims(self, snapshot: JobSnapshot, status: PhasedJobStatus) -> None:
        meta = snapshot.job.metadata
        key = (meta.namespace, meta.name)
        claimed = holding(status)
        if claimed > self._index.claimed.get(key, 0):
            self._index.count(key, claimed)

    def _waits(self, key: Key, *, room: bool) -> None:
        if room:
            self._index.waiting.setdefault(key)
        else:
            self._index.waiting.pop(key, None)

    def _written(self, snapshot: JobSnapshot, status: PhasedJobStatus, obj: Object) -> None:
        for event in events(snapshot.status, status):
            self._recorder.record(obj, event)
        if again := len(tuple(recovered(snapshot.status, status))):
            self.recovered("restarted", again)
        if orphaned(snapshot.status, status):
            self.recovered("orphaned", 1)
        self.changed(obj)

    async def _act(
        self, key: Key, snapshot: JobSnapshot, actions: tuple[Action, ...], memory: JobMemory
    ) -> None:
        outcomes = await asyncio.gather(
            *(self._one(key, snapshot, action, memory) for action in actions), return_exceptions=True
        )
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if not errors:
            memory.failures = 0
            return
        if any(isinstance(error, ApiError) and error.code in CONFLICTS for error in errors):
            await self.refresh(key)
        for error in errors:
            if not (isinstance(error, ApiError) and error.code in CONFLICTS):
                raise error

    async def _one(self, key: Key, s: JobSnapshot, action: Action, memory: JobMemory) -> None:
        if isinstance(action, AddFinalizer | RemoveFinalizer):
            await self.set_finalizer(key, present=isinstance(action, AddFinalizer))
            return
        assert isinstance(action, JobEffect)
        task = action.task if isinstance(action, StartTask) else ""
        try:
            await self._executor.perform(key, s, action)
        except TOLD as error:
            problem = problem_of(error, memory)
        else:
            memory.problems.pop(task, None)
            return
        memory.problems[task] = (problem, time.monotonic() + problem.retry_seconds)
