"""Everything there is: an API, a runtime, operators, a clock, an oracle, and a log of what they did."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

from tests.sim.api import NAMESPACE, Api, Ref, SimKube
from tests.sim.clock import CLOCK, EPOCH
from tests.sim.operators import RESYNC_SECONDS, Instance
from tests.sim.oracle import Oracle
from tests.sim.units import SimRuntime

from mainstay.api.conditions import find
from mainstay.api.ports import PortPool
from mainstay.api.strategyrun import StrategyRun
from mainstay.core import plan as p
from mainstay.core.names import unit_name
from mainstay.core.run import decide as core
from mainstay.core.snapshot import RunSnapshot
from mainstay.core.unit import LIVE
from mainstay.shell import runs
from mainstay.shell.kube import LEASES, POOLS, RUNS, ApiError
from mainstay.shell.operator import WorkKey
from mainstay.shell.store import Object

CAP = 3000
"""Passes after which it will not converge any more."""

QUIET_SECONDS = 70.0
"""Still for that long, a resync included, is a fixed point."""

Fault = Callable[[str], BaseException | None]


def no_fault(label: str) -> BaseException | None:
    """Nothing goes wrong at any step."""


class World:
    """`hasty`: passes of several keys are under way at once, so that what one gathered may be old when it acts."""

    def __init__(self, seed: int = 0, *, hasty: bool = False) -> None:
        CLOCK.seconds = EPOCH
        self.rng = random.Random(seed)
        self.hasty = hasty
        self.disturbed = False  # history was taken back, and not all has been seen since
        self.forgotten: set[str] = set()  # units whose object an older history never had
        self.log: list[str] = []
        self.api = Api()
        self.oracle = Oracle(self)
        self.runtime = SimRuntime(self.oracle.starting, self.oracle.executed)
        self.kube = SimKube(self.api, self._written, self._refused)
        self.operators: list[Instance] = []
        self.acting: Instance | None = None
        self.moved_at = EPOCH  # when something last happened
        self._said: dict[str, str] = {}

    # --- what tests say

    def say(self, words: str) -> None:
        """A line of the script."""
        self.log.append(f"-- {words}")
        self._said.clear()
        self.moved_at = CLOCK.seconds

    def pool(self, first: int, last: int, name: str = "default", **spec: Any) -> None:
        self.api.create(POOLS, "", name, {"spec": {"ranges": [{"first": first, "last": last}], **spec}})

    def run(self, name: str, **spec: Any) -> None:
        """Create a run with a port, unless `controlApi=None`."""
        spec = {"program": {"command": ["bot"]}, "controlApi": {}, **spec}
        self.api.create(RUNS, NAMESPACE, name, {"spec": {k: v for k, v in spec.items() if v is not None}})

    def edit(self, name: str, **spec: Any) -> None:
        self.api.edit(RUNS, NAMESPACE, name, **spec)

    def remove(self, name: str) -> None:
        """Delete it. Without our finalizer nobody witnesses that, and its unit is left alone."""
        if not self.get(name)["metadata"].get("finalizers"):
            self.forgotten.add(unit_name(NAMESPACE, name))
        self.api.remove(RUNS, NAMESPACE, name)

    def take_lease(self, port: int, holder: str = "PhasedJob") -> None:
        """Somebody else's lease."""
        held = {"kind": holder, "namespace": NAMESPACE, "name": "other", "uid": "other-1"}
        body = {"spec": {"pool": "default", "port": port, "holder": held}}
        self.api.create(LEASES, "", f"port-{port}", body)

    def drop_lease(self, port: int) -> None:
        self.api.remove(LEASES, "", f"port-{port}")

    def start_operator(self, name: str = "") -> Instance:
        instance = self._instance(name)
        self.operators.append(instance)
        self.moved_at = CLOCK.seconds
        return instance

    def _instance(self, name: str) -> Instance:
        return Instance(name, self.api, self.kube, self.runtime)

    def crash_operator(self, instance: Instance | None = None) -> None:
        gone = instance or self.operators[0]
        gone.crash()
        self.operators.remove(gone)

    def restart_operator(self, instance: Instance | None = None) -> Instance:
        gone = instance or self.operators[0]
        self.crash_operator(gone)
        return self.start_operator(gone.name)

    def backup(self) -> Any:
        return self.api.backup()

    def restore(self, saved: Any) -> None:
        """etcd comes back from an older snapshot; operators are told nothing."""
        self.api.restore(saved)
        self.rewound()

    def rewound(self) -> None:
        self.disturbed = True
        self.oracle.rewound()
        owners = {r["metadata"]["uid"] for r in self.api.all(RUNS)}
        self.forgotten |= {u.name for u in self.runtime.peek_all() if u.owner_uid not in owners}

    # --- what tests and the oracle ask

    def get(self, name: str) -> Object:
        obj = self.api.get(RUNS, NAMESPACE, name)
        assert obj is not None
        return obj

    def status(self, name: str) -> Mapping[str, Any]:
        return self.get(name).get("status", {})

    def unit(self, name: str) -> Any:
        return self.runtime.peek(unit_name(NAMESPACE, name))

    def parsed(self, obj: Object) -> StrategyRun:
        return StrategyRun.model_validate(obj)

    def ports(self, pool: Object) -> tuple[int, ...]:
        return PortPool.model_validate(pool).ports()

    @property
    def foreign(self) -> Mapping[int, str]:
        return self.runtime._foreign

    def everyone_knows(self, run: Object) -> bool:
        """The operator that acts has seen the newest version of this object."""
        key = (run["metadata"]["namespace"], run["metadata"]["name"])
        known = self.acting.operator.store.runs.objects.get(key) if self.acting else None
        version = run["metadata"]["resourceVersion"]
        return not self.hasty and known is not None and known["metadata"]["resourceVersion"] == version

    # --- what happens

    def advance(self, seconds: float) -> None:
        CLOCK.seconds += seconds
        self.runtime.advance(seconds)

    def turn(self, instance: Instance, key: WorkKey, fault: Fault = no_fault) -> None:
        """One whole pass for one object."""
        instance.begin(key)
        error: BaseException | None = None
        while key in instance.passes:
            error = self.one_step(instance, key, fault, error)
        self.oracle.check()

    def one_step(
        self, instance: Instance, key: WorkKey, fault: Fault = no_fault, error: BaseException | None = None
    ) -> BaseException | None:
        """One step of a pass; answers what is to be raised in the next."""
        self.acting = instance
        decide = self._logged(instance)
        with patch.object(runs, "decide", decide):
            error = instance.advance(key, fault, error)
        self._events(instance)
        return error

    def converge(self, *, resync: bool = True, quiet: float = QUIET_SECONDS) -> None:
        """Passes in a random order until nothing moves any more; then the oracle looks at everything."""
        self.moved_at = CLOCK.seconds
        for _ in range(CAP):
            if not self._any_pass(resync=resync):
                if CLOCK.seconds - self.moved_at >= quiet:
                    break
                self._sleep(quiet)
        else:
            raise AssertionError("does not converge:\n" + "\n".join(self.log[-40:]))
        before = self.api.versions()
        for instance in self.operators:
            for key in self._everything():
                instance.queue.add(key)
                self.turn(instance, key)
        assert self.api.versions() == before, "a fixed point writes"
        self.disturbed = False
        self.oracle.settled()

    def _everything(self) -> list[WorkKey]:
        """Whatever has to be at rest."""
        return [("run", o["metadata"]["namespace"], o["metadata"]["name"]) for o in self.api.all(RUNS)]

    def _any_pass(self, *, resync: bool) -> bool:
        for instance in self.rng.sample(self.operators, len(self.operators)):
            if resync and CLOCK.seconds - instance.resynced_at >= RESYNC_SECONDS:
                instance.resync()
            if instance.lost:
                self.log.append("-- history was lost, the operator starts afresh")
                self.restart_operator(instance)
                return True
            instance.deliver()
            if key := instance.pick(self.rng):
                self.turn(instance, key)
                return True
        return False

    def _sleep(self, quiet: float) -> None:
        """To the next timer, resync or restart by the supervisor."""
        dues = [due for i in self.operators for due in i.queue.timers.values()]
        dues += [i.resynced_at + RESYNC_SECONDS for i in self.operators]
        dues += [self.moved_at + quiet]
        self.advance(max(min(due for due in dues if due > 0) - CLOCK.seconds, 0.001))

    # --- the log

    def _written(self, what: str, ref: Ref, body: Any) -> None:
        if ref[0] != POOLS:
            self.moved_at = CLOCK.seconds
        self.oracle.writing(what, ref, body)

    def _refused(self, what: str, ref: Ref, error: ApiError) -> None:
        if ref[0] != POOLS:
            self.log.append(f"{'':32}refused: {what} of {ref[2]}: {int(error.code)} {error.reason}")

    def _logged(self, instance: Instance) -> Callable[[RunSnapshot], core.RunPlan]:
        def decide(s: RunSnapshot) -> core.RunPlan:
            plan = core.decide(s)
            self._tell(instance, s, plan)
            return plan

        return decide

    def _tell(self, instance: Instance, s: RunSnapshot, plan: core.RunPlan) -> None:
        if isinstance(plan, p.Act):
            self.moved_at = CLOCK.seconds
        key = instance.name + s.run.metadata.name
        words = describe(s, plan)
        if isinstance(plan, p.Wait) and self._said.get(key) == words:
            return
        self._said[key] = words
        who = f"{instance.name} " if instance.name else ""
        seen = f"{s.status.phase or '-'}/{s.unit.state}"
        self.log.append(
            f"{CLOCK.seconds - EPOCH:6.1f}s {who}{s.run.metadata.name:<3} {seen:<20} {words}".rstrip()
        )

    def _events(self, instance: Instance) -> None:
        queue = instance.operator._recorder._queue
        while not queue.empty():
            _, event, _ = queue.get_nowait()
            self.log.append(f"{'':32}event {event.kind} {event.reason}: {event.message.splitlines()[0]}")

    def story(self) -> str:
        """The log, as golden files keep it."""
        return "\n".join(self.log) + "\n"


