"""decide(): the next plan for a stack. Each service decides for itself; what they say becomes one write, or one act."""

from __future__ import annotations

from mainstay.api.servicestack import ServiceStackStatus
from mainstay.core.plan import (
    Act,
    ActAll,
    Action,
    AddFinalizer,
    Plan,
    RemoveFinalizer,
    RemoveScope,
    Wait,
    Write,
)
from mainstay.core.stack import ports
from mainstay.core.stack.outlook import outlook
from mainstay.core.stack.service import LOOK_SECONDS, Next, advance
from mainstay.core.stack.snapshot import StackSnapshot, Wish
from mainstay.core.stack.spec import problem_of

StackPlan = Plan[ServiceStackStatus]


def decide(s: StackSnapshot) -> StackPlan:
    """What to do next. Pure: the same snapshot always gives the same plan."""
    if not s.has_finalizer:
        return Wait() if s.deleting else Act(AddFinalizer())
    problem = problem_of(s.stack.spec)
    nexts = [_next(s, name, problem) for name in s.services]
    status = outlook(s, [one.status for one in nexts if one.status is not None], problem)
    if status != s.status:
        return Write(status)
    actions: list[Action] = [*ports.leases(s), *(one.action for one in nexts if one.action is not None)]
    if actions:
        return ActAll(tuple(actions))
    if s.deleting and not any(v.live for v in s.services.values()):
        return Act(RemoveScope()) if s.scope else Act(RemoveFinalizer())
    return _wait(s, nexts)


def _next(s: StackSnapshot, name: str, problem: tuple[str, str] | None) -> Next:
    view = s.services[name]
    if problem is not None and not view.live and s.wish_of(view) in (Wish.RUN, Wish.HOLD):
        return Next(view.status)  # without an order nothing is started
    return advance(s, view, ordered=problem is None)


def _wait(s: StackSnapshot, nexts: list[Next]) -> Wait:
    if any(one.poll for one in nexts):
        return Wait(poll=True)
    seconds = [one.seconds for one in nexts if one.seconds is not None]
    if s.status.ports and not s.resting:
        seconds.append(2 * LOOK_SECONDS)  # a stranger that comes gives no event
    return Wait(min(seconds, default=None))
