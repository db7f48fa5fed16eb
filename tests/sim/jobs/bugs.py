"""Bugs planted in deciding about jobs and batches, and in what of the shell they rest on."""

# ruff: noqa: ARG005
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mainstay.api.phasedjob import CLAIMED, SETTLED, JobPhase, StepState, TaskState
from mainstay.core import plan as p
from mainstay.core.batch import decide as batch_core
from mainstay.core.job import advance, draft, resume, tasks, taskspec
from mainstay.core.job import decide as core
from mainstay.core.job.snapshot import UNBOUNDED, JobSnapshot
from mainstay.core.unit import GONE, LIVE
from mainstay.shell.jobs import executor

Decide = Callable[[Any], Any]
Plant = Callable[[pytest.MonkeyPatch], None]
BUGS: dict[str, Plant] = {}
right, batch_right = core.decide, batch_core.decide


def bug(wrong: Callable[[JobSnapshot, Decide], Any]) -> Callable[[JobSnapshot, Decide], Any]:
    """Between a snapshot of a job and its plan."""
    BUGS[wrong.__name__] = lambda patch: patch.setattr(core, "decide", lambda s: wrong(s, right))
    return wrong


def batch_bug(wrong: Callable[[Any, Decide], Any]) -> Callable[[Any, Decide], Any]:
    """The same of a batch."""
    BUGS[wrong.__name__] = lambda patch: patch.setattr(batch_core, "decide", lambda s: wrong(s, batch_right))
    return wrong


def planted(plant: Plant) -> Plant:
    """Somewhere else."""
    BUGS[plant.__name__] = plant
    return plant


def told(status: Any) -> dict[str, Any]:
    return {t.name: t for step in status.steps for phase in step.phases for t in phase.tasks}


def with_tasks(status: Any, change: Callable[[Any], Any]) -> Any:
    """The status with every task changed."""
    steps = tuple(
        step.model_copy(
            update={
                "phases": tuple(
                    ph.model_copy(update={"tasks": tuple(change(t) for t in ph.tasks)}) for ph in step.phases
                )
            }
        )
        for step in status.steps
    )
    return status.model_copy(update={"steps": steps})


def job_with(s: JobSnapshot, **status: Any) -> JobSnapshot:
    return replace(s, job=s.job.model_copy(update={"status": s.status.model_copy(update=status)}))


def spec_with(s: JobSnapshot, **spec: Any) -> JobSnapshot:
    return replace(s, job=s.job.model_copy(update={"spec": s.spec.model_copy(update=spec)}))


def actions(plan: Any) -> tuple[Any, ...]:
    return plan.actions if isinstance(plan, p.ActAll) else (plan.action,) if isinstance(plan, p.Act) else ()


# --- claims and starts


@bug
def start_without_a_claim(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Write):
        before = told(s.status)
        fresh = [
            p.StartTask(n, t.attempt)
            for n, t in told(plan.status).items()
            if t.state is TaskState.STARTING and (n not in before or before[n].attempt < t.attempt)
        ]
        if fresh:
            return p.ActAll(tuple(fresh))
    return plan


@bug
def started_as_the_next_attempt(s, decide):
    plan = decide(s)
    if any(isinstance(a, p.StartTask) for a in actions(plan)):
        return p.ActAll(
            tuple(
                replace(a, attempt=a.attempt + 1) if isinstance(a, p.StartTask) else a for a in actions(plan)
            )
        )
    return plan


@bug
def attempt_not_raised(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Write):
        return p.Write(
            with_tasks(
                plan.status,
                lambda t: (
                    t.model_copy(update={"attempt": 1})
                    if t.state is TaskState.STARTING and t.attempt > 1
                    else t
                ),
            )
        )
    return plan


@planted
def parallelism_ignored(patch):
    patch.setattr(core, "decide", lambda s: right(spec_with(s, parallelism=64)))


@bug
def room_of_the_machine_ignored(s, decide):
    return decide(replace(s, slots=UNBOUNDED))


@planted
def depends_on_ignored(patch):
    ready = advance._ready

    def wrong(d, task):
        return ready(d, task.model_copy(update={"depends_on": []}))

    patch.setattr(advance, "_ready", wrong)


@planted
def a_dependency_only_has_to_be_settled(patch):
    ready = advance._ready

    def wrong(d, task):
        settled = [n for n in task.depends_on if d.tasks[n].state not in SETTLED]
        return ready(d, task.model_copy(update={"depends_on": settled}))

    patch.setattr(advance, "_ready", wrong)


@planted
def phases_side_by_side(patch):
    verdict = advance._verdict

    def wrong(d, step, phase, **how):
        halt = verdict(d, step, phase, **how)
        return None if halt is advance.Halt.WORKING else halt

    patch.setattr(advance, "_verdict", wrong)


