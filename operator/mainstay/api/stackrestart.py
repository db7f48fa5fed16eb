"""StackRestart: one restart operation on a stack, step by step; kept for a while, so it is also the history."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from mainstay.api.conditions import Condition
from mainstay.api.meta import Count, Model, ObjectMeta, ObjectName, Owner, Text
from mainstay.api.process import ProcessStatus
from mainstay.api.servicestack import SERVICES_MAX, ServiceName

TTL_SECONDS = 7 * 24 * 3600


class RestartMode(StrEnum):
    """What a restart does."""

    FULL = "Full"
    QUICK = "Quick"
    EMERGENCY = "Emergency"
    FLUSH = "Flush"


class RestartPhase(StrEnum):
    """Where the restart is."""

    PENDING = "Pending"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"


OVER = (RestartPhase.COMPLETED, RestartPhase.FAILED)


class StepName(StrEnum):
    """Every step of any mode."""

    FLUSH_PORTS = "FlushPorts"
    CHECK_PORTS = "CheckPorts"
    STOP_SERVICES = "StopServices"
    KILL_SERVICES = "KillServices"
    STOP_SUPERVISOR = "StopSupervisor"
    KILL_SUPERVISOR = "KillSupervisor"
    START_SUPERVISOR = "StartSupervisor"
    VERIFY_PORTS = "VerifyPorts"
    START_SERVICES = "StartServices"
    VERIFY = "Verify"


class StepState(StrEnum):
    """Where one step is."""

    PENDING = "Pending"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"


class StackRestartSpec(Model):
    """What to restart and how. Immutable but for the time it is kept."""

    stack: ObjectName = Field(description="ServiceStack of this namespace.")
    mode: RestartMode = Field(
        RestartMode.FULL,
        description="Full: end strangers on the assigned ports, stop the services and their supervisor cleanly, start "
        "both fresh, verify. Quick: the same without ending strangers. Emergency: kill the services and their "
        "supervisor, end strangers, start fresh, verify. Flush: end strangers only. Default: Full.",
    )
    owner: Owner | None = Field(
        None, description="Who asks; must be the stack's owner if it has one. Can't be changed or removed."
    )
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=10 * 365 * 24 * 3600)] = Field(
        TTL_SECONDS, description="Seconds it is kept once it is over. Default: 604800, a week."
    )


class StepStatus(Model):
    """One step, recorded as it happens."""

    name: StepName = Field(description="What the step does.")
    state: StepState = Field(StepState.PENDING, description="Where it is.")
    started_at: datetime | None = Field(None, description="When it was begun, to the millisecond.")
    completed_at: datetime | None = Field(None, description="When it was over.")
    message: Text = Field("", description="What it came to; of a failed one why, and what to do.")
    details: tuple[Annotated[str, Field(max_length=512)], ...] = Field(
        (), description="What was found and done, a line each.", max_length=2 * SERVICES_MAX
    )


class VerifiedService(Model):
    """What the verification at the end says of one service."""

    name: ServiceName = Field(description="Name of the service.")
    up: bool = Field(description="Http: its port is held by it and its probe answers. Background: it lives.")
    message: Text = Field("", description="Why.")


class StackRestartStatus(Model):
    """Claims (a step that runs) and what was found."""

    observed_generation: Count = Field(0, description="metadata.generation this status was computed from.")
    phase: RestartPhase | None = Field(None, description="Where the restart is.")
    step: StepName | None = Field(None, description="The step under way, or the one that failed.")
    steps: tuple[StepStatus, ...] = Field(
        (),
        description="Its steps, in order.",
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    verified: tuple[VerifiedService, ...] = Field(
        (),
        description="The verification at the end, service by service.",
        max_length=SERVICES_MAX,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    supervisor: ProcessStatus | None = Field(
        None, description="The supervisord that this restart replaces, claimed before it is ended."
    )
    started_at: datetime | None = Field(None, description="When it was begun, to the millisecond.")
    completed_at: datetime | None = Field(None, description="When it was over.")
    took: str = Field("", description="Seconds from its first step to its end, as 6.1 s.", max_length=16)
    conditions: tuple[Condition, ...] = Field(
        (),
        description="Complete, Ready, Reconciling, Stalled.",
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class StackRestart(Model):
    """One restart of a stack."""

    metadata: ObjectMeta
    spec: StackRestartSpec = Field(
        description="What to restart and how. Immutable but for the time it is kept."
    )
    status: StackRestartStatus = Field(
        StackRestartStatus(), description="Steps as they happen, written by the operator alone."
    )
