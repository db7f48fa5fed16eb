"""A world with stacks and their restarts: services, ports, strangers and supervisors, and a log of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

from tests.sim.api import NAMESPACE, Ref
from tests.sim.clock import CLOCK, EPOCH
from tests.sim.operators import Instance
from tests.sim.stacks.clock import ORDER
from tests.sim.stacks.host import SimScope, SimStacks
from tests.sim.stacks.operators import StackInstance, StackKube
from tests.sim.stacks.oracle import StackOracle
from tests.sim.steps import OF_THE_API
from tests.sim.world import World, no_fault

from mainstay.api.conditions import find
from mainstay.core import plan as p
from mainstay.core.restart import decide as restart_core
from mainstay.core.stack import decide as stack_core
from mainstay.runtime import effects
from mainstay.shell.kube import CONFIG_MAPS, RESTARTS, STACKS, ApiError
from mainstay.shell.operator import WorkKey
from mainstay.shell.stacks import restarts, stacks
from mainstay.shell.store import Object

Fault = Callable[[str], BaseException | None]


class Died(BaseException):
    """The operator is killed, right before or right after an effect."""


def service(name: str, port: int | None = None, *needs: str, **more: Any) -> Object:
    """One service as it is declared; `program` is merged into that of its name."""
    program = {"command": [name], **more.pop("program", {})}
    one: Object = {"name": name, "kind": "Background" if port is None else "Http", "program": program, **more}
    if port is not None:
        one["port"] = port
    if needs:
        one["dependsOn"] = list(needs)
    return one


class StackWorld(World):
    """`crash_at`: the operator dies at these points of all before and after an effect, and a new one goes on."""

    def __init__(self, seed: int = 0, *, hasty: bool = False, crash_at: frozenset[int] = frozenset()) -> None:
        super().__init__(seed, hasty=hasty)
        ORDER.seed(seed)
        self.host = SimStacks()
        self.oracle: StackOracle = StackOracle(self)
        self.host.oracle = self.oracle
        self.runtime._on_start, self.runtime._on_execute = self.oracle.starting, self.oracle.executed
        self.kube = StackKube(self.api, self._written, self._refused)
        self.points: list[str] = []
        """What was about to happen, or had just happened, each time the operator could die."""
        self.crash_at = crash_at

    # --- what tests say

    def stack(self, name: str, *services: Object, **spec: Any) -> None:
        self.api.create(STACKS, NAMESPACE, name, {"spec": {"services": list(services), **spec}})

    def edit_stack(self, name: str, *services: Object, **spec: Any) -> None:
        """Other services, if some are given, or other fields."""
        self.api.edit(STACKS, NAMESPACE, name, **({"services": list(services)} if services else {}), **spec)

    def change(self, stack: str, name: str, **fields: Any) -> None:
        """Other fields of one service; None removes."""
        found = self.get_stack(stack)["spec"]["services"]
        changed = [{**one, **fields} if one["name"] == name else one for one in found]
        kept = [{k: v for k, v in one.items() if v is not None} for one in changed]
        self.edit_stack(stack, *kept)

    def restart(self, name: str, mode: str = "Full", stack: str = "web", **spec: Any) -> None:
        self.api.create(RESTARTS, NAMESPACE, name, {"spec": {"stack": stack, "mode": mode, **spec}})

    def remove_stack(self, name: str = "web", *, by_force: bool = False) -> None:
        ref: Ref = (STACKS, NAMESPACE, name)
        if by_force:
            self.api.set_finalizers(ref, self.get_stack(name), [])
        if self.api.get(*ref) is not None:
            self.api.remove(*ref)

    def remove_restart(self, name: str) -> None:
        self.api.remove(RESTARTS, NAMESPACE, name)

    def config_map(self, name: str, data: Mapping[str, str]) -> None:
        ref: Ref = (CONFIG_MAPS, NAMESPACE, name)
        known = self.api.get(*ref)
        if known is None:
            self.api.create(*ref, {"data": dict(data)})
        else:
            self.api._store(ref, {**known, "data": dict(data)})

    # --- what tests ask

    def scope(self, stack: str = "web") -> SimScope:
        return self.host.at((NAMESPACE, stack))

    def get_stack(self, name: str = "web") -> Object:
        obj = self.api.get(STACKS, NAMESPACE, name)
        assert obj is not None, name
        return obj

    def get_restart(self, name: str) -> Object:
        obj = self.api.get(RESTARTS, NAMESPACE, name)
        assert obj is not None, name
        return obj

    def stack_status(self, name: str = "web") -> Mapping[str, Any]:
        return self.get_stack(name).get("status") or {}

    def service_status(self, name: str, stack: str = "web") -> Mapping[str, Any]:
        told = self.stack_status(stack).get("services", ())
        return next((one for one in told if one["name"] == name), {})

    def restart_status(self, name: str) -> Mapping[str, Any]:
        return self.get_restart(name).get("status") or {}

    # --- what happens

    def until(self, so: Callable[[], bool], seconds: float = 400.0) -> None:
        """Go on just until it is so."""
        end = CLOCK.seconds + seconds
        while not so():
            assert CLOCK.seconds < end, "it never is so:\n" + "\n".join(self.log[-40:])
            if not self._any_pass(resync=True):
                self._sleep(1.0)

    def go_on(self, seconds: float) -> None:
        """Live that long."""
        end = CLOCK.seconds + seconds
        while CLOCK.seconds < end - 1e-6:
            if not self._any_pass(resync=True):
                dues = [due for i in self.operators for due in i.queue.timers.values()]
                self.advance(max(0.001, min([*dues, end, CLOCK.seconds + 1.0]) - CLOCK.seconds))
        while self._any_pass(resync=False):
            pass

    def at_step(self, restart: str, name: str) -> None:
        """Go on until that restart is at that step."""
        self.until(lambda: self.restart_status(restart).get("step") == name)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.host.advance(seconds)

    def _instance(self, name: str) -> Instance:
        return StackInstance(name, self.api, self.kube, self.runtime, self.host)

    def one_step(
        self, instance: Instance, key: WorkKey, fault: Fault = no_fault, error: BaseException | None = None
    ) -> BaseException | None:
        def at(label: str) -> BaseException | None:
            if label.removeprefix("done ").startswith(OF_THE_API[:4]):
                self._point(label)
            return fault(label)

        try:
            with (
                patch.object(stacks, "decide", self._told_of_stacks),
                patch.object(restarts, "decide", self._told_of_restarts),
                effects.hooked(self._point, lambda label: self._point(f"done {label}")),
            ):
                return super().one_step(instance, key, at, error)
        except Died as death:
            self.log.append(f"-- the operator dies at {death}")
            self.restart_operator(instance)
            return None

    def _point(self, label: str) -> None:
        self.points.append(label)
        if len(self.points) in self.crash_at:
            raise Died(label)

    def _everything(self) -> list[WorkKey]:
        return super()._everything() + [
            (what, obj["metadata"]["namespace"], obj["metadata"]["name"])
            for what, plural in (("stack", STACKS), ("restart", RESTARTS))
            for obj in self.api.all(plural)
        ]

    # --- the log

    def _told_of_stacks(self, s: Any) -> Any:
        plan = stack_core.decide(s)
        if isinstance(plan, p.Write):
            self._line(s.stack.metadata.name, stack_words(s.status, plan.status))
        elif not isinstance(plan, p.Wait):
            self._line(s.stack.metadata.name, acts_words(plan))
        return plan

    def _told_of_restarts(self, s: Any) -> Any:
        plan = restart_core.decide(s)
        if isinstance(plan, p.Write):
            self._line(s.restart.metadata.name, restart_words(s.status, plan.status))
        elif not isinstance(plan, p.Wait):
            self._line(s.restart.metadata.name, acts_words(plan))
        return plan

    def _line(self, name: str, words: str) -> None:
        self.moved_at = CLOCK.seconds
        self.log.append(f"{CLOCK.seconds - EPOCH:7.2f}s {name:<5} {words}")
        self._said.clear()

    def _refused(self, what: str, ref: Ref, error: ApiError) -> None:
        super()._refused(what, ref, error)


def stack_words(old: Any, new: Any) -> str:
    """A write of a stack: its phase, and what changes of services and ports."""
    words = [f"write {new.phase} {new.ready}"]
    before = {one.name: one for one in old.services}
    for one in new.services:
        was = before.pop(one.name, None)
        said = f"{one.name} {one.state}#{one.attempt}" + (" ready" if one.ready else "")
        why = f" {one.reason}" if one.reason not in ("", str(one.state)) else ""
        if was is None or (was.state, was.attempt, was.ready, was.reason) != (
            one.state,
            one.attempt,
            one.ready,
            one.reason,
        ):
            words.append(said + why)
        elif was != one:
            words.append(f"{one.name} …")
    words += [f"{name} forgotten" for name in before]
    ports = {one.port: one for one in old.ports}
    for port in new.ports:
        known = ports.get(port.port)
        if known is None or (known.state, known.holder) != (port.state, port.holder):
            holder = f" by {port.holder}" if port.state in ("Foreign", "Taken") else ""
            words.append(f"port {port.port} {port.state}{holder}")
    if old.restart != new.restart:
        words.append(f"restart={new.restart.name if new.restart else None}")
    if (told := find(new.conditions, "Ready")) and told != find(old.conditions, "Ready"):
        words.append(f"Ready={told.status} {told.reason}")
    return "; ".join(words)


def restart_words(old: Any, new: Any) -> str:
    """A write of a restart: its phase and step, and what a step came to."""
    words = [f"write {new.phase}" + (f" {new.step}" if new.step else "")]
    before = {one.name: one for one in old.steps}
    for one in new.steps:
        was = before.get(one.name)
        if was is None:
            continue
        if was.state is not one.state and one.message:
            words.append(f"{one.name} {one.state}: {one.message}")
        words += [f"({line})" for line in one.details if line not in was.details]
    if not new.steps and (told := find(new.conditions, "Ready")):
        words.append(f"{told.reason}: {told.message}")
    return "; ".join(words)


def acts_words(plan: Any) -> str:
    """Acts in a few words."""
    actions = (plan.action,) if isinstance(plan, p.Act) else plan.actions
    return "; ".join(map(_act_words, actions))


def _act_words(action: p.Action) -> str:
    match action:
        case p.CreateLease(port=port):
            return f"lease {port}"
        case p.DeleteLease(name=name):
            return f"give back {name}"
        case p.StartService(service=name, attempt=attempt):
            return f"start {name}#{attempt}"
        case p.DefineService(service=name, attempt=attempt):
            return f"define {name}#{attempt}"
        case p.StopService(service=name, force=force, deleting=deleting):
            return f"stop {name}" + (" by force" if force else "") + (" for good" if deleting else "")
        case p.ResumeService(service=name):
            return f"resume {name}"
        case p.RemoveService(service=name, owner_uid=owner):
            return f"forget {name} of {owner}"
        case p.EndHolders(ports=ports, force=force):
            return f"{'kill' if force else 'ask'} strangers on {', '.join(map(str, ports))}"
        case p.EndSupervisor(force=force):
            return f"{'kill' if force else 'end'} the supervisor"
        case p.RemoveFinalizer():
            return "let go"
        case p.AddFinalizer():
            return "guard"
        case p.RemoveScope():
            return "remove the scope"
        case p.StartSupervisor():
            return "start the supervisor"
        case p.DeleteRestart():
            return "delete it"
        case _:
            raise AssertionError(action)