@planted
def blocking_failure_skipped(patch):
    patch.setattr(advance, "_failures", lambda d, phase: [])


@bug
def slow_starters_are_started_again(s, decide):
    plan = decide(s)
    for name, t in told(s.status).items():
        unit = s.units.get(name)
        if t.state is TaskState.RUNNING and unit is not None and unit.state in LIVE:
            return p.ActAll((p.StartTask(name, t.attempt + 1),))
    return plan


# --- what came of it


@planted
def exit_1_completes(patch):
    patch.setattr(tasks, "failed", lambda s, task, t, *_: tasks.settled(s, t, TaskState.COMPLETED, "", ""))


@planted
def a_loss_completes(patch):
    patch.setattr(tasks, "_lost", lambda s, task, t, unit: tasks.settled(s, t, TaskState.COMPLETED, "", ""))


@planted
def unstarted_loss_counts(patch):
    lost = tasks._lost

    def wrong(s, task, t, unit):
        return lost(s, task, t, replace(unit, started_at=unit.started_at or 1.0))

    patch.setattr(tasks, "_lost", wrong)


@planted
def a_loss_counts_as_a_failure(patch):
    patch.setattr(tasks, "_lost", lambda s, task, t, unit: tasks.failed(s, task, t, "Lost", "lost"))


@planted
def retries_never_end(patch):
    failed = tasks.failed

    def wrong(s, task, t, reason, message):
        return failed(s, task.model_copy(update={"retries": 99}), t, reason, message)

    patch.setattr(tasks, "failed", wrong)


@planted
def no_backoff(patch):
    patch.setattr(tasks, "delay", lambda *_, **__: 0.0)


@planted
def outputs_forgotten(patch):
    keep = draft.Draft._keep

    def wrong(self, name, verdict):
        kept = keep(self, name, verdict)
        self.context.pop(name, None)
        return kept

    patch.setattr(draft.Draft, "_keep", wrong)


@planted
def outputs_of_nothing_stored(patch):
    patch.setattr(executor, "outputs_of", lambda unit, job: "{}")


@planted
def large_outputs_in_status(patch):
    patch.setattr(draft, "INLINE_BYTES", 1 << 30)
    patch.setattr(draft, "CONTEXT_BYTES", 1 << 30)


@planted
def context_not_given_to_tasks(patch):
    inputs = taskspec._inputs
    patch.setattr(taskspec, "_inputs", lambda *a: {**inputs(*a), "context": {}})


@planted
def completion_not_remembered_by_the_unit(patch):
    """The exit code on disk counts only for what status says was claimed."""
    judge = advance.judge

    def wrong(s, task, t):
        unit = s.units.get(task.name)
        ahead = unit is not None and (t.state not in CLAIMED or unit.attempt < t.attempt)
        if ahead and unit.state in GONE:
            return tasks.Verdict(t)
        return judge(s, task, t)

    patch.setattr(advance, "judge", wrong)


@planted
def not_held_while_outputs_are_stored(patch):
    patch.setattr(draft.Draft, "_hold", lambda self, name, t: None)
    patch.setattr(core, "_claimed_still", lambda s, t: t.state in (TaskState.STARTING, TaskState.RUNNING))


# --- users, resume


@planted
def completed_run_again_by_a_resume(patch):
    patch.setattr(resume, "KEPT", ())


@planted
def an_asking_task_run_again_by_a_resume(patch):
    patch.setattr(resume, "KEPT", (TaskState.COMPLETED,))


@bug
def nonce_never_consumed(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Write) and s.status.handled_resume_nonce is not None:
        handled = s.status.handled_resume_nonce
        return p.Write(plan.status.model_copy(update={"handled_resume_nonce": handled}))
    return plan


@bug
def nonce_consumed_after_the_act(s, decide):
    """First the tasks are renewed, then the nonce is written."""
    plan = decide(s)
    if isinstance(plan, p.Write) and plan.status.resumes > s.status.resumes:
        return p.Write(
            plan.status.model_copy(
                update={"handled_resume_nonce": s.status.handled_resume_nonce, "resumes": s.status.resumes}
            )
        )
    return plan


@bug
def resumed_by_every_write(s, decide):
    if s.status.resumable and s.spec.state == "Running":
        return decide(spec_with(s, resume_nonce=(s.status.handled_resume_nonce or 0) + 1))
    return decide(s)


@bug
def resume_plan_wrong(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Write) and plan.status.resume_plan:
        return p.Write(plan.status.model_copy(update={"resume_plan": plan.status.resume_plan[1:]}))
    return plan


@bug
def resumed_while_it_runs(s, decide):
    if s.status.phase is JobPhase.IN_PROGRESS and s.spec.resume_nonce != s.status.handled_resume_nonce:
        return decide(job_with(s, resumable=True))
    return decide(s)


