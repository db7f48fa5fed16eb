"""What must be true after every pass, and what must be true once nothing is left to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mainstay.api.meta import FINALIZER
from mainstay.core import reasons
from mainstay.core.inputs import inputs_of
from mainstay.core.names import unit_name
from mainstay.core.strategy.resolve import with_strategy
from mainstay.core.unit import GONE, LIVE, Unit, UnitSpec, UnitState
from mainstay.shell.kube import LEASES, POOLS, RUNS

if TYPE_CHECKING:
    from tests.sim.api import Ref
    from tests.sim.world import World

    from mainstay.shell.store import Object

NAMED = {
    reasons.POOL_EXHAUSTED,
    reasons.POOL_NOT_FOUND,
    reasons.PORT_TAKEN,
    reasons.PORT_NOT_IN_POOL,
    reasons.CONFIG_MAP_NOT_FOUND,
    reasons.SECRET_NOT_FOUND,
    reasons.CONTROL_API_MISSING,
    reasons.COMPLETED,
    reasons.FAILED,
    reasons.CRASH_LOOP,
    reasons.NOT_READY,
    reasons.HELD_LOCALLY,
    "RunAsRootRefused",
    reasons.STRATEGY_NOT_FOUND,
    reasons.STRATEGY_DELETED,
    reasons.STRATEGY_INVALID,
    reasons.STRATEGY_PENDING,
    reasons.REVISION_NOT_FOUND,
}
"""Reasons that explain why a run is not what its spec asks."""

HOLDING_NO_PORT = {
    reasons.POOL_EXHAUSTED,
    reasons.POOL_NOT_FOUND,
    reasons.PORT_TAKEN,
    reasons.PORT_NOT_IN_POOL,
    reasons.COMPLETED,
    reasons.FAILED,
    reasons.HELD_LOCALLY,
}


class OracleError(AssertionError):
    """A promise was broken."""


def ready(obj: Object) -> tuple[str, str]:
    """(status, reason) of the Ready condition."""
    for condition in obj.get("status", {}).get("conditions", ()):
        if condition["type"] == "Ready":
            return condition["status"], condition["reason"]
    return "", ""


class Oracle:
    """Watches writes and acts as they happen, and the whole world after each."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._attempts: dict[str, int] = {}
        self._run_ids: dict[str, str] = {}

    def rewound(self) -> None:
        """History was taken back: what was known of attempts is void."""
        self._attempts.clear()

    # --- as it happens

    def starting(self, spec: UnitSpec) -> None:
        """A process is about to be started: only under a claim of exactly this attempt and port."""
        unit = self._world.runtime.peek(spec.name)
        if unit.state in LIVE:
            if (unit.attempt, unit.owner_uid) != (spec.attempt, spec.owner_uid):
                raise OracleError(f"{spec.name} is started beside attempt {unit.attempt} of {unit.owner_uid}")
            return  # it has no effect
        run = self._owner(spec.owner_uid)
        if run is None and self._unheard(spec.owner_uid):
            self._world.forgotten.add(spec.name)
            return
        if run is None:
            raise OracleError(f"{spec.name} is started for an object that is gone")
        status = run.get("status", {})
        claimed = (status.get("phase"), status.get("attempt"), status.get("port"))
        if claimed != ("Starting", spec.attempt, spec.port) and not self._taken_back(run):
            raise OracleError(
                f"{spec.name} is started as attempt {spec.attempt} on {spec.port} under the claim {claimed}"
            )
        paused = run["spec"].get("state") == "Paused"
        if paused and not spec.paused and self._world.everyone_knows(run):
            raise OracleError(f"{spec.name} is paused and started unpaused")
        if spec.port in self._world.foreign and spec.port is not None and not self._world.hasty:
            raise OracleError(f"{spec.name} is started on port {spec.port}, where a stranger listens")

    def executed(self, spec: UnitSpec) -> None:
        """A program runs: not one whose status has said Paused all along."""
        run = self._owner(spec.owner_uid)
        status = (run or {}).get("status", {})
        if run and status.get("phase") == "Paused" == run["spec"].get("state") and not self._world.disturbed:
            raise OracleError(f"{spec.name} is Paused and was executed")

    def writing(self, what: str, ref: Ref, body: Any) -> None:
        """A write of an operator, about to count."""
        match what:
            case "status" if ref[0] == RUNS:
                self._status(ref, body)
            case "remove finalizer":
                self._letting_go(ref, body)
            case "create" if ref[0] == LEASES:
                self._leasing(body)
            case "delete" if ref[0] == LEASES:
                port, holder = body["spec"]["port"], body["spec"]["holder"]["uid"]
                for unit in self._world.runtime.peek_all():
                    theirs = self._world.disturbed and unit.owner_uid != holder  # a lease that was taken back
                    if unit.port == port and unit.state in LIVE and not theirs:
                        raise OracleError(f"the lease of {port} is deleted while {unit.name} is {unit.state}")
            case _:
                pass

    def _status(self, ref: Ref, status: Any) -> None:
        obj = self._world.api.objects[ref]
        uid, unit = obj["metadata"]["uid"], self._world.runtime.peek(unit_name(ref[1], ref[2]))
        if status["attempt"] < self._attempts.get(uid, 0):
            raise OracleError(f"{ref[2]}: attempt falls to {status['attempt']}")
        if status["runId"] != self._run_ids.setdefault(uid, status["runId"]):
            raise OracleError(f"{ref[2]}: runId becomes {status['runId']}")
        self._attempts[uid] = status["attempt"]
        if status["phase"] in ("Stopped", "Failed") and unit.state in LIVE and unit.owner_uid == uid:
            raise OracleError(f"{ref[2]}: {status['phase']} is written while its unit is {unit.state}")

    def _letting_go(self, ref: Ref, obj: Object) -> None:
        uid, unit = obj["metadata"]["uid"], self._world.runtime.peek(unit_name(ref[1], ref[2]))
        if unit.state in LIVE and unit.owner_uid == uid:
            raise OracleError(f"{ref[2]} is let go while its unit is {unit.state}")
        if self._leases_of(uid) and not self._world.hasty:
            raise OracleError(f"{ref[2]} is let go with a lease")

    def _leasing(self, lease: Object) -> None:
        spec = lease["spec"]
        run = self._owner(spec["holder"]["uid"])
        if run is None and self._unheard(spec["holder"]["uid"]):
            return
        if run is None:
            raise OracleError(f"port {spec['port']} is leased for an object that is gone")
        if run.get("status", {}).get("port") != spec["port"] and not self._taken_back(run):
            raise OracleError(f"port {spec['port']} is leased and not claimed")

    def _unheard(self, uid: str) -> bool:
        """The operator that acts has not heard that the object went, by force or by another operator's hand."""
        store = self._world.acting.operator.store if self._world.acting else None
        return store is not None and any(o["metadata"]["uid"] == uid for o in store.runs.objects.values())

    def _taken_back(self, run: Object) -> bool:
        """The claim was taken back by hand or by another operator, and this one could not know."""
        shared = self._world.disturbed or len(self._world.operators) > 1
        return shared and not self._world.everyone_knows(run)

    # --- after every pass

    def check(self) -> None:
        """One port, one holder."""
        holders = {x["spec"]["port"]: x["spec"]["holder"]["uid"] for x in self._world.api.all(LEASES)}
        carried: dict[int, Unit] = {}
        for unit in self._world.runtime.peek_all():
            if unit.state not in LIVE or unit.port is None:
                continue
            # A history that was taken back gives a port to whoever had it then, until the operator has seen that.
            given_away = holders.get(unit.port, unit.owner_uid) != unit.owner_uid
            if given_away and not self._world.disturbed:
                raise OracleError(f"{unit.name} lives on {unit.port}, leased to {holders[unit.port]}")
            if (other := carried.setdefault(unit.port, unit)) is not unit:
                raise OracleError(f"{unit.name} and {other.name} live on {unit.port}")

    # --- once nothing is left to do

    def settled(self) -> None:
        """Everything is as its spec asks, or says why not; nothing is kept that nobody needs."""
        problems = [*self._strays(), *(p for run in self._world.api.all(RUNS) for p in self._run(run))]
        if problems:
            raise OracleError("settled, but " + "; ".join(problems))

    def miscounts(self) -> list[str]:
        """Pools whose count is not what is leased."""
        leased = {x["spec"]["port"] for x in self._world.api.all(LEASES)}
        return [
            pool["metadata"]["name"]
            for pool in self._world.api.all(POOLS)
            if pool.get("status", {}).get("allocated") != len(leased.intersection(self._world.ports(pool)))
        ]

    def _strays(self) -> Iterator[str]:
        for lease in self._world.api.all(LEASES):
            port, holder = lease["spec"]["port"], lease["spec"]["holder"]
            if holder["kind"] != "StrategyRun":
                continue
            run = self._owner(holder["uid"])
            unit = self._world.runtime.peek(unit_name(holder["namespace"], holder["name"]))
            if unit.state in GONE or unit.port != port:
                yield f"port {port} is leased to {holder['name']}, which is {unit.state} on {unit.port}"
            elif run is None and unit.name not in self._world.forgotten:
                yield f"port {port} is leased to an object that is gone"
        for unit in self._world.runtime.peek_all():
            if self._owner(unit.owner_uid) is None and unit.name not in self._world.forgotten:
                yield f"{unit.name} is {unit.state}, its object is gone"

    def _run(self, run: Object) -> Iterator[str]:
        meta, spec, status = run["metadata"], run["spec"], run.get("status", {})
        name = meta["name"]
        unit = self._world.runtime.peek(unit_name(meta["namespace"], name))
        truth, reason = ready(run)
        wish = "Stopped" if unit.held_locally else spec.get("state", "Running")
        if "deletionTimestamp" in meta or FINALIZER not in meta.get("finalizers", ()):
            yield f"{name} is being deleted, or was never guarded"
            return
        if status.get("observedGeneration") != meta["generation"]:
            yield f"{name}: generation {meta['generation']} was not observed"
        if status.get("phase") != "Pending" and status.get("handledRestartNonce") != spec.get(
            "restartNonce", 0
        ):
            yield f"{name}: its nonce was not handled"
        if unit.state in GONE and status.get("process"):
            yield f"{name}: its status names a process that is gone"
        if reason in HOLDING_NO_PORT and unit.state in LIVE and unit.state is not UnitState.HELD:
            yield f"{name}: {reason}, and it is {unit.state}"
        if reason in HOLDING_NO_PORT and self._leases_of(meta["uid"]):
            yield f"{name}: {reason}, and it holds a lease"
        if reason == reasons.POOL_EXHAUSTED and (
            free := self._free(spec["controlApi"].get("pool", "default"))
        ):
            yield f"{name}: says the pool is exhausted, and {free} are free"
        if reason in NAMED and wish != "Stopped":
            return
        expected = {
            "Running": ("Running", (UnitState.RUNNING,)),
            "Paused": ("Paused", (UnitState.PAUSED, UnitState.HELD)),
            "Stopped": ("Stopped", GONE if not unit.held_locally else (*GONE, UnitState.HELD)),
        }[wish]
        if status.get("phase") != expected[0] or unit.state not in expected[1]:
            yield f"{name}: {wish} is asked, it is {status.get('phase')}/{unit.state} ({truth} {reason})"
        if (truth == "True") is unit.held_locally:
            yield f"{name}: Ready is {truth} ({reason})"
        if wish == "Stopped":
            if self._leases_of(meta["uid"]):
                yield f"{name}: is stopped and holds a lease"
            return
        yield from self._alive(run, unit)

    def _alive(self, run: Object, unit: Unit) -> Iterator[str]:
        name, status = run["metadata"]["name"], run["status"]
        if run["spec"].get("state", "Running") == "Running" and unit.pause_marked:
            yield f"{name}: should run, and its pause was never lifted"
        if (unit.attempt, unit.port) != (status["attempt"], status.get("port")):
            yield f"{name}: attempt {unit.attempt} lives on {unit.port}, its status says otherwise"
        if unit.owner_uid != run["metadata"]["uid"]:
            yield f"{name}: what lives under its name is {unit.owner_uid}'s"
        wanted = "controlApi" in run["spec"]
        if self._leases_of(run["metadata"]["uid"]) != ([status.get("port")] if wanted else []):
            yield f"{name}: its leases are {self._leases_of(run['metadata']['uid'])}"
        wanted_hash = inputs_of(self._world.parsed(run).spec, {}).hash
        if unit.inputs_hash != with_strategy(wanted_hash, self._world.parsed(run).status.strategy):
            yield f"{name}: it lives with inputs that were changed"
        if not unit.defined:
            yield f"{name}: its files are gone"
        if status.get("stoppedAt"):
            yield f"{name}: lives and stoppedAt is set"

    def _free(self, pool: str) -> list[int]:
        obj = self._world.api.get(POOLS, "", pool)
        ports = self._world.ports(obj) if obj else ()
        taken = {x["spec"]["port"] for x in self._world.api.all(LEASES)} | set(self._world.foreign)
        taken |= {u.port for u in self._world.runtime.peek_all() if u.state in LIVE and u.port}
        return [p for p in ports if p not in taken]

    def _owner(self, uid: str) -> Object | None:
        return next((r for r in self._world.api.all(RUNS) if r["metadata"]["uid"] == uid), None)

    def _leases_of(self, uid: str) -> list[int]:
        return [x["spec"]["port"] for x in self._world.api.all(LEASES) if x["spec"]["holder"]["uid"] == uid]
