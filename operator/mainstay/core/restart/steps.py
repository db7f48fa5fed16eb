"""Each step of a restart: is it done, what is to be done for it, or why can't it be.

A step is a statement about what is seen, so whoever comes back after a crash asks it again and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter

from mainstay.api.servicestack import ServiceState, ServiceStatus
from mainstay.api.stackrestart import RestartMode, StepName, VerifiedService
from mainstay.core import reasons
from mainstay.core.plan import EndHolders, EndSupervisor, RestartEffect, StartSupervisor
from mainstay.core.restart.snapshot import Look, RestartSnapshot
from mainstay.core.restart.verify import ports_only, services
from mainstay.core.stack.ports import foreign_words
from mainstay.core.unit import PortHolder, ProcessId, Unit

KILL_SECONDS = 5.0
"""For the kernel to end what was killed."""
START_SECONDS = 20.0
"""For a new supervisor to answer."""
SOCKET_SECONDS = 2.0
"""For a socket to go after the process that listened."""
CLOSING_SECONDS = 65.0
"""For closed connections whose listener had no SO_REUSEADDR: the kernel keeps them for a minute."""
LOOK_SECONDS = 1.0
"""What the stack's services do is told by its status; this is for what is not."""
LOOP_RESTARTS = 2
"""Restarts in a row after which a service isn't waited for any longer."""


@dataclass(frozen=True, slots=True)
class Done:
    """It is so. `message` and `details` are what is recorded."""

    message: str
    details: tuple[str, ...] = ()
    verified: tuple[VerifiedService, ...] | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """It can't be: why, and what to do."""

    message: str
    details: tuple[str, ...] = ()
    verified: tuple[VerifiedService, ...] | None = None


@dataclass(frozen=True, slots=True)
class Do:
    """Have an effect, once `details` tell of it."""

    action: RestartEffect
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """For what others do: the stack's services stop or start as its wish says."""

    seconds: float | None = None
    poll: bool = False


Outcome = Done | Failed | Do | Waiting


def step(s: RestartSnapshot) -> Outcome:
    """What the present step comes to."""
    assert s.status.step is not None
    return _STEPS[s.status.step](s)


def looks(s: RestartSnapshot) -> frozenset[Look]:
    """What the present step goes by: nothing else needs to be gathered for it. By what is told, not by what is seen.

    A restart is asked again whenever its stack tells something, so what the stack looks at isn't looked at twice.
    """
    match s.status.step:
        case StepName.STOP_SERVICES | StepName.KILL_SERVICES:
            late = s.lately.step_seconds > _stop_limit(s)
            return frozenset({Look.UNITS, Look.SUPERVISOR} if late or _told_stopped(s) else ())
        case StepName.STOP_SUPERVISOR | StepName.KILL_SUPERVISOR | StepName.START_SUPERVISOR:
            return frozenset({Look.SUPERVISOR})
        case StepName.FLUSH_PORTS | StepName.CHECK_PORTS | StepName.VERIFY_PORTS:
            return frozenset({Look.PORTS})
        case StepName.VERIFY if s.mode is RestartMode.FLUSH:
            return frozenset({Look.PORTS})
        case StepName.VERIFY:
            return frozenset({Look.UNITS, Look.PORTS, Look.PROBES})
        case _:
            return frozenset()


# -- ports --------------------------------------------------------------------------------------------


def _flush(s: RestartSnapshot) -> Outcome:
    """No stranger listens on an assigned port. Nobody is ended before all are known to be endable."""
    found = s.step.details if s.step is not None else ()
    strangers = s.strangers
    if not strangers:
        ended = len(found)
        if not ended:
            return Done("no stranger held an assigned port")
        return Done(f"{ended} {_s(ended, 'listener')} of strangers ended", found)
    if refused := [one for one in strangers if not one.endable]:
        words = "; ".join(_unendable(one) for one in refused)
        return Failed(f"{words}. Nothing of it was ended", found)
    lines = (
        *found,
        *(line for line in map(_asked, strangers) if line not in found and _killed(line) not in found),
    )
    ports = tuple(sorted({one.port for one in strangers}))
    since, grace = s.lately.flush_seconds, float(s.timeouts.flush_seconds)
    if since is None:
        return Do(EndHolders(ports), lines[:LINES])
    if since < grace:
        return Do(EndHolders(ports), lines[:LINES]) if lines != found else Waiting(poll=True)
    if since < grace + KILL_SECONDS:
        asked = {_asked(one) for one in strangers}
        killed = tuple(_killed(line) if line in asked else line for line in lines)
        return Do(EndHolders(ports, force=True), killed[:LINES])
    words = ", ".join(dict.fromkeys(f"port {one.port} by {one.words}" for one in strangers))
    return Failed(
        f"still held, or taken again after they were ended: {words}. Stop what starts them (a service manager, "
        "a shell loop), or end them as another user, then ask again",
        found,
    )