@bug
def resumed_from_the_beginning(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Write) and plan.status.resumes > s.status.resumes:
        steps = tuple(
            step.model_copy(
                update={
                    "state": StepState.IN_PROGRESS,
                    "phases": tuple(ph.model_copy(update={"state": StepState.PENDING}) for ph in step.phases),
                }
            )
            for step in plan.status.steps
        )
        status = plan.status.model_copy(update={"steps": steps})
        return p.Write(with_tasks(status, lambda t: t.model_copy(update={"state": TaskState.PENDING})))
    return plan


@planted
def any_answer_fits(patch):
    patch.setattr(draft.Draft, "answer", lambda self, name: draft.Answer(given=name in self.s.spec.inputs))


# --- suspended, cancelled, deleted


@bug
def suspension_ignored(s, decide):
    return decide(spec_with(s, state="Running")) if s.spec.state == "Suspended" else decide(s)


@bug
def cancelled_while_something_lives(s, decide):
    if s.spec.state == "Cancelled" and s.status.phase is JobPhase.IN_PROGRESS:
        return p.Write(s.status.model_copy(update={"phase": JobPhase.CANCELLED}))
    return decide(s)


@bug
def records_removed_before_processes_are_gone(s, decide):
    if s.deleting and any(u.state in LIVE for u in s.units.values()):
        dead = [p.RemoveTask(n, s.uid) for n, u in s.units.items() if u.state not in LIVE]
        if dead:
            return p.ActAll(tuple(dead))
    return decide(s)


@bug
def records_removed_at_the_end_of_a_job(s, decide):
    if s.status.phase is JobPhase.COMPLETED and not s.deleting:
        return p.Act(p.RemoveRecords())
    return decide(s)


@bug
def finalizer_removed_with_live_tasks(s, decide):
    if s.deleting and s.has_finalizer and any(u.state in LIVE for u in s.units.values()):
        return p.Act(p.RemoveFinalizer())
    return decide(s)


@bug
def records_left_behind(s, decide):
    plan = decide(s)
    return p.Act(p.RemoveFinalizer()) if actions(plan) == (p.RemoveRecords(),) else plan


@bug
def nothing_is_stopped(s, decide):
    plan = decide(s)
    return p.Wait(5.0) if any(isinstance(a, p.StopTask) for a in actions(plan)) else plan


@bug
def predecessor_taken_for_our_own(s, decide):
    return decide(replace(s, units={n: replace(u, owner_uid=s.uid) for n, u in s.units.items()}))


# --- writes


@bug
def same_status_written_again(s, decide):
    plan = decide(s)
    return p.Write(s.status) if isinstance(plan, p.Wait) and s.status.phase else plan


@bug
def nothing_is_told_lazily(s, decide):
    """A write for every look."""
    plan = decide(s)
    if isinstance(plan, p.Wait) and s.status.phase is JobPhase.COMPLETED:
        return p.Write(s.status.model_copy(update={"completed_at": s.now}))
    return plan


@bug
def final_is_left(s, decide):
    if s.status.phase is JobPhase.FAILED and s.spec.resume_nonce != s.status.handled_resume_nonce:
        return decide(job_with(s, phase=JobPhase.ACTION_REQUIRED, resumable=True))
    return decide(s)


# --- batches


@batch_bug
def batch_makes_a_deleted_job_again(s, decide):
    status = s.batch.status.model_copy(update={"created": tuple(s.jobs)})
    if s.batch.status.created != tuple(s.jobs) and s.jobs:
        return decide(replace(s, batch=s.batch.model_copy(update={"status": status})))
    return decide(s)


@batch_bug
def batch_parallelism_ignored(s, decide):
    spec = s.batch.spec.model_copy(update={"parallelism": 99})
    return decide(replace(s, batch=s.batch.model_copy(update={"spec": spec})))


@batch_bug
def batch_let_go_before_its_jobs(s, decide):
    plan = decide(s)
    return p.Act(p.RemoveFinalizer()) if s.deleting and isinstance(plan, p.Wait) else plan


@batch_bug
def batch_state_not_passed_on(s, decide):
    plan = decide(s)
    kept = tuple(a for a in actions(plan) if not isinstance(a, p.SetJobState))
    if kept != actions(plan):
        return p.ActAll(kept) if kept else p.Wait()
    return plan


@batch_bug
def batch_counts_forgotten(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Write):
        counts = plan.status.counts.model_copy(update={"action_required": 0, "failed": 0})
        return p.Write(plan.status.model_copy(update={"counts": counts}))
    return plan


@batch_bug
def batch_completed_when_most_are(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Write) and plan.status.phase == "PartiallyCompleted":
        return p.Write(plan.status.model_copy(update={"phase": batch_core.BatchPhase.COMPLETED}))
    return plan


@batch_bug
def batch_takes_another_s_job(s, decide):
    return decide(replace(s, blocked={}))
