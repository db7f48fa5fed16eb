"""PhasedJob: steps, phases and tasks, each task run to completion once, resumable where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from mainstay.api.conditions import Condition
from mainstay.api.holdings import CLAIMS_MAX, AssetClaim, AssetReport, HeldAsset
from mainstay.api.meta import Count, FreeForm, Model, ObjectMeta, Owner, ShortText, Text
from mainstay.api.program import Program
from mainstay.api.rules import Rule, exactly_one, guarded

StepName = Annotated[str, Field(max_length=63, pattern=r"^[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?$")]
"""Name of a step, phase or task: an identifier in expressions, a file name, never an object's name."""
Expression = Annotated[str, Field(min_length=1, max_length=2048)]

STEPS_MAX, PHASES_MAX, TASKS_MAX = 32, 16, 64
"""At most so many steps in a job, phases in a step, tasks in a phase."""
JOB_TASKS_MAX = 200
"""At most so many tasks in a job, so that its status stays below 64 KiB."""


class JobGoal(StrEnum):
    """What the user wants."""

    RUNNING = "Running"
    SUSPENDED = "Suspended"
    CANCELLED = "Cancelled"


class OnFailure(StrEnum):
    """What a failed phase makes of its job."""

    ACTION_REQUIRED = "ActionRequired"
    FAIL = "Fail"


class JobPhase(StrEnum):
    """Where the job is. Completed, Failed and Cancelled are final."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    ACTION_REQUIRED = "ActionRequired"
    SUSPENDED = "Suspended"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


FINAL = (JobPhase.COMPLETED, JobPhase.FAILED, JobPhase.CANCELLED)
"""Phases that a job never leaves."""


class StepState(StrEnum):
    """Where a step or a phase is."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    ACTION_REQUIRED = "ActionRequired"
    COMPLETED = "Completed"
    FAILED = "Failed"
    SKIPPED = "Skipped"


DONE = (StepState.COMPLETED, StepState.SKIPPED)
"""States in which a step or a phase is behind the job."""


class TaskState(StrEnum):
    """Where a task is."""

    PENDING = "Pending"
    STARTING = "Starting"  # an attempt is claimed
    RUNNING = "Running"  # and was seen to run for a while
    RETRYING = "Retrying"  # failed, and waits out its backoff
    STOPPING = "Stopping"  # is being ended: cancelled, or deleted
    ACTION_REQUIRED = "ActionRequired"  # ended by asking a user
    COMPLETED = "Completed"
    FAILED = "Failed"
    SKIPPED = "Skipped"


CLAIMED = (TaskState.STARTING, TaskState.RUNNING, TaskState.STOPPING)
"""States in which a process of the task may exist."""
SETTLED = (TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED)
"""States in which a task needs nothing any more."""


class UserAction(Model):
    """What a person has to give. It is done when spec.inputs has a value of this name that fits."""

    title: ShortText = Field(description="What is asked, in a few words.")
    description: Text | None = Field(None, description="What is asked, in full.")
    json_schema: FreeForm = Field(
        {},
        alias="schema",
        description="JSON Schema (2020-12) of the input. References to elsewhere are refused. Default: anything fits.",
    )
    secret_fields: Annotated[
        list[Annotated[str, Field(max_length=63, min_length=1)]], Field(max_length=32)
    ] = Field(
        [],
        description="Fields of the input that are secrets: given as {secretKeyRef: {name, key}} and never literally. "
        "The schema tells whether they are required, not what they are. Default: none.",
    )


class TaskTemplate(Model):
    """A program run to completion: exit code 0 and readable outputs complete it."""

    program: Program = Field(
        description="What to execute. It reads the JSON file at INPUTS_PATH and may write one to OUTPUTS_PATH."
    )
    when: Expression | None = Field(
        None, description="CEL over inputs, context, tasks, assets; false skips the task. Default: true."
    )
    retries: Annotated[int, Field(ge=0, le=100)] = Field(
        0, description="Failed attempts that are tried again by themselves. Default: 0."
    )
    initial_backoff_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        1, description="Wait before the first retry; doubles each time. Default: 1."
    )
    max_backoff_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        300, description="Longest wait before a retry. Default: 300."
    )
    timeout_seconds: Annotated[int, Field(ge=1, le=604800)] | None = Field(
        None,
        description="Seconds one attempt may take; then it is ended and counts as failed. Default: no limit.",
    )


class Task(TaskTemplate):
    """A task of a phase."""

    name: StepName = Field(description="Name, unique in the job.")
    blocking: bool = Field(
        True,
        description="Whether its failure fails the phase. When false a failure is recorded, and what depends on it is "
        "skipped. Default: true.",
    )
    depends_on: Annotated[list[StepName], Field(max_length=TASKS_MAX)] = Field(
        [],
        description="Tasks of this phase or an earlier one that must be completed first; skipped when one of them was "
        "skipped or failed. Default: none.",
    )