LINES = 64


def _asked(holder: PortHolder) -> str:
    return f"port {holder.port}: {holder.words} was asked to stop"[:512]


def _killed(line: str) -> str:
    return line.removesuffix("was asked to stop") + "was killed"


def _unendable(holder: PortHolder) -> str:
    found = f"port {holder.port} is held by {holder.words}"
    if holder.protected:
        return f"{found}, which is never ended: {holder.protected}. Give one of the two another port"
    return f"{found}, which can't be seen from here. End it as its own user"


def _check(s: RestartSnapshot) -> Outcome:
    """A quick restart ends no stranger, so one on an assigned port would be in its way."""
    if not s.strangers:
        return Done("no stranger holds an assigned port")
    name = s.declared.metadata.name
    words = "; ".join(foreign_words(one, name) for one in s.strangers)
    return Failed(
        f"{words}. Nothing was touched; `kubectl mainstay restart {name}` ends strangers and restarts"
    )


def _verify_ports(s: RestartSnapshot) -> Outcome:
    """Each assigned port is free before anything is started."""
    held = [one for port in s.ports for one in s.holders.get(port, ())]
    if not held:
        return Done(f"{len(s.ports)} assigned {_s(len(s.ports), 'port')} free")
    if s.lately.step_seconds < SOCKET_SECONDS and not s.strangers:
        return Waiting(poll=True)
    if s.lately.step_seconds < CLOSING_SECONDS and all(one.passing for one in held):
        return Waiting(LOOK_SECONDS)
    words = "; ".join(foreign_words(one, s.declared.metadata.name) for one in held)
    again = " It was taken after the flush: stop what starts it." if s.mode is not RestartMode.QUICK else ""
    return Failed(f"{words}.{again}")


# -- services -----------------------------------------------------------------------------------------


def _stop(s: RestartSnapshot) -> Outcome:
    """Nothing of the stack lives, and its status says so: no start is under way any more."""
    if not s.living and _told_stopped(s):
        names = [one.name for one in s.declared.spec.services]
        lines = tuple(f"{name}: {_end(s.units.get(name))}" for name in names)
        killed = sum("killed" in line for line in lines)
        more = f", {killed} of them killed" if killed and s.mode is not RestartMode.EMERGENCY else ""
        return Done(f"{len(names)} {_s(len(names), 'service')} stopped{more}", lines)
    limit = _stop_limit(s)
    if s.living and s.lately.step_seconds > limit:
        words = ", ".join(f"{name} (pid {_pid(s.units[name])})" for name in s.living)
        return Failed(
            f"still alive after {limit:.0f} s and KILL: {words}. The kernel holds them (state D in `ps`): a disk or a "
            "network mount that does not answer"
        )
    return Waiting(LOOK_SECONDS)


def _told_stopped(s: RestartSnapshot) -> bool:
    return all(one.state is ServiceState.STOPPED for one in s.declared.status.services)


def _stop_limit(s: RestartSnapshot) -> float:
    """Seconds beyond which only the kernel can hold a process: one grace period after the other, and then some."""
    if s.mode is RestartMode.EMERGENCY:
        return 30.0
    grace = max((one.program.termination_grace_period_seconds for one in s.declared.spec.services), default=0)
    return len(s.declared.spec.services) * grace + 30.0


def _end(unit: Unit | None) -> str:
    if unit is None or unit.exit is None:
        return "stopped"
    if unit.exit.signal is not None:
        return "killed" if unit.exit.signal == 9 else f"stopped by signal {unit.exit.signal}"
    return f"stopped, exit code {unit.exit.code}" if unit.exit.code is not None else "stopped"


def _pid(unit: Unit) -> str:
    return str(unit.leader.pid) if unit.leader is not None else "unknown"


def _start(s: RestartSnapshot) -> Outcome:
    """Every service is up, or won't be by waiting. Which of the two the verification tells."""
    waiting = _on_their_way(s)
    if waiting and s.lately.step_seconds < s.timeouts.start_seconds:
        return Waiting(LOOK_SECONDS)
    all_ = s.declared.spec.services
    up = sum(s.told(one).up for one in all_)
    late = f"; not up after {s.timeouts.start_seconds} s: {', '.join(waiting)}" if waiting else ""
    return Done(f"{up} of {len(all_)} {_s(len(all_), 'service')} started{late}")


def _on_their_way(s: RestartSnapshot) -> list[str]:
    """Services for which waiting may help; not where what they depend on won't come up either."""
    services = {one.name: one for one in s.declared.spec.services}
    hopeful: set[str] = set()
    for name in TopologicalSorter({one.name: one.depends_on for one in services.values()}).static_order():
        if name in services:
            needed = (
                s.told(services[n]).up or n in hopeful for n in services[name].depends_on if n in services
            )
            if _moves(s.told(services[name])) or (_waits(s.told(services[name])) and all(needed)):
                hopeful.add(name)
    return [name for name in services if name in hopeful]


