"""Gathering: one frozen snapshot of a stack, its units, its ports and whose turn it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import groupby

from mainstay.api.servicestack import Service, ServiceStack, ServiceState, ServiceStatus
from mainstay.core.inputs import config_maps_of
from mainstay.core.snapshot import LeaseView, Problem
from mainstay.core.stack.snapshot import RestartView, ServiceView, StackSnapshot
from mainstay.core.stack.spec import inputs_of, log_policy, ports_of, readiness_of
from mainstay.core.unit import LIVE, PortHolder, ProbeResult, Unit, UnitState
from mainstay.runtime.base import StackRuntime, Stacks
from mainstay.shell.probing import Probing
from mainstay.shell.reconcile import Memory
from mainstay.shell.stacks.index import StackIndex
from mainstay.shell.store import Key, Store, Taken

PROBE_SECONDS = 0.25
"""How long a look at a stack waits for a probe that was just sent."""
_SERVING = (ServiceState.STARTING, ServiceState.RUNNING, ServiceState.BACKOFF)


@dataclass(slots=True)
class StackMemory(Memory):
    """What is remembered of a stack between passes. Losing it costs a probe, never an effect."""

    removed: bool = False  # the scope was removed, by us
    problems: dict[str, tuple[Problem, float, int]] = field(default_factory=dict)
    """service → what its last start failed with, until when, and of which generation"""
    probing: dict[str, Probing] = field(default_factory=dict)
    carrying: frozenset[str] = frozenset()
    """services of which the store was told that they carry a port"""


class StackGatherer:
    """Reads the store, the runtime and the clocks. A scope that isn't there yet is made: the finalizer is on."""

    def __init__(
        self, index: StackIndex, store: Store, stacks: Stacks, answered: Callable[[Key], None]
    ) -> None:
        """`answered` is called with a stack of which a late probe has answered."""
        self._answered = answered
        self._probes: set[asyncio.Task[ProbeResult]] = set()
        self._index = index
        self._store = store
        self._stacks = stacks

    async def _scope(self, key: Key, stack: ServiceStack, memory: StackMemory) -> StackRuntime | None:
        """The stack's scope; None once it was removed here.

        One whose files somebody deleted is made again: its processes are known by their marks too.
        """
        if (
            stack.metadata.deletion_timestamp is not None
            and memory.removed
            and key not in self._stacks.known()
        ):
            return None
        return await self._stacks.open(key)

    async def snapshot(self, key: Key, memory: StackMemory) -> StackSnapshot | None:
        """The stack as of now, or None if it is gone. Raises what the runtime raises."""
        before = self._index.stacks.get(key)
        if before is None:
            return None
        if before.metadata.uid != memory.uid:
            memory.uid = before.metadata.uid
            memory.problems.clear()
            memory.removed = False
        if not StackSnapshot(before, datetime.now(UTC), {}).has_finalizer:
            return StackSnapshot(before, datetime.now(UTC).replace(microsecond=0), {})
        scope = await self._scope(key, before, memory)
        declared = {one.name: one for one in before.spec.services}
        units: Mapping[str, Unit] = {}
        holders: Mapping[int, tuple[PortHolder, ...]] = {}
        probes: Mapping[str, ProbeResult] = {}
        supervisor = None
        if scope is not None:
            scope.keep_logs(log_policy(before.spec))
            names = [*declared, *(one.name for one in before.status.services), *await scope.names()]
            if before.metadata.deletion_timestamp is not None:
                names += [unit.name for unit in await scope.units()]  # also those whose files are gone
            units = await observed(scope, names)
            holders = await held(scope, ports_of(before.spec))
            probes = await self._probed(key, scope, before, units, memory)
            supervisor = await scope.supervisor()
        # From here on nothing awaits: what the store says is still true when the plan is made.
        stack = self._index.stacks.get(key)
        if stack is None:
            return None
        self._carry(key, units, memory)
        now = datetime.now(UTC)
        told = {one.name: one for one in stack.status.services}
        declared = {one.name: one for one in stack.spec.services}
        services = {}
        for name in dict.fromkeys((*declared, *told, *sorted(units))):
            service = declared.get(name)
            services[name] = ServiceView(
                name=name,
                spec=service,
                status=told.get(name) or ServiceStatus(name=name),
                unit=units.get(name) or Unit(name, UnitState.ABSENT, defined=False),
                **({"inputs": inputs_of(service, self.config_maps(stack, service))} if service else {}),
                probe=probes.get(name),
                problem=_problem(memory, name, stack),
                clock=now,
            )
        restart = self._index.turn(stack)
        return StackSnapshot(
            stack=stack,
            now=now.replace(microsecond=0),
            services=services,
            leases=tuple(
                LeaseView(x.metadata.name, x.spec.port, x.metadata.uid, x.metadata.resource_version)
                for x in self._store.leases_of(stack.metadata.uid)
            ),
            taken=self._taken(stack),
            holders=holders,
            supervisor=supervisor,
            restart=None
            if restart is None
            else RestartView(
                restart.metadata.name,
                restart.metadata.uid,
                restart.spec.mode,
                restart.status.phase,
                restart.status.step,
            ),
            scope=scope is not None,
        )

    def config_maps(self, stack: ServiceStack, service: Service) -> dict[tuple[str, str], str | None]:
        """The text of every ConfigMap key that a service refers to."""
        namespace = stack.metadata.namespace
        return {
            (name, key): self._store.config_map_value(namespace, name, key)
            for name, key in config_maps_of(service.program)
        }

    def _taken(self, stack: ServiceStack) -> dict[int, str]:
        taken = Taken(self._store, stack.metadata.uid, "")
        own = f"{stack.metadata.namespace}/{stack.metadata.name}:"
        found = {}
        for port in ports_of(stack.spec):
            words = taken.get(port)
            if words is not None and not words.startswith(f"the process of {own}"):
                found[port] = words
        return found

    def _carry(self, key: Key, units: Mapping[str, Unit], memory: StackMemory) -> None:
        """Tell the store; also of those that somebody else forgot, or nobody else could ever have their ports."""
        carried = {name: unit.port for name, unit in units.items() if unit.state in LIVE}
        for name in (*units, *(memory.carrying - units.keys())):
            self._store.carry(f"{key[0]}/{key[1]}:{name}", carried.get(name))
        memory.carrying = frozenset(carried)

    async def _probed(
        self,
        key: Key,
        scope: StackRuntime,
        stack: ServiceStack,
        units: Mapping[str, Unit],
        memory: StackMemory,
    ) -> Mapping[str, ProbeResult]:
        """What those that are due answer, side by side. Nothing waits for one that takes its time: it is told later."""
        told = {one.name: one.state for one in stack.status.services}
        asked = [
            one
            for one in stack.spec.services
            if told.get(one.name) in _SERVING and units[one.name].state is UnitState.RUNNING
        ]
        fresh = [self._ask(scope, one, units[one.name], memory) for one in asked]
        if waited := [task for task in fresh if task is not None]:
            await asyncio.wait(waited, timeout=PROBE_SECONDS)
        found = {}
        for one in asked:
            probing = memory.probing[one.name]
            if (task := probing.task) is None or task.done():
                probing.task = None
                found[one.name] = task.result() if task is not None else ProbeResult(False)
            else:
                if not probing.late:
                    probing.late = True
                    task.add_done_callback(partial(self._late, key, probing))
                found[one.name] = probing.result or ProbeResult(False, "it has not answered yet")
        return found

    def _ask(
        self, scope: StackRuntime, service: Service, unit: Unit, memory: StackMemory
    ) -> asyncio.Task[ProbeResult] | None:
        """Put the question, unless one is under way."""
        probing = memory.probing.setdefault(service.name, Probing())
        if probing.task is not None:
            return None
        port = unit.port if unit.port is not None else service.port
        task = asyncio.create_task(probing.ask(scope, unit, readiness_of(service), port))
        probing.task = task
        self._probes.add(task)
        task.add_done_callback(self._probes.discard)
        return task

    def _late(self, key: Key, probing: Probing, task: asyncio.Task[ProbeResult]) -> None:
        probing.late = False
        if not task.cancelled():
            task.exception()  # whoever looks next is told of it
            self._answered(key)

    async def close(self) -> None:
        """End the probes that still wait for an answer."""
        tasks = list(self._probes)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def observed(scope: StackRuntime, names: Iterable[str]) -> dict[str, Unit]:
    """Each unit, by name."""
    asked = list(dict.fromkeys(names))
    return dict(zip(asked, await asyncio.gather(*map(scope.observe, asked)), strict=True))


async def held(scope: StackRuntime, ports: Iterable[int]) -> dict[int, tuple[PortHolder, ...]]:
    """Who listens on these ports, by port."""
    asked = sorted(ports)
    found: Sequence[PortHolder] = await scope.holders(asked) if asked else ()
    by_port = sorted(found, key=lambda one: one.port)
    return {port: tuple(some) for port, some in groupby(by_port, key=lambda one: one.port)}


def _problem(memory: StackMemory, name: str, stack: ServiceStack) -> Problem | None:
    """What its last start failed with, until it is due again or the user changed something."""
    known = memory.problems.get(name)
    if known is None:
        return None
    problem, until, generation = known
    if generation != stack.metadata.generation or time.monotonic() >= until:
        del memory.problems[name]
        return None
    return problem
