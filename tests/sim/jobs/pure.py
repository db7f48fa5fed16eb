"""A job and all that a decision about it looks at, as data; and what each plan does to it.

No shell, no API server: a few lines of what the contract promises, for tables and for laws.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mainstay.api.meta import FINALIZER
from mainstay.api.phasedjob import PhasedJob, PhasedJobStatus, TaskStatus
from mainstay.core import plan as p
from mainstay.core.job.check import problems
from mainstay.core.job.decide import JobPlan, decide
from mainstay.core.job.graph import Graph
from mainstay.core.job.snapshot import UNBOUNDED, JobSnapshot
from mainstay.core.job.tasks import read_outputs
from mainstay.core.names import task_unit
from mainstay.core.snapshot import Problem
from mainstay.core.unit import GONE, LIVE, Exit, Outcome, ProcessId, Unit, UnitState

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
UID = "11111111-2222-3333-4444-555555555555"
OTHER_UID = "99999999-2222-3333-4444-555555555555"


def task(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "program": {"command": [name]}, **fields}


def phase(name: str, *tasks: Any, **fields: Any) -> dict[str, Any]:
    return {"name": name, "tasks": [task(t) if isinstance(t, str) else t for t in tasks], **fields}


def phases(*made: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A spec of one step."""
    return {"steps": [{"name": "step", "phases": list(made)}], **fields}


def one(*tasks: Any, **fields: Any) -> dict[str, Any]:
    """A spec of one step with one phase."""
    return phases(phase("only", *tasks), **fields)


def a_unit(name: str, state: UnitState = UnitState.ABSENT, **changes: Any) -> Unit:
    """A unit of the job, as it is observed in that state."""
    unit = task_unit("default", "job", name)
    if state is UnitState.ABSENT:
        return Unit(unit, state, defined=False)
    said: dict[str, Any] = {
        "owner_uid": UID,
        "attempt": 1,
        "leader": ProcessId(100, 1000, "boot") if state in LIVE else None,
        "started_at": NOW.timestamp() - 0.5,
        "stopping_seconds": 0.0 if state is UnitState.STOPPING else None,
    }
    return Unit(unit, state, **{**said, **changes})


def ended(
    name: str,
    code: int | None = 0,
    *,
    attempt: int = 1,
    outputs: Any = None,
    lost: bool = False,
    **changes: Any,
) -> Unit:
    """A unit whose attempt ended."""
    written = outputs if outputs is None or isinstance(outputs, bytes) else json.dumps(outputs).encode()
    said = {k: changes.pop(k) for k in ("timed_out", "outputs_problem") if k in changes}
    at = changes.pop("ended_at", NOW.timestamp())
    lines = changes.pop("last_lines", ())
    end = Exit(code, 15 if code is None else None, lines)
    outcome = None if lost else Outcome(attempt, end, at, outputs=written, **said)
    return a_unit(name, UnitState.EXITED, attempt=attempt, exit=end, outcome=outcome, **changes)


def a_job(
    spec: Mapping[str, Any],
    *,
    deleting: bool = False,
    finalizer: bool = True,
    generation: int = 1,
    **status: Any,
) -> PhasedJob:
    meta = {
        "name": "job",
        "namespace": "default",
        "uid": UID,
        "generation": generation,
        "resourceVersion": "7",
        "deletionTimestamp": NOW if deleting else None,
        "finalizers": [FINALIZER] if finalizer else [],
    }
    job = PhasedJob.model_validate({"metadata": meta, "spec": spec})
    return job.model_copy(update={"status": PhasedJobStatus().model_copy(update=status)})


