"""Everything one decision about a job may look at, gathered first and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mainstay.api.holdings import Holding
from mainstay.api.meta import FINALIZER
from mainstay.api.phasedjob import JobGoal, PhasedJob, PhasedJobSpec, PhasedJobStatus
from mainstay.core.job.graph import Graph
from mainstay.core.snapshot import Problem
from mainstay.core.unit import Unit

UNBOUNDED = 1 << 30


@dataclass(frozen=True, slots=True)
class AssetView:
    """An asset that the job names, as much as the job goes by."""

    ref: str
    exists: bool = False
    uid: str = ""
    type: str = ""
    state: str = ""
    mine: bool = False  # its holder is this job, or the batch of this job
    holder: str = ""  # who has it, in words; empty for nobody
    belongs_to: str = ""  # whose it is, when a job of this owner may not have it
    trouble: str = ""  # why nobody can have it now, in words
    holdings: tuple[Holding, ...] = ()  # as they were last seen
    accepts: tuple[str, ...] | None = None
    probed: bool = False  # it has a probe, so that holdings are true only as seen for a purpose
    purposes: frozenset[str] = frozenset()  # what they were seen for, not too long ago
    asking: frozenset[str] = frozenset()  # what questions under way are asked for
    asking_seconds: float = 0.0  # since the question under way was asked
    error: str = ""  # why the last question failed
    next_look_seconds: float = 0.0  # until a failed one may be repeated
    looks_up: bool = False  # it has a probe of what it accepts, so that None means not known yet
    taken: frozenset[str] = frozenset()  # reports that it has counted


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
    assets: Mapping[str, AssetView] = field(default_factory=dict)  # name within the job → the asset
    orphaned: str = ""  # the batch that owned it and is gone, in words
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
    def cancelled(self) -> bool:
        """What runs is to be stopped, for good: as the user asks, or because its batch is gone."""
        return self.spec.state is JobGoal.CANCELLED or bool(self.orphaned)

    def foreign(self, task: str) -> bool:
        """The unit of this name belongs to an earlier job of the same name."""
        unit = self.units.get(task)
        return unit is not None and unit.owner_uid not in ("", self.uid)
