"""Everything one decision about a restart may look at, gathered first and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from mainstay.api.servicestack import Service, ServiceStack, ServiceStatus, StackTimeouts
from mainstay.api.stackrestart import RestartMode, StackRestart, StackRestartStatus, StepName, StepStatus
from mainstay.core.stack.spec import ports_of
from mainstay.core.unit import LIVE, PortHolder, ProbeResult, ProcessId, Unit


class Look(Enum):
    """What a step may go by."""

    UNITS = auto()
    PORTS = auto()
    PROBES = auto()
    SUPERVISOR = auto()


@dataclass(frozen=True, slots=True)
class Lately:
    """What this operator remembers of the present step. Losing it costs time, never an effect."""

    step_seconds: float = 0.0  # since it first saw the step
    flush_seconds: float | None = None  # since it first asked a stranger to stop, in this step
    ended: bool = False  # it ended the supervisor, in this step
    trouble: str = ""  # what the last act failed with


@dataclass(frozen=True, slots=True)
class RestartSnapshot:
    """One restart, its stack, what is seen of its services and ports, and the clocks, all as of one moment."""

    restart: StackRestart
    now: datetime  # to the millisecond
    stack: ServiceStack | None = None
    ahead: str = ""  # the restart that is done before this one
    units: Mapping[str, Unit] = field(default_factory=dict)  # every unit of the scope
    probes: Mapping[str, ProbeResult] = field(default_factory=dict)  # asked just now, for the verification
    holders: Mapping[int, tuple[PortHolder, ...]] = field(default_factory=dict)  # of assigned ports
    supervisor: ProcessId | None = None
    lately: Lately = field(default_factory=Lately)

    @property
    def status(self) -> StackRestartStatus:
        """What was claimed and found so far."""
        return self.restart.status

    @property
    def mode(self) -> RestartMode:
        """What it does."""
        return self.restart.spec.mode

    @property
    def step(self) -> StepStatus | None:
        """The step under way."""
        return next((one for one in self.status.steps if one.name is self.status.step), None)

    @property
    def claimed(self) -> bool:
        """It is this restart's turn, as its stack's status says."""
        claim = self.stack.status.restart if self.stack is not None else None
        return claim is not None and claim.uid == self.restart.metadata.uid

    @property
    def declared(self) -> ServiceStack:
        """The stack, where it is known to exist."""
        assert self.stack is not None
        return self.stack

    @property
    def timeouts(self) -> StackTimeouts:
        """How long things may take."""
        return self.declared.spec.timeouts

    @property
    def ports(self) -> Mapping[int, str]:
        """Assigned port → service."""
        return ports_of(self.declared.spec)

    @property
    def strangers(self) -> list[PortHolder]:
        """Who isn't of this stack and listens on an assigned port."""
        return [
            one
            for port in self.ports
            for one in self.holders.get(port, ())
            if one.stranger and not one.passing
        ]

    @property
    def living(self) -> list[str]:
        """Units of the scope of which a process exists."""
        return sorted(name for name, unit in self.units.items() if unit.state in LIVE)

    def told(self, service: Service) -> ServiceStatus:
        """What the stack's status says of a service."""
        return self.declared.status.service(service.name) or ServiceStatus(name=service.name)


STEPS: Mapping[RestartMode, tuple[StepName, ...]] = {
    RestartMode.FULL: (
        StepName.FLUSH_PORTS,
        StepName.STOP_SERVICES,
        StepName.STOP_SUPERVISOR,
        StepName.START_SUPERVISOR,
        StepName.VERIFY_PORTS,
        StepName.START_SERVICES,
        StepName.VERIFY,
    ),
    RestartMode.QUICK: (
        StepName.CHECK_PORTS,
        StepName.STOP_SERVICES,
        StepName.STOP_SUPERVISOR,
        StepName.START_SUPERVISOR,
        StepName.VERIFY_PORTS,
        StepName.START_SERVICES,
        StepName.VERIFY,
    ),
    RestartMode.EMERGENCY: (
        StepName.KILL_SERVICES,
        StepName.KILL_SUPERVISOR,
        StepName.FLUSH_PORTS,
        StepName.START_SUPERVISOR,
        StepName.VERIFY_PORTS,
        StepName.START_SERVICES,
        StepName.VERIFY,
    ),
    RestartMode.FLUSH: (StepName.FLUSH_PORTS, StepName.VERIFY),
}
"""What each mode does, in order."""
