"""One service of a stack: what is next for it, by what its status claims and what is seen of its unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_never

from mainstay.api.program import RestartPolicy, RestartPolicyType
from mainstay.api.servicestack import LastExit, ServiceState, ServiceStatus
from mainstay.core import reasons
from mainstay.core.plan import (
    DefineService,
    RemoveService,
    ResumeService,
    StackEffect,
    StartService,
    StopService,
)
from mainstay.core.stack.ports import in_a_ring, trouble
from mainstay.core.stack.snapshot import ServiceView, StackSnapshot, Wish
from mainstay.core.stack.spec import readiness_of
from mainstay.core.unit import UnitState
from mainstay.core.words import exit_words

STEADY_SECONDS = 5.0
"""How long a service without a probe must live after a crash to count as running."""
PATIENCE_SECONDS = 2.0
"""How long a new service may be without an answer before that is said."""
LOOK_SECONDS = 5.0
"""A stranger's listener gives no event when it goes; nor does one that comes."""
SOONEST_SECONDS, SLOWEST_SECONDS = 0.01, 0.5
"""Between two questions whether a service is ready."""
UNKNOWN_GRACE_SECONDS = 30.0
"""Of a service that isn't declared any more, where its own grace can't be known either."""
WORDS = 400
"""Characters of a message: those of all services must fit into one status."""

_CLAIMED = (ServiceState.STARTING, ServiceState.RUNNING, ServiceState.BACKOFF)
_SETTLED = (reasons.COMPLETED, reasons.FAILED)


@dataclass(frozen=True, slots=True)
class Next:
    """A service's next status (None: forget it), or what to do under the present one."""

    status: ServiceStatus | None
    action: StackEffect | None = None
    seconds: float | None = None  # to look again even if nothing happens
    poll: bool = False


def advance(s: StackSnapshot, v: ServiceView, *, ordered: bool) -> Next:
    """What is next. `ordered`: dependsOn gives an order."""
    wish = s.wish_of(v)
    if v.unit.state is not UnitState.ABSENT and v.unit.owner_uid not in ("", s.uid):
        return _predecessor(s, v)
    if wish is Wish.STOP or wish is Wish.KILL:
        return _stop(s, v, wish, ordered=ordered) if v.live else _at_rest(s, v)
    if v.live:
        return _alive(s, v, wish)
    if v.problem is not None:
        return _troubled(v)
    return _begin(s, v) if wish is Wish.RUN else Next(_told(v))


def unordered(v: ServiceView, reason: str, words: str) -> Next:
    """Without an order nothing is started; what is over stays so."""
    if v.status.reason in _SETTLED:
        return Next(_told(v))
    return Next(_told(v, ServiceState.PENDING, reason, words))


# -- nothing of it lives ------------------------------------------------------------------------------


def _at_rest(s: StackSnapshot, v: ServiceView) -> Next:
    if v.spec is None or s.deleting:
        if v.unit.state is UnitState.EXITED:
            return Next(_told(v, ServiceState.STOPPED, reasons.REMOVED), RemoveService(v.name, s.uid))
        return Next(None if v.spec is None else _told(v, ServiceState.STOPPED, reasons.REMOVED))
    if v.unit.held_locally:
        where = f"{s.stack.metadata.name}/{v.name}"
        words = f"stopped on its host; `mainstay release stack/{where}` lets it run again"
        return Next(_told(v, ServiceState.STOPPED, reasons.HELD_LOCALLY, words))
    reason = reasons.STOPPED if s.resting else reasons.RESTARTING
    return Next(_told(v, ServiceState.STOPPED, reason))


def _troubled(v: ServiceView) -> Next:
    """Its last start was refused: say why, until it is due again."""
    problem = v.problem
    assert problem is not None
    state = ServiceState.FATAL if problem.refused else ServiceState.PENDING
    return Next(_told(v, state, problem.reason, problem.message), seconds=problem.retry_seconds)


