"""decide(): the next plan for a job. Makes the status that should be; writes it if it says anything new, acts otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mainstay.api.phasedjob import (
    CLAIMED,
    FINAL,
    JobGoal,
    JobPhase,
    OnFailure,
    PhasedJobStatus,
    StepState,
    TaskState,
    TaskStatus,
)
from mainstay.core import reasons
from mainstay.core.job.advance import Halt, advance
from mainstay.core.job.assets import forgotten, untold, without
from mainstay.core.job.draft import STARVED, Draft
from mainstay.core.job.ending import cancelled, deleting, end_all, gone, stop
from mainstay.core.job.outlook import outlook, slim
from mainstay.core.job.resume import reset
from mainstay.core.job.snapshot import JobSnapshot
from mainstay.core.job.tasks import barred, judge, settled
from mainstay.core.plan import (
    Act,
    ActAll,
    AddFinalizer,
    JobEffect,
    ObserveAssets,
    Plan,
    RemoveFinalizer,
    RemoveRecords,
    RemoveTask,
    StartTask,
    Wait,
    Write,
)
from mainstay.core.unit import GONE, LIVE

JobPlan = Plan[PhasedJobStatus]

LAZY_SECONDS = 1.0
"""How long a completion that lets nothing start may wait for others, to be told in one write. It is on disk already."""

CLOCK_SECONDS = 0.001
"""What `now` of a snapshot is rounded to: a shorter wait is none."""

_QUIET: dict[str, Any] = {"steps": (), "context": {}, "progress": "", "conditions": ()}
"""What a completion that lets nothing start changes in a status, apart from its task."""
_BEGUN: dict[str, Any] = {
    "phase": None,
    "assets": (),
    "started_at": None,
    "current_step": None,
    "current_phase": None,
    "last_completed_phase": None,
}
"""What changes besides when assets were got, or a phase is done, and nothing has started yet."""

TELL_SECONDS = 2.0
"""How often to look whether assets have taken in what tasks of a deleted job told of them."""

EARLY_SECONDS = 0.2
"""Until a unit is looked at again that lives, but has not made the attempt that is claimed."""


def decide(s: JobSnapshot) -> JobPlan:
    """What to do next. Pure: the same snapshot always gives the same plan."""
    if s.deleting and not s.has_finalizer:
        return Wait()
    if not s.has_finalizer:
        return Act(AddFinalizer())
    d = Draft(s)
    if s.deleting:
        return _settle(d, deleting(d), teardown=True)
    if s.status.phase in FINAL:
        end_all(d)  # nothing should live; somebody may have written the phase by hand
        return _settle(d, _over(d))
    if s.cancelled:
        return _settle(d, cancelled(d))
    return _settle(d, _onward(d))


def _onward(d: Draft) -> PhasedJobStatus:
    """Running or Suspended."""
    s = d.s
    failed = s.status.phase is not None and s.status.resumable
    suspended = s.spec.state is JobGoal.SUSPENDED
    changes: dict[str, Any] = {}
    if s.invalid is not None:
        return _invalid(d)
    if _nonce_raised(s) and not (suspended and failed):
        changes["handled_resume_nonce"] = s.spec.resume_nonce
        if failed:
            changes["resumes"] = s.status.resumes + 1
            reset(d)
            failed = False
    _refused(d)
    lacking = d.lacking()
    halt = Halt.FAILED if failed else advance(d, claim=not suspended and not lacking)
    _starved(d, take_back=suspended)
    live = any(d.live())
    if halt is Halt.DONE:
        return outlook(d, JobPhase.COMPLETED, reasons.COMPLETED, _completed_words(d), changes=changes)
    if halt is Halt.FAILED and not live:
        return _failed(d, suspended, changes)
    if suspended:
        words = "suspended, as spec.state asks" if not live else "what runs is finished first"
        phase = JobPhase.IN_PROGRESS if live else JobPhase.SUSPENDED
        return outlook(d, phase, reasons.SUSPENDING if live else reasons.SUSPENDED, words, changes=changes)
    if halt is Halt.WAITING:
        asked = "; ".join(f"{a.title} (spec.inputs.{a.name})" for a in d.pending_actions())
        return outlook(
            d, JobPhase.ACTION_REQUIRED, reasons.ACTION_REQUIRED, asked, stalled=True, changes=changes
        )
    if lacking:
        begun = s.status.started_at is not None
        phase = JobPhase.IN_PROGRESS if begun else JobPhase.PENDING
        reason, words = without(lacking)
        return outlook(
            d,
            phase,
            reason,
            words,
            stalled=reason in (reasons.ASSET_NOT_FOUND, reasons.NOT_OWNER),
            changes=changes,
        )
    return _working(d, changes)


def _working(d: Draft, changes: dict[str, Any]) -> PhasedJobStatus:
    if trouble := next((p for name, p in d.s.problems.items() if name in set(d.live())), None):
        return outlook(
            d,
            JobPhase.IN_PROGRESS,
            trouble.reason,
            trouble.message,
            stalled=trouble.needs_person,
            changes=changes,
        )
    if d.waits_for_slot and not any(d.live()):
        words = "this machine runs as many tasks as it may; this job goes on when one of them ends"
        begun = any(t.attempt for t in d.tasks.values())
        phase = JobPhase.IN_PROGRESS if begun else JobPhase.PENDING
        return outlook(d, phase, reasons.WAITING_FOR_SLOT, words, changes=changes)
    if failing := next((v for n, v in d.s.assets.items() if n in d.unseen and v.error), None):
        words = f"asset {failing.ref} can't be looked at: {failing.error}"
        return outlook(d, JobPhase.IN_PROGRESS, reasons.ASSET_UNKNOWN, words, changes=changes)
    at = next((n for n, step in d.steps.items() if step.state is StepState.IN_PROGRESS), "")
    return outlook(
        d, JobPhase.IN_PROGRESS, reasons.IN_PROGRESS, f"on step {at}" if at else "", changes=changes
    )


def _failed(d: Draft, suspended: bool, changes: dict[str, Any]) -> PhasedJobStatus:
    failure = d.failure
    words = (
        f"step {failure.step}, phase {failure.phase}, task {failure.task}: {failure.message}"
        if failure
        else ""
    )
    if d.s.spec.on_failure is OnFailure.FAIL:
        return outlook(d, JobPhase.FAILED, reasons.JOB_FAILED, words, stalled=True, changes=changes)
    plan = reset(Draft(_as_failed(d)))
    changes |= {"resumable": True, "resume_plan": plan}
    if suspended:
        return outlook(d, JobPhase.SUSPENDED, reasons.SUSPENDED, words, changes=changes)
    return outlook(d, JobPhase.ACTION_REQUIRED, reasons.TASK_FAILED, words, stalled=True, changes=changes)


def _as_failed(d: Draft) -> JobSnapshot:
    """The job as it will be once this failure is written: what a resume would start from."""
    status = d.s.status.model_copy(update={"steps": d.frozen_steps()})
    return replace(d.s, job=d.s.job.model_copy(update={"status": status}))


def _invalid(d: Draft) -> PhasedJobStatus:
    """The declaration has a mistake: nothing new starts, what runs is watched on when it is corrected."""
    assert d.s.invalid is not None
    where, what = d.s.invalid
    begun = d.s.status.started_at is not None
    phase = JobPhase.ACTION_REQUIRED if begun else JobPhase.PENDING
    kept = {"resumable": d.s.status.resumable, "resume_plan": d.s.status.resume_plan}
    return outlook(d, phase, reasons.SPEC_INVALID, f"{where}: {what}", stalled=True, changes=kept)


def _over(d: Draft) -> PhasedJobStatus:
    """Final: only what was observed of spec moves on."""
    s = d.s
    ready = next((c for c in s.status.conditions if c.type == "Ready"), None)
    assert s.status.phase is not None
    told = outlook(
        d,
        s.status.phase,
        ready.reason if ready else str(s.status.phase),
        ready.message if ready else "",
        stalled=s.status.phase is JobPhase.FAILED,
        changes={"handled_resume_nonce": s.spec.resume_nonce},
    )
    return s.status.model_copy(
        update={
            "observed_generation": told.observed_generation,
            "handled_resume_nonce": told.handled_resume_nonce,
            "conditions": told.conditions,
            **({"steps": told.steps} if any(t.state in CLAIMED for t in s.status.tasks()) else {}),
        }
    )


def _nonce_raised(s: JobSnapshot) -> bool:
    handled = s.status.handled_resume_nonce
    return handled is not None and handled != s.spec.resume_nonce


def _refused(d: Draft) -> None:
    """An attempt that can never start as it is declared has failed."""
    for name, problem in d.s.problems.items():
        t = d.tasks.get(name)
        if t is not None and problem.refused and t.state in (TaskState.STARTING, TaskState.RUNNING):
            unit = d.s.units.get(name)
            if unit is None or unit.attempt < t.attempt:
                d.tasks[name] = settled(d.s, t, TaskState.FAILED, problem.reason, problem.message)


def _starved(d: Draft, *, take_back: bool) -> None:
    """Tell of claims that can't start for want of a Secret or ConfigMap; give them up while suspended."""
    for name in list(d.live()):
        t, unit, problem = d.tasks[name], d.s.units.get(name), d.s.problems.get(name)
        if problem is not None and problem.reason in STARVED:
            d.task(name, reason=problem.reason, message=problem.message)
        unstarted = unit is not None and unit.state in GONE and unit.attempt < t.attempt
        if take_back and unstarted and d.tasks[name].reason in STARVED:
            d.task(name, state=TaskState.PENDING)


