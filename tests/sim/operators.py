"""One operator process: the shell's own Operator, store and reconcilers, with a queue that a test turns."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any

from tests.sim.api import Api, SimKube
from tests.sim.clock import CLOCK
from tests.sim.steps import drive
from tests.sim.units import SimRuntime

from mainstay.core.backoff import delay
from mainstay.core.names import object_key
from mainstay.core.unit import LIVE
from mainstay.runtime.base import RuntimeUnavailableError
from mainstay.runtime.fake import FakeRuntime
from mainstay.runtime.fake_probes import FakeProbes
from mainstay.runtime.fake_stacks import FakeStacks
from mainstay.runtime.fake_strategies import FakeShelf
from mainstay.shell.kube import CONFIG_MAPS, LEASES, LIBRARIES, POOLS, RUNS, STRATEGIES, ApiError
from mainstay.shell.operator import Operator, WorkKey
from mainstay.shell.queue import INITIAL_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS
from mainstay.shell.store import HistoryLostError, Key, Object

RESYNC_SECONDS = 60.0
LISTED = (POOLS, LEASES, CONFIG_MAPS, LIBRARIES, STRATEGIES, RUNS)


class SimQueue:
    """shell.queue.Queue without tasks: the same adding, timing, backoff and one pass at a time per key."""

    def __init__(self) -> None:
        self.ready: dict[WorkKey, None] = {}
        self.timers: dict[WorkKey, float] = {}
        self.running: set[WorkKey] = set()
        self._dirty: set[WorkKey] = set()
        self._failures: dict[WorkKey, int] = {}

    def add(self, key: WorkKey) -> None:
        self.timers.pop(key, None)
        if key in self.running:
            self._dirty.add(key)
        else:
            self.ready[key] = None

    def add_after(self, key: WorkKey, seconds: float) -> None:
        if key in self.running:
            self._dirty.add(key)
        elif key not in self.ready:
            due = CLOCK.seconds + seconds
            self.timers[key] = min(due, self.timers.get(key, due))

    def wake(self) -> None:
        """Timers that are due."""
        for key in [k for k, due in self.timers.items() if due <= CLOCK.seconds + 1e-9]:
            self.add(key)

    def begin(self, key: WorkKey) -> None:
        del self.ready[key]
        self.running.add(key)

    def end(self, key: WorkKey, again: float | None, error: Exception | None) -> None:
        self.running.discard(key)
        if error is not None:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            again = delay(failures, initial=INITIAL_BACKOFF_SECONDS, cap=MAX_BACKOFF_SECONDS)
        else:
            self._failures.pop(key, None)
        if key in self._dirty:
            self._dirty.discard(key)
            self.ready[key] = None
        elif again is not None:
            self.add_after(key, again) if again else self.add(key)


class Instance:
    """An operator from its start to its crash. What it has not been told yet waits in `inbox` and `heard`."""

    def __init__(
        self, name: str, api: Api, kube: SimKube, runtime: SimRuntime, shelf: FakeShelf | None = None
    ) -> None:
        self.name = name
        self.queue = SimQueue()
        self.inbox: list[tuple[str, bool, Object]] = []
        self.heard: list[str] = []
        self._ear = self.heard.append
        self.shelf = shelf or FakeShelf()
        self.seen: list[Key] = []  # libraries whose directory changed
        self.shelf.listeners.append(self.seen.append)
        self.passes: dict[WorkKey, Coroutine[Any, Any, float | None]] = {}
        self.resynced_at = CLOCK.seconds
        self.lost = False  # it saw that history was taken back, and must be started afresh
        self._api, self._runtime = api, runtime
        self.operator = Operator(kube, runtime, FakeRuntime(), self.shelf, FakeStacks(), FakeProbes())  # type: ignore[arg-type]
        self.operator.queue = self.operator._wakes._queue = self.queue  # type: ignore[assignment]
        for plural in LISTED:
            drive(self.operator.copies.list(plural))
        for unit in runtime.peek_all():
            self.operator.store.carry(unit.name, unit.port if unit.state in LIVE else None)
        self.operator._wakes.awake = True
        store = self.operator.store
        strategies = self.operator.strategies
        self.operator._unseen = {("run", *key) for key in store.runs.objects}
        self.operator._unseen |= {("library", *key) for key in strategies.libraries.objects}
        self.operator._unseen |= {("strategy", *key) for key in strategies.strategies.objects}
        for what in ("run", "library", "strategy"):
            for key in sorted(k for k in self.operator._unseen if k[0] == what):
                self.queue.add(key)
        for _, name_ in store.pools.objects:
            self.queue.add(("pool", "", name_))
        for _, name_ in store.leases.objects:
            self.operator._wakes.lease_without_holder(name_)
        self._look_for_orphans()
        api.watchers.append(self._watched)
        runtime.listeners.append(self._ear)

    def _watched(self, plural: str, deleted: bool, obj: Object) -> None:
        self.inbox.append((plural, deleted, obj))

    def crash(self) -> None:
        """Gone between two steps: nothing of it happens any more."""
        self._api.watchers.remove(self._watched)
        self._runtime.listeners.remove(self._ear)
        for coroutine in self.passes.values():
            coroutine.close()
        self.passes.clear()

    def deliver(self, plural: str | None = None) -> None:
        """Tell it what happened: everything, or only of one kind."""
        told = [e for e in self.inbox if plural in (None, e[0])]
        self.inbox = [e for e in self.inbox if plural not in (None, e[0])]
        for event in told:
            self.operator.on_event(*event)
        if plural is None:
            heard, self.heard[:] = list(dict.fromkeys(self.heard)), []
            for unit in heard:
                namespace, name = object_key(unit)
                known = (namespace, name) in self.operator.store.runs.objects
                self.queue.add(("run" if known else "unit", namespace, name))
            seen, self.seen[:] = list(dict.fromkeys(self.seen)), []
            for key in seen:
                self.queue.add(("library", *key))

    def resync(self) -> None:
        """The loop that runs once a minute."""
        self.resynced_at = CLOCK.seconds
        try:
            for plural in LISTED:
                drive(self.operator.copies.list(plural))
        except HistoryLostError:
            self.lost = True
        else:
            self._look_for_orphans()
            if not self.operator._unseen:
                drive(self.operator._prune())

    def _look_for_orphans(self) -> None:
        try:
            for unit in drive(self.operator._sweeper.orphans()):
                self.queue.add(("unit", *object_key(unit)))
        except (ApiError, RuntimeUnavailableError):
            return

    def pick(self, rng: random.Random) -> WorkKey | None:
        """A key that is due, chosen at random."""
        self.queue.wake()
        return rng.choice(list(self.queue.ready)) if self.queue.ready else None

    def begin(self, key: WorkKey) -> None:
        """Start a pass; `advance` moves it on."""
        self.queue.begin(key)
        self.passes[key] = self.operator._work(key)

    def advance(
        self, key: WorkKey, at: Callable[[str], BaseException | None], error: BaseException | None
    ) -> BaseException | None:
        """One step of a pass; what is to be raised at the next, or None."""
        coroutine = self.passes[key]
        try:
            label = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration as end:
            del self.passes[key]
            self.queue.end(key, end.value, None)
            return None
        except Exception as failure:
            del self.passes[key]
            if not isinstance(failure, (ApiError, RuntimeUnavailableError, HistoryLostError)):
                raise
            self.lost = self.lost or isinstance(failure, HistoryLostError)
            self.queue.end(key, None, failure)
            return None
        return at(label)