@dataclass
class Pure:
    """Everything outside of `decide`."""

    job: PhasedJob
    units: dict[str, Unit] = field(default_factory=dict)
    stored: dict[str, tuple[int, Any]] = field(
        default_factory=dict
    )  # task → (attempt, outputs) in a ConfigMap
    problems: dict[str, Problem] = field(default_factory=dict)
    now: datetime = NOW
    slots: int = UNBOUNDED
    gone: bool = False
    executed: list[tuple[str, int]] = field(default_factory=list)
    plans: list[JobPlan] = field(default_factory=list)

    @classmethod
    def of(cls, spec: Mapping[str, Any], **job: Any) -> Pure:
        return cls(a_job(spec, **job))

    # --- looking

    @property
    def graph(self) -> Graph:
        return Graph.of(self.job.spec)

    def snapshot(self, **changes: Any) -> JobSnapshot:
        graph = self.graph
        refers = {n for n, t in self.tasks().items() if t.outputs is not None}
        names = dict.fromkeys([*graph.tasks, *self.units])
        made = JobSnapshot(
            job=self.job,
            graph=graph,
            now=self.now,
            invalid=next(problems(self.job.spec, graph), None),
            units={name: self.units.get(name) or a_unit(name) for name in names},
            outputs={n: out for n, (_, out) in self.stored.items() if n in refers},
            stored={n: attempt for n, (attempt, _) in self.stored.items()},
            problems=self.problems,
            keeps_outputs=bool(self.stored),
            slots=self.slots,
        )
        return replace(made, **changes)

    def tasks(self) -> dict[str, TaskStatus]:
        status = self.job.status
        return {t.name: t for step in status.steps for ph in step.phases for t in ph.tasks}

    def states(self) -> dict[str, str]:
        return {name: str(t.state) for name, t in self.tasks().items()}

    def reasons(self) -> dict[str, str]:
        return {name: t.reason for name, t in self.tasks().items() if t.reason}

    def condition(self, kind: str = "Ready") -> tuple[str, str]:
        found = next((c for c in self.job.status.conditions if c.type == kind), None)
        return (str(found.status), found.reason) if found else ("", "")

    def message(self, kind: str = "Ready") -> str:
        return next((c.message for c in self.job.status.conditions if c.type == kind), "")

    def living(self) -> list[str]:
        return [name for name, unit in self.units.items() if unit.state in LIVE]

    # --- doing

    def edit(self, **spec: Any) -> None:
        wire = {**self.job.spec.model_dump(by_alias=True, mode="json", exclude_none=True), **spec}
        meta = self.job.metadata.model_copy(update={"generation": self.job.metadata.generation + 1})
        made = PhasedJob.model_validate({"metadata": {}, "spec": wire} | {"metadata": {"name": "job"}})
        self.job = self.job.model_copy(update={"spec": made.spec, "metadata": meta})

    def delete(self) -> None:
        meta = self.job.metadata.model_copy(update={"deletion_timestamp": self.now})
        self.job = self.job.model_copy(update={"metadata": meta})

    def decide(self, **changes: Any) -> JobPlan:
        return decide(self.snapshot(**changes))

    def step(self) -> JobPlan:
        """One pass."""
        plan = self.decide()
        self.plans.append(plan)
        match plan:
            case p.Write(status=status):
                # through the wire, as an API server would answer
                status = PhasedJobStatus.model_validate(
                    json.loads(json.dumps(status.wire(), allow_nan=False))
                )
                self.job = self.job.model_copy(update={"status": status})
            case p.Act(action=action):
                self.act(action)
            case p.ActAll(actions=actions):
                for action in actions:
                    self.act(action)
            case _:
                pass
        return plan

    def settle(self, limit: int = 60) -> p.Wait:
        """Passes until one waits."""
        for _ in range(limit):
            plan = self.step()
            if isinstance(plan, p.Wait):
                return plan
        raise AssertionError(f"never waits: {self.plans[-6:]}")

    def act(self, action: p.Action) -> None:
        meta = self.job.metadata
        match action:
            case p.AddFinalizer():
                changed = meta.model_copy(update={"finalizers": (FINALIZER,)})
                self.job = self.job.model_copy(update={"metadata": changed})
            case p.RemoveFinalizer():
                assert not self.units, f"let go with {self.units}"
                self.gone = True
            case p.StartTask(task=name, attempt=attempt):
                claim = self.tasks()[name]
                assert str(claim.state) in ("Starting", "Running")
                assert claim.attempt == attempt
                before = self.units.get(name)
                if before is not None and before.attempt >= attempt:
                    return
                assert before is None or before.state in GONE
                began = self.now.timestamp()
                self.units[name] = a_unit(name, UnitState.RUNNING, attempt=attempt, started_at=began)
                self.executed.append((name, attempt))
            case p.StopTask(task=name, force=force):
                unit = self.units[name]
                if force:
                    self.end(name, None)
                elif unit.state in LIVE:
                    self.units[name] = replace(unit, state=UnitState.STOPPING, stopping_seconds=0.0)
            case p.RemoveTask(task=name, owner_uid=owner):
                assert self.units[name].state in GONE
                if self.units[name].owner_uid == owner:
                    del self.units[name]
            case p.RemoveRecords():
                assert not [n for n in self.living() if self.units[n].owner_uid == UID]
                self.units = {n: u for n, u in self.units.items() if u.owner_uid != UID}
                self.stored.clear()
            case p.StoreOutputs(task=name, attempt=attempt):
                outcome = self.units[name].outcome
                assert outcome is not None
                kept = {k: v for k, v in read_outputs(outcome).items() if k != "actionRequired"}
                self.stored[name] = (attempt, kept)
            case _:
                raise AssertionError(action)

    def end(self, name: str, code: int | None = 0, **fields: Any) -> None:
        """The living attempt ends."""
        unit = self.units[name]
        assert unit.state in LIVE, f"{name} does not live"
        fields = {"started_at": unit.started_at, "stopping_seconds": unit.stopping_seconds, **fields}
        at = fields.pop("ended_at", self.now.timestamp())
        self.units[name] = ended(name, code, attempt=unit.attempt, ended_at=at, **fields)

    def lose(self, name: str) -> None:
        self.end(name, None, lost=True)

    def run(self, **codes: int) -> None:
        """Settle, and end what lives, until nothing is left to do; tasks end with exit 0 unless told otherwise."""
        for _ in range(100):
            self.settle()
            if not self.living():
                return
            for name in self.living():
                self.end(name, codes.get(name, 0))
            self.wait(2)
        raise AssertionError("never ends")

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
