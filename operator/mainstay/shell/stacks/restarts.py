"""StackRestarts: what gathering, deciding and acting are for one of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import assert_never

from mainstay.api.servicestack import ServiceStack
from mainstay.api.stackrestart import (
    OVER,
    RestartMode,
    RestartPhase,
    StackRestart,
    StackRestartStatus,
    StepName,
)
from mainstay.core.plan import (
    Action,
    DeleteRestart,
    EndHolders,
    EndSupervisor,
    Plan,
    RestartEffect,
    StartSupervisor,
)
from mainstay.core.restart.decide import decide, refused
from mainstay.core.restart.snapshot import Lately, Look, RestartSnapshot
from mainstay.core.restart.steps import looks
from mainstay.core.restart.story import events
from mainstay.core.stack.spec import ports_of, readiness_of
from mainstay.core.unit import PortHolder, ProbeResult, Unit, UnitState
from mainstay.runtime.base import RuntimeUnavailableError, StackRuntime, Stacks
from mainstay.shell.kube import RESTARTS, STACKS, Kube, path
from mainstay.shell.reconcile import Memory, Reconciler
from mainstay.shell.recorder import Recorder
from mainstay.shell.stacks.gather import held, observed
from mainstay.shell.stacks.index import StackIndex, stack_of
from mainstay.shell.store import Key, Object


@dataclass(slots=True)
class RestartMemory(Memory):
    """What is remembered of the step under way. Losing it costs time, never an effect."""

    step: tuple[str, StepName | None] = ("", None)
    since: float = 0.0
    flushed: float | None = None
    ended: bool = False
    trouble: str = ""

    def enter(self, uid: str, step: StepName | None) -> Lately:
        """What is known of this step by now."""
        now = time.monotonic()
        if self.step != (uid, step):
            self.step, self.since = (uid, step), now
            self.flushed, self.ended, self.trouble = None, False, ""
        flushed = None if self.flushed is None else now - self.flushed
        return Lately(now - self.since, flushed, self.ended, self.trouble)


class RestartReconciler(Reconciler[RestartSnapshot, StackRestartStatus, RestartMemory]):
    """Takes restarts from step to step. The stack's own reconciler stops and starts its services."""

    plural = RESTARTS
    kind = "StackRestart"

    def __init__(self, index: StackIndex, kube: Kube, stacks: Stacks, recorder: Recorder) -> None:
        super().__init__(kube, index.restarts)
        self._index = index
        self._stacks = stacks
        self._recorder = recorder
        self.changed: Callable[[Key], None] = lambda _: None
        """Called with the stack of a restart whose status was written here: it goes by its step."""
        self.finished: Callable[[RestartMode, RestartPhase, float], None] = lambda *_: None
        """Called with a restart that came to its end, and the seconds it took."""

    def _memory(self) -> RestartMemory:
        return RestartMemory()

    async def _snapshot(self, key: Key, memory: RestartMemory) -> RestartSnapshot | None:
        restart = self._index.restarts.get(key)
        if restart is None:
            return None
        place = (key[0], restart.spec.stack)
        stack = self._index.stack(place)
        if stack is None and place in self._index.stacks.objects:
            return None  # it doesn't parse: that is said of it, and it wakes us when it does
        lately = memory.enter(restart.metadata.uid, restart.status.step)
        bare = RestartSnapshot(restart, _now(), stack, lately=lately)
        if restart.status.phase not in OVER and refused(bare):
            stack = await self._consistent(place)  # our copy may be older than what the user did before
            bare = replace(bare, stack=stack)
        if stack is None or not bare.claimed or restart.status.phase is not RestartPhase.RUNNING:
            return RestartSnapshot(restart, _now(), stack, ahead=self._ahead(stack, restart), lately=lately)
        while True:
            seen = await self._look(place, bare, stack)
            # From here on nothing awaits: the stack's status is read after what it must not lag behind.
            latest, stack = self._index.restarts.get(key), self._index.stack(place)
            if latest is None:
                return None
            lately = memory.enter(latest.metadata.uid, latest.status.step)
            snapshot = replace(seen, restart=latest, now=_now(), stack=stack, lately=lately)
            if stack is None or looks(snapshot) <= looks(bare):
                return snapshot
            bare = RestartSnapshot(latest, _now(), stack, lately=lately)

    async def _look(self, place: Key, bare: RestartSnapshot, stack: ServiceStack) -> RestartSnapshot:
        """What its step goes by, and no more: it is asked again with each change of a service."""
        wanted = looks(bare)
        if not wanted:
            return bare
        scope = await self._stacks.open(place)
        units: Mapping[str, Unit] = {}
        holders: Mapping[int, tuple[PortHolder, ...]] = {}
        probes: Mapping[str, ProbeResult] = {}
        supervisor = None
        if Look.UNITS in wanted:
            units = await observed(scope, [*(one.name for one in stack.spec.services), *await scope.names()])
        if Look.PORTS in wanted:
            holders = await held(scope, ports_of(stack.spec))
        if Look.PROBES in wanted:
            probes = await _probed(scope, stack, units)
        if Look.SUPERVISOR in wanted:
            supervisor = await scope.supervisor()
        return replace(bare, units=units, holders=holders, probes=probes, supervisor=supervisor)

    async def _consistent(self, place: Key) -> ServiceStack | None:
        """The stack as the API server has it now."""
        obj = await self._kube.get(path(STACKS, *place))
        if obj is None:
            return None
        self._index.stacks.put(obj)
        return self._index.stack(place)

    def _ahead(self, stack: ServiceStack | None, restart: StackRestart) -> str:
        first = self._index.turn(stack) if stack is not None else None
        return first.metadata.name if first is not None and first.metadata.uid != restart.metadata.uid else ""

    def _decide(self, snapshot: RestartSnapshot) -> Plan[StackRestartStatus]:
        return decide(snapshot)

    def _seen(self, snapshot: RestartSnapshot) -> str:
        return snapshot.restart.metadata.resource_version

    def _put(self, obj: Object) -> None:
        self._index.put_restart(obj)

    def _drop(self, obj: Object) -> None:
        self._index.drop_restart(obj)

    def _written(self, snapshot: RestartSnapshot, status: StackRestartStatus, obj: Object) -> None:
        for event in events(snapshot.restart, status):
            self._recorder.record(obj, event)
        begun, over = status.started_at, status.completed_at
        if over is not None and snapshot.status.completed_at is None and status.phase is not None:
            seconds = (over - (begun or over)).total_seconds()
            self.finished(snapshot.mode, status.phase, seconds)
        self.changed(stack_of(obj))

    async def _act(
        self, key: Key, snapshot: RestartSnapshot, actions: tuple[Action, ...], memory: RestartMemory
    ) -> None:
        for action in actions:
            assert isinstance(action, RestartEffect)
            if isinstance(action, DeleteRestart):
                await self._forget(key, action)
                continue
            try:
                await self._perform((key[0], snapshot.restart.spec.stack), action, memory)
            except RuntimeUnavailableError as error:
                memory.trouble = str(error)
            else:
                memory.trouble = ""

    async def _perform(
        self, stack: Key, action: EndHolders | EndSupervisor | StartSupervisor, memory: RestartMemory
    ) -> None:
        scope = await self._stacks.open(stack)
        match action:
            case EndHolders(ports=ports, force=force):
                await scope.end_holders(ports, force=force)
                memory.flushed = time.monotonic() if memory.flushed is None else memory.flushed
            case EndSupervisor(seconds=seconds, force=force):
                await scope.end_supervisor(seconds=seconds, force=force)
                memory.ended = True
            case StartSupervisor():
                await scope.ensure_supervisor()
            case _:
                assert_never(action)

    async def _forget(self, key: Key, action: DeleteRestart) -> None:
        await self._kube.delete_object(path(RESTARTS, *key), uid=action.uid)
        known = self._index.restarts.objects.get(key)
        if known is not None and known["metadata"]["uid"] == action.uid:
            self._index.drop_restart(known)


async def _probed(
    scope: StackRuntime, stack: ServiceStack, units: Mapping[str, Unit]
) -> dict[str, ProbeResult]:
    """Each service with a probe, asked now: the verification goes by nothing that was seen before."""
    asked = {
        one.name: (readiness, one.port)
        for one in stack.spec.services
        if (readiness := readiness_of(one)) is not None and units[one.name].state is UnitState.RUNNING
    }
    results = await asyncio.gather(*(scope.probe(name, *how) for name, how in asked.items()))
    return dict(zip(asked, results, strict=True))


def _now() -> datetime:
    """To the millisecond: steps are shorter than a second."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
