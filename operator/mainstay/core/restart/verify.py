"""The verification at the end of a restart, one by one, by what is seen and not by what was told."""

from __future__ import annotations

from mainstay.api.servicestack import Service, ServiceKind, ServiceState, ServiceStatus
from mainstay.api.stackrestart import VerifiedService
from mainstay.core import reasons
from mainstay.core.restart.snapshot import RestartSnapshot
from mainstay.core.stack.spec import readiness_of
from mainstay.core.unit import Unit, UnitState


def services(s: RestartSnapshot, *, late: bool) -> tuple[list[VerifiedService], float]:
    """Every service, and the seconds until the youngest of those without a probe has lived long enough.

    `late`: there was time enough for that, so one that is too young still does not stay up.
    """
    found, steady = [], 0.0
    for service in s.declared.spec.services:
        one, rest = _service(s, service, s.units.get(service.name))
        if late and rest > 0:
            words = f"it does not stay up: started again, {one.message.removeprefix('up, ')}"
            one = one.model_copy(update={"up": False, "message": words})
        found.append(one)
        steady = max(steady, rest)
    return found, steady


def _service(s: RestartSnapshot, service: Service, unit: Unit | None) -> tuple[VerifiedService, float]:
    told, name = s.told(service), service.name
    if told.state is ServiceState.COMPLETED:
        return VerifiedService(name=name, up=True, message="completed, exit code 0"), 0.0
    if unit is None or unit.state is not UnitState.RUNNING or unit.leader is None:
        return VerifiedService(name=name, up=False, message=_down(told, unit)), 0.0
    pid = f"pid {unit.leader.pid}"
    holders = s.holders.get(service.port, ()) if service.port is not None else ()
    stranger = next((one for one in holders if one.unit != name), None)
    if stranger is not None:
        words = f"{pid}, but port {service.port} is held by {stranger.words}"
        return VerifiedService(name=name, up=False, message=words), 0.0
    if service.kind is ServiceKind.HTTP and not holders:
        words = f"{pid}, but nothing listens on port {service.port}"
        return VerifiedService(name=name, up=False, message=words), 0.0
    where = f", holds port {service.port}" if holders else ""
    if readiness_of(service) is None:
        started = unit.started_at
        age = max(0.0, s.now.timestamp() - started) if started is not None else 0.0
        rest = max(0.0, s.timeouts.steady_seconds - age)
        return VerifiedService(name=name, up=True, message=f"up, {pid}{where}"), rest
    probe = s.probes.get(name)
    if probe is None or not probe.ready:
        why = probe.message if probe is not None else "it was not asked"
        return VerifiedService(name=name, up=False, message=f"{pid}{where}, but does not answer: {why}"), 0.0
    return VerifiedService(name=name, up=True, message=f"up, {pid}{where}, answers"), 0.0


def _down(told: ServiceStatus, unit: Unit | None) -> str:
    if told.reason == reasons.STARTING or not told.reason:
        return f"{told.state}: it is not running"
    state = (
        ""
        if unit is None or unit.state is not UnitState.PAUSED
        else ", its processes are stopped by a signal"
    )
    return f"{told.reason}{state}: {told.message}" if told.message else f"{told.reason}{state}"


def ports_only(s: RestartSnapshot) -> tuple[tuple[str, ...], list[str]]:
    """Each assigned port in words, and those that a stranger holds."""
    lines, wrong = [], []
    for port, service in s.ports.items():
        holders = s.holders.get(port, ())
        other = next((one for one in holders if one.unit != service), None)
        if other is not None:
            words = f"port {port} of {service} is held by {other.words}"
            if other.stranger:
                wrong.append(words)
            lines.append(words)
        else:
            lines.append(f"port {port}: {'held by ' + service if holders else 'free'}")
    return tuple(lines), wrong
