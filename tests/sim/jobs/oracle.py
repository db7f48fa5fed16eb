"""What must be true of jobs at every step, and what must be true once nothing is left to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mainstay.api.jobbatch import JobBatch
from mainstay.api.meta import FINALIZER
from mainstay.api.phasedjob import CLAIMED, FINAL, SETTLED, PhasedJob, TaskState, TaskStatus, UserAction
from mainstay.core import reasons
from mainstay.core.answers import answer
from mainstay.core.job.graph import Graph
from mainstay.core.job.tasks import OutputsError, read_outputs
from mainstay.core.names import outputs_name, task_key, task_unit
from mainstay.core.unit import LIVE, Exit, Outcome, Unit, UnitSpec
from mainstay.shell.jobs.executor import JOB_LABEL
from mainstay.shell.kube import BATCHES, CONFIG_MAPS, JOBS

if TYPE_CHECKING:
    from tests.sim.api import Ref
    from tests.sim.jobs.world import JobWorld

    from mainstay.runtime.fake_tasks import Ending
    from mainstay.shell.store import Object

STATUS_BYTES = 64 * 1024
TaskKey = tuple[str, str]
"""(uid of the job, task)"""


DEFAULTS = {k: v for k, v in TaskStatus.model_construct(name="x").wire().items() if k != "name"}


class OracleError(AssertionError):
    """A promise was broken."""


def flat(status: Object) -> dict[str, Object]:
    """Every task of a status by name, with what is left out on the wire."""
    return {
        t["name"]: {**DEFAULTS, **t}
        for s in status.get("steps", ())
        for p in s.get("phases", ())
        for t in p.get("tasks", ())
    }


def condition(obj: Object, kind: str) -> tuple[str, str]:
    """(status, reason) of a condition."""
    for one in obj.get("status", {}).get("conditions", ()):
        if one["type"] == kind:
            return one["status"], one["reason"]
    return "", ""


class JobOracle:
    """Watches executions and writes as they happen, and the whole world once it is still."""

    def __init__(self, world: JobWorld) -> None:
        self._world = world
        self.completed: dict[TaskKey, dict[str, Any]] = {}  # exit 0 and readable → its outputs
        self.executed: set[tuple[str, str, int]] = set()
        self._made: set[tuple[str, str]] = set()  # (uid of the batch, name) of jobs that were made

    # --- as it happens: processes

    def starting(self, spec: UnitSpec) -> None:
        """An attempt is about to be started: only under a claim of exactly this attempt."""
        world, unit = self._world, self._world.runtime.peek(spec.name)
        task = task_key(spec.name)[2]
        if unit.state in LIVE and (unit.attempt, unit.owner_uid) != (spec.attempt, spec.owner_uid):
            raise OracleError(f"{spec.name} is started beside attempt {unit.attempt} of {unit.owner_uid}")
        job = self._owner(spec.owner_uid)
        if job is None:
            if not world.unheard(spec.owner_uid):
                raise OracleError(f"{spec.name} is started for an object that is gone")
            world.forgotten.add(spec.owner_uid)
            return
        claim = flat(job.get("status", {})).get(task, {})
        claimed = (claim.get("state"), claim.get("attempt"))
        if claimed not in (("Starting", spec.attempt), ("Running", spec.attempt)) and world.up_to_date(job):
            raise OracleError(f"{spec.name} is started as attempt {spec.attempt} under the claim {claimed}")
        if "deletionTimestamp" in job["metadata"] and world.up_to_date(job):
            raise OracleError(f"{spec.name} is started while its job is being deleted")

    def executed_now(self, spec: UnitSpec) -> None:
        """A program runs: nothing twice, nothing too early, no more than there is room for."""
        uid, task = spec.owner_uid, task_key(spec.name)[2]
        if not self._world.amnesia:
            if (uid, task, spec.attempt) in self.executed:
                raise OracleError(f"attempt {spec.attempt} of {spec.name} is executed twice")
            if (uid, task) in self.completed:
                raise OracleError(f"{spec.name} is executed again, it had completed")
        self.executed.add((uid, task, spec.attempt))
        obj = self._owner(uid)
        if obj is None:
            return
        job = PhasedJob.model_validate(obj)
        graph = Graph.of(job.spec)
        known = flat(obj.get("status", {}))
        context = json.loads(spec.inputs or b"{}")["context"]
        for before in graph.tasks[task].depends_on:
            self._dependency(spec, task, before, known.get(before, {}), context)
        for before in self._earlier(graph, task):
            if self._world.runtime.peek(task_unit(*task_key(spec.name)[:2], before)).state in LIVE:
                raise OracleError(f"{task} is started while {before} of an earlier phase lives")
            if known.get(before, {}).get("state") not in SETTLED and not self._world.disturbed:
                raise OracleError(f"{task} is started, and {before} of an earlier phase is not settled")
        live = [u for u in self._world.runtime.peek_all() if u.state in LIVE]
        if sum(1 for u in live if u.owner_uid == uid) > job.spec.parallelism:
            raise OracleError(f"more than {job.spec.parallelism} tasks of {job.metadata.name} run")
        if len(live) > self._world.limit:
            raise OracleError(f"more than {self._world.limit} tasks run")

    def _dependency(self, spec: UnitSpec, task: str, before: str, known: Object, context: Object) -> None:
        proved = known.get("reason") == reasons.ALREADY_DONE
        done = (spec.owner_uid, before) in self.completed
        if not proved and not done:
            raise OracleError(f"{task} is started before {before} is completed")
        if known.get("state") not in ("Completed", "Skipped") and not self._world.disturbed:
            raise OracleError(f"{task} is started, {before} is {known.get('state')}")
        if done and context.get(before) != self._kept(spec.owner_uid, before):
            raise OracleError(f"{task} does not see what {before} put out: {context.get(before)}")

    @staticmethod
    def _earlier(graph: Graph, task: str) -> Iterator[str]:
        phases = [phase for each in graph.phases.values() for phase in each]
        for phase in phases:
            names = [t.name for t in phase.tasks]
            if task in names:
                return
            yield from names

    def ended(self, spec: UnitSpec, ending: Ending) -> None:
        """What really came of an attempt."""
        if ending.lost or ending.code != 0 or ending.signal is not None:
            return
        outcome = Outcome(spec.attempt, Exit(0), 0.0, outputs=ending.outputs)
        try:
            outputs = read_outputs(outcome)
        except OutputsError:
            return
        self.completed[spec.owner_uid, task_key(spec.name)[2]] = outputs

    def removing(self, unit: Unit) -> None:
        """A record is about to be forgotten."""
        owner = self._owner(unit.owner_uid)
        if owner is not None and "deletionTimestamp" not in owner["metadata"]:
            raise OracleError(f"the record of {unit.name} is removed, its job is there")
        lives = [
            u.name
            for u in self._world.runtime.peek_all()
            if u.owner_uid == unit.owner_uid and u.state in LIVE
        ]
        if lives and owner is not None:
            raise OracleError(f"the record of {unit.name} is removed while {lives[0]} lives")

    # --- as it happens: writes

    def writing(self, what: str, ref: Ref, body: Any) -> None:
        """A write of an operator, about to count."""
        match what, ref[0]:
            case "status", "phasedjobs":
                self._status(ref, body)
            case "status", _:
                self._same(ref, body)
            case "remove finalizer", "phasedjobs":
                self._letting_go(ref)
            case "remove finalizer", "jobbatches":
                self._letting_batch_go(ref)
            case "keep", _:
                self._keeping(ref, body)
            case "delete", "configmaps":
                self._dropping(body)
            case "delete", "phasedjobs":
                owner = self._batch(body)
                if owner is None or "deletionTimestamp" not in owner["metadata"]:
                    raise OracleError(f"{ref[2]} is deleted, its batch is not")
            case "create", "phasedjobs":
                self._making(ref, body)
            case _:
                pass

    def _same(self, ref: Ref, status: Any) -> None:
        if self._world.api.objects[ref].get("status", {}) == status:
            raise OracleError(f"{ref[2]}: the same status is written again")

    def _status(self, ref: Ref, new: Any) -> None:
        obj = self._world.api.objects[ref]
        self._same(ref, new)
        text = json.dumps(new, allow_nan=False, ensure_ascii=False)
        if len(text.encode()) > STATUS_BYTES:
            raise OracleError(f"{ref[2]}: its status has {len(text.encode())} bytes")
        old = obj.get("status", {})
        uid, name = obj["metadata"]["uid"], ref[2]
        if old.get("phase") in FINAL and new["phase"] != old["phase"]:
            raise OracleError(f"{name}: leaves {old['phase']} for {new['phase']}")
        lives = {
            task_key(u.name)[2]
            for u in self._world.runtime.peek_all()
            if u.state in LIVE and u.owner_uid == uid
        }
        if new["phase"] in FINAL and lives:
            raise OracleError(f"{name}: {new['phase']} is written while {sorted(lives)} live")
        before, after = flat(old), flat(new)
        resumed = new.get("resumes", 0) > old.get("resumes", 0)
        if resumed:
            self._resume(name, obj, old, new)
        elif old.get("resumable") and old.get("handledResumeNonce") != new.get("handledResumeNonce"):
            raise OracleError(f"{name}: its nonce is consumed without a resume, and it could be resumed")
        self._answers(obj, new)
        for task, t in after.items():
            self._task(obj, task, before.get(task, {}), t, lives, resumed=resumed)
        claimed = sum(1 for t in after.values() if t["state"] in CLAIMED)
        if claimed > max(obj["spec"].get("parallelism", 16), len(lives)):
            raise OracleError(f"{name}: claims {claimed} tasks at once")
        for task, value in old.get("context", {}).items():
            if after.get(task, {}).get("state") == "Completed" and new["context"].get(task) != value:
                raise OracleError(f"{name}: what {task} put out is changed or lost")

    def _answers(self, obj: Object, new: Any) -> None:
        """What asked is done when the answer fits, and not before."""
        name, old, inputs = obj["metadata"]["name"], obj.get("status", {}), obj["spec"].get("inputs", {})
        was = {step["name"]: step["state"] for step in old.get("steps", ())}
        asked = {
            step["name"]: UserAction.model_validate(step["action"])
            for step in obj["spec"]["steps"]
            if "action" in step
        }
        done = [s["name"] for s in new["steps"] if s["state"] == "Completed" != was.get(s["name"])]
        before, after = flat(old), flat(new)
        for action in old.get("actions", ()):
            if action["name"] in before:
                asked[action["name"]] = UserAction.model_validate(action)
        done += [
            t
            for t, v in before.items()
            if v["state"] == "ActionRequired" and after[t]["state"] == "Completed"
        ]
        for one in done:
            if one in asked and not answer(asked[one], one, inputs).fits:
                raise OracleError(f"{name}: {one} is done, and its answer does not fit")

    def _resume(self, name: str, obj: Object, old: Any, new: Any) -> None:
        """A resume happens once per nonce, from where it could, and renews what it said it would, and nothing else."""
        nonce = obj["spec"].get("resumeNonce", 0)
        if not old.get("resumable") or old.get("handledResumeNonce") == nonce:
            raise OracleError(f"{name}: resumed, and nobody asked")
        if new["handledResumeNonce"] != nonce:
            raise OracleError(f"{name}: resumed, and the nonce is not consumed in the same write")
        if obj["metadata"]["generation"] != old["observedGeneration"] + 1:
            return  # something else was changed too: the plan was of the declaration before
        before, after = flat(old), flat(new)
        for task, t in after.items():
            planned = task in old["resumePlan"]
            if not planned and not obj["spec"].get("resumeTasks") and t != before.get(task):
                raise OracleError(f"{name}: the resume touches {task}, which is not in its plan")
            if planned and before[task]["state"] == "Failed" == t["state"] and t["reason"] not in AT_ONCE:
                raise OracleError(f"{name}: the resume leaves {task} as it was")

    def _task(
        self, obj: Object, task: str, old: Object, new: Object, lives: set[str], *, resumed: bool
    ) -> None:
        name, uid = obj["metadata"]["name"], obj["metadata"]["uid"]
        was, now = old.get("state", "Pending"), new["state"]
        if new["attempt"] < old.get("attempt", 0):
            raise OracleError(f"{name}: attempt of {task} falls to {new['attempt']}")
        if was == "Completed" and now != "Completed":
            raise OracleError(f"{name}: {task} was Completed and is {now}")
        if now == "Completed" != was and (uid, task) not in self.completed and not self._world.amnesia:
            raise OracleError(f"{name}: {task} is said to be Completed, it never was")
        if was == "Failed" != now and not resumed:
            raise OracleError(f"{name}: {task} had failed, and is {now} without a resume")
        if was == "Skipped" != now and not resumed:
            raise OracleError(f"{name}: {task} was skipped, and is {now} without a resume")
        if now in SETTLED and task in lives:
            raise OracleError(f"{name}: {task} is said to be {now}, and lives")
        unit = self._world.runtime.peek(task_unit(obj["metadata"]["namespace"], name, task))
        remembered = unit.attempt if unit.owner_uid == uid else 0
        if new["attempt"] > max(old.get("attempt", 0), remembered):
            self._claim(obj, task, resumed=resumed)

    def _claim(self, obj: Object, task: str, *, resumed: bool) -> None:
        name, state = obj["metadata"]["name"], obj["spec"].get("state", "Running")
        if state != "Running" or "deletionTimestamp" in obj["metadata"]:
            raise OracleError(f"{name}: claims {task}, and {state} is asked, or its deletion")
        status = obj.get("status", {})
        job = PhasedJob.model_validate(obj)
        graph = Graph.of(job.spec)
        if resumed:
            return
        for other, t in flat(status).items():
            declared = graph.tasks.get(other)
            if declared and declared.blocking and t["state"] == TaskState.FAILED:
                raise OracleError(f"{name}: claims {task}, and {other} had failed")

    def _letting_go(self, ref: Ref) -> None:
        uid = self._world.api.objects[ref]["metadata"]["uid"]
        for unit in self._world.runtime.peek_all():
            if unit.owner_uid == uid:
                raise OracleError(f"{ref[2]} is let go, {unit.name} is {unit.state}")
        for kept in self._world.api.all(CONFIG_MAPS):
            if kept["metadata"].get("labels", {}).get(JOB_LABEL) == uid:
                raise OracleError(f"{ref[2]} is let go with {kept['metadata']['name']}")

    def _letting_batch_go(self, ref: Ref) -> None:
        uid = self._world.api.objects[ref]["metadata"]["uid"]
        for job in self._world.api.all(JOBS):
            if uid in [o["uid"] for o in job["metadata"].get("ownerReferences", ())]:
                raise OracleError(f"batch {ref[2]} is let go with {job['metadata']['name']}")

    def _keeping(self, ref: Ref, body: Object) -> None:
        uid, task = body["metadata"]["labels"][JOB_LABEL], body["data"]["task"]
        if json.loads(body["data"]["outputs.json"]) != self._kept(uid, task):
            raise OracleError(f"{ref[2]} is not what {task} put out")

    def _dropping(self, kept: Object) -> None:
        owner = self._owner(kept["metadata"]["labels"][JOB_LABEL])
        if owner is not None and "deletionTimestamp" not in owner["metadata"]:
            raise OracleError(f"{kept['metadata']['name']} is deleted, its job is not")

    def _making(self, ref: Ref, body: Object) -> None:
        batch = self._batch(body)
        if batch is None:
            return
        uid = batch["metadata"]["uid"]
        if (uid, ref[2]) in self._made and not self._world.disturbed:
            raise OracleError(f"{ref[2]} was made before, and was deleted by hand")
        self._made.add((uid, ref[2]))
        active = [
            j
            for j in self._jobs_of(uid)
            if j.get("status", {}).get("phase", "Pending") in ("Pending", "InProgress")
        ]
        most = batch["spec"].get("parallelism", 10)
        waiting = sum(map(_waits_for_an_asset, active))  # others may need other assets
        if len(active) - min(waiting, most) >= most:
            raise OracleError(f"{ref[2]} is made though {len(active)} jobs of the batch are under way")

    # --- once nothing is left to do

    def settled(self) -> None:
        """Every job is where it should be, or says why not; nothing is kept that nobody needs."""
        problems = [
            *self._strays(),
            *(p for job in self._world.api.all(JOBS) for p in self._job(job)),
            *(p for batch in self._world.api.all(BATCHES) for p in self._batch_problems(batch)),
        ]
        if problems:
            raise OracleError("settled, but " + "; ".join(problems))

    def _strays(self) -> Iterator[str]:
        for unit in self._world.runtime.peek_all():
            if self._owner(unit.owner_uid) is None and unit.owner_uid not in self._world.forgotten:
                yield f"{unit.name} is {unit.state}, its job is gone"

    def _job(self, obj: Object) -> Iterator[str]:
        meta, spec, status = obj["metadata"], obj["spec"], obj.get("status", {})
        name, phase = meta["name"], status.get("phase")
        if "deletionTimestamp" in meta or FINALIZER not in meta.get("finalizers", ()):
            yield f"{name} is being deleted, or was never guarded"
            return
        if status.get("observedGeneration") != meta["generation"]:
            yield f"{name}: generation {meta['generation']} was not observed"
        yield from self._results(obj)
        units = {task_key(u.name)[2]: u for u in self._world.runtime.peek_all() if u.owner_uid == meta["uid"]}
        lives = sorted(task for task, u in units.items() if u.state in LIVE)
        goal = spec.get("state", "Running")
        stalled = condition(obj, "Stalled")[0] == "True"
        for task, t in flat(status).items():
            if t["state"] in CLAIMED and task not in lives and not stalled:
                yield f"{name}: {task} is {t['state']}, and nothing of it lives"
        if goal == "Cancelled" and phase not in FINAL:
            yield f"{name}: is to be cancelled, and is {phase}"
        if phase in FINAL and lives:
            yield f"{name}: {phase}, and {lives} live"
        if phase in FINAL or lives:
            return
        if goal == "Suspended" and phase != "Suspended" and not stalled:
            yield f"{name}: Suspended is asked, it is {phase}"
        if goal == "Running" and phase != "ActionRequired" and not stalled:
            yield f"{name}: nothing runs, and it is {phase} ({condition(obj, 'Ready')[1]})"
        reason = condition(obj, "Ready")[1]
        asks = bool(status.get("actions"))
        if phase == "ActionRequired" and not (status["resumable"] or asks or reason == reasons.SPEC_INVALID):
            yield f"{name}: ActionRequired, and nobody can do anything"
        if status.get("resumable") and not status["resumePlan"] and condition(obj, "Ready")[1]:
            failure = status.get("lastFailure", {})
            if failure.get("reason") != reasons.EXPRESSION_FAILED:
                yield f"{name}: resumable, and nothing is planned"
        if status.get("resumable") and goal == "Running" and reason != reasons.SPEC_INVALID:
            nonce = spec.get("resumeNonce", 0)
            if status.get("handledResumeNonce") != nonce:
                yield f"{name}: a resume was asked for, and nothing is done"

    def _results(self, obj: Object) -> Iterator[str]:
        """What completed is told as completed, with its outputs in one place or the other."""
        meta, status = obj["metadata"], obj.get("status", {})
        known = flat(status)
        if status.get("resumable") and self._world.restored:
            return  # it failed, as far as status remembers: a resume looks at what the units remember
        for uid, task in self.completed:
            if uid != meta["uid"] or task not in known:
                continue
            t = known[task]
            if t["state"] not in ("Completed", "ActionRequired"):
                yield f"{meta['name']}: {task} had completed, and is {t['state']}"
                continue
            name = outputs_name(meta["name"], uid, task)
            stored = self._world.api.get(CONFIG_MAPS, meta["namespace"], name)
            if t.get("outputs"):
                kept = json.loads(stored["data"]["outputs.json"]) if stored else None
            else:
                kept = status.get("context", {}).get(task, {})
            if kept != self._kept(uid, task) and not (stored is None and t.get("outputs")):
                yield f"{meta['name']}: what {task} put out is not kept"
            if stored is None and t.get("outputs") and meta["name"] not in self._world.robbed:
                yield f"{meta['name']}: the ConfigMap of {task} is not there"

    def _batch_problems(self, obj: Object) -> Iterator[str]:
        batch = JobBatch.model_validate(obj)
        jobs = list(self._jobs_of(batch.metadata.uid))
        phases = [j.get("status", {}).get("phase", "Pending") for j in jobs]
        counts = batch.status.counts
        told = (counts.completed, counts.failed, counts.action_required, counts.suspended, counts.in_progress)
        wanted = ("Completed", "Failed", "ActionRequired", "Suspended", "InProgress")
        if told != tuple(phases.count(p) for p in wanted):
            yield f"batch {batch.metadata.name}: counts {told}, its jobs are {phases}"
        declared = {j.name for j in batch.spec.jobs}
        if counts.total != len(declared | set(batch.status.created)):
            yield f"batch {batch.metadata.name}: counts {counts.total} jobs in all"
        alone = counts.total == counts.completed
        if (batch.status.phase == "Completed") is not alone and batch.spec.state != "Cancelled":
            yield f"batch {batch.metadata.name}: is {batch.status.phase} with {told}"

    # --- helpers

    def _kept(self, uid: str, task: str) -> dict[str, Any]:
        """What expressions and later tasks see of its outputs."""
        return {k: v for k, v in self.completed.get((uid, task), {}).items() if k != "actionRequired"}

    def _owner(self, uid: str) -> Object | None:
        return next((j for j in self._world.api.all(JOBS) if j["metadata"]["uid"] == uid), None)

    def _batch(self, job: Object) -> Object | None:
        uids = [o["uid"] for o in job["metadata"].get("ownerReferences", ())]
        return next((b for b in self._world.api.all(BATCHES) if b["metadata"]["uid"] in uids), None)

    def _jobs_of(self, batch: str) -> Iterator[Object]:
        for job in self._world.api.all(JOBS):
            if batch in [o["uid"] for o in job["metadata"].get("ownerReferences", ())]:
                yield job


AT_ONCE = (reasons.EXPRESSION_FAILED, reasons.OUTPUTS_INVALID, reasons.OUTPUTS_TOO_LARGE)
"""Failures that a resume may meet again in the very pass in which it renews."""


def _waits_for_an_asset(job: Object) -> bool:
    status = job.get("status", {})
    reasons = [c.get("reason") for c in status.get("conditions", ()) if c.get("type") == "Ready"]
    return status.get("phase") == "Pending" and reasons[:1] in (
        ["AssetHeld"],
        ["AssetNotFound"],
        ["AssetUnknown"],
        ["NotOwner"],
        ["WaitingForAsset"],
    )
