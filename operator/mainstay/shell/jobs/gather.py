"""Gathering: one frozen snapshot of a job, the units of its tasks and what they put out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from mainstay.api.phasedjob import CLAIMED, DONE, FINAL, SETTLED, PhasedJob
from mainstay.core.job.check import problems
from mainstay.core.job.graph import Graph
from mainstay.core.job.snapshot import JobSnapshot
from mainstay.core.job.tasks import OutputsError, read_outputs, told_outputs
from mainstay.core.names import outputs_name, task_unit
from mainstay.core.snapshot import Problem
from mainstay.core.unit import Unit
from mainstay.runtime.base import TaskRuntime
from mainstay.shell.assets.observer import Observer
from mainstay.shell.assets.views import AssetViews
from mainstay.shell.jobs.index import JobIndex
from mainstay.shell.kube import BATCHES, Kube, path
from mainstay.shell.reconcile import Memory
from mainstay.shell.store import Key, Store

AHEAD = 2
"""Phases looked at: the one a job is on, and the next, whose tasks are claimed in the write that ends the one before."""


@dataclass(slots=True)
class JobMemory(Memory):
    """What is remembered of a job between passes."""

    generation: int = -1
    graph: Graph = field(default_factory=lambda: Graph(()))
    invalid: tuple[str, str] | None = None
    problems: dict[str, tuple[Problem, float]] = field(default_factory=dict)  # task → (trouble, until)
    gone: str = ""  # uid of a batch that the API server was asked for, and has not


class JobGatherer:
    """Reads our copies, the runtime and the clocks; changes nothing but its memory."""

    def __init__(
        self, store: Store, index: JobIndex, runtime: TaskRuntime, kube: Kube, observer: Observer
    ) -> None:
        self._store = store
        self._index = index
        self._runtime = runtime
        self._kube = kube
        self._views = AssetViews(index.assets, observer)

    async def snapshot(self, key: Key, memory: JobMemory) -> JobSnapshot | None:
        """The job as of now, or None if it is gone. Raises what the runtime raises."""
        job = self._index.jobs.get(key)
        if job is None:
            return None
        self._declared(job, memory)
        deleting = job.metadata.deletion_timestamp is not None
        if deleting:
            prefix = task_unit(*key, "")
            every = await self._runtime.names()
            names = [name.removeprefix(prefix) for name in every if name.startswith(prefix)]
        else:
            names = list(_looked_at(job, memory.graph))
        units = {task: await self._runtime.observe(task_unit(*key, task)) for task in names}
        lost = await self._outputs_on_disk(key, job)
        orphaned = await self._orphaned(job, memory)
        # From here on nothing awaits.
        current = self._index.jobs.get(key)
        if current is None or current.metadata.uid != job.metadata.uid:
            return await self.snapshot(key, memory)
        self._declared(current, memory)
        outputs, stored = self._outputs(current)
        outputs |= lost
        return JobSnapshot(
            job=current,
            graph=memory.graph,
            now=now(),
            invalid=memory.invalid,
            units=units,
            outputs=outputs,
            stored=stored,
            problems=self._problems(memory),
            keeps_outputs=deleting and self._keeps_outputs(current, memory.graph),
            assets=self._views.of(current),
            orphaned=orphaned,
            slots=self._index.room_for(key),
        )

    async def _orphaned(self, job: PhasedJob, memory: JobMemory) -> str:
        """The batch of a job, in words, when it is gone: only a consistent read proves that."""
        gone = None if job.status.phase in FINAL else self._index.owner_gone(job)
        if gone is None:
            return ""
        name, uid = gone
        if memory.gone != uid:
            obj = await self._kube.get(path(BATCHES, job.metadata.namespace, name))
            if obj is not None and obj["metadata"]["uid"] == uid:
                self._index.batches.put(obj)
                return ""
            memory.gone = uid
        return f"batch {name}"

    def _declared(self, job: PhasedJob, memory: JobMemory) -> None:
        if memory.uid != job.metadata.uid:
            memory.uid, memory.generation = job.metadata.uid, -1
            memory.problems.clear()
        if memory.generation != job.metadata.generation:
            memory.graph = Graph.of(job.spec)
            memory.invalid = next(problems(job.spec, memory.graph), None)
            memory.generation = job.metadata.generation
            memory.problems.clear()

    @staticmethod
    def _problems(memory: JobMemory) -> dict[str, Problem]:
        """Told until the act is done; due again when no seconds are left."""
        at = time.monotonic()
        return {
            name: replace(problem, retry_seconds=max(0.0, until - at))
            for name, (problem, until) in memory.problems.items()
        }

    # -- outputs

    async def _outputs_on_disk(self, key: Key, job: PhasedJob) -> dict[str, Any]:
        """Outputs whose ConfigMap somebody deleted or spoilt: the task's own record still has them."""
        found: dict[str, Any] = {}
        for task in job.status.tasks():
            if task.outputs is not None and self._kept(job, task.name)[0] is None:
                unit = await self._runtime.observe(task_unit(*key, task.name))
                found[task.name] = json.loads(outputs_of(unit, job)) if unit.outcome else {}
        return found

    def _outputs(self, job: PhasedJob) -> tuple[dict[str, Any], dict[str, int]]:
        """What is kept in ConfigMaps: of tasks whose status refers to one, and what was stored but not told yet."""
        outputs: dict[str, Any] = {}
        stored: dict[str, int] = {}
        for task in job.status.tasks():
            if task.outputs is None and task.state not in CLAIMED:
                continue
            kept, attempt = self._kept(job, task.name)
            if kept is None:
                continue
            stored[task.name] = attempt
            if task.outputs is not None:
                outputs[task.name] = kept
        return outputs, stored

    def _kept(self, job: PhasedJob, task: str) -> tuple[dict[str, Any] | None, int]:
        """Outputs in a ConfigMap and their attempt; None where there are none, or somebody spoilt them."""
        meta = job.metadata
        name = outputs_name(meta.name, meta.uid, task)
        text = self._store.config_map_value(meta.namespace, name, "outputs.json")
        attempt = self._store.config_map_value(meta.namespace, name, "attempt")
        try:
            kept = None if text is None else json.loads(text)
        except ValueError:
            kept = None
        return kept if isinstance(kept, dict) else None, int(attempt) if attempt and attempt.isdigit() else 0

    def _keeps_outputs(self, job: PhasedJob, graph: Graph) -> bool:
        meta = job.metadata
        return any(
            (meta.namespace, outputs_name(meta.name, meta.uid, task)) in self._store.config_maps.objects
            for task in {*graph.tasks, *(t.name for t in job.status.tasks())}
        )


