"""Bugs planted in what decides and acts for stacks and restarts: each is one way in which it could be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mainstay.api.servicestack import StackGoal
from mainstay.api.stackrestart import StepName, VerifiedService
from mainstay.core import plan as p
from mainstay.core import reasons
from mainstay.core.restart import decide as restart_core
from mainstay.core.restart import snapshot as restart_snapshot
from mainstay.core.restart import steps
from mainstay.core.restart.steps import Do, Done
from mainstay.core.snapshot import Inputs
from mainstay.core.stack import decide as stack_core
from mainstay.core.stack import ports, service
from mainstay.core.stack import snapshot as stack_snapshot
from mainstay.core.stack.snapshot import Wish
from mainstay.core.unit import PortHolder
from mainstay.shell.stacks import gather, index, restarts
from mainstay.shell.stacks.gather import StackGatherer
from mainstay.shell.stacks.index import StackIndex

Bug = Callable[[pytest.MonkeyPatch], None]
BUGS: dict[str, tuple[Bug, str]] = {}
"""Name → (how it is planted, the story that should not go as it does)."""
right_leases, right_decide, right_ports = ports.leases, stack_core.decide, ports.ports_of
right_flush, right_wish_at, right_refused = steps._flush, stack_snapshot.wish_at, restart_core.refused
right_ending, right_told, right_step = service._ending, service._told, steps.step


def bug(story: str) -> Callable[[Bug], Bug]:
    def note(plant: Bug) -> Bug:
        BUGS[plant.__name__] = (plant, story)
        return plant

    return note


def _done(patch: pytest.MonkeyPatch, *names: StepName) -> None:
    for name in names:
        patch.setitem(steps._STEPS, name, lambda _: Done("it is so"))  # type: ignore[arg-type]


def _wishes(patch: pytest.MonkeyPatch, wish: Wish, *names: StepName) -> None:
    def wish_at(mode: Any, step: Any) -> Wish:
        return wish if step in names else right_wish_at(mode, step)

    patch.setattr(stack_snapshot, "wish_at", wish_at)


# --- ports and leases


@bug("one_with_a_port_goes_and_ignores_term")
def lease_given_back_before_the_exit(patch):
    def leases(s):
        gone = {name: replace(v, unit=replace(v.unit, port=None)) for name, v in s.services.items()}
        return right_leases(replace(s, services=gone))

    patch.setattr(ports, "leases", leases)


@bug("a_run_wants_the_port")
def leases_given_back_by_a_stopped_stack(patch):
    def leases(s):
        if s.stack.spec.state is StackGoal.STOPPED and not any(v.live for v in s.services.values()):
            return [p.DeleteLease(x.name, x.uid, x.resource_version) for x in s.leases]
        return right_leases(s)

    patch.setattr(ports, "leases", leases)


@bug("applied")
def started_before_its_port_is_leased(patch):
    patch.setattr(
        service, "_launch", lambda _, v: service.Next(right_told(v), p.StartService(v.name, v.status.attempt))
    )
    patch.setattr(ports, "leases", lambda s: [] if s.stack.status.phase == "Starting" else right_leases(s))


@bug("a_stranger_before_the_start")
def strangers_ignored(patch):
    patch.setattr(service, "trouble", lambda *_: None)


@bug("a_run_has_the_port")
def leases_of_others_ignored(patch):
    patch.setattr(StackGatherer, "_taken", lambda *_: {})


@bug("two_services_swap_ports")
def rings_not_seen(patch):
    patch.setattr(service, "in_a_ring", lambda *_: False)


# --- order


@bug("applied")
def start_order_ignored(patch):
    patch.setattr(service, "_not_ready", lambda *_: [])


@bug("stopped_and_started")
def stop_order_ignored(patch):
    patch.setattr(stack_snapshot.StackSnapshot, "dependents", lambda *_: [])


# --- claims


@bug("stopped_and_started")
def stopped_before_that_is_claimed(patch):
    patch.setattr(service, "_stop", lambda s, v, wish, **_: right_ending(s, v, force=wish is Wish.KILL))


@bug("one_program_is_changed")
def restarted_under_the_same_attempt(patch):
    right = service._claim
    patch.setattr(service, "_claim", lambda v, attempt, *told: right(v, v.status.attempt or attempt, *told))


@bug("two_restarts_are_asked_for")
def restart_begun_without_its_turn(patch):
    patch.setattr(restart_snapshot.RestartSnapshot, "claimed", True)


@bug("two_restarts_are_asked_for")
def turn_given_to_the_next_in_the_middle(patch):
    def turn(self, stack):
        claim = stack.status.restart
        waiting = [
            restart
            for key in self.restarts_of((stack.metadata.namespace, stack.metadata.name))
            if (restart := self.restart(key)) is not None and restart.status.completed_at is None
        ]
        others = [one for one in waiting if claim is None or one.metadata.uid != claim.uid]
        return next(iter(others or waiting), None)

    patch.setattr(StackIndex, "turn", turn)


@bug("full")
def turn_never_given_back(patch):
    patch.setattr(index, "OVER", ())


@bug("full_with_a_stranger_that_goes")
def stranger_ended_before_that_is_told(patch):
    def step(s):
        outcome = right_step(s)
        return replace(outcome, details=()) if isinstance(outcome, Do) else outcome

    patch.setattr(restart_core, "step", step)


# --- what restarts what


@bug("what_restarts_nothing_is_changed")
def every_change_restarts(patch):
    patch.setattr(gather, "inputs_of", lambda one, _: Inputs(hash=f"sha256:{hash(one.model_dump_json())}"))


@bug("a_service_comes_and_one_goes")
def a_change_of_one_restarts_all(patch):
    right = service._rolls

    def rolls(v):
        return right(v) or (v.status.attempt == 1 and v.spec.name == "db" and v.age > 60)

    patch.setattr(service, "_rolls", rolls)


# --- ends


@bug("stopped_and_started")
def killed_without_its_grace(patch):
    patch.setattr(service, "_ending", lambda s, v, **_: right_ending(s, v, force=True))


@bug("full_and_a_service_ignores_term")
def never_killed(patch):
    def ending(s, v, *, force=False):
        following = right_ending(s, v, force=force)
        action = following.action
        return replace(following, action=replace(action, force=False) if action else None)

    patch.setattr(service, "_ending", ending)


@bug("deleted")
def let_go_before_all_has_ended(patch):
    def decide(s):
        return p.Act(p.RemoveFinalizer()) if s.deleting and s.has_finalizer else right_decide(s)

    patch.setattr(stack_core, "decide", decide)


@bug("held_on_its_host")
def brake_ignored(patch):
    def wish_of(self, view):
        return Wish.STOP if view.spec is None else self.wish

    patch.setattr(stack_snapshot.StackSnapshot, "wish_of", wish_of)


@bug("goes_in_a_circle")
def a_circle_is_stopped_in_order(patch):
    right = stack_core.advance
    patch.setattr(stack_core, "advance", lambda s, v, **_: right(s, v, ordered=True))


# --- flushes


@bug("flush")
def reserved_ports_flushed(patch):
    for module in (restart_snapshot, restarts):
        patch.setattr(module, "ports_of", lambda spec: {**right_ports(spec), 5000: "nobody"})


@bug("full_with_a_protected_stranger")
def protected_strangers_asked(patch):
    patch.setattr(PortHolder, "endable", property(lambda one: one.stranger))


@bug("full_with_a_stranger_that_goes")
def stranger_killed_at_once(patch):
    def flush(s):
        outcome = right_flush(s)
        return (
            replace(outcome, action=replace(outcome.action, force=True))
            if isinstance(outcome, Do)
            else outcome
        )

    patch.setitem(steps._STEPS, StepName.FLUSH_PORTS, flush)


@bug("full_with_a_stranger_that_must_be_killed")
def stranger_never_killed(patch):
    def flush(s):
        outcome = right_flush(s)
        return (
            replace(outcome, action=replace(outcome.action, force=False))
            if isinstance(outcome, Do)
            else outcome
        )

    patch.setitem(steps._STEPS, StepName.FLUSH_PORTS, flush)


@bug("full_with_a_stranger_that_goes")
def services_started_during_the_flush(patch):
    _wishes(patch, Wish.RUN, StepName.FLUSH_PORTS)


@bug("quick_with_a_stranger")
def quick_goes_on_with_a_stranger(patch):
    _done(patch, StepName.CHECK_PORTS)


# --- steps


@bug("full")
def supervisor_ended_while_services_live(patch):
    _done(patch, StepName.STOP_SERVICES)


@bug("full")
def supervisor_not_replaced(patch):
    _done(patch, StepName.STOP_SUPERVISOR, StepName.START_SUPERVISOR)


@bug("full")
def services_started_while_the_supervisor_is_replaced(patch):
    _wishes(patch, Wish.RUN, StepName.STOP_SUPERVISOR, StepName.START_SUPERVISOR, StepName.VERIFY_PORTS)


@bug("a_stranger_takes_a_port_in_the_middle")
def services_started_before_ports_are_verified(patch):
    _done(patch, StepName.VERIFY_PORTS)


@bug("full_and_a_service_never_answers")
def completed_without_verification(patch):
    _done(patch, StepName.VERIFY)


@bug("full_and_a_service_listens_elsewhere")
def verified_by_what_was_told(patch):
    def services(s, **_):
        told = [s.told(one) for one in s.declared.spec.services]
        return [VerifiedService(name=one.name, up=one.state == "Running") for one in told], 0.0

    patch.setattr(steps, "services", services)


@bug("full_and_a_service_stays_down")
def completed_although_one_is_down(patch):
    right = steps._verify

    def verify(s):
        outcome = right(s)
        return Done("up", (), outcome.verified) if isinstance(outcome, steps.Failed) else outcome

    patch.setitem(steps._STEPS, StepName.VERIFY, verify)


# --- refusals and history


@bug("refused")
def anybody_may_restart(patch):
    def refusal(s):
        found = right_refused(s)
        return None if found and found[0] == reasons.NOT_OWNER else found

    patch.setattr(restart_core, "refused", refusal)


@bug("stopped_in_the_middle")
def a_stopped_stack_is_started_by_its_restart(patch):
    patch.setattr(restart_core, "refused", lambda _: None)


@bug("kept_for_its_time")
def forgotten_at_once(patch):
    patch.setattr(
        restart_core,
        "_kept",
        lambda s: p.Act(p.DeleteRestart(s.restart.metadata.name, s.restart.metadata.uid)),
    )


@bug("kept_for_its_time")
def kept_for_ever(patch):
    patch.setattr(restart_core, "_kept", lambda _: p.Wait())
