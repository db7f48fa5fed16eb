"""From a wish to a living process: claim, lease, start, ready."""

from __future__ import annotations

from mainstay.api.program import Readiness, RestartPolicy, RestartPolicyType
from mainstay.api.strategyrun import ProcessStatus, RunPhase, StrategyRunStatus
from mainstay.core import reasons
from mainstay.core.plan import Act, CreateLease, DeleteLease, Plan, ResumeUnit, StartUnit, Wait, Write
from mainstay.core.run import ports
from mainstay.core.run.ending import ending, stop_because
from mainstay.core.run.outlook import outlook, settle
from mainstay.core.snapshot import RunSnapshot, Wish
from mainstay.core.unit import UnitState

RunPlan = Plan[StrategyRunStatus]

FOREIGN_PORT_RETRY_SECONDS = 5.0
"""A stranger's listener gives no event when it goes."""


STEADY_SECONDS = 5.0
"""How long a program without a probe must live after a crash to count as running."""


def begin(s: RunSnapshot) -> RunPlan:
    """Claim the next attempt: nothing of the unit lives. The claim is written before any effect."""
    if s.inputs.problem:
        reason, message = s.inputs.problem
        return settle(s, outlook(s, RunPhase.PENDING, reason, message, ready=False, stalled=True))
    choice = ports.choose(s)
    if isinstance(choice, ports.NoPort):
        if extra := next(iter(s.leases), None):
            return Act(DeleteLease(extra.name, extra.uid, extra.resource_version))
        status = outlook(
            s,
            RunPhase.PENDING,
            choice.reason,
            choice.message,
            ready=False,
            stalled=choice.needs_person,
            port_trouble=(choice.reason, choice.message),
            changes={"process": None},
        )
        return settle(s, status, Wait(FOREIGN_PORT_RETRY_SECONDS if s.ports.foreign else None))
    return Write(_claim(s, choice, s.status.attempt + 1))


def _claim(s: RunSnapshot, port: int | None, attempt: int) -> StrategyRunStatus:
    return outlook(
        s,
        RunPhase.STARTING,
        reasons.STARTING,
        f"starting attempt {attempt}" + (f" on port {port}" if port else ""),
        changes={
            "port": port,
            "attempt": attempt,
            "restarts": 0,
            "inputs_hash": s.inputs.hash,
            "handled_restart_nonce": s.spec.restart_nonce,
            "process": None,
            "started_at": None,
            "stopped_at": None,
        },
    )


def starting(s: RunSnapshot) -> RunPlan:
    """Under a claim: lease, then start, then wait until it serves."""
    if s.wish is Wish.STOP:
        return stop_because(s)
    if rolls := s.rolls:
        if s.live:
            return stop_because(s, rolls)
        return Write(_claim(s, s.status.port, s.status.attempt))
    if s.live and s.unit.attempt != s.status.attempt:
        # An earlier attempt still lives. The claim on a later one is what authorises its end.
        return ending(s)
    if plan := leased(s):
        return plan
    match s.unit.state:
        case UnitState.ABSENT:
            return _launch(s)
        case UnitState.EXITED:
            return _launch(s) if s.unit.attempt != s.status.attempt else exited(s)
        case UnitState.STOPPING:
            return stop_because(s)
        case UnitState.HELD if s.wish is Wish.PAUSE:
            return Write(outlook(s, RunPhase.PAUSED, reasons.PAUSED, "paused before its program was started"))
        case UnitState.HELD:
            return _launch(s)
        case UnitState.PAUSED if s.wish is Wish.PAUSE:
            return Write(outlook(s, RunPhase.PAUSED, reasons.PAUSED, "paused"))
        case UnitState.PAUSED:
            return Act(ResumeUnit())
        case UnitState.BACKOFF:
            return settle(s, crash_loop(s), Wait(1.0))
        case UnitState.WAITING:
            return Wait(poll=True)
        case UnitState.RUNNING if s.wish is Wish.PAUSE:
            return Write(outlook(s, RunPhase.PAUSING, reasons.PAUSING, "pausing"))
        case UnitState.RUNNING:
            return serving(s)


def leased(s: RunSnapshot) -> RunPlan | None:
    """What is missing between the claimed port and its lease, or None when the port is ours."""
    port = s.status.port if s.spec.control_api is not None else None
    mine = next((lease for lease in s.leases if lease.port == port), None)
    carried = s.unit.port if s.live else None
    for lease in s.leases:
        if lease.port not in (port, carried):
            return Act(DeleteLease(lease.name, lease.uid, lease.resource_version))
    if port is None or s.spec.control_api is None:
        return None
    if mine is None and port in s.ports.taken:
        return stop_because(s, reasons.PORT_LOST) if s.live else _elsewhere(s)
    if mine is None:
        return Act(CreateLease(port, s.spec.control_api.pool))
    return None