def _completed_words(d: Draft) -> str:
    failures = [name for name, t in d.tasks.items() if t.state is TaskState.FAILED]
    if not failures:
        return "every step is done"
    return f"every step is done; non-blocking tasks failed: {', '.join(failures)}"


# -- from the status that should be to a plan


def _settle(d: Draft, status: PhasedJobStatus, *, teardown: bool = False) -> JobPlan:
    status = forgotten(slim(status), d.s)
    if status != d.s.status:
        wait = _lazy(d, status)
        return Write(status) if wait is None else _acts(d, Wait(wait))
    if teardown:
        return _torn_down(d)
    return _acts(d, Wait(min(d.timers, default=None)))


def _lazy(d: Draft, status: PhasedJobStatus) -> float | None:
    """Seconds for which a write may wait that tells of completions only, or that the job has got its assets.

    While other tasks run; or while it is looked what is in an asset, for what starts then is told in the same write.
    """
    looks = _is_looking(d, status)
    if looks:
        left = LAZY_SECONDS - max(d.s.assets[name].asking_seconds for name in d.unseen)
    elif d.ended and any(d.live()):
        age = d.s.now.timestamp() - min(d.ended.values())
        left = LAZY_SECONDS - abs(age)  # a clock that was set back delays nothing
    else:
        return None
    quiet = _QUIET | (_BEGUN if looks else {})
    if status.model_copy(update=quiet) != d.s.status.model_copy(update=quiet):
        return None
    before = {t.name: t for t in d.s.status.tasks()}
    changed = {name for name, t in d.tasks.items() if t != before.get(name)}
    return None if changed - d.ended.keys() or left < CLOCK_SECONDS else left


