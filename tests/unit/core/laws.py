"""What must hold of every plan, and of every state in which nothing is left to do. A broken law is a word."""

from __future__ import annotations

from collections.abc import Iterator

from tests.unit.core.worlds import GENERATION, UID, World

from mainstay.api.conditions import ConditionStatus, find
from mainstay.api.strategyrun import RunPhase, StrategyRunStatus
from mainstay.core import plan as p
from mainstay.core import reasons
from mainstay.core.run.decide import RunPlan
from mainstay.core.snapshot import RunSnapshot, Wish
from mainstay.core.unit import GONE, UnitState

ALWAYS_TOLD = ("Ready", "Serving", "Reconciling", "Stalled")
HELD = (UnitState.PAUSED, UnitState.HELD)
NO_PORT = (
    reasons.POOL_EXHAUSTED,
    reasons.POOL_NOT_FOUND,
    reasons.PORT_TAKEN,
    reasons.PORT_NOT_IN_POOL,
)


def broken_by(s: RunSnapshot, plan: RunPlan) -> Iterator[str]:
    """Laws that this plan breaks."""
    match plan:
        case p.Write(status=status):
            yield from _by_write(s, status)
        case p.Act(action=action):
            yield from _by_act(s, action)
        case p.Wait():
            pass


def _by_write(s: RunSnapshot, new: StrategyRunStatus) -> Iterator[str]:
    old = s.status
    types = [c.type for c in new.conditions]
    nonce = (old.handled_restart_nonce, new.handled_restart_nonce)
    laws = {
        "writes only what is new": new != old,
        "runId is constant": new.run_id == (old.run_id or s.spec.run_id or s.uid),
        "attempt never falls": new.attempt >= old.attempt,
        "attempts are claimed one by one": new.attempt <= max(old.attempt, s.unit.attempt) + 1,
        "says every condition once": all(types.count(kind) == 1 for kind in ALWAYS_TOLD),
        "says what generation it is of": new.observed_generation == GENERATION,
        "hands a nonce over as it is": nonce[0] == nonce[1] or nonce[1] == s.spec.restart_nonce,
        "consumes a nonce by acting on it": nonce[0] in {None, nonce[1]}
        or new.phase in {RunPhase.STARTING, RunPhase.STOPPING}
        or s.wish is Wish.STOP,
        "a start forgets the last stop": new.phase is not RunPhase.RUNNING or new.stopped_at is None,
        "names no process that is gone": new.process is None or s.live,
    }
    if "Ready" in types and _told(new, "Ready") == "True":
        laws["Ready is what is asked"] = s.foreign_unit or _as_asked(s, new)
    yield from (law for law, holds in laws.items() if not holds)


def _told(status: StrategyRunStatus, kind: str) -> str | None:
    condition = find(status.conditions, kind)
    return None if condition is None else condition.status.value


def _reason(status: StrategyRunStatus) -> str:
    ready = find(status.conditions, "Ready")
    return "" if ready is None else ready.reason


def _as_asked(s: RunSnapshot, new: StrategyRunStatus) -> bool:
    if s.wish is Wish.STOP:
        return not s.live and new.phase is RunPhase.STOPPED
    if new.phase is RunPhase.STOPPED:
        return not s.live and _reason(new) == reasons.COMPLETED
    if s.inputs.problem is not None or new.inputs_hash != s.inputs.hash:
        return False
    if s.wish is Wish.PAUSE:
        return new.phase is RunPhase.PAUSED and s.unit.state in HELD
    serves = s.probe is not None and s.probe.ready
    return new.phase is RunPhase.RUNNING and s.unit.state is UnitState.RUNNING and serves


def _by_act(s: RunSnapshot, action: p.Action) -> Iterator[str]:
    status, leased = s.status, {lease.port for lease in s.leases}
    laws: dict[str, bool] = {}
    match action:
        case p.StartUnit(attempt=attempt, port=port):
            laws = {
                "starts only what is claimed": status.phase is RunPhase.STARTING
                and (attempt, port) == (status.attempt, status.port),
                "starts only with its lease": port is None or port in leased,
                "starts with a port where one is asked": (port is None) == (s.spec.control_api is None),
                "starts only what is gone": not s.live,
                "starts only what may run": s.wish is not Wish.STOP and s.inputs.problem is None,
            }
        case p.DefineUnit():
            laws = {"defines only what may run": s.inputs.problem is None}
        case p.CreateLease(port=port):
            laws = {"leases only what is claimed": port == status.port and s.spec.control_api is not None}
        case p.DeleteLease(name=name):
            carried = s.unit.port if s.live else None
            laws = {"keeps the lease of a live process": name not in _names(s, carried)}
        case p.RemoveFinalizer():
            laws = {
                "lets go only what is deleted": s.deleting,
                "lets go only what is gone": s.foreign_unit or s.unit.state is UnitState.ABSENT,
                "lets go only without a lease": not leased,
            }
        case p.StopUnit():
            laws = {
                "stops only under a claim": status.phase is RunPhase.STOPPING
                or (status.phase is RunPhase.STARTING and s.unit.attempt < status.attempt)
                or (s.foreign_unit and s.reason == reasons.PREDECESSOR)
            }
        case p.RemoveUnit(owner_uid=owner):
            laws = {"forgets only what is gone": s.unit.state in GONE and s.unit.owner_uid in {"", owner}}
        case p.PauseUnit():
            laws = {"pauses only what is asked": s.wish is Wish.PAUSE}
        case p.ResumeUnit():
            laws = {
                "resumes only what is asked": s.wish is Wish.RUN,
                "resumes only what was paused": s.unit.pause_marked or s.unit.state in HELD,
            }
        case p.AddFinalizer():
            laws = {"guards only what stays": not s.deleting}
    yield from (law for law, holds in laws.items() if not holds)