class Phase(Model):
    """Tasks that run side by side where dependsOn does not forbid it. The next phase starts when all are settled."""

    name: StepName = Field(description="Name, unique in the job.")
    complete_when: Expression | None = Field(
        None,
        description="CEL over inputs, context, tasks, assets: when true as the phase begins, or begins anew, it is done already "
        "and its tasks are skipped. Assets are looked at afresh for it. Default: never.",
    )
    tasks: Annotated[list[Task], Field(min_length=1, max_length=TASKS_MAX)] = Field(
        description="The tasks.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class Step(
    Model,
    json_schema_extra=guarded(
        Rule(exactly_one("task", "action", "phases"), "set exactly one of task, action and phases")
    ),
):
    """One step: a task, a user action, or phases of tasks."""

    name: StepName = Field(description="Name, unique in the job.")
    title: ShortText | None = Field(None, description="What to call it on pages. Default: its name.")
    when: Expression | None = Field(
        None,
        description="CEL over inputs, context, tasks, assets; false skips the whole step. Default: true.",
    )
    task: TaskTemplate | None = Field(None, description="One task; it has the step's name.")
    action: UserAction | None = Field(None, description="A user must act: spec.inputs.<name of the step>.")
    phases: Annotated[list[Phase], Field(min_length=1, max_length=PHASES_MAX)] | None = Field(
        None,
        description="Phases, one after the other.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class JobTemplate(Model):
    """What every job of a batch shares."""

    on_failure: OnFailure = Field(
        OnFailure.ACTION_REQUIRED,
        description="ActionRequired: stays on the failed step, resumable. Fail: final. Default: ActionRequired.",
    )
    parallelism: Annotated[int, Field(ge=1, le=TASKS_MAX)] = Field(
        16, description="Tasks of this job that run at once. Default: 16."
    )
    steps: Annotated[list[Step], Field(min_length=1, max_length=STEPS_MAX)] = Field(
        description="The steps, one after the other. Completed ones are locked; none changes while the job runs.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    inputs: FreeForm = Field(
        {},
        description="What tasks and expressions read; an answer to a user action is inputs.<name>. Default: empty.",
    )
    assets: Annotated[list[AssetClaim], Field(max_length=CLAIMS_MAX)] = Field(
        [],
        description="Assets it needs. It begins when all are its own, taken in the order of their names and kept while it "
        "waits for the rest; it loses them when it has ended and they are seen to be empty. Can't be changed in a job. Default: none.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class PhasedJobSpec(JobTemplate):
    """What to do, with what, and how far to go."""

    state: JobGoal = Field(
        JobGoal.RUNNING,
        description="Running; Suspended: what runs is finished, nothing new starts; Cancelled: final, what runs is "
        "stopped. Default: Running.",
    )
    owner: Owner | None = Field(None, description="Whose job this is. Can't be changed or removed.")
    resume_nonce: Count = Field(
        0, description="Raise it to resume a failed job after its last completed phase. Default: 0."
    )
    resume_tasks: Annotated[list[StepName], Field(max_length=TASKS_MAX)] = Field(
        [],
        description="Failed non-blocking tasks of completed phases of the current step that the next resume runs again "
        "too. Default: none.",
    )
    runtime: Literal["Process"] = Field(
        "Process", description="Process: supervised on this host. Immutable. Default: Process."
    )


class OutputsRef(Model):
    """Outputs that are too large for status."""

    config_map: str = Field(
        description="ConfigMap that has them, under the key outputs.json.", max_length=253
    )
    size: Count = Field(description="Bytes.")


class TaskStatus(Model):
    """Claims (state, attempt) and observations of one task."""

    name: StepName = Field(description="Name of the task.")
    state: TaskState = Field(description="Where it is.")
    attempt: Count = Field(0, description="Attempts claimed; raised before each.")
    failures: Count = Field(0, description="Attempts that failed since the last resume.")
    losses: Count = Field(0, description="Attempts whose end nobody saw since the last resume.")
    started_at: datetime | None = Field(None, description="When the latest attempt was claimed.")
    completed_at: datetime | None = Field(None, description="When it was settled.")
    retry_at: datetime | None = Field(None, description="When it is tried again.")
    reason: str = Field("", description="Why it is in this state, in one CamelCase word.", max_length=64)
    message: str = Field("", description="Why, in words.", max_length=1024)
    outputs: OutputsRef | None = Field(
        None, description="Where its outputs are when status has no room for them."
    )
    reports: Annotated[tuple[AssetReport, ...], Field(max_length=CLAIMS_MAX)] = Field(
        (),
        description="What it said of assets, until they have taken it in.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["ref"]},
    )


class PhaseStatus(Model):
    """One phase and its tasks."""

    name: StepName = Field(description="Name of the phase.")
    state: StepState = Field(description="Where it is.")
    started_at: datetime | None = Field(None, description="When its first task could start.")
    completed_at: datetime | None = Field(None, description="When its last task was settled.")
    message: str = Field("", description="Why, in words.", max_length=1024)
    tasks: Annotated[tuple[TaskStatus, ...], Field(max_length=TASKS_MAX)] = Field(
        (),
        description="Its tasks.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class StepStatus(Model):
    """One step and its phases; a step with one task has one phase of the step's name."""

    name: StepName = Field(description="Name of the step.")
    state: StepState = Field(description="Where it is. A completed step is locked.")
    started_at: datetime | None = Field(None, description="When it began.")
    completed_at: datetime | None = Field(None, description="When it was done.")
    message: str = Field("", description="Why, in words.", max_length=1024)
    phases: Annotated[tuple[PhaseStatus, ...], Field(max_length=PHASES_MAX)] = Field(
        (),
        description="Its phases.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class Failure(Model):
    """What stopped the job."""

    step: StepName = Field(description="Step that failed.")
    phase: StepName = Field(description="Phase of it.")
    task: StepName = Field(description="Task of that.")
    reason: str = Field(description="Why, in one CamelCase word.", max_length=64)
    message: str = Field(description="Why, in words, with the last lines of its stderr.", max_length=4096)
    time: datetime = Field(description="When it was seen.")


class PendingAction(UserAction):
    """A user action the job waits for."""

    name: StepName = Field(description="Name of the input: spec.inputs.<name>.")
    step: StepName = Field(description="Step that asks.")


class PhasedJobStatus(Model):
    """Claims (attempts, handled nonce) and observations (everything else)."""

    observed_generation: Count = Field(0, description="metadata.generation this status was computed from.")
    phase: JobPhase | None = Field(None, description="Where the job is.")
    current_step: str | None = Field(None, description="Step it is on.", max_length=63)
    current_phase: str | None = Field(None, description="Phase of that step.", max_length=63)
    last_completed_phase: str | None = Field(None, description="Where a resume goes on.", max_length=63)
    progress: str = Field(
        "", description="Tasks completed or skipped of all, for example 7/12.", max_length=16
    )
    resumable: bool = Field(False, description="Whether raising resumeNonce goes on.")
    resumes: Count = Field(0, description="How often it was resumed.")
    resume_plan: Annotated[tuple[StepName, ...], Field(max_length=JOB_TASKS_MAX)] = Field(
        (), description="Tasks that a resume would start or decide upon, in order."
    )
    handled_resume_nonce: Count | None = Field(None, description="Last resumeNonce that was consumed.")
    last_failure: Failure | None = Field(None, description="What stopped it last.")
    actions: Annotated[tuple[PendingAction, ...], Field(max_length=TASKS_MAX)] = Field(
        (),
        description="What a user must give.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    context: FreeForm = Field(
        {}, description="Outputs of completed tasks by task name, as far as there is room."
    )
    steps: Annotated[tuple[StepStatus, ...], Field(max_length=STEPS_MAX)] = Field(
        (),
        description="The steps, down to each task.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    assets: Annotated[tuple[HeldAsset, ...], Field(max_length=CLAIMS_MAX)] = Field(
        (),
        description="Assets that were its own when it began: it has the first right to them until it ends.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    started_at: datetime | None = Field(None, description="When its first step began.")
    completed_at: datetime | None = Field(None, description="When it reached its end.")
    conditions: tuple[Condition, ...] = Field(
        (),
        description="Ready, Reconciling, Stalled, InputsValid.",
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )

    def tasks(self) -> Iterator[TaskStatus]:
        """Every task, in order."""
        return (task for step in self.steps for phase in step.phases for task in phase.tasks)

    def wire(self) -> dict[str, Any]:
        """As usual; of steps only what says more than the default: there are many, and each write carries them all."""
        wire = super().wire()
        dump: dict[str, Any] = {
            "mode": "json",
            "by_alias": True,
            "exclude_none": True,
            "exclude_defaults": True,
        }
        return wire | {"steps": [step.model_dump(**dump) for step in self.steps]}


class PhasedJob(Model):
    """One job of steps, phases and tasks."""

    metadata: ObjectMeta
    spec: PhasedJobSpec = Field(description="What to do, with what, and how far to go.")
    status: PhasedJobStatus = Field(
        PhasedJobStatus(), description="Claims and observations, written by the operator alone."
    )