def _launch(s: RunSnapshot) -> RunPlan:
    if s.status.port is not None and s.status.port in s.ports.foreign:
        return _elsewhere(s)
    return Act(
        StartUnit(
            attempt=s.status.attempt,
            port=s.status.port,
            inputs_hash=s.status.inputs_hash or "",
            paused=s.wish is Wish.PAUSE,
        )
    )


def _elsewhere(s: RunSnapshot) -> RunPlan:
    """The claimed port went to someone else before the start: claim another for the same attempt."""
    choice = ports.choose(s)
    if isinstance(choice, ports.NoPort):
        return begin(s)
    return Write(_claim(s, choice, s.status.attempt))


def serving(s: RunSnapshot) -> RunPlan:
    """The program runs: Running once it serves, Starting until then."""
    process = seen_process(s)
    if s.reason == reasons.CRASH_LOOP and (left := _unsteady(s)) > 0:
        return Wait(left)
    if s.probe is not None and s.probe.ready:
        where = f" on port {s.status.port}" if s.status.port else ""
        status = outlook(
            s, RunPhase.RUNNING, reasons.RUNNING, f"running{where}", serving=True, changes=process
        )
        return settle(s, status, Wait(_period(s)))
    why = s.probe.message if s.probe else "not asked yet"
    status = outlook(
        s,
        s.status.phase or RunPhase.STARTING,
        reasons.NOT_READY,
        f"the process runs and is not ready: {why}",
        ready=False,
        changes=process,
    )
    # The words of a probe change from one to the next; only the state of things is worth a write.
    if s.reason == reasons.NOT_READY and status.process == s.status.process:
        return Wait(poll=True)
    return settle(s, status, Wait(poll=True))


def _unsteady(s: RunSnapshot) -> float:
    """Seconds until a program without a probe, that has crashed, counts as running again.

    A probe is proof enough; without one, every start of a crash loop would look like a success.
    """
    if _probed(s) or s.unit.started_at is None:
        return 0.0
    return s.unit.started_at + STEADY_SECONDS - s.now.timestamp()


def _probed(s: RunSnapshot) -> bool:
    readiness = s.spec.program.readiness
    if readiness is None:
        return s.spec.control_api is not None
    return any(p is not None for p in (readiness.tcp, readiness.http, readiness.exec))


def seen_process(s: RunSnapshot) -> dict[str, object]:
    """The fields of status that tell of the live leader."""
    leader = s.unit.leader
    if leader is None:
        return {"process": None}
    started = s.unit.started_at
    return {
        "process": ProcessStatus(pid=leader.pid, start_ticks=leader.start_ticks, boot_id=leader.boot_id),
        "restarts": s.unit.restarts,
        "started_at": None if started is None else s.now.fromtimestamp(int(started), tz=s.now.tzinfo),
        "stopped_at": None,
    }


def crash_loop(s: RunSnapshot) -> StrategyRunStatus:
    """It ended and waits for its next start: how it ended, with the last words of its stderr."""
    return outlook(
        s,
        RunPhase.STARTING,
        reasons.CRASH_LOOP,
        f"{exit_words(s)}; restarted with growing delays",
        ready=False,
        changes={"process": None, "restarts": s.unit.restarts},
    )


def exited(s: RunSnapshot) -> RunPlan:
    """The attempt under way ended and nothing restarts it: decide by its restart policy."""
    policy = (s.spec.restart_policy or RestartPolicy()).policy
    code = s.unit.exit.code if s.unit.exit else None
    if code == 0 and policy is not RestartPolicyType.ALWAYS:
        return Write(_ended(s, reasons.COMPLETED))
    if policy is RestartPolicyType.NEVER:
        return Write(_ended(s, reasons.FAILED))
    return begin(s)


def _ended(s: RunSnapshot, reason: str) -> StrategyRunStatus:
    return outlook(s, RunPhase.STOPPING, reason, exit_words(s), changes={"process": None})


def exit_words(s: RunSnapshot) -> str:
    """How the last process ended, in a sentence."""
    end = s.unit.exit
    if end is None or (end.code is None and end.signal is None):
        how = "the process ended, how was not seen"
    elif end.signal is not None:
        how = f"the process was ended by signal {end.signal}"
    else:
        how = f"the process ended with exit code {end.code}"
    said = "\n".join(end.last_lines) if end else ""
    return f"{how}; last lines of stderr:\n{said}" if said else how


def _period(s: RunSnapshot) -> float | None:
    if not _probed(s):
        return None
    readiness = s.spec.program.readiness or Readiness()
    return float(readiness.period_seconds)
