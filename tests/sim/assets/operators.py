"""One operator process whose probes look at a fleet; its looks go on in the background, a step at a time."""

from __future__ import annotations

import random
from typing import Any

from tests.sim.api import Api, SimKube
from tests.sim.assets.clock import BACKGROUND, Look
from tests.sim.assets.fleet import FleetProbes
from tests.sim.assets.programs import FleetTasks
from tests.sim.clock import CLOCK
from tests.sim.jobs.operators import JobInstance
from tests.sim.operators import SimQueue
from tests.sim.steps import drive

from mainstay.runtime.fake import FakeRuntime
from mainstay.runtime.fake_stacks import FakeStacks
from mainstay.runtime.fake_strategies import FakeShelf
from mainstay.shell.copies import WATCHED
from mainstay.shell.kube import ASSETS, BATCHES, CONFIG_MAPS, JOBS
from mainstay.shell.operator import Operator, WorkKey
from mainstay.shell.store import HistoryLostError, Object


class AssetInstance(JobInstance):
    """An operator from its start to its crash. `only`: the kinds of keys that it works on, every kind by default."""

    def __init__(
        self,
        name: str,
        api: Api,
        kube: SimKube,
        runtime: FleetTasks,
        probes: FleetProbes,
        limit: int,
        only: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.queue = SimQueue()
        self.inbox: list[tuple[str, bool, Object]] = []
        self.heard: list[str] = []
        self.looks: list[Look] = []
        self.decides: tuple[Any, Any, Any] = (None, None, None)  # for jobs, batches and assets
        self.passes: dict[Any, Any] = {}
        self.resynced_at = CLOCK.seconds
        self.lost = False
        self.only = only
        self.deaf = False  # it hears of nothing that it did not do itself
        self._ear = self.heard.append
        self._api, self._runtime = api, runtime  # type: ignore[assignment]
        self.operator = Operator(
            kube, FakeRuntime(), runtime, FakeShelf(), FakeStacks(), probes, tasks_at_once=limit
        )  # type: ignore[arg-type]
        self.operator.queue = self.operator._wakes._queue = self.queue  # type: ignore[assignment]
        self.operator._observer.woken = self.queue.add
        for plural in WATCHED:
            drive(self.operator.copies.list(plural))
        self.operator._wakes.awake = True
        for what, known in (
            ("job", self.operator.index.jobs.objects),
            ("batch", self.operator.index.batches.objects),
            ("asset", self.operator.assets.assets.objects),
        ):
            for namespace, name_ in known:
                self.queue.add((what, namespace, name_))
        self._look_for_orphans()
        api.watchers.append(self._watched)
        runtime.listeners.append(self._ear)

    def crash(self) -> None:
        """Gone between two steps; no question of it is answered any more."""
        self.operator._observer._closed = True
        for look in self.looks:
            look.cancel()
        super().crash()

    def pick(self, rng: Any) -> WorkKey | None:
        """A key that is due, chosen at random. Whom a change wakes is a set: its order is another in every process."""
        self.queue.wake()
        ready = sorted(key for key in self.queue.ready if not self.only or key[0] in self.only)
        return rng.choice(ready) if ready else None

    def go_on(self, look: Look) -> None:
        """One step of a question in the background."""
        BACKGROUND.looks = self.looks
        look.go()

    def hear(self, rng: random.Random) -> None:
        """Some of what it was not told yet: each kind of object has a watch of its own, in order."""
        if self.heard and (not self.inbox or rng.random() < 0.3):
            told, self.inbox = self.inbox, []
            self.deliver()
            self.inbox = told + self.inbox
            return
        plural = rng.choice(sorted({event[0] for event in self.inbox}))
        event = next(event for event in self.inbox if event[0] == plural)
        self.inbox.remove(event)
        self.operator.on_event(*event)

    def begin(self, key: WorkKey) -> None:
        BACKGROUND.looks = self.looks
        super().begin(key)

    def advance(self, key: WorkKey, at: Any, error: BaseException | None) -> BaseException | None:
        BACKGROUND.looks = self.looks
        return super().advance(key, at, error)

    def resync(self) -> None:
        self.resynced_at = CLOCK.seconds
        try:
            for plural in (JOBS, BATCHES, CONFIG_MAPS, ASSETS):
                drive(self.operator.copies.list(plural))
        except HistoryLostError:
            self.lost = True
        else:
            self._look_for_orphans()
