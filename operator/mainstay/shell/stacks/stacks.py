"""ServiceStacks: what gathering, deciding and acting are for one of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import assert_never

from mainstay.api.servicestack import ServiceStack, ServiceStackStatus
from mainstay.core.inputs import secrets_of
from mainstay.core.plan import (
    Action,
    AddFinalizer,
    CreateLease,
    DefineService,
    DeleteLease,
    Plan,
    RemoveFinalizer,
    RemoveScope,
    RemoveService,
    ResumeService,
    StackEffect,
    StartService,
    StopService,
)
from mainstay.core.stack.decide import decide
from mainstay.core.stack.snapshot import StackSnapshot
from mainstay.core.stack.spec import service_spec
from mainstay.core.stack.story import events
from mainstay.core.unit import UnitSpec
from mainstay.core.unitspec import Sources
from mainstay.runtime.base import StackRuntime, Stacks
from mainstay.shell.executor import read_secrets
from mainstay.shell.kube import CONFLICTS, STACKS, ApiError, Kube
from mainstay.shell.leases import Leases
from mainstay.shell.problems import TOLD, problem_of
from mainstay.shell.reconcile import Reconciler
from mainstay.shell.recorder import Recorder
from mainstay.shell.stacks.gather import StackGatherer, StackMemory
from mainstay.shell.stacks.index import StackIndex
from mainstay.shell.store import Key, Object, Store


class StackReconciler(Reconciler[StackSnapshot, ServiceStackStatus, StackMemory]):
    """Converges stacks."""

    plural = STACKS
    kind = "ServiceStack"

    def __init__(
        self, index: StackIndex, store: Store, kube: Kube, stacks: Stacks, recorder: Recorder
    ) -> None:
        super().__init__(kube, index.stacks)
        self._index = index
        self._stacks = stacks
        self._recorder = recorder
        self._leases = Leases(store, kube)
        self._gatherer = StackGatherer(index, store, stacks, self._late)
        self.answered: Callable[[Key], None] = lambda _: None
        """Called with a stack of which a late probe has answered."""
        self.changed: Callable[[Key], None] = lambda _: None
        """Called with a stack whose status was written here: the watch tells its restarts nothing new."""

    def _late(self, key: Key) -> None:
        self.answered(key)

    def _memory(self) -> StackMemory:
        return StackMemory()

    async def _snapshot(self, key: Key, memory: StackMemory) -> StackSnapshot | None:
        return await self._gatherer.snapshot(key, memory)

    def _decide(self, snapshot: StackSnapshot) -> Plan[ServiceStackStatus]:
        return decide(snapshot)

    def _seen(self, snapshot: StackSnapshot) -> str:
        return snapshot.stack.metadata.resource_version

    def _put(self, obj: Object) -> None:
        self._index.stacks.put(obj)

    def _drop(self, obj: Object) -> None:
        self._index.stacks.drop(obj)

    def _written(self, snapshot: StackSnapshot, status: ServiceStackStatus, obj: Object) -> None:
        for event in events(snapshot.status, status):
            self._recorder.record(obj, event)
        self.changed((snapshot.stack.metadata.namespace, snapshot.stack.metadata.name))

    async def close(self) -> None:
        """End the probes that still wait for an answer."""
        await self._gatherer.close()

    async def refresh(self, key: Key) -> None:
        """Also what we know of its leases."""
        known = self._objects.objects.get(key)
        await super().refresh(key)
        if known is not None:
            await self._leases.refresh(known["metadata"]["uid"])

    async def _act(
        self, key: Key, snapshot: StackSnapshot, actions: tuple[Action, ...], memory: StackMemory
    ) -> None:
        """All side by side: what one service fails with is that service's."""
        outcomes = await asyncio.gather(
            *(self._one(key, snapshot.stack, action, memory) for action in actions), return_exceptions=True
        )
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if not errors:
            memory.failures = 0
        if any(isinstance(error, ApiError) and error.code in CONFLICTS for error in errors):
            await self.refresh(key)
        for error in errors:
            if not (isinstance(error, ApiError) and error.code in CONFLICTS):
                raise error

    async def _one(self, key: Key, stack: ServiceStack, action: Action, memory: StackMemory) -> None:
        if isinstance(action, AddFinalizer | RemoveFinalizer):
            await self.set_finalizer(key, present=isinstance(action, AddFinalizer))
            return
        assert isinstance(action, StackEffect)
        if isinstance(action, CreateLease):
            await self._leases.create(self.kind, stack.metadata, action)
            return
        if isinstance(action, DeleteLease):
            await self._leases.delete(action)
            return
        if isinstance(action, RemoveScope):
            await self._stacks.remove(key)
            memory.removed = True
            return
        try:
            await self._perform(await self._stacks.open(key), stack, action)
        except TOLD as error:
            problem = problem_of(error, memory)
            until = time.monotonic() + problem.retry_seconds
            memory.problems[action.service] = (problem, until, stack.metadata.generation)
        else:
            memory.problems.pop(action.service, None)

    async def _perform(
        self,
        scope: StackRuntime,
        stack: ServiceStack,
        action: StartService | DefineService | StopService | ResumeService | RemoveService,
    ) -> None:
        match action:
            case StartService():
                await scope.start(await self._spec(stack, action))
            case DefineService():
                await scope.define(await self._spec(stack, action))
            case StopService(service=name, grace_seconds=grace, force=force, deleting=deleting):
                await scope.stop(name, grace_seconds=grace, force=force, deleting=deleting)
            case ResumeService(service=name):
                await scope.resume(name)
            case RemoveService(service=name, owner_uid=owner):
                await scope.remove(name, owner)
            case _:
                assert_never(action)

    async def _spec(self, stack: ServiceStack, action: StartService | DefineService) -> UnitSpec:
        """Everything the start needs. Secrets are read now, by name, and kept nowhere."""
        service = next(one for one in stack.spec.services if one.name == action.service)
        claimed = stack.status.service(action.service)
        secrets = await read_secrets(self._kube, stack.metadata.namespace, secrets_of(service.program))
        sources = Sources(self._gatherer.config_maps(stack, service), secrets)
        inputs_hash = (claimed.inputs_hash if claimed else None) or ""
        return service_spec(stack, service, action.attempt, inputs_hash, sources)