def _is_looking(d: Draft, status: PhasedJobStatus) -> bool:
    """Whether what comes next is known as soon as somebody has looked, which is any moment.

    What an asset without a probe has to count first is told by this very write.
    """
    views = [d.s.assets[name] for name in d.unseen]
    soon = all(view.probed and d.moment not in view.purposes and not view.error for view in views)
    return bool(views) and soon and status.phase is JobPhase.IN_PROGRESS


def _acts(d: Draft, wait: Wait) -> JobPlan:
    """What the claims in status authorise and is not done yet."""
    s = d.s
    acts: list[JobEffect] = list(d.acts)
    waits = [] if wait.seconds is None else [wait.seconds]
    claims = {t.name: t for t in s.status.tasks()}
    for name, unit in s.units.items():
        t = claims.get(name)
        if s.foreign(name):
            if unit.state in LIVE:
                _add(acts, waits, stop(s, name, unit))
            else:
                acts.append(RemoveTask(name, unit.owner_uid))
        elif t is None:
            continue
        elif t.state is TaskState.STOPPING:
            if unit.state in LIVE or not barred(unit):
                _add(acts, waits, stop(s, name, unit))
        elif unit.attempt < t.attempt and _claimed_still(s, t):
            problem = s.problems.get(name)
            if unit.state in LIVE:  # it may be on its way to that very claim, and is not stopped for it
                waits.append(EARLY_SECONDS)
            elif problem is None or problem.retry_seconds <= 0:
                acts.append(StartTask(name, t.attempt))
            else:
                waits.append(problem.retry_seconds)
    acts += _looks(d, waits)
    if acts:
        return ActAll(tuple(acts))
    return Wait(min(waits, default=None), room=d.waits_for_slot)


def _looks(d: Draft, waits: list[float]) -> list[JobEffect]:
    """Have assets looked at that an expression waits for; one whose probe fails after a while."""
    purpose, refs = d.moment, list[str]()
    for name in d.unseen:
        view = d.s.assets[name]
        if not view.probed:
            continue  # it counts what was told without being asked
        if view.error and view.next_look_seconds > 0:
            waits.append(view.next_look_seconds)
        elif purpose not in view.asking:
            refs.append(view.ref)
    return [ObserveAssets(tuple(refs), purpose)] if refs else []


def _claimed_still(s: JobSnapshot, t: TaskStatus) -> bool:
    """Whether nothing came of this claim yet. What did the work under another one may only wait to be told."""
    task = s.graph.tasks.get(t.name)
    if task is None or t.state not in (TaskState.STARTING, TaskState.RUNNING):
        return False
    seen = judge(s, task, t).status
    return (seen.state, seen.attempt) == (t.state, t.attempt)


def _add(acts: list[JobEffect], waits: list[float], what: JobEffect | float) -> None:
    if isinstance(what, float):
        waits.append(what)
    else:
        acts.append(what)


def _torn_down(d: Draft) -> JobPlan:
    """Every process gone, then every record, then the object."""
    s = d.s
    ours = {name: unit for name, unit in s.units.items() if not s.foreign(name)}
    acts: list[JobEffect] = []
    waits: list[float] = []
    for name, unit in s.units.items():
        if unit.state in LIVE:
            _add(acts, waits, stop(s, name, unit))
        elif s.foreign(name):
            acts.append(RemoveTask(name, unit.owner_uid))
    if acts:
        return ActAll(tuple(acts))
    if waits:
        return Wait(min(waits))
    if untold(s):
        return Wait(TELL_SECONDS)
    if any(gone(unit) for unit in ours.values()) or s.keeps_outputs:
        return Act(RemoveRecords())
    return Act(RemoveFinalizer())
