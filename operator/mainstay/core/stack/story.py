"""The events that tell a stack's story in `kubectl describe`: one per turn of a service, none for what stayed."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.api.servicestack import (
    PortState,
    ServiceStackStatus,
    ServiceState,
    ServiceStatus,
    StackPhase,
)
from mainstay.core import reasons
from mainstay.core.run.story import Event

_WARNINGS = (ServiceState.BACKOFF, ServiceState.FATAL)
_TOLD_PENDING = (reasons.PORT_TAKEN, reasons.SECRET_NOT_FOUND)


def events(old: ServiceStackStatus, new: ServiceStackStatus) -> Iterator[Event]:
    """What happened between two statuses that is worth telling."""
    known = {one.name: one for one in old.services}
    for service in new.services:
        yield from _turn(known.get(service.name), service)
    yield from _strangers(old, new)
    before, now = old.supervisor, new.supervisor
    if (
        before is not None
        and now is not None
        and before != now
        and old.restart is None
        and new.restart is None
    ):
        words = f"supervisord (pid {before.pid}) is gone; pid {now.pid} goes on in its place"
        yield Event("Warning", reasons.SUPERVISOR_REPLACED, words)
    if old.phase is not new.phase and new.phase in (StackPhase.RUNNING, StackPhase.STOPPED):
        ready = next(c for c in new.conditions if c.type == "Ready")
        yield Event("Normal", ready.reason, ready.message)


def _turn(old: ServiceStatus | None, new: ServiceStatus) -> Iterator[Event]:
    before = (old.state, old.reason, old.process) if old is not None else None
    if before == (new.state, new.reason, new.process):
        return
    if (new.state in _WARNINGS and (old is None or (old.state, old.reason) != (new.state, new.reason))) or (
        new.state is ServiceState.PENDING
        and new.reason in _TOLD_PENDING
        and (old is None or old.reason != new.reason)
    ):
        yield Event("Warning", new.reason, f"{new.name}: {new.message}")
    elif new.state is ServiceState.RUNNING and new.ready and new.process is not None:
        if old is None or old.process != new.process or old.state is not ServiceState.RUNNING:
            yield Event("Normal", "Started", f"{new.name}: pid {new.process.pid}, attempt {new.attempt}")
        elif not old.ready:
            yield Event("Normal", "Serving", f"{new.name}: answers again")
    elif new.state is ServiceState.RUNNING and not new.ready and old is not None and old.ready:
        yield Event("Warning", new.reason, f"{new.name}: {new.message}")


def _strangers(old: ServiceStackStatus, new: ServiceStackStatus) -> Iterator[Event]:
    before = {one.port: one for one in old.ports}
    for port in new.ports:
        known = before.get(port.port)
        if port.state is PortState.FOREIGN and (known is None or known.holder != port.holder):
            words = f"port {port.port} of {port.service} is held by {port.holder}"
            yield Event("Warning", reasons.PORT_FOREIGN, words)