def now() -> datetime:
    """The wall clock to the millisecond, as it is told in status."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _looked_at(job: PhasedJob, graph: Graph) -> Iterable[str]:
    """Tasks that run, and those of the phases that come now."""
    states = {t.name: t.state for t in job.status.tasks()}
    phases = {phase.name: phase.state for step in job.status.steps for phase in step.phases}
    found = [name for name in graph.tasks if states.get(name) in CLAIMED]
    steps = {step.name: step.state for step in job.status.steps}
    coming = [
        phase
        for step, each in graph.phases.items()
        for phase in each
        if steps.get(step) not in DONE
        and (
            phases.get(phase.name) not in DONE
            or any(states.get(task.name) not in SETTLED for task in phase.tasks)
        )
    ]
    for phase in coming[:AHEAD]:
        found += [task.name for task in phase.tasks if states.get(task.name) not in SETTLED]
    return dict.fromkeys(found)


def outputs_of(unit: Unit, job: PhasedJob) -> str:
    """The outputs of an ended unit of a job as one JSON text, without what is kept elsewhere. Raises OutputsError."""
    if unit.outcome is None:
        raise OutputsError("OutputsInvalid", "its outputs are gone")
    kept = told_outputs(read_outputs(unit.outcome), reports=bool(job.spec.assets))
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
