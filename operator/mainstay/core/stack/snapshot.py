"""Everything one decision about a stack may look at, gathered first and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto

from mainstay.api.meta import FINALIZER
from mainstay.api.servicestack import Service, ServiceStack, ServiceStackStatus, ServiceStatus, StackGoal
from mainstay.api.stackrestart import RestartMode, RestartPhase, StepName
from mainstay.core.snapshot import Inputs, LeaseView, Problem
from mainstay.core.unit import LIVE, PortHolder, ProbeResult, ProcessId, Unit

EPOCH = datetime.fromtimestamp(0, UTC)


class Wish(Enum):
    """What should be true of a service's process."""

    RUN = auto()
    HOLD = auto()  # what lives goes on, nothing is started
    STOP = auto()
    KILL = auto()


@dataclass(frozen=True, slots=True)
class RestartView:
    """The restart whose turn it is, as far as the stack goes by it."""

    name: str
    uid: str
    mode: RestartMode
    phase: RestartPhase | None = None
    step: StepName | None = None


@dataclass(frozen=True, slots=True)
class ServiceView:
    """One service: as it is declared, as it is told in status, and as it is seen."""

    name: str
    spec: Service | None  # None: it isn't declared any more
    status: ServiceStatus
    unit: Unit
    inputs: Inputs = field(default_factory=Inputs)
    probe: ProbeResult | None = None
    problem: Problem | None = None
    clock: datetime = EPOCH  # now

    @property
    def age(self) -> float:
        """Seconds since the program was started; never negative, the clock may have been set back."""
        started = self.unit.started_at
        return 0.0 if started is None else max(0.0, self.clock.timestamp() - started)

    @property
    def since(self) -> datetime | None:
        """When the present process was started, to the second."""
        started = self.unit.started_at
        return None if started is None else datetime.fromtimestamp(int(started), UTC)

    @property
    def live(self) -> bool:
        """A process of it exists."""
        return self.unit.state in LIVE

    @property
    def restart_asked(self) -> bool:
        """Its restartNonce was raised since it was last consumed; one that an apply takes back asks for nothing."""
        handled = self.status.handled_restart_nonce
        return self.spec is not None and handled is not None and self.spec.restart_nonce > handled

    @property
    def unused_claim(self) -> bool:
        """An attempt is claimed and was never started."""
        return not self.live and self.unit.attempt < self.status.attempt


@dataclass(frozen=True, slots=True)
class StackSnapshot:
    """One stack, its services, ports and leases, and the clock, all as of one moment."""

    stack: ServiceStack
    now: datetime
    services: Mapping[str, ServiceView]  # as declared, then what is left of others
    leases: tuple[LeaseView, ...] = ()
    taken: Mapping[int, str] = field(default_factory=dict)  # leased to others → by whom
    holders: Mapping[int, tuple[PortHolder, ...]] = field(default_factory=dict)
    supervisor: ProcessId | None = None
    restart: RestartView | None = None
    scope: bool = True  # there is something of it on this host

    @property
    def status(self) -> ServiceStackStatus:
        """What was claimed and seen so far."""
        return self.stack.status

    @property
    def uid(self) -> str:
        """The stack's own uid."""
        return self.stack.metadata.uid

    @property
    def deleting(self) -> bool:
        """The user asked for its deletion."""
        return self.stack.metadata.deletion_timestamp is not None

    @property
    def has_finalizer(self) -> bool:
        """Teardown is guaranteed to be seen."""
        return FINALIZER in self.stack.metadata.finalizers

    @property
    def resting(self) -> bool:
        """Nothing of it should run."""
        return self.deleting or self.stack.spec.state is StackGoal.STOPPED

    @property
    def under_restart(self) -> RestartView | None:
        """The restart that is being done: claimed by this stack, and begun."""
        claim, restart = self.status.restart, self.restart
        if claim is None or restart is None or claim.uid != restart.uid:
            return None
        return restart if restart.phase is RestartPhase.RUNNING else None

    @property
    def wish(self) -> Wish:
        """What should be true of its services: what spec asks, unless a restart is at a step that asks otherwise."""
        if self.resting:
            return Wish.STOP
        restart = self.under_restart
        return wish_at(restart.mode, restart.step) if restart is not None else Wish.RUN

    def wish_of(self, view: ServiceView) -> Wish:
        """The same of one service; one that is braked on its host, or isn't declared, is stopped."""
        wish = self.wish
        if wish is not Wish.KILL and (view.spec is None or view.unit.held_locally):
            return Wish.STOP
        return wish

    def dependents(self, name: str) -> list[ServiceView]:
        """Services that are declared to need this one."""
        return [v for v in self.services.values() if v.spec is not None and name in v.spec.depends_on]


def wish_at(mode: RestartMode, step: StepName | None) -> Wish:
    """What a restart asks of the services while it is at that step."""
    match step:
        case _ if mode is RestartMode.FLUSH:
            return Wish.RUN
        case StepName.STOP_SERVICES | StepName.STOP_SUPERVISOR:
            return Wish.STOP
        case StepName.KILL_SERVICES | StepName.KILL_SUPERVISOR:
            return Wish.KILL
        case StepName.START_SUPERVISOR | StepName.VERIFY_PORTS:
            return Wish.STOP
        case StepName.FLUSH_PORTS | StepName.CHECK_PORTS:
            return Wish.STOP if mode is RestartMode.EMERGENCY else Wish.HOLD
        case _:
            return Wish.RUN
