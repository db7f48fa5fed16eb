"""The status in the making: what one pass knows of each step, phase and task, changed in place, then frozen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mainstay.api.holdings import HeldAsset
from mainstay.api.phasedjob import (
    CLAIMED,
    SETTLED,
    Failure,
    OutputsRef,
    PendingAction,
    PhaseStatus,
    StepState,
    StepStatus,
    Task,
    TaskState,
    TaskStatus,
    UserAction,
)
from mainstay.core import reasons
from mainstay.core.answers import Answer, answer
from mainstay.core.expressions import evaluate, names_assets
from mainstay.core.job.assets import report_id
from mainstay.core.job.snapshot import AssetView, JobSnapshot
from mainstay.core.job.tasks import Verdict
from mainstay.core.names import outputs_name
from mainstay.core.plan import JobEffect, StoreOutputs

INLINE_BYTES = 4096
"""Outputs up to this size are kept in status, while the whole context stays below CONTEXT_BYTES."""
CONTEXT_BYTES = 24 * 1024
ASKED_BYTES = 16 * 1024
"""What tasks ask at once, all together."""
MESSAGE = 1024
STARVED = (reasons.SECRET_NOT_FOUND, reasons.CONFIG_MAP_NOT_FOUND)
"""Why a claim can't start: it holds no room on the host."""


class UnseenError(Exception):
    """An expression looks at assets that were not looked at for it: it is evaluated when they were."""


