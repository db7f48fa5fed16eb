"""StrategyRuns: what gathering, deciding and acting are for one of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from mainstay.api.strategyrun import StrategyRun, StrategyRunStatus
from mainstay.core import reasons
from mainstay.core.plan import Action, AddFinalizer, Plan, RemoveFinalizer, RunEffect
from mainstay.core.run.decide import decide
from mainstay.core.run.story import events
from mainstay.core.snapshot import Problem, RunSnapshot, ready_reason
from mainstay.runtime.base import Runtime, SnapshotLostError
from mainstay.shell.executor import Executor
from mainstay.shell.gather import Gatherer, RunMemory
from mainstay.shell.kube import CONFLICTS, RUNS, ApiError, Kube
from mainstay.shell.leases import Leases
from mainstay.shell.problems import TOLD, problem_of
from mainstay.shell.reconcile import Reconciler
from mainstay.shell.recorder import Recorder
from mainstay.shell.store import Key, Object, Store
from mainstay.shell.strategies.views import Views


class RunReconciler(Reconciler[RunSnapshot, StrategyRunStatus, RunMemory]):
    """Converges runs."""

    plural = RUNS
    kind = "StrategyRun"

    def __init__(
        self,
        store: Store,
        kube: Kube,
        runtime: Runtime,
        strategies: Views,
        recorder: Recorder,
    ) -> None:
        super().__init__(kube, store.runs)
        self._store = store
        self._recorder = recorder
        self._strategies = strategies
        self._gatherer = Gatherer(store, runtime, strategies)
        self._leases = Leases(store, kube)
        self.executor = Executor(self._leases, kube, runtime, self._gatherer, strategies.shelf)
        self.snapshot_lost: Callable[[StrategyRun], None] = lambda _: None
        """Called with a run whose strategy's bytes are not kept here any more."""
        self.rolled: Callable[[], None] = lambda: None
        """Called with each restart that a run's strategy is the reason for."""

    def _memory(self) -> RunMemory:
        return RunMemory()

    async def _snapshot(self, key: Key, memory: RunMemory) -> RunSnapshot | None:
        return await self._gatherer.snapshot(key, memory)

    def _decide(self, snapshot: RunSnapshot) -> Plan[StrategyRunStatus]:
        return decide(snapshot)

    def _seen(self, snapshot: RunSnapshot) -> str:
        return snapshot.run.metadata.resource_version

    def _put(self, obj: Object) -> None:
        self._store.put_run(obj)

    def _drop(self, obj: Object) -> None:
        self._store.drop_run(obj)

    def _claims(self, snapshot: RunSnapshot, status: StrategyRunStatus) -> None:
        self._store.claim(snapshot.run, status.port if status.endpoint else None)
        if snapshot.live and ready_reason(status) in reasons.ROLLS:
            namespace, name = snapshot.run.metadata.namespace, snapshot.run.metadata.name
            self._strategies.index.rolls((namespace, name))

    def _written(self, snapshot: RunSnapshot, status: StrategyRunStatus, obj: Object) -> None:
        before = snapshot.status.attempt, ready_reason(snapshot.status)
        after = status.attempt, ready_reason(status)
        if after[1] == reasons.STRATEGY_CHANGED and after != before:
            self.rolled()
        for event in events(snapshot.status, status):
            self._recorder.record(obj, event)

    async def _act(
        self, key: Key, snapshot: RunSnapshot, actions: tuple[Action, ...], memory: RunMemory
    ) -> None:
        try:
            for action in actions:
                if isinstance(action, AddFinalizer | RemoveFinalizer):
                    await self.set_finalizer(key, present=isinstance(action, AddFinalizer))
                else:
                    assert isinstance(action, RunEffect)
                    await self.executor.perform(key, snapshot.run, action)
        except TOLD as error:
            self._remember(memory, snapshot.run, problem_of(error, memory))
        except SnapshotLostError as error:
            self.snapshot_lost(snapshot.run)
            self._remember(memory, snapshot.run, Problem(reasons.SNAPSHOT_LOST, str(error), True, 5.0))
        except ApiError as error:
            if error.code not in CONFLICTS:
                raise
            await self.refresh(key)
        else:
            memory.failures = 0

    @staticmethod
    def _remember(memory: RunMemory, run: StrategyRun, problem: Problem) -> None:
        memory.problem = problem
        memory.problem_generation = run.metadata.generation
        memory.problem_until = time.monotonic() + problem.retry_seconds

    async def refresh(self, key: Key) -> None:
        """Also what we know of its leases."""
        known = self._store.runs.objects.get(key)
        await super().refresh(key)
        if known is not None:
            await self._leases.refresh(known["metadata"]["uid"])
