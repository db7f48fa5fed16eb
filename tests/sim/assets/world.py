"""Everything there is of assets: a fleet, an API, workers, operators, a clock, an oracle, and a log of what they did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.sim.api import NAMESPACE
from tests.sim.assets import sample
from tests.sim.assets.clock import DECIDING, Look
from tests.sim.assets.fleet import Entry, Fleet, FleetProbes
from tests.sim.assets.operators import AssetInstance
from tests.sim.assets.oracle import AssetOracle
from tests.sim.assets.programs import FleetTasks
from tests.sim.clock import CLOCK, EPOCH
from tests.sim.jobs.oracle import OracleError, condition
from tests.sim.jobs.world import JobWorld, _action
from tests.sim.operators import RESYNC_SECONDS
from tests.sim.world import no_fault

from mainstay.api.conditions import find
from mainstay.core import plan as p
from mainstay.core.asset import decide as core
from mainstay.core.asset.snapshot import AssetSnapshot
from mainstay.shell.kube import ASSETS, BATCHES, JOBS
from mainstay.shell.operator import WorkKey
from mainstay.shell.store import Object

CAP = 6000
QUIET_SECONDS = 65.0
LOADED_SECONDS = 35.0
AT_ONCE = 4
"""Passes under way at once while it is hasty."""
Fault = Callable[[str], BaseException | None]
LOOKS = (p.ObserveAssets, p.ObserveAccepts)


class AssetWorld(JobWorld):
    """`hasty`: passes and looks go on a step at a time, in any order, and events are heard late.

    `touched`: ships whose Asset a person spoilt and no operator has given to anybody since; `nulled`: those that were ever
    made to forget. `fault`: what is raised at a step.
    """

    def __init__(self, seed: int = 0, *, limit: int = 128) -> None:
        super().__init__(seed, limit=limit)
        self.fleet = Fleet()
        self.probes = FleetProbes(self.fleet)
        self.runtime = FleetTasks(seed, self.fleet)
        self.oracle: AssetOracle = AssetOracle(self)
        self.fleet.told = self._traded
        self.runtime.on_start = self.oracle.starting
        self.runtime.on_execute = self.oracle.executed_now
        self.runtime.on_remove = self.oracle.removing
        self.runtime.on_end = self._ended
        self.api.watchers.append(self.oracle.watched)
        self.touched: set[str] = set()
        self.nulled: set[str] = set()
        self._loads: dict[str, float] = {}
        self.fault: Fault = no_fault
        self._errors: dict[tuple[str, WorkKey], BaseException] = {}

    # --- what tests say

    def ship(self, name: str, **how: Any) -> None:
        self.fleet.ships.setdefault(name, Counter())
        self.api.create(ASSETS, NAMESPACE, name, {"spec": sample.ship(name, **how)})

    def factory(self, name: str, *accepts: str) -> None:
        self.fleet.accepts[name] = list(accepts)
        self.api.create(ASSETS, NAMESPACE, name, {"spec": sample.factory(name)})

    def sell(self, name: str, ref: str, symbol: str = "IRON", units: int = 40, **spec: Any) -> None:
        """A COLLECT_SELL job."""
        self.job(name, sample.collect_sell(ref, symbol, units, **spec))

    def deliver(self, name: str, ref: str, plant: str, **spec: Any) -> None:
        """An ACQUIRE_DELIVER job."""
        self.job(name, sample.acquire_deliver(ref, plant, **spec))

    def load(self, ship: str, symbol: str, units: int) -> None:
        """A person changes the cargo."""
        self._loads[ship] = CLOCK.seconds
        self.fleet.load(ship, symbol, units)

    def forget(self, ship: str) -> None:
        """A person nulls the status of an asset."""
        self.touched.add(ship)
        self.nulled.add(ship)
        ref = (ASSETS, NAMESPACE, ship)
        self.api._store(ref, {k: v for k, v in self.api.objects[ref].items() if k != "status"})

    def force(self, plural: str, name: str) -> None:
        """Delete an object with its finalizers."""
        ref = (plural, NAMESPACE, name)
        obj = self.api.objects[ref]
        if plural == JOBS:
            self.forgotten.add(obj["metadata"]["uid"])
        if plural == ASSETS:
            self.touched.add(name)
            self.nulled.add(name)
        self.api._erase(ref)

    def _instance(self, name: str) -> AssetInstance:
        return AssetInstance(name, self.api, self.kube, self.runtime, self.probes, self.limit)

    def start_operator(self, name: str = "", *only: str) -> AssetInstance:
        """`only`: kinds of keys that it works on."""
        instance = AssetInstance(
            name, self.api, self.kube, self.runtime, self.probes, self.limit, frozenset(only)
        )
        instance.decides = (
            self._logged(instance),
            self._logged_batch(instance),
            self._logged_asset(instance),
        )
        self.operators.append(instance)
        self.moved_at = CLOCK.seconds
        return instance

    def crash_operator(self, instance: Any = None) -> None:
        gone = instance or self.operators[0]
        super().crash_operator(gone)
        self._errors = {k: e for k, e in self._errors.items() if k[0] != gone.name}

    def close(self) -> None:
        """Nothing goes on any more."""
        for instance in list(self.operators):
            self.crash_operator(instance)

    # --- what tests and the oracle ask

    @property
    def loaded(self) -> set[str]:
        """Ships whose cargo a person changed a moment ago: no look that was made since may have ended."""
        return {ship for ship, at in self._loads.items() if CLOCK.seconds - at < LOADED_SECONDS}

    def asset(self, name: str) -> Object:
        obj = self.api.get(ASSETS, NAMESPACE, name)
        assert obj is not None
        return obj

    def holder(self, name: str) -> str | None:
        found: str | None = (self.asset(name).get("status", {}).get("holder") or {}).get("name")
        return found

    def state(self, name: str) -> str:
        return str(self.asset(name).get("status", {}).get("state"))

    def why(self, name: str) -> str:
        return condition(self.asset(name), "Ready")[1]

    # --- what happens

    def one_step(
        self, instance: Any, key: WorkKey, fault: Fault = no_fault, error: BaseException | None = None
    ) -> BaseException | None:
        self.acting = instance
        if DECIDING.job is not instance.decides[0]:
            DECIDING.job, DECIDING.batch, DECIDING.asset = instance.decides
        error = instance.advance(key, fault, error)
        self._events(instance)
        self.steps += 1
        if self.steps == self.crash_at:
            self.log.append("-- the operator dies, another comes")
            self.restart_operator(instance)
        return error

    def _any_pass(self, *, resync: bool) -> bool:
        for instance in self.rng.sample(self.operators, len(self.operators)):
            if resync and not instance.deaf and CLOCK.seconds - instance.resynced_at >= RESYNC_SECONDS:
                instance.resync()
            if instance.lost:
                self.log.append("-- history was lost, the operator starts afresh")
                self.restart_operator(instance)
                return True
            if not self.hasty and not instance.deaf:
                instance.deliver()
            if self._something(instance):
                return True
        return False

    def _something(self, instance: AssetInstance) -> bool:
        """One of all that may happen next in one operator; False if nothing may."""
        instance.looks[:] = [look for look in instance.looks if not look.over]
        looks = [look for look in instance.looks if look.at != "slow" or not self.probes.slow]
        choices: list[Any] = [*instance.passes, *looks]
        if self.hasty and not instance.deaf and (instance.inbox or instance.heard):
            choices.append("hear")
        if len(instance.passes) < (AT_ONCE if self.hasty else 1) and (key := instance.pick(self.rng)):
            choices.append(("begin", key))
        if not choices:
            return False
        match choice := self.rng.choice(choices):
            case Look():
                instance.go_on(choice)
            case "hear":
                instance.hear(self.rng)
            case ("begin", key):
                if self.hasty:
                    instance.begin(key)
                else:
                    self.turn(instance, key)
            case key:
                self._step(instance, key)
        return True

    def _step(self, instance: AssetInstance, key: WorkKey) -> None:
        error = self._errors.pop((instance.name, key), None)
        raised = self.one_step(instance, key, self.fault, error)
        if raised is not None and key in instance.passes:
            self._errors[instance.name, key] = raised

    def converge(self, *, resync: bool = True, quiet: float = QUIET_SECONDS) -> None:
        self.moved_at = CLOCK.seconds
        for _ in range(CAP):
            if not self._any_pass(resync=resync):
                if CLOCK.seconds - self.moved_at >= quiet:
                    break
                self._sleep(quiet)
        else:
            raise AssertionError("does not converge:\n" + "\n".join(self.log[-40:]))
        before = self.api.versions()
        for instance in (one for one in self.operators if not one.only):
            for what, plural in (("job", JOBS), ("batch", BATCHES), ("asset", ASSETS)):
                for obj in list(self.api.all(plural)):
                    key = (what, obj["metadata"]["namespace"], obj["metadata"]["name"])
                    instance.queue.add(key)
                    self.turn(instance, key)
        assert self.api.versions() == before, "a fixed point writes"
        self.disturbed = False
        self.oracle.settled()

    def _sleep(self, quiet: float) -> None:
        dues = [due for i in self.operators for due in i.queue.timers.values()]
        dues += [i.resynced_at + RESYNC_SECONDS for i in self.operators]
        dues.append(self.moved_at + quiet)
        if (end := self.runtime.next_due()) is not None:
            dues.append(end)
        later = [due - CLOCK.seconds for due in dues if due > CLOCK.seconds]
        self.advance(max(min(later, default=1.0), 0.001))

    # --- the log

    def _traded(self, entry: Entry) -> None:
        self.moved_at = CLOCK.seconds
        whose = self.oracle.jobs[entry.by].name if entry.by else "a person"
        words = f"{whose} {entry.verb} {entry.units} {entry.symbol}"
        self.log.append(f"{CLOCK.seconds - EPOCH:6.1f}s {'':24}{entry.ship}: {words}")
        self.oracle.traded(entry)

    def _logged_asset(self, instance: Any) -> Callable[[AssetSnapshot], Any]:
        def decide(s: AssetSnapshot) -> Any:
            plan = core.decide(s)
            _fair(s, plan)
            state = str(s.status.state or "-")
            self._say_plan(instance, s.asset.metadata.name, state, plan, describe(s, plan))
            return plan

        return decide

    def _say_plan(self, instance: Any, name: str, phase: str, plan: Any, words: str) -> None:
        moved = self.moved_at
        super()._say_plan(instance, name, phase, plan, words)
        acts = plan.actions if isinstance(plan, p.ActAll) else ()
        if acts and all(isinstance(act, LOOKS) for act in acts):
            self.moved_at = moved  # to look is to do nothing


def _fair(s: AssetSnapshot, plan: Any) -> None:
    """Of jobs that could have it now, the oldest gets it, after those that had it."""
    if not isinstance(plan, p.Write) or plan.status.holder is None or plan.status.holder.kind != "PhasedJob":
        return
    to, was = plan.status.holder, s.status.holder
    if was is not None and was.uid == to.uid:
        return
    chosen = next((c for c in s.claimants if c.uid == to.uid), None)
    if chosen is None:
        raise OracleError(f"{s.asset.metadata.name} is given to {to.name}, which can't have it now")
    able = [c for c in s.claimants if c.had or c.take_over or not plan.status.holdings]
    if any((not c.had, c.created) < (not chosen.had, chosen.created) for c in able):
        raise OracleError(f"{s.asset.metadata.name} is given to {to.name}, and others wait for longer")


def describe(s: AssetSnapshot, plan: Any) -> str:
    """A plan for an asset in a few words; of a write, what changes."""
    match plan:
        case p.Write(status=new):
            old, told = s.status, find(plan.status.conditions, "Ready")
            words = [f"write {new.state} {told.reason if told else ''}"]
            if old.holder != new.holder:
                words.append(f"holder={new.holder.name if new.holder else 'nobody'}")
            if old.summary != new.summary:
                words.append(f"has [{new.summary}]")
            if old.compensation != new.compensation and new.compensation:
                c = new.compensation
                words.append(f"{c.batch}{' over' if c.ended_at else ''} failures={c.failures}")
            if old.delivered != new.delivered:
                words.append(f"delivered=[{' '.join(f'{d.symbol} {d.units}' for d in new.delivered)}]")
            if old.taken != new.taken:
                words.append(f"taken={len(new.taken)}")
            return " ".join(words)
        case p.Wait(seconds=seconds):
            return "wait" + (f" {seconds:.3g}s" if seconds else "")
        case p.Act(action=action):
            return _named(action)
        case p.ActAll(actions=actions):
            return ", ".join(_named(action) for action in actions)
        case _:
            raise AssertionError(plan)


def _named(action: Any) -> str:
    match action:
        case p.ObserveAssets(purpose=purpose):
            return f"look for {purpose}"
        case p.ObserveAccepts():
            return "look up what it accepts"
        case p.CreateCompensation():
            return "make the compensation"
        case p.DeleteCompensation(name=name):
            return f"delete {name}"
        case _:
            return _action(action)
