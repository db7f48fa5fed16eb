"""decide(): the next plan for a stack. Each service decides for itself; what they say becomes one write, or one act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter

from mainstay.api.servicestack import SERVICES_MAX, PortState, ServiceStackStatus, ServiceState
from mainstay.core.plan import (
    Act,
    ActAll,
    Action,
    AddFinalizer,
    Plan,
    RemoveFinalizer,
    RemoveScope,
    StopService,
    Wait,
    Write,
)
from mainstay.core.stack import ports
from mainstay.core.stack.outlook import outlook
from mainstay.core.stack.service import LOOK_SECONDS, PATIENCE_SECONDS, Next, advance, unordered
from mainstay.core.stack.snapshot import ServiceView, StackSnapshot, Wish
from mainstay.core.stack.spec import problem_of
from mainstay.core.unit import UnitState

StackPlan = Plan[ServiceStackStatus]

ENTRIES_MAX = 2 * SERVICES_MAX
"""Services that status has room for: those declared, and those that go."""
_ENDING = (ServiceState.STOPPING, ServiceState.STOPPED)


def decide(s: StackSnapshot) -> StackPlan:
    """What to do next. Pure: the same snapshot always gives the same plan."""
    if not s.has_finalizer:
        return Wait() if s.deleting else Act(AddFinalizer())
    problem = problem_of(s.stack.spec)
    nexts = _nexts(s, problem)
    nexts = _with_room(s, nexts)
    status = outlook(s, [one.status for one in nexts if one.status is not None], problem)
    actions: list[Action] = [*ports.leases(s), *(one.action for one in nexts if one.action is not None)]
    if _ends_first(s, status, actions):
        return ActAll(tuple(actions))
    if status != s.status and not _can_wait(s, status):
        return Write(status)
    if actions:
        return ActAll(tuple(actions))
    if s.deleting and not any(v.live for v in s.services.values()):
        return Act(RemoveScope()) if s.scope else Act(RemoveFinalizer())
    return _wait(s, nexts)


def _nexts(s: StackSnapshot, problem: tuple[str, str] | None) -> list[Next]:
    """Of each service, in the order of the stack; a service goes by what is next for those it depends on.

    So that one is ready, and the claim of what waits for it, are one write.
    """
    found: dict[str, Next] = {}
    for name in s.services if problem is not None else _in_order(s.services):
        one = found[name] = _next(s, name, problem)
        if one.status is not None:
            view = replace(s.services[name], status=one.status)
            s = replace(s, services={**s.services, name: view})
    return [found[name] for name in s.services]


def _with_room(s: StackSnapshot, nexts: Sequence[Next]) -> list[Next]:
    """As many as status has room for: what is new waits until what goes is gone."""
    room = ENTRIES_MAX - sum(1 for name in s.services if _kept(s, name))
    kept = []
    for one, name in zip(nexts, s.services, strict=True):
        if not _kept(s, name):
            if room <= 0:
                continue
            room -= 1
        kept.append(one)
    return kept


def _kept(s: StackSnapshot, name: str) -> bool:
    """Something of it is there, or was claimed."""
    view = s.services[name]
    return view.unit.state is not UnitState.ABSENT or view.unused_claim


def _in_order(services: Mapping[str, ServiceView]) -> list[str]:
    """Names of services, each after those it depends on."""
    needed = {name: v.spec.depends_on if v.spec is not None else () for name, v in services.items()}
    return [name for name in TopologicalSorter(needed).static_order() if name in services]


def _can_wait(s: StackSnapshot, new: ServiceStackStatus) -> bool:
    """Only own listeners and the supervisor came or went, and what they come and go with is told in a moment."""
    soon = any(
        v.live and v.status.state is ServiceState.STARTING and v.age < PATIENCE_SECONDS
        for v in s.services.values()
    )
    if not soon and (s.under_restart is None or s.wish not in (Wish.STOP, Wish.KILL)):
        return False
    if any(one.state not in (PortState.FREE, PortState.HELD) for one in (*s.status.ports, *new.ports)):
        return False
    return new.model_copy(update={"ports": s.status.ports, "supervisor": s.status.supervisor}) == s.status


def _ends_first(s: StackSnapshot, new: ServiceStackStatus, actions: Sequence[Action]) -> bool:
    """Under a claim that stands, the next are asked to end; that others have ended is told while they do."""
    if not actions or not all(
        isinstance(one, StopService) and s.services[one.service].unit.stopping_seconds is None
        for one in actions
    ):
        return False
    pairs = zip(s.status.services, new.services, strict=False)
    told = {"ports": s.status.ports, "supervisor": s.status.supervisor, "services": s.status.services}
    return (
        len(s.status.services) == len(new.services)
        and all(
            a == b or (a.name == b.name and a.state is ServiceState.STOPPING and b.state in _ENDING)
            for a, b in pairs
        )
        and new.model_copy(update=told) == s.status
    )


def _next(s: StackSnapshot, name: str, problem: tuple[str, str] | None) -> Next:
    view = s.services[name]
    if problem is not None and not view.live and s.wish_of(view) in (Wish.RUN, Wish.HOLD):
        return unordered(view, *problem)
    return advance(s, view, ordered=problem is None)


def _wait(s: StackSnapshot, nexts: list[Next]) -> Wait:
    if any(one.poll for one in nexts):
        return Wait(poll=True)
    seconds = [one.seconds for one in nexts if one.seconds is not None]
    if s.status.ports and not s.resting:
        seconds.append(2 * LOOK_SECONDS)  # a stranger that comes gives no event
    return Wait(min(seconds, default=None))
