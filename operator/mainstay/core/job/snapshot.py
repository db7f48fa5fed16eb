"""Everything one decision about a job may look at, gathered first and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mainstay.api.meta import FINALIZER
from mainstay.api.phasedjob import JobGoal, PhasedJob, PhasedJobSpec, PhasedJobStatus
from mainstay.core.job.graph import Graph
from mainstay.core.snapshot import Problem
from mainstay.core.unit import Unit

UNBOUNDED = 1 << 30


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """One job, the units of its tasks, what they put out, and the clock, all as of one moment."""

    job: PhasedJob
    graph: Graph
    now: datetime
    invalid: tuple[str, str] | None = None  # (place, what is wrong with the declaration there)
    units: Mapping[str, Unit] = field(default_factory=dict)  # task → its unit, of those that were looked at
    outputs: Mapping[str, Any] = field(default_factory=dict)  # task → outputs that status has no room for
    stored: Mapping[str, int] = field(default_factory=dict)  # task → attempt whose outputs are in a ConfigMap
    problems: Mapping[str, Problem] = field(default_factory=dict)  # task → why its last act failed
    keeps_outputs: bool = False  # of a job being deleted: some are in ConfigMaps
    slots: int = UNBOUNDED  # how many tasks of this job this machine takes on, those it runs included

    @property
    def spec(self) -> PhasedJobSpec:
        """What is asked."""
        return self.job.spec

    @property
    def status(self) -> PhasedJobStatus:
        """What was claimed and seen so far."""
        return self.job.status

    @property
    def uid(self) -> str:
        """The job's own uid: its run id."""
        return self.job.metadata.uid

    @property
    def deleting(self) -> bool:
        """The user asked for its deletion."""
        return self.job.metadata.deletion_timestamp is not None

    @property
    def has_finalizer(self) -> bool:
        """Teardown is guaranteed to be seen."""
        return FINALIZER in self.job.metadata.finalizers

    @property
    def ending(self) -> bool:
        """What runs is to be stopped."""
        return self.deleting or self.spec.state is JobGoal.CANCELLED

    def foreign(self, task: str) -> bool:
        """The unit of this name belongs to an earlier job of the same name."""
        unit = self.units.get(task)
        return unit is not None and unit.owner_uid not in ("", self.uid)
