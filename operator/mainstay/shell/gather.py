"""Gathering: one frozen snapshot of a run, its unit, its port and its inputs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime

from mainstay.api.strategyrun import RunPhase, StrategyRun
from mainstay.core.inputs import config_map_refs, inputs_of
from mainstay.core.names import unit_name
from mainstay.core.readiness import readiness_of
from mainstay.core.snapshot import Inputs, LeaseView, PortView, Problem, RunSnapshot
from mainstay.core.unit import LIVE, ProbeResult, Unit, UnitState
from mainstay.runtime.base import Runtime
from mainstay.shell.probing import Probing
from mainstay.shell.reconcile import Memory
from mainstay.shell.store import Key, Store, Taken
from mainstay.shell.strategies.views import Views

_SERVING = (RunPhase.STARTING, RunPhase.RUNNING, RunPhase.RESUMING)


@dataclass(slots=True)
class RunMemory(Memory):
    """What is remembered of a run between passes. Losing it costs a probe, never an effect."""

    problem: Problem | None = None
    problem_generation: int = 0
    problem_until: float = 0.0
    probing: Probing = field(default_factory=Probing)
    inputs_of: tuple[int, tuple[str | None, ...]] | None = None
    inputs: Inputs = field(default_factory=Inputs)

    def forget(self, uid: str) -> None:
        """Another object has the name now."""
        for slot in fields(self):
            setattr(
                self, slot.name, slot.default_factory() if callable(slot.default_factory) else slot.default
            )
        self.uid = uid


class Gatherer:
    """Reads the store, the runtime and the clocks; changes nothing but its memory."""

    def __init__(self, store: Store, runtime: Runtime, strategies: Views) -> None:
        self._store = store
        self._strategies = strategies
        self._runtime = runtime

    async def snapshot(self, key: Key, memory: RunMemory) -> RunSnapshot | None:
        """The run as of now, or None if it is gone. Raises what the runtime raises."""
        before = self._store.run(key)
        if before is None:
            return None
        name = unit_name(*key)
        unit = await self._runtime.observe(name)
        self._store.carry(name, unit.port if unit.state in LIVE else None)
        probe = await self._probe(before, unit, memory)
        foreign: dict[int, str] = {}
        ports: tuple[int, ...] = ()
        quarantine = 0
        pool_found = True
        if before.spec.control_api is not None:
            pool = self._store.pool(before.spec.control_api.pool)
            pool_found = pool is not None
            quarantine = pool.pool.spec.quarantine_seconds if pool else 0
            ports = pool.ports if pool else ()
            if unit.state not in LIVE:
                asked = self._store.unused(ports, before.status.port)
                foreign = dict(await self._runtime.foreign_ports(asked, name))
        # From here on nothing awaits: what the store says of ports is still true when the plan is made.
        run = self._store.run(key)
        if run is None:
            return None
        if run.metadata.uid != memory.uid:
            memory.forget(run.metadata.uid)
        inputs = self._inputs(run, memory)
        return RunSnapshot(
            run=run,
            unit=unit,
            now=datetime.now(UTC).replace(microsecond=0),
            inputs=inputs,
            leases=tuple(
                LeaseView(x.metadata.name, x.spec.port, x.metadata.uid, x.metadata.resource_version)
                for x in self._store.leases_of(run.metadata.uid)
            ),
            ports=PortView(
                pool_found=pool_found,
                ports=ports,
                taken=Taken(self._store, run.metadata.uid, name),
                foreign=foreign,
                older_waiting=self._store.older_waiting(key, run),
                quarantine_seconds=quarantine,
            ),
            probe=probe,
            problem=_problem(run, memory),
            strategy=self._strategies.resolution(key, run, unit, inputs),
        )

    def config_map_values(self, run: StrategyRun) -> dict[tuple[str, str], str | None]:
        """The text of every ConfigMap key the run refers to."""
        namespace = run.metadata.namespace
        return {
            (name, key): self._store.config_map_value(namespace, name, key)
            for name, key in config_map_refs(run.spec)
        }

    def _inputs(self, run: StrategyRun, memory: RunMemory) -> Inputs:
        values = self.config_map_values(run)
        state = (run.metadata.generation, tuple(values.values()))
        if memory.inputs_of != state:
            memory.inputs, memory.inputs_of = inputs_of(run.spec, values), state
        return memory.inputs

    async def _probe(self, run: StrategyRun, unit: Unit, memory: RunMemory) -> ProbeResult | None:
        """Ask when it is due; one failure among successes does not count."""
        if run.status.phase not in _SERVING or unit.state is not UnitState.RUNNING:
            return None
        return await memory.probing.ask(self._runtime, unit, readiness_of(run.spec), run.status.port)


def _problem(run: StrategyRun, memory: RunMemory) -> Problem | None:
    """What the last act failed with, until it is due again or the user changed something."""
    if memory.problem is None:
        return None
    if run.metadata.generation != memory.problem_generation or time.monotonic() >= memory.problem_until:
        memory.problem = None
    return memory.problem
