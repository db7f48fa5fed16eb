"""One operator process, with stacks on the host that a test scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from tests.sim.api import Api, SimKube
from tests.sim.clock import CLOCK
from tests.sim.operators import Instance, SimQueue
from tests.sim.stacks.host import SimStacks
from tests.sim.steps import drive
from tests.sim.units import SimRuntime

from mainstay.core.names import object_key
from mainstay.core.unit import LIVE
from mainstay.runtime.base import RuntimeUnavailableError
from mainstay.runtime.fake import FakeRuntime
from mainstay.runtime.fake_probes import FakeProbes
from mainstay.runtime.fake_stacks import Key
from mainstay.runtime.fake_strategies import FakeShelf
from mainstay.shell.copies import WATCHED
from mainstay.shell.kube import ApiError
from mainstay.shell.operator import Operator, WorkKey
from mainstay.shell.store import HistoryLostError, Object


class StackKube(SimKube):
    """Lists of every kind."""

    async def pages(self, url: str, query: Mapping[str, str] | None = None) -> AsyncIterator[Object]:
        plural = url.rsplit("/", 1)[-1]
        version = str(self._api.version)
        yield {"metadata": {"resourceVersion": version}, "items": list(self._api.all(plural))}


class PatientQueue(SimQueue):
    """A pass takes some time, so whatever is due in less is due in a millisecond."""

    def add_after(self, key: WorkKey, seconds: float) -> None:
        super().add_after(key, max(seconds, 0.001))


class StackInstance(Instance):
    """An operator from its start to its crash. What it has not been told of stacks yet waits in `noticed`."""

    def __init__(self, name: str, api: Api, kube: SimKube, runtime: SimRuntime, host: SimStacks) -> None:
        self.name = name
        self.queue = PatientQueue()
        self.inbox: list[tuple[str, bool, Object]] = []
        self.heard: list[str] = []
        self._ear = self.heard.append
        self.noticed: list[Key] = []
        self._eye = self.noticed.append
        self.passes: dict[Any, Any] = {}
        self.resynced_at = CLOCK.seconds
        self.lost = False
        self._api, self._runtime, self._host = api, runtime, host
        self.operator = Operator(kube, runtime, FakeRuntime(), FakeShelf(), host, FakeProbes())  # type: ignore[arg-type]
        self.operator.queue = self.operator._wakes._queue = self.queue  # type: ignore[assignment]
        for plural in WATCHED:
            drive(self.operator.copies.list(plural))
        store, stacks = self.operator.store, self.operator.stacks
        for unit in runtime.peek_all():
            store.carry(unit.name, unit.port if unit.state in LIVE else None)
        self.operator._wakes.awake = True
        for what, known in (
            ("run", store.runs.objects),
            ("stack", stacks.stacks.objects),
            ("restart", stacks.restarts.objects),
        ):
            for namespace, name_ in sorted(known):
                self.queue.add((what, namespace, name_))
        for _, name_ in store.pools.objects:
            self.queue.add(("pool", "", name_))
        self._look_for_orphans()
        api.watchers.append(self._watched)
        runtime.listeners.append(self._ear)
        host.listeners.append(self._eye)

    def crash(self) -> None:
        super().crash()
        self._host.listeners.remove(self._eye)

    def _watched(self, plural: str, deleted: bool, obj: Object) -> None:
        if plural in WATCHED:
            super()._watched(plural, deleted, obj)

    def deliver(self, plural: str | None = None) -> None:
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
            noticed, self.noticed[:] = list(dict.fromkeys(self.noticed)), []
            for key in noticed:
                known = key in self.operator.stacks.stacks.objects
                self.queue.add(("stack" if known else "scope", *key))
                self.operator._wakes.restarts_of(key)

    def resync(self) -> None:
        self.resynced_at = CLOCK.seconds
        try:
            for plural in WATCHED:
                drive(self.operator.copies.list(plural))
        except HistoryLostError:
            self.lost = True
        else:
            self._look_for_orphans()

    def _look_for_orphans(self) -> None:
        for _, name in self.operator.store.leases.objects:
            self.operator._wakes.lease_without_holder(name)
        for key in self.operator._stack_sweeper.orphans():
            self.queue.add(("scope", *key))
        try:
            for unit in drive(self.operator._sweeper.orphans()):
                self.queue.add(("unit", *object_key(unit)))
        except (ApiError, RuntimeUnavailableError):
            return