def _names(s: RunSnapshot, port: int | None) -> set[str]:
    return {lease.name for lease in s.leases if lease.port == port}


def unmet(world: World) -> Iterator[str]:
    """What the spec asks and the world, where nothing is left to do, is not."""
    held = set(world.leases)
    if world.run is None:
        if held:
            yield "gone with a lease"
        if world.unit.state is not UnitState.ABSENT and world.unit.owner_uid in {"", UID}:
            yield "gone with a unit"
        return
    s = world.snapshot()
    if s.deleting:
        if s.has_finalizer:
            yield "deleted and still there"
        return
    ready = _told(s.status, "Ready")
    laws = {
        "tells of this generation": s.status.observed_generation == GENERATION,
        "Reconciling or Stalled, or Ready": ready == "True" or "True" in _trouble(s.status),
    }
    if _told(s.status, "PortAllocated") == "False":
        laws["holds what it says"] = not held
    laws["names no process where none lives"] = s.live or s.status.process is None
    laws |= _resting(s, held, ready) or _living(world, s, held, ready)
    yield from (law for law, holds in laws.items() if not holds)


def _trouble(status: StrategyRunStatus) -> tuple[str | None, str | None]:
    return _told(status, "Reconciling"), _told(status, "Stalled")


def _told_held(status: StrategyRunStatus) -> bool:
    return _reason(status) == reasons.HELD_LOCALLY and _told(status, "Stalled") == "True"


def _resting(s: RunSnapshot, held: set[int], ready: str | None) -> dict[str, bool]:
    """Where nothing should live; empty where something should."""
    if s.wish is Wish.STOP:
        return {
            "Stopped": s.status.phase is RunPhase.STOPPED and not s.live,
            "Stopped without a lease": not held,
            "Stopped as asked is Ready, held on the host is not": (ready == "True") is not s.wants_process,
            "held on the host is told": not s.wants_process or _told_held(s.status),
            "the brake is told": (_told(s.status, "HeldLocally") == "True") is s.unit.held_locally,
        }
    if s.ended:
        over = s.status.phase in {RunPhase.STOPPED, RunPhase.FAILED} and not s.live
        return {"ended": over, "ended without a lease": not held}
    if s.inputs.problem is not None:
        return {
            "a problem is told": _told(s.status, "Stalled") == ConditionStatus.TRUE,
            "a problem holds no port": s.live or not held,
        }
    if s.status.phase is RunPhase.PENDING:
        told = _reason(s.status) in NO_PORT
        return {"Pending for a port": told and s.spec.control_api is not None, "Pending holds none": not held}
    return {}


def _living(world: World, s: RunSnapshot, held: set[int], ready: str | None) -> dict[str, bool]:
    port = s.status.port if s.spec.control_api is not None else None
    laws = {
        "lives as claimed": s.unit.attempt == s.status.attempt and s.unit.port == port,
        "holds its lease and no other": held == ({port} - {None}),
        "has a port where one is asked": (port is None) == (s.spec.control_api is None),
        "has the port that is asked": s.spec.control_api is None or s.spec.control_api.port in {None, port},
        "lives with what is declared": s.unit.inputs_hash in {"", s.inputs.hash},
        "is defined": s.unit.defined or not world.ready,
    }
    if s.wish is Wish.PAUSE:
        paused = s.status.phase is RunPhase.PAUSED and s.unit.state in HELD
        return laws | {"Paused": paused, "Paused is Ready": ready == "True"}
    laws["runs"] = s.unit.state is UnitState.RUNNING
    laws["a pause that was begun is lifted"] = not s.unit.pause_marked
    if world.ready:
        return laws | {"Running": s.status.phase is RunPhase.RUNNING, "Running is Ready": ready == "True"}
    return laws | {"says that it is not ready": _reason(s.status) == reasons.NOT_READY and ready != "True"}