def _begin(s: StackSnapshot, v: ServiceView) -> Next:
    """From a wish to a start: claim an attempt, then start it; or say what it waits for."""
    changed = v.inputs.hash != v.status.inputs_hash or v.restart_asked
    if v.status.reason in _SETTLED and not changed and v.status.state not in _CLAIMED:
        return Next(_told(v, v.status.state, v.status.reason, v.status.message))
    if ended := None if changed else _ended(v):
        return ended
    if v.inputs.problem is not None:
        return Next(_told(v, ServiceState.FATAL, *v.inputs.problem))
    if found := trouble(s, v):
        return Next(_told(v, ServiceState.PENDING, *found), seconds=LOOK_SECONDS)
    if missing := _not_ready(s, v):
        words = f"waits for {', '.join(missing)}"
        return Next(_told(v, ServiceState.PENDING, reasons.DEPENDENCY_NOT_READY, words))
    if v.status.state is ServiceState.STARTING and v.unused_claim and not changed:
        return _launch(s, v)
    # A restored API server forgets attempts, the unit does not.
    latest = max(v.status.attempt, v.unit.attempt)
    attempt = v.status.attempt if v.unused_claim else latest + 1
    return Next(_claim(v, attempt, reasons.STARTING, f"starting attempt {attempt}"))


def _launch(s: StackSnapshot, v: ServiceView) -> Next:
    """Under a claim that was never started: once its port is leased, the start."""
    assert v.spec is not None
    leased = v.spec.port is None or any(lease.port == v.spec.port for lease in s.leases)
    return Next(_told(v), StartService(v.name, v.status.attempt) if leased else None, poll=True)


def _ended(v: ServiceView) -> Next | None:
    """The claimed attempt ended, and nobody asked for it: what its restart policy says, None to start again."""
    asked = v.unit.stopping_seconds is not None
    unseen = v.unit.state is not UnitState.EXITED or v.unit.attempt != v.status.attempt
    if v.status.state not in _CLAIMED or asked or unseen:
        return None
    assert v.spec is not None
    policy = (v.spec.restart_policy or RestartPolicy()).policy
    code = v.unit.exit.code if v.unit.exit else None
    if policy is RestartPolicyType.ALWAYS:
        return None
    if code == 0:
        words = "it ended with exit code 0, and its restart policy leaves it so"
        return Next(_told(v, ServiceState.COMPLETED, reasons.COMPLETED, words))
    if policy is RestartPolicyType.NEVER:
        return Next(_told(v, ServiceState.FATAL, reasons.FAILED, exit_words(v.unit)))
    return None


def _not_ready(s: StackSnapshot, v: ServiceView) -> list[str]:
    """What it depends on and can't be started without."""
    assert v.spec is not None
    needed = [s.services[name] for name in v.spec.depends_on if name in s.services]
    return [one.name for one in needed if not _serves(one)]


def _serves(v: ServiceView) -> bool:
    """What depends on it may be started: it is up, also as one that has done what it was to do."""
    return v.status.up and (v.live or v.status.state is ServiceState.COMPLETED)


# -- something of it lives ----------------------------------------------------------------------------


def _stop(s: StackSnapshot, v: ServiceView, wish: Wish, *, ordered: bool) -> Next:
    """Claim the stop, then TERM, the grace on the runtime's own clock, and force; after those that depend on it."""
    if v.status.state is not ServiceState.STOPPING:
        reason = _why(s, v)
        return Next(_told(v, ServiceState.STOPPING, reason, _STOPPING.get(reason, "stopping")))
    begun = v.unit.stopping_seconds is not None
    if wish is Wish.STOP and ordered and not begun:
        first = [d for d in s.dependents(v.name) if d.live and s.wish_of(d) is Wish.STOP]
        if first:
            return Next(_told(v))
    return _ending(s, v, force=wish is Wish.KILL)


_STOPPING = {
    reasons.REMOVED: "stopping, it isn't declared any more",
    reasons.HELD_LOCALLY: "stopping, it is held on its host",
    reasons.STOP_REQUESTED: "stopping, as spec.state asks",
    reasons.RESTARTING: "stopping, for a restart of the stack",
    reasons.DELETING: "stopping, the stack is being deleted",
}


def _why(s: StackSnapshot, v: ServiceView) -> str:
    if s.deleting:
        return reasons.DELETING
    if v.spec is None:
        return reasons.REMOVED
    if v.unit.held_locally:
        return reasons.HELD_LOCALLY
    return reasons.STOP_REQUESTED if s.resting else reasons.RESTARTING


