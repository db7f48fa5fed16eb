"""Everything there is of jobs: an API, tasks, operators, a clock, an oracle, and a log of what they did."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

from tests.sim.api import NAMESPACE, Api, Ref
from tests.sim.clock import CLOCK, EPOCH
from tests.sim.jobs.clock import ORDER
from tests.sim.jobs.operators import JobInstance, JobKube
from tests.sim.jobs.oracle import JobOracle, condition, flat
from tests.sim.jobs.tasks import SimTasks
from tests.sim.operators import RESYNC_SECONDS
from tests.sim.steps import drive
from tests.sim.world import World, no_fault

from mainstay.api.conditions import find
from mainstay.core import plan as p
from mainstay.core.batch import decide as batch_core
from mainstay.core.job import decide as core
from mainstay.core.job.snapshot import JobSnapshot
from mainstay.core.names import task_unit
from mainstay.core.unit import LIVE
from mainstay.runtime.fake_tasks import Ending, FakeTaskRuntime
from mainstay.shell.jobs import batches, reconciler
from mainstay.shell.kube import BATCHES, JOBS, ApiError
from mainstay.shell.operator import WorkKey
from mainstay.shell.store import Object

CAP = 4000
QUIET_SECONDS = 65.0
Fault = Callable[[str], BaseException | None]


class JobWorld(World):
    """`limit`: tasks that run at once on this machine."""

    def __init__(self, seed: int = 0, *, limit: int = 128) -> None:
        CLOCK.seconds = EPOCH
        self.rng = random.Random(seed)
        ORDER.seed(seed)
        self.hasty = False
        self.limit = limit
        self.disturbed = False  # history was taken back, and not all has been seen since
        self.restored = False  # history was taken back at some time
        self.amnesia = False  # records of tasks were lost
        self.forgotten: set[str] = set()  # uids of jobs that went without anybody witnessing it
        self.robbed: set[str] = set()  # jobs whose ConfigMaps somebody deleted
        self.log: list[str] = []
        self.api = Api()
        self.runtime = SimTasks(seed)  # type: ignore[assignment]
        self.oracle = JobOracle(self)  # type: ignore[assignment]
        self.runtime.on_start = self.oracle.starting
        self.runtime.on_execute = self.oracle.executed_now
        self.runtime.on_remove = self.oracle.removing
        self.runtime.on_end = self._ended
        self.kube = JobKube(self.api, self._written, self._refused)
        self.operators: list[JobInstance] = []  # type: ignore[assignment]
        self.acting = None
        self.moved_at = EPOCH
        self.steps = 0
        self.crash_at: int | None = None  # number of the step after which the operator dies, once
        self._said: dict[str, str] = {}

    # --- what tests say

    def job(self, name: str, spec: Mapping[str, Any], **changes: Any) -> None:
        self.api.create(JOBS, NAMESPACE, name, {"spec": {**spec, **changes}})

    def batch(self, name: str, **spec: Any) -> None:
        self.api.create(BATCHES, NAMESPACE, name, {"spec": spec})

    def secret(self, name: str, **keys: str) -> None:
        data = {k: base64.b64encode(v.encode()).decode() for k, v in keys.items()}
        self.api.create("secrets", NAMESPACE, name, {"data": data})

    def edit(self, name: str, **spec: Any) -> None:
        self.api.edit(JOBS, NAMESPACE, name, **spec)

    def answer(self, name: str, **inputs: Any) -> None:
        """What a person gives."""
        self.edit(name, inputs={**self.get(name)["spec"].get("inputs", {}), **inputs})

    def resume(self, name: str, **spec: Any) -> None:
        self.edit(name, resumeNonce=self.get(name)["spec"].get("resumeNonce", 0) + 1, **spec)

    def remove(self, name: str, plural: str = JOBS) -> None:
        obj = self.api.get(plural, NAMESPACE, name)
        assert obj is not None
        if plural == JOBS and not obj["metadata"].get("finalizers"):
            self.forgotten.add(obj["metadata"]["uid"])
        self.api.remove(plural, NAMESPACE, name)

    def start_operator(self, name: str = "") -> JobInstance:
        instance = JobInstance(name, self.api, self.kube, self.runtime, self.limit)  # type: ignore[arg-type]
        self.operators.append(instance)
        self.moved_at = CLOCK.seconds
        return instance

    def rewound(self) -> None:
        self.disturbed = self.restored = True
        owners = {r["metadata"]["uid"] for r in self.api.all(JOBS)}
        self.forgotten |= {u.owner_uid for u in self.runtime.peek_all() if u.owner_uid not in owners}

    # --- what tests and the oracle ask

    def get(self, name: str) -> Object:
        obj = self.api.get(JOBS, NAMESPACE, name)
        assert obj is not None
        return obj

    def tasks(self, name: str) -> dict[str, Object]:
        return flat(self.status(name))

    def states(self, name: str) -> dict[str, str]:
        return {task: t["state"] for task, t in self.tasks(name).items()}

    def phase(self, name: str) -> str:
        return str(self.status(name).get("phase"))

    def reason(self, name: str) -> str:
        return condition(self.get(name), "Ready")[1]

    def unit(self, name: str) -> Any:
        job, _, task = name.partition("/")
        return self.runtime.peek(task_unit(NAMESPACE, job, task))

    def living(self) -> list[str]:
        return [u.name for u in self.runtime.peek_all() if u.state in LIVE]

    def executions(self, job: str) -> dict[str, int]:
        """Task → programs that were executed."""
        uid, counts = self.get(job)["metadata"]["uid"], {}
        for owner, task, _ in self.oracle.executed:
            if owner == uid:
                counts[task] = counts.get(task, 0) + 1
        return counts

    def executions_ever(self, task: str) -> int:
        """Programs of a task of this name that were executed, for whatever job."""
        return sum(1 for _, name, _ in self.oracle.executed if name == task)

    def stop_from_outside(self, job: str, task: str) -> None:
        """A person ends a unit, not the operator."""
        unit = task_unit(NAMESPACE, job, task)
        drive(FakeTaskRuntime.stop(self.runtime, unit, grace_seconds=10))  # type: ignore[arg-type]

    def unheard(self, uid: str) -> bool:
        known = self.acting.operator.index.jobs.objects.values() if self.acting else ()
        return any(o["metadata"]["uid"] == uid for o in known)

    def up_to_date(self, job: Object) -> bool:
        """The operator that acts has seen the newest version of this object."""
        key = (job["metadata"]["namespace"], job["metadata"]["name"])
        known = self.acting.operator.index.jobs.objects.get(key) if self.acting else None
        version = job["metadata"]["resourceVersion"]
        return known is not None and known["metadata"]["resourceVersion"] == version

    # --- what happens

    def advance(self, seconds: float) -> None:
        """Time passes; programs end at their own time."""
        self.runtime.advance(seconds)
        CLOCK.seconds = self.runtime.now

    def turn(self, instance: Any, key: WorkKey, fault: Fault = no_fault) -> None:
        instance.begin(key)
        error: BaseException | None = None
        while key in instance.passes:
            error = self.one_step(instance, key, fault, error)

    def one_step(
        self, instance: Any, key: WorkKey, fault: Fault = no_fault, error: BaseException | None = None
    ) -> BaseException | None:
        self.acting = instance
        with (
            patch.object(reconciler, "decide", self._logged(instance)),
            patch.object(batches, "decide", self._logged_batch(instance)),
        ):
            error = instance.advance(key, fault, error)
        self._events(instance)
        self.steps += 1
        if self.steps == self.crash_at:
            self.log.append("-- the operator dies, another comes")
            self.restart_operator(instance)
        return error

    def converge(self, *, resync: bool = True, quiet: float = QUIET_SECONDS) -> None:
        """Passes until nothing moves any more; then the oracle looks at everything."""
        self.moved_at = CLOCK.seconds
        for _ in range(CAP):
            if not self._any_pass(resync=resync):
                if CLOCK.seconds - self.moved_at >= quiet:
                    break
                self._sleep(quiet)
        else:
            raise AssertionError("does not converge:\n" + "\n".join(self.log[-40:]))
        before = self.api.versions()
        for instance in self.operators:
            for what, plural in (("job", JOBS), ("batch", BATCHES)):
                for obj in list(self.api.all(plural)):
                    key = (what, obj["metadata"]["namespace"], obj["metadata"]["name"])
                    instance.queue.add(key)
                    self.turn(instance, key)
        assert self.api.versions() == before, "a fixed point writes"
        self.disturbed = False
        self.oracle.settled()

    def until(self, what: Callable[[], bool]) -> None:
        """Passes and time until it is true."""
        for _ in range(CAP):
            if what():
                return
            if not self._any_pass(resync=True):
                self._sleep(QUIET_SECONDS)
        raise AssertionError("it never comes to that:\n" + "\n".join(self.log[-40:]))

    def _sleep(self, quiet: float) -> None:
        dues = [due for i in self.operators for due in i.queue.timers.values()]
        dues += [i.resynced_at + RESYNC_SECONDS for i in self.operators]
        dues += [self.moved_at + quiet]
        if (end := self.runtime.next_due()) is not None:
            dues.append(end)
        self.advance(max(min(due for due in dues if due > 0) - CLOCK.seconds, 0.001))

    # --- the log

    def _ended(self, spec: Any, ending: Ending) -> None:
        self.moved_at = CLOCK.seconds
        self.oracle.ended(spec, ending)
        how = (
            "is lost"
            if ending.lost
            else f"signal {ending.signal}"
            if ending.signal
            else f"exit {ending.code}"
        )
        self.log.append(f"{self.runtime.now - EPOCH:6.1f}s {'':24}{_short(spec.name)}#{spec.attempt}: {how}")

    def _written(self, what: str, ref: Ref, body: Any) -> None:
        self.moved_at = CLOCK.seconds
        self.oracle.writing(what, ref, body)

    def _refused(self, what: str, ref: Ref, error: ApiError) -> None:
        self.log.append(f"{'':32}refused: {what} of {ref[2]}: {int(error.code)} {error.reason}")

    def _logged(self, instance: Any) -> Callable[[JobSnapshot], core.JobPlan]:  # type: ignore[override]
        def decide(s: JobSnapshot) -> core.JobPlan:
            plan = core.decide(s)
            self._say_plan(instance, s.job.metadata.name, str(s.status.phase or "-"), plan, describe(s, plan))
            return plan

        return decide

    def _logged_batch(self, instance: Any) -> Callable[[Any], Any]:
        def decide(s: batch_core.BatchSnapshot) -> batch_core.BatchPlan:
            plan = batch_core.decide(s)
            status = s.batch.status
            words = describe_batch(plan)
            self._say_plan(instance, s.batch.metadata.name, str(status.phase or "-"), plan, words)
            return plan

        return decide

    def _say_plan(self, instance: Any, name: str, phase: str, plan: Any, words: str) -> None:
        if isinstance(plan, p.Act | p.ActAll):
            self.moved_at = CLOCK.seconds
        key = instance.name + name
        if isinstance(plan, p.Wait) and self._said.get(key, "").startswith("wait"):
            return
        self._said[key] = words
        who = f"{instance.name} " if instance.name else ""
        self.log.append(f"{CLOCK.seconds - EPOCH:6.1f}s {who}{name:<8} {phase:<14} {words}".rstrip())


def _short(unit: str) -> str:
    return unit.removeprefix(f"{NAMESPACE}.").replace("_", "/")


def describe(s: JobSnapshot, plan: core.JobPlan) -> str:
    """A plan in a few words; of a write, what changes."""
    match plan:
        case p.Write(status=status):
            told = find(status.conditions, "Ready")
            words = [f"write {status.phase}", f"Ready={told.status} {told.reason}" if told else ""]
            for field in ("resumes", "handled_resume_nonce", "resumable"):
                old, new = getattr(s.status, field), getattr(status, field)
                if old != new:
                    words.append(f"{field}={new}")
            if status.resume_plan and s.status.resume_plan != status.resume_plan:
                words.append(f"plan=[{' '.join(status.resume_plan)}]")
            if [a.name for a in status.actions] != [a.name for a in s.status.actions]:
                words.append(f"asks=[{' '.join(a.name for a in status.actions)}]")
            if gained := status.context.keys() - s.status.context.keys():
                words.append(f"context+[{' '.join(sorted(gained))}]")
            return " ".join([w for w in words if w] + _changes(s, status))
        case p.Wait(seconds=seconds):
            return "wait" + (f" {seconds:.3g}s" if seconds else "")
        case p.Act(action=action):
            return _action(action)
        case p.ActAll(actions=actions):
            return ", ".join(_action(action) for action in actions)


def _changes(s: JobSnapshot, status: Any) -> list[str]:
    """Steps, phases and tasks that are said to be otherwise than before."""
    words = []
    was = {("step", step.name): step.state for step in s.status.steps}
    was |= {("phase", ph.name): ph.state for step in s.status.steps for ph in step.phases}
    tasks = {t.name: t for step in s.status.steps for ph in step.phases for t in ph.tasks}
    for step in status.steps:
        if was.get(("step", step.name), "Pending") != step.state:
            words.append(f"| {step.name}: {step.state}")
        for phase in step.phases:
            if phase.name != step.name and was.get(("phase", phase.name), "Pending") != phase.state:
                words.append(f"| {phase.name}: {phase.state}")
            for t in phase.tasks:
                old = tasks.get(t.name)
                if old is None and not t.attempt and t.state == "Pending":
                    continue
                if old is None or (old.state, old.attempt, old.reason) != (t.state, t.attempt, t.reason):
                    number = f"#{t.attempt}" if t.attempt else ""
                    why = f"({t.reason})" if t.reason else ""
                    words.append(f"{t.name}{number} {t.state}{why}")
    return words


def describe_batch(plan: batch_core.BatchPlan) -> str:
    match plan:
        case p.Write(status=status):
            told = find(status.conditions, "Ready")
            counts = {k: v for k, v in status.counts.model_dump().items() if v}
            words = [f"write {status.phase} Ready={told.status} {told.reason}" if told else "write"]
            words.append(" ".join(f"{k}={v}" for k, v in counts.items()))
            return " ".join(words)
        case p.Wait(seconds=seconds):
            return "wait" + (f" {seconds:.3g}s" if seconds else "")
        case p.Act(action=action):
            return _action(action)
        case p.ActAll(actions=actions):
            return ", ".join(_action(action) for action in actions)


def _action(action: p.Action) -> str:
    match action:
        case p.StartTask(task=task, attempt=attempt):
            return f"start {task}#{attempt}"
        case p.StopTask(task=task, force=force, deleting=deleting):
            return f"stop {task}" + (" by force" if force else "") + (" for good" if deleting else "")
        case p.RemoveTask(task=task, owner_uid=owner):
            return f"forget {task} of {owner}"
        case p.RemoveRecords():
            return "remove records"
        case p.StoreOutputs(task=task, attempt=attempt):
            return f"store outputs of {task}#{attempt}"
        case p.CreateJob(name=name):
            return f"make {name}"
        case p.SetJobState(name=name, state=state):
            return f"set {name} {state}"
        case p.DeleteJob(name=name):
            return f"delete {name}"
        case p.AddFinalizer():
            return "guard"
        case p.RemoveFinalizer():
            return "let go"
        case _:
            return str(action)


TIMES = {"startedAt", "completedAt", "retryAt", "time", "lastTransitionTime", "handledResumeNonce"}


def masked(value: Any) -> Any:
    """A status without its times."""
    if isinstance(value, dict):
        return {k: masked(v) for k, v in value.items() if k not in TIMES}
    return [masked(v) for v in value] if isinstance(value, list) else value
