"""One operator process, with tasks on a runtime that a test scripts; and the client it has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from tests.sim.api import Api, Ref, SimKube
from tests.sim.clock import CLOCK
from tests.sim.jobs.tasks import SimTasks
from tests.sim.operators import Instance, SimQueue
from tests.sim.steps import drive, step

from mainstay.core.names import object_key, task_key
from mainstay.runtime.base import RuntimeUnavailableError
from mainstay.runtime.fake import FakeRuntime
from mainstay.runtime.fake_probes import FakeProbes
from mainstay.runtime.fake_stacks import FakeStacks
from mainstay.runtime.fake_strategies import FakeShelf
from mainstay.shell.copies import WATCHED
from mainstay.shell.kube import BATCHES, CONFIG_MAPS, JOBS, ApiError
from mainstay.shell.operator import Operator
from mainstay.shell.store import HistoryLostError, Object


class JobKube(SimKube):
    """What jobs and batches need beside what runs do."""

    async def pages(self, url: str, query: Mapping[str, str] | None = None) -> AsyncIterator[Object]:
        plural = url.rsplit("/", 1)[-1]
        label, _, value = (query or {}).get("labelSelector", "").partition("=")
        items = [
            item
            for item in self._api.all(plural)
            if not label or (item["metadata"].get("labels") or {}).get(label) == value
        ]
        yield {"metadata": {"resourceVersion": str(self._api.version)}, "items": items}

    async def keep_config_map(self, namespace: str, body: Object) -> Object:
        ref = (CONFIG_MAPS, namespace, body["metadata"]["name"])
        await step("create config map")
        self._on_write("keep", ref, body)
        current = self._api.get(*ref)
        if current is None:
            answer = self._api.create(*ref, body)
        else:
            answer = self._api._store(ref, {**current, "data": body["data"]})
        await step("done create")
        return answer

    async def delete_object(self, url: str, *, uid: str) -> None:
        await step("delete")
        parts = url.split("/")
        at = parts.index("namespaces")
        ref: Ref = (parts[at + 2], parts[at + 1], parts[at + 3])
        known = self._api.get(*ref)
        if known is not None and known["metadata"]["uid"] == uid:
            self._on_write("delete", ref, known)
            self._api.remove(*ref)
        await step("done delete")

    async def patch_state(self, plural: str, namespace: str, name: str, uid: str, spec: Object) -> Object:
        await step("put state")
        ref = (plural, namespace, name)
        known = self._api.get(*ref)
        assert known is not None
        assert known["metadata"]["uid"] == uid
        self._on_write("state", ref, spec)
        answer = self._api.edit(*ref, **spec)
        await step("done put")
        return answer


class JobInstance(Instance):
    """An operator from its start to its crash."""

    def __init__(self, name: str, api: Api, kube: SimKube, runtime: SimTasks, limit: int) -> None:
        self.name = name
        self.queue = SimQueue()
        self.inbox: list[tuple[str, bool, Object]] = []
        self.heard: list[str] = []
        self._ear = self.heard.append
        self.passes: dict[Any, Any] = {}
        self.resynced_at = CLOCK.seconds
        self.lost = False
        self._api, self._runtime = api, runtime  # type: ignore[assignment]
        self.operator = Operator(
            kube, FakeRuntime(), runtime, FakeShelf(), FakeStacks(), FakeProbes(), tasks_at_once=limit
        )  # type: ignore[arg-type]
        self.operator.queue = self.operator._wakes._queue = self.queue  # type: ignore[assignment]
        for plural in WATCHED:
            drive(self.operator.copies.list(plural))
        self.operator._wakes.awake = True
        for namespace, name_ in self.operator.index.jobs.objects:
            self.queue.add(("job", namespace, name_))
        for namespace, name_ in self.operator.index.batches.objects:
            self.queue.add(("batch", namespace, name_))
        self._look_for_orphans()
        api.watchers.append(self._watched)
        runtime.listeners.append(self._ear)

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
                namespace, job, task = task_key(unit)
                known = (namespace, job) in self.operator.index.jobs.objects
                self.queue.add(("job", namespace, job) if known else ("task", namespace, f"{job}_{task}"))

    def resync(self) -> None:
        self.resynced_at = CLOCK.seconds
        try:
            for plural in (JOBS, BATCHES, CONFIG_MAPS):
                drive(self.operator.copies.list(plural))
        except HistoryLostError:
            self.lost = True
        else:
            self._look_for_orphans()

    def _look_for_orphans(self) -> None:
        try:
            for unit in drive(self.operator._task_sweeper.orphans()):
                self.queue.add(("task", *object_key(unit)))
        except (ApiError, RuntimeUnavailableError):
            return
