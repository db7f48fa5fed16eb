"""Everything one decision about a run may look at, gathered first and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from mainstay.api.meta import FINALIZER
from mainstay.api.strategyrun import (
    RunGoal,
    RunPhase,
    StrategyRun,
    StrategyRunSpec,
    StrategyRunStatus,
)
from mainstay.core import reasons
from mainstay.core.strategy.resolve import Resolution, same_program, with_strategy
from mainstay.core.unit import LIVE, ProbeResult, Unit, UnitState


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease this run holds."""

    name: str
    port: int
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class PortView:
    """What is known of ports when one has to be chosen or checked."""

    pool_found: bool = True
    ports: tuple[int, ...] = ()  # what the pool may lease, ascending
    taken: Mapping[int, str] = field(default_factory=dict)  # leased or claimed by others → by whom
    foreign: Mapping[int, str] = field(default_factory=dict)  # listened on by strangers → by whom
    older_waiting: int = 0  # runs that have waited longer for a port of this pool
    quarantine_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Inputs:
    """The hash of what was declared, or why it can't be computed."""

    hash: str = ""
    problem: tuple[str, str] | None = None  # (reason, message)


@dataclass(frozen=True, slots=True)
class Problem:
    """The last act failed; shown until it is tried again."""

    reason: str
    message: str
    needs_person: bool
    retry_seconds: float
    refused: bool = False  # it can never be done as it is declared


class Wish(Enum):
    """What should be true of the process, the brake included."""

    RUN = auto()
    PAUSE = auto()
    STOP = auto()


def ready_reason(status: StrategyRunStatus) -> str:
    """The reason of its Ready condition."""
    return next((c.reason for c in status.conditions if c.type == "Ready"), "")


def over(status: StrategyRunStatus) -> bool:
    """It ended by itself in a way its restart policy accepts."""
    resting = (RunPhase.STOPPING, RunPhase.STOPPED, RunPhase.FAILED)
    return status.phase in resting and ready_reason(status) in (reasons.COMPLETED, reasons.FAILED)


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """One run, its unit, leases, inputs and the clock, all as of one moment."""

    run: StrategyRun
    unit: Unit
    now: datetime
    inputs: Inputs
    leases: tuple[LeaseView, ...] = ()
    ports: PortView = field(default_factory=PortView)
    probe: ProbeResult | None = None
    problem: Problem | None = None
    strategy: Resolution = field(default_factory=Resolution)

    @property
    def inputs_hash(self) -> str:
        """What a process of this run would be started with now."""
        return with_strategy(self.inputs.hash, self.strategy.use)

    @property
    def blocked(self) -> tuple[str, str] | None:
        """Why nothing can be started as it is declared now: (reason, message)."""
        return self.inputs.problem or self.strategy.problem

    @property
    def spec(self) -> StrategyRunSpec:
        """What is asked."""
        return self.run.spec

    @property
    def status(self) -> StrategyRunStatus:
        """What was claimed and seen so far."""
        return self.run.status

    @property
    def uid(self) -> str:
        """The run's own uid."""
        return self.run.metadata.uid

    @property
    def deleting(self) -> bool:
        """The user asked for its deletion."""
        return self.run.metadata.deletion_timestamp is not None

    @property
    def has_finalizer(self) -> bool:
        """Teardown is guaranteed to be seen."""
        return FINALIZER in self.run.metadata.finalizers

    @property
    def foreign_unit(self) -> bool:
        """The unit of this name belongs to an earlier object, deleted and created again."""
        return self.unit.state is not UnitState.ABSENT and self.unit.owner_uid not in ("", self.uid)

    @property
    def live(self) -> bool:
        """A process of the unit exists."""
        return self.unit.state in LIVE

    @property
    def wish(self) -> Wish:
        """What should be true of the process. The brake and a deletion override the spec."""
        if self.deleting or self.unit.held_locally or self.spec.state is RunGoal.STOPPED:
            return Wish.STOP
        return Wish.PAUSE if self.spec.state is RunGoal.PAUSED else Wish.RUN

    @property
    def wants_process(self) -> bool:
        """Spec asks for a process, whatever the brake says."""
        return not self.deleting and self.spec.state is not RunGoal.STOPPED

    @property
    def reason(self) -> str:
        """The reason of the Ready condition: the claim that tells a roll from a stop or a completion."""
        return ready_reason(self.status)

    @property
    def rolls(self) -> str | None:
        """Why the process must be replaced although it should run: a reason, or None."""
        handled = self.status.handled_restart_nonce
        if handled is not None and self.spec.restart_nonce != handled:
            return reasons.RESTART_REQUESTED
        if self.blocked is not None:
            return None
        # What lives is asked too: it may have been started under a claim that was changed since.
        same = self.live and self.unit.attempt == self.status.attempt and self.unit.inputs_hash
        told = (self.status.inputs_hash, self.unit.inputs_hash if same else self.status.inputs_hash)
        wanted = self.inputs_hash
        if told == (wanted, wanted):
            return None
        same_code = same_program(self.strategy.use, self.status.strategy)
        return reasons.INPUTS_CHANGED if same_code else reasons.STRATEGY_CHANGED

    @property
    def ended(self) -> bool:
        """It ended by itself in a way its restart policy accepts, and nothing asks for another start since."""
        return over(self.status) and self.rolls is None
