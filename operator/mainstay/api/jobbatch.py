"""JobBatch: many PhasedJobs from one template."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from mainstay.api.conditions import Condition
from mainstay.api.holdings import CLAIMS_MAX, AssetClaim
from mainstay.api.meta import Count, FreeForm, Model, ObjectMeta, Owner
from mainstay.api.phasedjob import JobGoal, JobTemplate

BATCH_LABEL = "mainstay.dev/batch"
"""Label of a job: the name of its batch."""
JOBS_MAX = 1000
SHORT_MAX = 40
"""Longest name of a job within its batch."""
NAMES_SHOWN = 20
"""So many names are listed in status; counts are complete."""


class BatchPhase(StrEnum):
    """Where the batch is. Completed, PartiallyCompleted and Failed are what its jobs came to."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    ACTION_REQUIRED = "ActionRequired"
    SUSPENDED = "Suspended"
    COMPLETED = "Completed"
    PARTIALLY_COMPLETED = "PartiallyCompleted"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class BatchJob(Model):
    """One job of the batch."""

    name: Annotated[str, Field(max_length=SHORT_MAX, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] = Field(
        description="Name within the batch; the PhasedJob is called <batch>-<name>."
    )
    inputs: FreeForm = Field({}, description="Laid over the template's inputs, key by key. Default: none.")
    assets: Annotated[list[AssetClaim], Field(max_length=CLAIMS_MAX)] = Field(
        [],
        description="Laid over the template's assets, name by name. Default: none.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class JobBatchSpec(Model):
    """A template and a list."""

    state: JobGoal = Field(
        JobGoal.RUNNING,
        description="Running; Suspended: no new job is made and the present ones are suspended; Cancelled: all are. "
        "Its jobs follow it, also one that was suspended by hand. Default: Running.",
    )
    owner: Owner | None = Field(
        None, description="Whose batch this is, and its jobs. Can't be changed or removed."
    )
    parallelism: Annotated[int, Field(ge=1, le=JOBS_MAX)] = Field(
        10, description="Jobs under way at once; one that waits for a user does not count. Default: 10."
    )
    template: JobTemplate = Field(
        description="What every job does. A change is for jobs made from now on; those that exist keep theirs."
    )
    jobs: Annotated[list[BatchJob], Field(min_length=1, max_length=JOBS_MAX)] = Field(
        description="The jobs. Ones added later are made too; removing one here deletes nothing.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class JobCounts(Model):
    """Jobs by state."""

    total: Count = Field(0, description="Jobs in spec.")
    pending: Count = Field(0, description="Not made or not begun.")
    in_progress: Count = Field(0, description="Under way.")
    action_required: Count = Field(0, description="Wait for a user, or failed and resumable.")
    suspended: Count = Field(0, description="Suspended.")
    completed: Count = Field(0, description="Completed.")
    failed: Count = Field(0, description="Failed for good.")
    cancelled: Count = Field(0, description="Cancelled, or deleted by hand.")


class JobBatchStatus(Model):
    """What its jobs came to."""

    observed_generation: Count = Field(0, description="metadata.generation this status was computed from.")
    phase: BatchPhase | None = Field(None, description="Where the batch is.")
    counts: JobCounts = Field(JobCounts(), description="Jobs by state.")
    progress: str = Field("", description="Jobs completed of all, for example 3/10.", max_length=16)
    created: Annotated[
        tuple[Annotated[str, Field(max_length=SHORT_MAX)], ...], Field(max_length=JOBS_MAX)
    ] = Field((), description="Names of jobs that were seen to exist: one deleted by hand is not made again.")
    needs_action: Annotated[
        tuple[Annotated[str, Field(max_length=SHORT_MAX)], ...], Field(max_length=NAMES_SHOWN)
    ] = Field((), description="First names of jobs that wait for a user or a resume.")
    failed: Annotated[
        tuple[Annotated[str, Field(max_length=SHORT_MAX)], ...], Field(max_length=NAMES_SHOWN)
    ] = Field((), description="First names of jobs that failed for good.")
    started_at: datetime | None = Field(None, description="When it was first looked at.")
    completed_at: datetime | None = Field(None, description="When its last job ended.")
    conditions: tuple[Condition, ...] = Field(
        (),
        description="Ready, Reconciling, Stalled.",
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class JobBatch(Model):
    """Many PhasedJobs from one template."""

    metadata: ObjectMeta
    spec: JobBatchSpec = Field(description="A template and a list.")
    status: JobBatchStatus = Field(JobBatchStatus(), description="Written by the operator alone.")