def _moves(told: ServiceStatus) -> bool:
    """It is being started, or soon will be."""
    match told.state:
        case ServiceState.RUNNING:
            return not told.ready and told.restarts < LOOP_RESTARTS and told.reason not in _HELD_UP
        case ServiceState.STARTING | ServiceState.STOPPING | ServiceState.BACKOFF:
            return told.restarts < LOOP_RESTARTS
        case ServiceState.STOPPED:
            return told.reason != reasons.HELD_LOCALLY
        case ServiceState.PENDING:
            return told.reason in ("", reasons.STARTING, reasons.PORT_CLOSING)
        case ServiceState.COMPLETED | ServiceState.FATAL:
            return False


_HELD_UP = (reasons.PORT_FOREIGN, reasons.PORT_TAKEN)


def _waits(told: ServiceStatus) -> bool:
    return told.state is ServiceState.PENDING and told.reason == reasons.DEPENDENCY_NOT_READY


# -- the supervisor -----------------------------------------------------------------------------------


def _end_supervisor(s: RestartSnapshot) -> Outcome:
    """The supervisord that was claimed is gone, and its socket and pid file with it."""
    force = s.mode is RestartMode.EMERGENCY
    before = s.status.supervisor
    gone = before is not None and not _same(s.supervisor, before.pid, before.start_ticks, before.boot_id)
    if s.lately.ended or (gone and s.supervisor is not None):
        who = (
            f"supervisord (pid {before.pid})" if before is not None else "supervisord, which did not answer,"
        )
        return Done(f"{who} {'killed' if force else 'stopped'}; socket and pid file removed")
    if s.lately.trouble and s.lately.step_seconds > s.timeouts.supervisor_seconds + START_SECONDS:
        return Failed(f"supervisord can't be ended: {s.lately.trouble}")
    return Do(EndSupervisor(float(s.timeouts.supervisor_seconds), force=force))


def _start_supervisor(s: RestartSnapshot) -> Outcome:
    before = s.status.supervisor
    now = s.supervisor
    if now is not None and not (before and _same(now, before.pid, before.start_ticks, before.boot_id)):
        return Done(f"supervisord (pid {now.pid}) answers")
    if s.lately.trouble and s.lately.step_seconds > START_SECONDS:
        return Failed(
            f"supervisord does not start: {s.lately.trouble}. `kubectl mainstay logs stack/"
            f"{s.declared.metadata.name} --supervisor` has its log; `kubectl mainstay doctor` looks for more"
        )
    return Do(StartSupervisor())


def _same(process: ProcessId | None, pid: int, ticks: int, boot: str) -> bool:
    return process is not None and (process.pid, process.start_ticks, process.boot_id) == (pid, ticks, boot)


# -- the end ------------------------------------------------------------------------------------------


def _verify(s: RestartSnapshot) -> Outcome:
    """One by one: every service up, or what is wrong with it. Of a flush: every port."""
    if s.mode is RestartMode.FLUSH:
        lines, wrong = ports_only(s)
        if wrong:
            return Failed(f"{'; '.join(wrong)}. Ask again, or see `kubectl mainstay ports`", lines)
        return Done(f"{len(s.ports)} assigned {_s(len(s.ports), 'port')} without a stranger", lines)
    late = s.lately.step_seconds >= s.timeouts.steady_seconds + SOCKET_SECONDS
    found, steady = services(s, late=late)
    down = [one for one in found if not one.up]
    if not late and (down or steady > 0):
        return Waiting(poll=True) if down else Waiting(steady)
    lines = tuple(f"{one.name}: {one.message}"[:512] for one in found)
    if down:
        words = "; ".join(f"{one.name} is not up: {one.message}" for one in down)
        name = s.declared.metadata.name
        return Failed(
            f"{len(found) - len(down)} of {len(found)} services are up; {words}. `kubectl mainstay logs stack/{name} "
            f"{down[0].name}` has its last words"[:4096],
            lines,
            tuple(found),
        )
    return Done(f"{len(found)} of {len(found)} {_s(len(found), 'service')} up", lines, tuple(found))


def _s(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


_STEPS: Mapping[StepName, Callable[[RestartSnapshot], Outcome]] = {
    StepName.FLUSH_PORTS: _flush,
    StepName.CHECK_PORTS: _check,
    StepName.STOP_SERVICES: _stop,
    StepName.KILL_SERVICES: _stop,
    StepName.STOP_SUPERVISOR: _end_supervisor,
    StepName.KILL_SUPERVISOR: _end_supervisor,
    StepName.START_SUPERVISOR: _start_supervisor,
    StepName.VERIFY_PORTS: _verify_ports,
    StepName.START_SERVICES: _start,
    StepName.VERIFY: _verify,
}
