"""The operator without kopf: store, queue, reconcilers and the loops that keep them honest."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from mainstay.core.names import object_key, task_key
from mainstay.core.unit import LIVE
from mainstay.runtime.base import Probes, Runtime, RuntimeUnavailableError, Shelf, Stacks, TaskRuntime
from mainstay.shell.assets.assets import AssetReconciler
from mainstay.shell.assets.index import AssetIndex
from mainstay.shell.assets.observer import Observer
from mainstay.shell.copies import WATCHED, Copies
from mainstay.shell.jobs.batches import BatchReconciler
from mainstay.shell.jobs.index import TASKS_AT_ONCE, JobIndex
from mainstay.shell.jobs.reconciler import JobReconciler
from mainstay.shell.kube import ApiError, Kube
from mainstay.shell.metrics import Metrics
from mainstay.shell.pools import PoolCounter
from mainstay.shell.queue import CANCEL_SECONDS, Queue
from mainstay.shell.reconcile import Reconciler
from mainstay.shell.recorder import Recorder
from mainstay.shell.runs import RunReconciler
from mainstay.shell.stacks.index import StackIndex
from mainstay.shell.stacks.restarts import RestartReconciler
from mainstay.shell.stacks.stacks import StackReconciler
from mainstay.shell.stacks.sweep import StackSweeper
from mainstay.shell.store import HistoryLostError, Object, Store
from mainstay.shell.strategies.index import StrategyIndex
from mainstay.shell.strategies.libraries import LibraryReconciler
from mainstay.shell.strategies.sources import Sources
from mainstay.shell.strategies.strategies import StrategyReconciler
from mainstay.shell.strategies.views import Views
from mainstay.shell.sweep import Sweeper, TaskSweeper
from mainstay.shell.wakes import Wakes, WorkKey
from mainstay.shell.writes import Writes

logger = logging.getLogger(__name__)

RESYNC_SECONDS = 60.0
PASS_SECONDS = 14.0
"""What begun passes have to end once the operator is closing; writes have WRITE_SECONDS beyond that."""
SHUTDOWN_SECONDS = 30.0
"""The limit of a shutdown with everything that belongs to it."""


class Operator:
    """Everything between a watch event and an effect."""

    def __init__(
        self,
        kube: Kube,
        runtime: Runtime,
        tasks: TaskRuntime,
        shelf: Shelf,
        stacks: Stacks,
        probes: Probes,
        *,
        home: Path = Path("/"),
        ephemeral_ports: tuple[int, int] | None = None,
        tasks_at_once: int = TASKS_AT_ONCE,
    ) -> None:
        self.store = Store()
        self.assets = AssetIndex()
        self.index = JobIndex(tasks_at_once, self.assets)
        self.strategies = StrategyIndex()
        self.stacks = StackIndex()
        self.copies = Copies(self.store, self.index, self.strategies, self.stacks, kube)
        self.queue: Queue[WorkKey] = Queue(self._work)
        self._wakes = Wakes(self.queue, self.store, self.index, self.strategies, self.stacks)
        self.metrics = Metrics(self.store, self.index, self.strategies, self.stacks, lambda: self.queue.depth)
        self.lost: asyncio.Future[None] | None = None
        self.closing = False
        self.heard_at: float | None = None
        """When the API server last answered anything, by the monotonic clock."""
        self._kube = kube
        self._runtime = runtime
        self._tasks_runtime = tasks
        self._pools = PoolCounter(self.store, kube, ephemeral_ports)
        self._recorder = Recorder(kube)
        self._shelf = shelf
        sources = Sources(home, self.store, self.strategies, shelf)
        views = Views(self.store, self.strategies, sources, shelf)
        self._runs = RunReconciler(self.store, kube, runtime, views, self._recorder)
        self._libraries = LibraryReconciler(
            self.strategies, sources, shelf, kube, self._recorder, self.copies.take
        )
        self._strategies = StrategyReconciler(
            self.strategies, sources, shelf, kube, self._recorder, self.copies.take
        )
        self._observer = Observer(self.assets, self.store, kube, probes)
        self._jobs = JobReconciler(self.store, self.index, kube, tasks, self._observer, self._recorder)
        self._assets = AssetReconciler(
            self.assets, self.index, kube, tasks, self._observer, self._recorder, self.copies.take
        )
        self._batches = BatchReconciler(self.index, kube, self._recorder)
        self._scopes = stacks
        self._stacks = StackReconciler(self.stacks, self.store, kube, stacks, self._recorder)
        self._restarts = RestartReconciler(self.stacks, kube, stacks, self._recorder)
        self._sweeper = Sweeper(self.store, kube, runtime, stacks)
        self._stack_sweeper = StackSweeper(self.stacks, kube, stacks)
        self._task_sweeper = TaskSweeper(self.index, kube, tasks)
        self._writes = Writes(self._cut_off)
        self._measure()
        self.copies.changed = self._wakes.changed
        self.store.run_changed = self.strategies.saw_run
        self.strategies.users_changed = self._wakes.users_soon
        self.strategies.turn_came = self._wakes.waiting_for_turn
        self._libraries.touched = lambda key: self.queue.add(("strategy", *key))
        self._libraries.left = self._wakes.users_of
        self._libraries.learned = self._wakes.users_of_library
        self._strategies.stale = lambda key: self.queue.add(("library", *key))
        self._runs.snapshot_lost = self._wakes.strategy_of
        self._stacks.changed = self._wakes.restarts_of
        self._stacks.answered = lambda key: self.queue.add(("stack", *key))
        self._restarts.changed = self._wakes.stack_of_restart
        self._jobs.changed = self._wakes.batch_of
        self._batches.changed = self._wakes.batch_changed
        self.assets.concerned = self._wakes.asset
        self.assets.moved = self._wakes.users_of_asset
        self._observer.woken = self.queue.add
        self._batches.touched = lambda key: self.queue.add(("job", *key))
        self.index.room_made = self._wakes.waiting_for_room
        self.store.port_freed = self._wakes.waiting_for_ports
        self.store.leases_changed = self._wakes.pools_soon
        self.loops: dict[str, asyncio.Task[None]] = {}
        """What runs for as long as the operator does."""
        self._unseen: set[WorkKey] = set()
        self.caught_up = asyncio.Event()
        """Every run that existed at the start was looked at once: their statuses are no longer memories."""

    async def start(self) -> None:
        """Learn everything there is, then begin to work. Raises ApiError while the API server is away."""
        self.lost = asyncio.get_running_loop().create_future()
        self._kube.finish = self._writes.finish
        for reconciler in self._reconcilers:
            reconciler.finish = self._writes.finish
        for plural in WATCHED:
            await self.copies.list(plural)
        for unit in await self._runtime.units():
            self.store.carry(unit.name, unit.port if unit.state in LIVE else None)
        self._wakes.awake = True
        self._unseen = {("run", *key) for key in self.store.runs.objects}
        self._unseen |= {("job", *key) for key in self.index.jobs.objects}
        self._unseen |= {("batch", *key) for key in self.index.batches.objects}
        self._unseen |= {("asset", *key) for key in self.assets.assets.objects}
        self._unseen |= {("library", *key) for key in self.strategies.libraries.objects}
        self._unseen |= {("strategy", *key) for key in self.strategies.strategies.objects}
        self._unseen |= {("stack", *key) for key in self.stacks.stacks.objects}
        self._unseen |= {("restart", *key) for key in self.stacks.restarts.objects}
        for key in self._unseen:
            self.queue.add(key)
        self._saw(None)
        for _, name in self.store.pools.objects:
            self.queue.add(("pool", "", name))
        for _, name in self.store.leases.objects:
            self._wakes.lease_without_holder(name)
        self._spawn("recorder", self._recorder.run())
        self._spawn("runs", self._listen())
        self._spawn("tasks", self._listen_to_tasks())
        self._spawn("strategies", self._listen_to_strategies())
        self._spawn("stacks", self._listen_to_stacks())
        self._spawn("resync", self._resync())

    async def close(self) -> None:
        """Take no new keys, finish begun passes and writes, cut off the rest; units go on without us.

        At most PASS_SECONDS + WRITE_SECONDS and a little. Idempotent.
        """
        if self.closing:
            return
        began = time.monotonic()
        self.closing = True
        self.queue.shut()
        self.metrics.shutdowns.began()
        for reconciler in self._reconcilers:
            reconciler.closing = True
        self._writes.close()
        recorder = self.loops.get("recorder")
        await _cancelled(loop for loop in self.loops.values() if loop is not recorder)
        for key in await self.queue.close(PASS_SECONDS):
            logger.error("shutdown: work on %s %s/%s was cut off after %.0f s", *key, PASS_SECONDS)
            self._cut_off("reconcile")
        await self._stacks.close()
        await self._observer.close()
        await self._writes.drain()
        if recorder is not None:
            await _cancelled([recorder])  # the last: it tells what the others came to
        seconds = time.monotonic() - began
        self.metrics.shutdowns.ended(seconds)
        logger.info("stopped in %.2f s", seconds)

    # --- what is measured

    @property
    def unseen(self) -> int:
        """How many of the objects that existed at the start nobody has looked at yet."""
        return len(self._unseen)

    @property
    def _reconcilers(self) -> tuple[Reconciler[Any, Any, Any], ...]:
        return (
            self._runs,
            self._jobs,
            self._batches,
            self._assets,
            self._libraries,
            self._strategies,
            self._stacks,
            self._restarts,
        )

    def _measure(self) -> None:
        measured = self.metrics
        self._kube.answered = self._answered
        self.queue.retried = lambda key: measured.retried(key[0])
        self._runs.passed = partial(measured.passed, "run")
        self._jobs.passed = partial(measured.passed, "job")
        self._batches.passed = partial(measured.passed, "batch")
        self._libraries.passed = partial(measured.passed, "library")
        self._strategies.passed = partial(measured.passed, "strategy")
        self._stacks.passed = partial(measured.passed, "stack")
        self._restarts.passed = partial(measured.passed, "restart")
        self._restarts.finished = measured.restarted
        self._stacks.gathered = lambda key, s: measured.saw_units(
            "stacks", key, [view.unit.state for view in s.services.values()] if s else ()
        )
        self._runs.gathered = lambda key, s: measured.saw_units("runs", key, (s.unit.state,) if s else ())
        self._jobs.gathered = lambda key, s: measured.saw_units(
            "jobs", key, [unit.state for unit in s.units.values()] if s else ()
        )
        self._jobs.recovered = measured.recovered
        self._assets.passed = partial(measured.passed, "asset")
        self._assets.compensated = partial(measured.recovered, "cargo_recovered", 1)
        self._observer.looked = measured.looked
        self._runs.rolled = measured.rolled

    def _answered(self, verb: str, answer: str, seconds: float) -> None:
        if answer != "unavailable":
            self.heard_at = time.monotonic()
        self.metrics.answered(verb, answer, seconds)

    def _cut_off(self, operation: str) -> None:
        self.metrics.shutdowns.cut[operation] += 1

    # --- events in

    def on_event(self, plural: str, deleted: bool, obj: Object) -> None:
        """One watch event. Late and repeated ones do no harm."""
        self.metrics.watched(plural)
        self.copies.take(plural, deleted, obj)

    # --- work

    def _saw(self, key: WorkKey | None) -> None:
        if key is not None:
            self._unseen.discard(key)
        if not self._unseen:
            self.caught_up.set()

    async def _work(self, key: WorkKey) -> float | None:
        began = time.monotonic()
        try:
            again = await self._visit(key)
        except Exception as error:
            self.metrics.passed(key[0], "error")
            if isinstance(error, HistoryLostError):
                self._give_up(error)
            raise
        finally:
            self.metrics.visited(key[0], time.monotonic() - began)
            self._saw(key)
        if key[0] in ("unit", "task", "scope", "lease", "pool"):  # the others tell of each pass
            self.metrics.passed(key[0], "wait")
        return again

    async def _visit(self, key: WorkKey) -> float | None:
        what, namespace, name = key
        match what:
            case "run":
                return await self._runs.reconcile((namespace, name))
            case "job":
                return await self._jobs.reconcile((namespace, name))
            case "batch":
                return await self._batches.reconcile((namespace, name))
            case "asset":
                return await self._assets.reconcile((namespace, name))
            case "library":
                return await self._libraries.reconcile((namespace, name))
            case "strategy":
                return await self._strategies.reconcile((namespace, name))
            case "stack":
                return await self._stacks.reconcile((namespace, name))
            case "restart":
                return await self._restarts.reconcile((namespace, name))
            case "scope":
                return await self._stack_sweeper.scope((namespace, name))
            case "unit":
                return await self._sweeper.unit(f"{namespace}.{name}")
            case "task":
                return await self._task_sweeper.unit(f"{namespace}.{name}")
            case "lease":
                return await self._sweeper.lease(name)
            case _:
                return await self._pools.count(name)

    # --- loops

    def _spawn(self, name: str, loop: Coroutine[Any, Any, None]) -> None:
        task = self.loops[name] = asyncio.create_task(loop, name=name)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        logger.error("%s", error, exc_info=error)
        self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        """Nothing of what we know can be trusted any more: whoever runs us must start afresh."""
        if self.lost is not None and not self.lost.done():
            self.lost.set_exception(error)

    async def _listen(self) -> None:
        """Units that changed, as the runtime sees it."""
        async for name in self._runtime.changes():
            namespace, run = object_key(name)
            known = (namespace, run) in self.store.runs.objects
            self.queue.add(("run" if known else "unit", namespace, run))

    async def _listen_to_tasks(self) -> None:
        """The same of tasks."""
        async for name in self._tasks_runtime.changes():
            namespace, job, task = task_key(name)
            known = (namespace, job) in self.index.jobs.objects
            self.queue.add(("job", namespace, job) if known else ("task", namespace, f"{job}_{task}"))

    async def _listen_to_strategies(self) -> None:
        """Directories that changed."""
        async for key in self._shelf.changes():
            self.queue.add(("library", *key))

    async def _listen_to_stacks(self) -> None:
        """Stacks of which a service or the supervisor changed."""
        async for key in self._scopes.changes():
            known = key in self.stacks.stacks.objects
            self.queue.add(("stack" if known else "scope", *key))
            self._wakes.restarts_of(key)

    async def _prune(self) -> None:
        """Forget snapshots that no strategy lists, no run claims or asks for, and no unit was started with."""
        used = set(await self._runtime.strategies())
        for obj in self.strategies.strategies.objects.values():
            status = obj.get("status") or {}
            used.update(r["hash"] for r in status.get("revisions") or () if "hash" in r)
            used.add(status.get("revision") or "")
        for obj in self.store.runs.objects.values():
            used.add(((obj.get("status") or {}).get("strategy") or {}).get("hash") or "")
            used.add((obj["spec"].get("strategy") or {}).get("revision") or "")
        for key, obj in self.strategies.strategies.objects.items():  # a store that was lost is filled again
            revision = (obj.get("status") or {}).get("revision")
            if revision and not self._shelf.has(revision):
                self.queue.add(("strategy", *key))
        if gone := await self._shelf.prune(used):
            logger.info("%d snapshots of strategies that nothing uses were removed", len(gone))

    async def _resync(self) -> None:
        """What no event told us: compare with a list now and then, and look for units without an owner."""
        while True:
            try:
                for scope, what, sweeper in (
                    ("runs", "unit", self._sweeper),
                    ("jobs", "task", self._task_sweeper),
                ):
                    names = await sweeper.orphans()
                    self.metrics.ownerless[scope] = len(names)
                    for name in names:
                        self.queue.add((what, *object_key(name)))
                orphans = self._stack_sweeper.orphans()
                self.metrics.ownerless["stacks"] = len(orphans)
                for key in orphans:
                    self.queue.add(("scope", *key))
            except (ApiError, RuntimeUnavailableError) as error:
                logger.debug("sweep put off: %s", error)
            if self.caught_up.is_set():
                try:
                    await self._prune()
                except (OSError, RuntimeUnavailableError) as error:
                    logger.warning("snapshots of strategies could not be pruned: %s", error)
            await asyncio.sleep(RESYNC_SECONDS * random.uniform(0.9, 1.1))  # noqa: S311 - a jitter
            for plural in WATCHED:
                try:
                    await self.copies.list(plural)
                except ApiError as error:
                    logger.debug("resync of %s put off: %s", plural, error)
            for _, name in self.store.leases.objects:
                self._wakes.lease_without_holder(name)


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel them and see them end."""
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    if cancelled:
        await asyncio.wait(cancelled, timeout=CANCEL_SECONDS)