def _ending(s: StackSnapshot, v: ServiceView, *, force: bool = False) -> Next:
    own = v.unit.grace_seconds if v.unit.grace_seconds is not None else UNKNOWN_GRACE_SECONDS
    grace = float(v.spec.program.termination_grace_period_seconds) if v.spec is not None else own
    elapsed = v.unit.stopping_seconds
    if force or (elapsed is not None and elapsed >= grace):
        stop = StopService(v.name, grace, force=True, deleting=s.deleting)
        return Next(_told(v), stop, poll=True)
    if elapsed is None or not v.unit.stop_told:
        return Next(_told(v), StopService(v.name, grace, deleting=s.deleting), poll=True)
    return Next(_told(v), seconds=grace - elapsed)


def _predecessor(s: StackSnapshot, v: ServiceView) -> Next:
    """The name is still taken by a process of a stack that was deleted and created again."""
    if v.status.reason != reasons.PREDECESSOR:
        words = "waiting for the process of an earlier stack of this name to end"
        return Next(_told(v, ServiceState.PENDING, reasons.PREDECESSOR, words))
    if v.live:
        return _ending(s, v)
    return Next(v.status, RemoveService(v.name, v.unit.owner_uid))


def _alive(s: StackSnapshot, v: ServiceView, wish: Wish) -> Next:
    old, unit = v.status, v.unit
    if unit.attempt < old.attempt:
        return _ending(s, v)  # the claim on a later attempt is what authorises its end
    if unit.state is UnitState.STOPPING:
        if old.state is ServiceState.STOPPING:
            return _ending(s, v)  # begun stops are finished before the next wish is looked at
        return Next(_told(v, ServiceState.STOPPING, reasons.STOP_REQUESTED, "stopping"))
    if unit.attempt > old.attempt or old.state not in _CLAIMED:
        return Next(_adopted(v))
    if wish is Wish.RUN and _rolls(v) and (not trouble(s, v) or in_a_ring(s, v)):
        asked = v.restart_asked
        reason = reasons.RESTART_REQUESTED if asked else reasons.INPUTS_CHANGED
        why = "restartNonce was raised" if asked else "its declaration was changed"
        return Next(_claim(v, old.attempt + 1, reason, f"restarting as attempt {old.attempt + 1}: {why}"))
    return _living(s, v)


def _rolls(v: ServiceView) -> bool:
    """What lives is to be replaced: a restart was asked for, or it was started with other inputs than are declared."""
    if v.inputs.problem is not None:
        return False
    if v.restart_asked:
        return True
    return v.inputs.hash not in ("", v.status.inputs_hash) or v.unit.inputs_hash not in ("", v.inputs.hash)


def _adopted(v: ServiceView) -> ServiceStatus:
    """What lives is the truth about what was claimed."""
    words = f"found alive as attempt {v.unit.attempt}"
    told = _told(v, ServiceState.STARTING, reasons.STARTING, words)
    hash_ = v.unit.inputs_hash or v.inputs.hash or None
    return told.model_copy(
        update={
            "attempt": max(v.unit.attempt, v.status.attempt),
            "inputs_hash": hash_,
            "handled_restart_nonce": v.spec.restart_nonce if v.spec is not None else 0,
            **_seen(v),
        }
    )


def _living(s: StackSnapshot, v: ServiceView) -> Next:
    """A process of the claimed attempt exists, and should."""
    unit = v.unit
    match unit.state:
        case UnitState.RUNNING if unit.pause_marked:
            return Next(_told(v), ResumeService(v.name))
        case UnitState.RUNNING if not unit.defined and v.problem is None:
            return Next(_told(v), DefineService(v.name, v.status.attempt))
        case UnitState.RUNNING:
            return _serving(s, v)
        case UnitState.PAUSED | UnitState.HELD:
            words = "its processes were stopped by a signal; they are let go on"
            status = _told(v, ServiceState.RUNNING, reasons.SUSPENDED_BY_SIGNAL, words)
            return Next(status, ResumeService(v.name), poll=True)
        case UnitState.WAITING if v.status.state is ServiceState.STARTING:
            return Next(v.status, poll=True)  # its process is told with what comes of it
        case UnitState.BACKOFF | UnitState.WAITING:
            words = f"started again with growing delays: {exit_words(unit)}"
            return Next(_told(v, ServiceState.BACKOFF, reasons.CRASH_LOOP, words), seconds=1.0)
        case UnitState.ABSENT | UnitState.EXITED | UnitState.STOPPING:
            raise AssertionError(unit.state)
        case _:
            assert_never(unit.state)