class Draft:
    """Starts as the status is, completed with what the declaration has and status does not."""

    def __init__(self, s: JobSnapshot) -> None:
        self.s = s
        old = s.status
        tasks = {t.name: t for t in old.tasks()}
        phases = {phase.name: phase for step in old.steps for phase in step.phases}
        steps = {step.name: step for step in old.steps}
        self.tasks = {
            name: tasks.get(name) or TaskStatus.model_construct(name=name, state=TaskState.PENDING)
            for name in s.graph.tasks
        }
        self.steps = {
            step.name: steps.get(step.name)
            or StepStatus.model_construct(name=step.name, state=StepState.PENDING)
            for step in s.graph.steps
        }
        self.phases = {
            phase.name: phases.get(phase.name)
            or PhaseStatus.model_construct(name=phase.name, state=StepState.PENDING)
            for each in s.graph.phases.values()
            for phase in each
        }
        self.context: dict[str, Any] = {k: v for k, v in old.context.items() if k in self.tasks}
        self.actions = {action.name: action for action in old.actions}
        self.failure: Failure | None = old.last_failure
        self.acts: list[JobEffect] = []
        self.taken: dict[
            str, Mapping[str, Any]
        ] = {}  # outputs that status has no room for, taken in just now
        self.timers: list[float] = []  # seconds after which something is due
        self.ended: dict[str, float] = {}  # tasks seen to have completed in this pass → when, epoch seconds
        self.waits_for_slot = False
        self.unseen: dict[str, None] = {}  # names of assets that have to be looked at
        self.ran = False  # whether anything of the job was ever begun
        self.moment = ""
        """What a look is good for now: as soon as a task was begun, or ended, it takes another one."""
        self.at_this_moment()
        self.held = old.assets
        if s.assets and not self.lacking():
            self.held = tuple(
                HeldAsset(name=claim.name, ref=claim.ref, uid=s.assets[claim.name].uid)
                for claim in s.spec.assets
                if claim.exclusive
            )

    # -- reading

    def live(self) -> Iterator[str]:
        """Tasks of which a process may exist."""
        return (name for name, t in self.tasks.items() if t.state in CLAIMED)

    def holding(self) -> int:
        """Claims that take room on this host."""
        return sum(1 for name in self.live() if self.tasks[name].reason not in STARVED)

    def pending_actions(self) -> tuple[PendingAction, ...]:
        """What is asked by a step or a task that is there, and not answered yet."""
        asked = {name for name, t in self.tasks.items() if t.state is TaskState.ACTION_REQUIRED}
        asked |= {
            name for name in self.s.graph.actions if self.steps[name].state is StepState.ACTION_REQUIRED
        }
        return tuple(action for name, action in self.actions.items() if name in asked)

    def done_count(self) -> int:
        """Tasks that are behind us: completed or skipped, not failed."""
        return sum(1 for t in self.tasks.values() if t.state in (TaskState.COMPLETED, TaskState.SKIPPED))

    def true(self, expression: str | None) -> bool:
        """Whether it holds now; no expression always does. Raises ExpressionError, and UnseenError."""
        if expression is None:
            return True
        if names_assets(expression):
            self._look(expression)
        return evaluate(expression, self.values())

    def _look(self, expression: str) -> None:
        """Ask for a look at every asset that the expression may name, unless it was made for this very moment."""
        named = [name for name in self.s.assets if re.search(rf"\b{name}\b", expression)] or list(
            self.s.assets
        )
        unseen = [name for name in named if not self._seen(name)]
        if re.search(r"\baccepts\b", expression):
            views = ((name, self.s.assets[name]) for name in named)
            unseen += [name for name, view in views if view.looks_up and view.accepts is None]
        if unseen:
            self.unseen |= dict.fromkeys(unseen)
            raise UnseenError

    def sees_own(self) -> bool:
        """Whether what a task is told of the job's own assets is true.

        What was seen as they were given to it, until something of it has run; then what was seen at this very moment.
        """
        if not self.ran:
            return True
        claims = [
            claim.name for claim in self.s.spec.assets if claim.exclusive and claim.name in self.s.assets
        ]
        unseen = [name for name in claims if not self._seen(name)]
        self.unseen |= dict.fromkeys(unseen)
        return not unseen

    def _seen(self, name: str) -> bool:
        """Whether it is known what is in an asset: by a look, or, without a probe, when it has counted all that was told."""
        view = self.s.assets[name]
        if view.probed:
            return self.moment in view.purposes
        return not any(
            report.ref == view.ref and report_id(self.s.uid, t) not in view.taken
            for t in self.tasks.values()
            for report in t.reports
        )

    def at_this_moment(self) -> None:
        """What ran so far was judged: looks from before that are worth nothing, and what is claimed now has not begun.

        Attempts only grow, and between two equal sums of them a claim can only have ended.
        """
        tasks = self.tasks.values()
        attempts, done = sum(t.attempt for t in tasks), sum(1 for t in tasks if t.state in SETTLED)
        live = sum(1 for _ in self.live())
        self.ran = attempts > 0
        self.moment = f"{self.s.uid}:{self.s.status.resumes}:{attempts}:{live}:{done}"

    def lacking(self) -> list[AssetView]:
        """Assets that the job needs and can't use now, in the order in which it takes them."""
        claims = {claim.name: claim for claim in self.s.spec.assets}
        views = sorted(self.s.assets.items(), key=lambda item: item[1].ref)
        return [view for name, view in views if not view.exists or (claims[name].exclusive and not view.mine)]

    def values(self) -> dict[str, Mapping[str, Any]]:
        """What expressions and tasks see."""
        context = self.outputs()
        tasks = {
            name: {
                "state": str(t.state),
                "attempt": t.attempt,
                "reason": t.reason,
                "outputs": context.get(name, {}),
            }
            for name, t in self.tasks.items()
        }
        return {
            "inputs": self.s.spec.inputs,
            "context": context,
            "tasks": tasks,
            "assets": assets_of(self.s),
        }

    def outputs(self) -> dict[str, Any]:
        """Every task's outputs, wherever they are kept."""
        kept: dict[str, Any] = {name: {} for name, t in self.tasks.items() if t.state is TaskState.COMPLETED}
        stored = {k: v for k, v in self.s.outputs.items() if k in self.tasks}
        return {**kept, **stored, **self.taken, **self.context}

    def answer(self, name: str) -> Answer:
        """What the user gave for a pending action."""
        return answer(self.actions[name], name, self.s.spec.inputs)

    # -- changing

    def task(self, name: str, **fields: Any) -> None:
        """Change a task."""
        self.tasks[name] = self.tasks[name].model_copy(update=_cut(fields))

    def phase(self, name: str, **fields: Any) -> None:
        """Change a phase."""
        self.phases[name] = self.phases[name].model_copy(update=_cut(fields))

    def step(self, name: str, **fields: Any) -> None:
        """Change a step."""
        self.steps[name] = self.steps[name].model_copy(update=_cut(fields))

    def ask(self, name: str, step: str, action: UserAction) -> None:
        """Wait for spec.inputs.<name>."""
        self.actions[name] = PendingAction.model_construct(name=name, step=step, **dict(action))

    def fail(self, step: str, phase: str, task: str, reason: str, message: str) -> None:
        """Tell what stops the job: said once, in the write that makes it wait for a resume."""
        self.failure = Failure(
            step=step, phase=phase, task=task, reason=reason, message=message[:4096], time=self.s.now
        )

    def take(self, task: Task, verdict: Verdict) -> None:
        """Take in what was judged of a task. Outputs that status has no room for are kept first, then told."""
        name = task.name
        if verdict.status == self.tasks[name]:
            return
        if verdict.outputs is not None and not self._keep(name, verdict):
            self._hold(name, verdict.status)
            return
        self.tasks[name] = self._with_ref(name, verdict)
        if verdict.asks is not None and not self._has_room_to_ask(verdict.asks):
            words = "more is asked at once than a status has room for; ask one after the other"
            self.task(name, state=TaskState.FAILED, reason=reasons.OUTPUTS_TOO_LARGE, message=words)
            return
        if verdict.asks is not None:
            self.ask(name, self.s.graph.places[name].step, verdict.asks)
        if verdict.ended_at is not None and verdict.status.state is TaskState.COMPLETED:
            self.ended[name] = verdict.ended_at

    def _has_room_to_ask(self, action: UserAction) -> bool:
        asked = sum(len(one.model_dump_json()) for one in self.actions.values())
        return asked + len(action.model_dump_json()) <= ASKED_BYTES

    def _hold(self, name: str, t: TaskStatus) -> None:
        """Claim what the unit remembers and status does not, so that nothing starts it anew meanwhile."""
        if self.tasks[name].state not in CLAIMED:
            self.task(
                name, state=TaskState.STARTING, attempt=t.attempt, started_at=t.started_at, retry_at=None
            )

    def _keep(self, name: str, verdict: Verdict) -> bool:
        """Whether the outputs are kept, or wait for an act."""
        if not verdict.outputs:
            self.context.pop(name, None)
            return True
        if self._inline(name, verdict):
            self.context[name] = verdict.outputs
            return True
        self.context.pop(name, None)
        attempt = verdict.status.attempt
        if self.s.stored.get(name) == attempt:
            self.taken[name] = verdict.outputs
            return True
        self.acts.append(StoreOutputs(name, attempt))
        return False

    def _inline(self, name: str, verdict: Verdict) -> bool:
        if verdict.size > INLINE_BYTES:
            return False
        others = {k: v for k, v in self.context.items() if k != name}
        return len(json.dumps(others, ensure_ascii=False).encode()) + verdict.size <= CONTEXT_BYTES

    def _with_ref(self, name: str, verdict: Verdict) -> TaskStatus:
        if not verdict.outputs or name in self.context:
            return verdict.status.model_copy(update={"outputs": None})
        meta = self.s.job.metadata
        ref = OutputsRef(config_map=outputs_name(meta.name, meta.uid, name), size=verdict.size)
        return verdict.status.model_copy(update={"outputs": ref})

    # -- freezing

    def frozen_steps(self) -> tuple[StepStatus, ...]:
        """The steps as status has them."""
        return tuple(
            self.steps[step.name].model_copy(
                update={
                    "phases": tuple(
                        self.phases[phase.name].model_copy(
                            update={"tasks": tuple(self.tasks[task.name] for task in phase.tasks)}
                        )
                        for phase in self.s.graph.phases[step.name]
                    )
                }
            )
            for step in self.s.graph.steps
        )


def assets_of(s: JobSnapshot) -> dict[str, dict[str, Any]]:
    """What expressions and tasks see of the job's assets, by name within the job."""
    return {
        name: {
            "ref": view.ref,
            "type": view.type,
            "state": view.state,
            "holdings": [one.wire() for one in view.holdings],
            "accepts": list(view.accepts or ()),
        }
        for name, view in s.assets.items()
    }


def _cut(fields: dict[str, Any]) -> dict[str, Any]:
    """Words as long as status has room for."""
    return {**fields, "message": fields["message"][:MESSAGE]} if "message" in fields else fields