def describe(s: RunSnapshot, plan: core.RunPlan) -> str:
    """A plan in a few words; of a write, what changes."""
    match plan:
        case p.Write(status=status):
            told = find(status.conditions, "Ready")
            words = [f"write {status.phase}", f"Ready={told.status} {told.reason}" if told else ""]
            for field in ("attempt", "port", "restarts", "handled_restart_nonce", "stopped_at"):
                old, new = getattr(s.status, field), getattr(status, field)
                if old != new:
                    words.append(f"{field}={'set' if field == 'stopped_at' and new else new}")
            if s.status.inputs_hash != status.inputs_hash:
                words.append("inputs_hash")
            return " ".join(w for w in words if w)
        case p.Wait(seconds=seconds, poll=poll):
            return "wait" + (" and poll" if poll else f" {seconds:g}s" if seconds else "")
        case p.Act(action=action):
            return _action(action)


def _action(action: p.Action) -> str:
    match action:
        case p.CreateLease(port=port, pool=pool):
            return f"lease {port} of {pool}"
        case p.DeleteLease(name=name):
            return f"give back {name}"
        case p.StartUnit(attempt=attempt, port=port, paused=paused):
            return f"start attempt {attempt} on {port}" + (" paused" if paused else "")
        case p.DefineUnit(attempt=attempt, port=port):
            return f"define attempt {attempt} on {port}"
        case p.StopUnit(force=force, deleting=deleting):
            return "stop" + (" by force" if force else "") + (" for good" if deleting else "")
        case p.RemoveUnit(owner_uid=owner):
            return f"forget the unit of {owner}"
        case p.AddFinalizer():
            return "guard"
        case p.RemoveFinalizer():
            return "let go"
        case p.PauseUnit():
            return "pause"
        case p.ResumeUnit():
            return "resume"


def living(world: World) -> list[str]:
    """Names of units that live."""
    return [u.name for u in world.runtime.peek_all() if u.state in LIVE]
