"""A stack's next status: what its services come to, in one phase and in conditions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mainstay.api.conditions import ConditionStatus, condition, merge
from mainstay.api.servicestack import (
    PortState,
    PortStatus,
    RestartRef,
    ServiceStackStatus,
    ServiceState,
    ServiceStatus,
    StackPhase,
)
from mainstay.core import reasons
from mainstay.core.stack import ports
from mainstay.core.stack.snapshot import StackSnapshot

_NEEDS_PERSON = (
    reasons.PORT_FOREIGN,
    reasons.HELD_LOCALLY,
    reasons.SECRET_IN_ARGS,
    reasons.CONTROL_API_MISSING,
    reasons.CONFIG_MAP_NOT_FOUND,
)
_ON_ITS_WAY = (
    reasons.STARTING,
    reasons.RUNNING,
    reasons.DEPENDENCY_NOT_READY,
    reasons.INPUTS_CHANGED,
    reasons.RESTART_REQUESTED,
    reasons.PORT_CLOSING,
    reasons.RESTARTING,
    reasons.STOPPED,
)


def wrong(service: ServiceStatus) -> bool:
    """Something is in its way that won't pass by itself."""
    if service.up:
        return False
    return service.state in (ServiceState.FATAL, ServiceState.BACKOFF) or service.reason not in _ON_ITS_WAY


def outlook(
    s: StackSnapshot, services: Sequence[ServiceStatus], problem: tuple[str, str] | None
) -> ServiceStackStatus:
    """The status with these services in it. `problem` is why nothing can be started as it is declared."""
    declared = {one.name for one in s.stack.spec.services}
    wanted = [one for one in services if one.name in declared]
    seen = ports.told(s)
    phase, reason, words = _phase(s, wanted, problem)
    settled = phase in (StackPhase.RUNNING, StackPhase.STOPPED)
    stalled = (problem is not None and not s.resting) or (
        phase is StackPhase.DEGRADED
        and any(one.state is ServiceState.FATAL or one.reason in _NEEDS_PERSON for one in wanted)
    )
    generation = s.stack.metadata.generation
    known = None if s.deleting else s.status.supervisor
    tell = partial(condition, now=s.now, generation=generation)
    ready = ConditionStatus.TRUE if settled and not stalled else ConditionStatus.FALSE
    if not settled and not s.status.conditions:
        ready = ConditionStatus.UNKNOWN
    conditions = [
        tell("Ready", ready, reason, words),
        tell("Reconciling", not settled and not stalled, reason, ""),
        tell("Stalled", stalled, reason, words if stalled else ""),
    ]
    if seen:
        conditions.append(tell("PortsAllocated", *_allocated(s, seen)))
    return s.status.model_copy(
        update={
            "observed_generation": generation,
            "phase": phase,
            "ready": f"{sum(one.up for one in wanted)}/{len(wanted)}",
            "services": tuple(services),
            "ports": seen,
            "supervisor": s.supervisor.status if s.supervisor is not None else known,
            "restart": RestartRef(name=s.restart.name, uid=s.restart.uid) if s.restart else None,
            "conditions": merge(s.status.conditions, conditions, s.now),
        }
    )


def _phase(
    s: StackSnapshot, services: Sequence[ServiceStatus], problem: tuple[str, str] | None
) -> tuple[StackPhase, str, str]:
    """(phase, reason, words)."""
    if s.resting:
        if s.deleting:
            return StackPhase.STOPPING, reasons.DELETING, "the stack is being deleted"
        if any(v.live for v in s.services.values()):
            return StackPhase.STOPPING, reasons.STOP_REQUESTED, "stopping"
        return StackPhase.STOPPED, reasons.STOPPED, "stopped, as spec.state asks"
    restart = s.under_restart
    if restart is not None:
        words = f"{restart.mode} restart {restart.name} is under way"
        return StackPhase.RESTARTING, reasons.RESTARTING, words
    if problem is not None:
        return StackPhase.DEGRADED, *problem
    down = [one for one in services if not one.up]
    told = f"{len(services) - len(down)} of {len(services)} services are up"
    if not down:
        return StackPhase.RUNNING, reasons.SERVICES_UP, told
    bad = [one for one in down if wrong(one)]
    if bad:
        first = bad[0]
        more = f"; and {len(bad) - 1} more" if len(bad) > 1 else ""
        words = f"{told}; {first.name}: {first.reason}: {first.message}{more}"
        return StackPhase.DEGRADED, reasons.SERVICES_DOWN, words
    return StackPhase.STARTING, reasons.STARTING, told


def _allocated(s: StackSnapshot, seen: Sequence[PortStatus]) -> tuple[bool, str, str]:
    taken = [one for one in seen if one.state is PortState.TAKEN]
    if taken:
        words = ", ".join(f"port {one.port} is leased to {one.holder}" for one in taken)
        return False, reasons.PORT_TAKEN, words
    held = {lease.port for lease in s.leases}
    missing = [str(one.port) for one in seen if one.port not in held]
    if missing:
        return False, reasons.PENDING, f"not leased yet: {', '.join(missing)}"
    return True, reasons.LEASED, ""
