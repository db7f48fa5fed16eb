"""Gathering: one frozen snapshot of a stack, its units, its ports and whose turn it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
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

_SERVING = (ServiceState.STARTING, ServiceState.RUNNING, ServiceState.BACKOFF)


@dataclass(slots=True)
class StackMemory(Memory):
    """What is remembered of a stack between passes. Losing it costs a probe, never an effect."""

    problems: dict[str, tuple[Problem, float, int]] = field(default_factory=dict)
    """service → what its last start failed with, until when, and of which generation"""
    probing: dict[str, Probing] = field(default_factory=dict)
    carrying: frozenset[str] = frozenset()
    """services of which the store was told that they carry a port"""


class StackGatherer:
    """Reads the store, the runtime and the clocks. A scope that isn't there yet is made: the finalizer is on."""

    def __init__(self, index: StackIndex, store: Store, stacks: Stacks) -> None:
        self._index = index
        self._store = store
        self._stacks = stacks

    async def scope(self, key: Key, stack: ServiceStack) -> StackRuntime | None:
        """The stack's scope; None where nothing of it is to be made or left."""
        if stack.metadata.deletion_timestamp is not None and key not in self._stacks.known():
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
            memory.probing.clear()
        if not StackSnapshot(before, datetime.now(UTC), {}).has_finalizer:
            return StackSnapshot(before, datetime.now(UTC).replace(microsecond=0), {})
        scope = await self.scope(key, before)
        declared = {one.name: one for one in before.spec.services}
        units: Mapping[str, Unit] = {}
        holders: Mapping[int, tuple[PortHolder, ...]] = {}
        probes: Mapping[str, ProbeResult] = {}
        supervisor = None
        if scope is not None:
            scope.keep_logs(log_policy(before.spec))
            names = [*declared, *(one.name for one in before.status.services), *await scope.names()]
            units = await observed(scope, names)
            holders = await held(scope, ports_of(before.spec))
            probes = await self._probes(scope, before, declared, units, memory)
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

    async def _probes(
        self,
        scope: StackRuntime,
        stack: ServiceStack,
        declared: Mapping[str, Service],
        units: Mapping[str, Unit],
        memory: StackMemory,
    ) -> Mapping[str, ProbeResult]:
        """Those that are due, side by side."""
        told = {one.name: one.state for one in stack.status.services}
        asked = [
            name for name in declared if told.get(name) in _SERVING and units[name].state is UnitState.RUNNING
        ]
        results = await asyncio.gather(
            *(
                memory.probing.setdefault(name, Probing()).ask(
                    scope, units[name], readiness_of(declared[name]), declared[name].port
                )
                for name in asked
            )
        )
        return dict(zip(asked, results, strict=True))


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
