"""A job's next status: where it is, told in fields and conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mainstay.api.conditions import Condition, ConditionStatus, condition, find, merge
from mainstay.api.phasedjob import DONE, FINAL, SETTLED, JobPhase, PhasedJobStatus, StepState
from mainstay.core import reasons
from mainstay.core.job.draft import Draft

READY = (JobPhase.COMPLETED, JobPhase.CANCELLED, JobPhase.SUSPENDED)
"""Phases in which what is observed is what spec asks."""
STATUS_BYTES = 60 * 1024
"""Beyond this, what steps, phases and tasks have to say is left out, and when they were done."""


def outlook(
    d: Draft,
    phase: JobPhase,
    reason: str,
    message: str,
    *,
    stalled: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> PhasedJobStatus:
    """The status that says `phase`, with what the draft knows and `changes` of other fields."""
    s = d.s
    steps = d.frozen_steps()
    at = next((step for step in steps if step.state not in DONE), None)
    inner = next(
        (p for p in (at.phases if at else ()) if p.state not in DONE),
        None,
    )
    last = [p.name for step in steps for p in step.phases if p.state is StepState.COMPLETED]
    final = phase in FINAL
    begun = any(step.state is not StepState.PENDING for step in steps)
    fields: dict[str, Any] = {
        "observed_generation": s.job.metadata.generation,
        "phase": phase,
        "current_step": None if phase is JobPhase.COMPLETED else at.name if at else None,
        "current_phase": None if phase is JobPhase.COMPLETED else inner.name if inner else None,
        "last_completed_phase": last[-1] if last else None,
        "progress": f"{d.done_count()}/{len(d.tasks)}",
        "actions": () if final else d.pending_actions(),
        "context": d.context,
        "steps": steps,
        "last_failure": d.failure,
        "assets": d.held,
        "resumable": False,
        "resume_plan": (),
        "started_at": s.status.started_at or (s.now if begun else None),
        "completed_at": s.status.completed_at or (s.now if final else None),
        "handled_resume_nonce": _handled(d),
        **(changes or {}),
    }
    status = s.status.model_copy(update=fields)
    truth = _ready(d, phase, stalled=stalled)
    working = truth is not ConditionStatus.TRUE and not stalled
    conditions = [
        _condition(d, "Ready", truth, reason, message),
        _condition(d, "Reconciling", working, reason),
        _condition(d, "Stalled", stalled, reason, message if stalled else ""),
        *_inputs(d, final=final),
    ]
    return status.model_copy(
        update={"conditions": merge(s.status.conditions, conditions, s.now.replace(microsecond=0))}
    )


def _ready(d: Draft, phase: JobPhase, *, stalled: bool) -> ConditionStatus:
    """Unknown from the beginning until something is known."""
    if stalled:
        return ConditionStatus.FALSE
    if phase in READY:
        return ConditionStatus.TRUE
    before = find(d.s.status.conditions, "Ready")
    unknown = before is None or before.status is ConditionStatus.UNKNOWN
    return ConditionStatus.UNKNOWN if unknown else ConditionStatus.FALSE


def _handled(d: Draft) -> int:
    handled = d.s.status.handled_resume_nonce
    return d.s.spec.resume_nonce if handled is None else handled


def _inputs(d: Draft, *, final: bool) -> list[Condition]:
    """What is wrong with the answers to what is asked; no condition while nothing is."""
    pending = d.pending_actions()
    if not pending or final:
        return []
    answers = {action.name: d.answer(action.name) for action in pending}
    for one in answers.values():
        if one.problem:
            return [_condition(d, "InputsValid", False, reasons.INPUT_INVALID, one.problem)]
    asked = [f"spec.inputs.{name}: {d.actions[name].title}" for name, one in answers.items() if not one.given]
    if asked:
        return [_condition(d, "InputsValid", False, reasons.INPUT_MISSING, "; ".join(asked))]
    return [_condition(d, "InputsValid", True, reasons.INPUTS_FIT)]


def _condition(d: Draft, kind: str, value: ConditionStatus | bool, why: str, words: str = "") -> Condition:
    now = d.s.now.replace(microsecond=0)
    return condition(kind, value, why, words, now=now, generation=d.s.job.metadata.generation)


def slim(status: PhasedJobStatus) -> PhasedJobStatus:
    """The same, below STATUS_BYTES: words go first, shortened and then left out, and then times of what is done."""
    for level in (_short, _silent, _timeless):
        if len(status.model_dump_json(by_alias=True, exclude_none=True).encode()) <= STATUS_BYTES:
            return status
        status = _lighter(status, level)
    return status


def _lighter(status: PhasedJobStatus, level: Callable[[Any], Any]) -> PhasedJobStatus:
    """Every step, phase and task made lighter."""
    steps = tuple(
        level(step).model_copy(
            update={
                "phases": tuple(
                    level(phase).model_copy(update={"tasks": tuple(level(task) for task in phase.tasks)})
                    for phase in step.phases
                )
            }
        )
        for step in status.steps
    )
    return status.model_copy(update={"steps": steps})


def _short(part: Any) -> Any:
    return part.model_copy(update={"message": part.message[:80]})


def _silent(part: Any) -> Any:
    return part.model_copy(update={"message": ""})


def _timeless(part: Any) -> Any:
    done = part.state in SETTLED or part.state in DONE
    return part.model_copy(update={"started_at": None, "completed_at": None}) if done else part