def _serving(s: StackSnapshot, v: ServiceView) -> Next:
    """The program runs: Running once it serves; not ready, in words, while it does not, or isn't what is declared."""
    assert v.spec is not None
    if held := _held_back(s, v):
        return Next(_told(v, ServiceState.RUNNING, *held), seconds=LOOK_SECONDS)
    readiness, age = readiness_of(v.spec), v.age
    if readiness is None:
        if v.status.reason == reasons.CRASH_LOOP and age < STEADY_SECONDS:
            return Next(
                _told(v), seconds=STEADY_SECONDS - age
            )  # else each start of a loop would look like a success
        return Next(_told(v, ServiceState.RUNNING, reasons.RUNNING, ready=True))
    period = float(readiness.period_seconds)
    if v.probe is not None and v.probe.ready:
        told = _told(v, ServiceState.RUNNING, reasons.RUNNING, ready=True)
        return Next(told, seconds=period)
    state = v.status.state
    soon = min(
        SLOWEST_SECONDS, max(SOONEST_SECONDS, age / 8)
    )  # so what waits for it loses an eighth of its start
    if state is ServiceState.STARTING and age < PATIENCE_SECONDS:
        return Next(v.status, seconds=soon)
    why = v.probe.message if v.probe is not None else "it was not asked yet"
    state = ServiceState.STARTING if state is ServiceState.STARTING else ServiceState.RUNNING
    return Next(_told(v, state, reasons.NOT_READY, why), seconds=soon)


def _held_back(s: StackSnapshot, v: ServiceView) -> tuple[str, str] | None:
    """Why what lives isn't what is declared, and can't be now: (reason, message)."""
    found = v.inputs.problem or (trouble(s, v) if _rolls(v) else None)
    return (found[0], f"{found[1].removesuffix('.')}. The process started before goes on.") if found else None


# -- what is told -------------------------------------------------------------------------------------


def _claim(v: ServiceView, attempt: int, reason: str, words: str) -> ServiceStatus:
    told = _told(v, ServiceState.STARTING, reason, words)
    nonce = max(v.spec.restart_nonce if v.spec is not None else 0, v.status.handled_restart_nonce or 0)
    fresh = {"attempt": attempt, "inputs_hash": v.inputs.hash, "handled_restart_nonce": nonce}
    fresh |= {"process": None, "since": None, "restarts": 0}
    return told.model_copy(update=fresh)


def _told(
    v: ServiceView,
    state: ServiceState | None = None,
    reason: str | None = None,
    message: str = "",
    *,
    ready: bool | None = None,
) -> ServiceStatus:
    """The status with what is seen of the unit; without a state, as far as it was told before."""
    same = state is None
    update: dict[str, Any] = {
        "state": v.status.state if state is None else state,
        "reason": v.status.reason if reason is None else reason,
        "message": v.status.message if same else message[:WORDS],
        "ready": (v.status.ready and v.live) if ready is None and same else bool(ready),
        **_seen(v),
    }
    return v.status.model_copy(update=update)


def _seen(v: ServiceView) -> dict[str, Any]:
    """The fields that tell of the process, and of the one before."""
    unit, seen = v.unit, dict[str, Any]()
    if unit.exit is not None and (unit.exit.code is not None or unit.exit.signal is not None):
        words = exit_words(unit)[:WORDS]
        seen["last_exit"] = LastExit(code=unit.exit.code, signal=unit.exit.signal, message=words)
    if not v.live or unit.leader is None or unit.attempt < v.status.attempt:
        return seen | {"process": None, "since": None}
    leader = unit.leader
    seen["process"] = leader.status
    seen["since"] = v.since
    seen["restarts"] = unit.restarts
    return seen
