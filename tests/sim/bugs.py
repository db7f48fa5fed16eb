"""Bugs planted between a snapshot and its plan: each is one way in which deciding could be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mainstay.api.strategyrun import RunPhase
from mainstay.core import plan as p
from mainstay.core.run import decide as core
from mainstay.core.snapshot import RunSnapshot
from mainstay.core.unit import LIVE, UnitState

Decide = Callable[[RunSnapshot], Any]
Bug = Callable[[RunSnapshot, Decide], Any]
BUGS: dict[str, Bug] = {}
right = core.decide


def bug(wrong: Bug) -> Bug:
    BUGS[wrong.__name__] = wrong
    return wrong


def _blind(s: RunSnapshot, decide: Decide, **ports: Any) -> Any:
    """Decide without these facts about ports."""
    return decide(replace(s, ports=replace(s.ports, **ports)))


def _changed(plan: Any, **fields: Any) -> Any:
    return p.Write(plan.status.model_copy(update=fields)) if isinstance(plan, p.Write) else plan


def _starts(s: RunSnapshot, plan: Any) -> bool:
    """A write that claims a new attempt."""
    return isinstance(plan, p.Write) and plan.status.attempt > s.status.attempt > 0


@bug
def lease_released_before_exit(s, decide):
    if s.status.phase is RunPhase.STOPPING and s.live and s.leases:
        lease = s.leases[0]
        return p.Act(p.DeleteLease(lease.name, lease.uid, lease.resource_version))
    return decide(s)


@bug
def lease_never_released(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Act) and isinstance(plan.action, p.DeleteLease):
        return decide(replace(s, leases=tuple(x for x in s.leases if x.name != plan.action.name)))
    return plan


@bug
def lease_not_taken(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Act) and isinstance(plan.action, p.CreateLease):
        return p.Act(p.StartUnit(s.status.attempt, s.status.port, s.status.inputs_hash or ""))
    return plan


@bug
def start_without_a_claim(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Write) and plan.status.phase is RunPhase.STARTING and not s.live:
        return p.Act(p.StartUnit(plan.status.attempt, plan.status.port, plan.status.inputs_hash or ""))
    return plan


@bug
def attempt_not_raised_on_restart(s, decide):
    plan = decide(s)
    return _changed(plan, attempt=s.status.attempt) if _starts(s, plan) else plan


@bug
def attempt_falls_on_stop(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Write) and plan.status.phase is RunPhase.STOPPED:
        return _changed(plan, attempt=0)
    return plan


@bug
def adoption_skipped(s, decide):
    if s.live and not s.foreign_unit:
        return decide(replace(s, unit=replace(s.unit, attempt=s.status.attempt, port=s.status.port)))
    return decide(s)


@bug
def nonce_not_consumed(s, decide):
    handled = s.status.handled_restart_nonce
    return decide(s) if handled is None else _changed(decide(s), handled_restart_nonce=handled)


@bug
def nonce_ignored(s, decide):
    handled = s.status.handled_restart_nonce
    if handled is None:
        return decide(s)
    spec = s.run.spec.model_copy(update={"restart_nonce": handled})
    return decide(replace(s, run=s.run.model_copy(update={"spec": spec})))


@bug
def foreign_port_ignored(s, decide):
    return _blind(s, decide, foreign={})


@bug
def leased_port_chosen(s, decide):
    return _blind(s, decide, taken={})


@bug
def older_waiting_ignored(s, decide):
    return _blind(s, decide, older_waiting=0)


@bug
def quarantine_forgotten(s, decide):
    return _blind(s, decide, quarantine_seconds=0)


@bug
def stopped_written_while_the_unit_lives(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Write) and plan.status.phase is RunPhase.STOPPING and s.live:
        return _changed(plan, phase=RunPhase.STOPPED)
    return plan


@bug
def finalizer_removed_before_the_unit_is_gone(s, decide):
    if s.deleting and s.has_finalizer and s.live:
        return p.Act(p.RemoveFinalizer())
    return decide(s)


@bug
def paused_run_started_unpaused(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Act) and isinstance(plan.action, p.StartUnit):
        return p.Act(replace(plan.action, paused=False))
    return plan


@bug
def pause_forgotten_after_a_kill(s, decide):
    if s.status.phase is RunPhase.PAUSED and s.unit.state is UnitState.HELD:
        return p.Act(p.ResumeUnit())
    return decide(s)


@bug
def pause_never_confirmed(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Act) and isinstance(plan.action, p.PauseUnit):
        return p.Write(s.status.model_copy(update={"phase": RunPhase.PAUSED}))
    return plan


@bug
def run_id_taken_anew(s, decide):
    plan = decide(s)
    return _changed(plan, run_id=f"{s.uid}-{plan.status.attempt}") if _starts(s, plan) else plan


@bug
def inputs_hash_not_written(s, decide):
    return _changed(decide(s), inputs_hash=s.status.inputs_hash) if s.status.inputs_hash else decide(s)


@bug
def changed_inputs_ignored(s, decide):
    if s.status.inputs_hash:
        return decide(replace(s, inputs=replace(s.inputs, hash=s.status.inputs_hash)))
    return decide(s)


@bug
def predecessor_taken_for_our_own(s, decide):
    return decide(replace(s, unit=replace(s.unit, owner_uid=s.uid)))


@bug
def brake_ignored(s, decide):
    return decide(replace(s, unit=replace(s.unit, held_locally=False)))


@bug
def force_never_comes(s, decide):
    if s.unit.stopping_seconds is not None:
        return p.Wait(5.0)
    return decide(s)


@bug
def completed_is_run_again(s, decide):
    plan = decide(s)
    if (
        s.unit.exit
        and s.unit.exit.code == 0
        and s.unit.state not in LIVE
        and s.status.phase is RunPhase.STOPPED
    ):
        spec = s.run.spec.model_copy(update={"restart_nonce": (s.status.handled_restart_nonce or 0) + 1})
        return decide(replace(s, run=s.run.model_copy(update={"spec": spec})))
    return plan


@bug
def same_status_written_again(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Wait) and s.status.phase is RunPhase.RUNNING:
        return p.Write(s.status.model_copy(update={"restarts": s.status.restarts + 1}))
    return plan


@bug
def definition_not_restored(s, decide):
    return decide(replace(s, unit=replace(s.unit, defined=True)))


@bug
def lost_lease_not_taken_again(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Act) and isinstance(plan.action, p.CreateLease) and s.live:
        return p.Wait()
    return plan


@bug
def resumed_on_another_port(s, decide):
    if s.status.phase is RunPhase.STOPPED:
        status = s.run.status.model_copy(update={"port": None})
        ports = replace(s.ports, ports=tuple(x for x in s.ports.ports if x != s.status.port))
        return decide(replace(s, run=s.run.model_copy(update={"status": status}), ports=ports))
    return decide(s)


@bug
def unit_not_forgotten(s, decide):
    plan = decide(s)
    if isinstance(plan, p.Act) and isinstance(plan.action, p.RemoveUnit) and s.deleting:
        return decide(replace(s, unit=replace(s.unit, state=UnitState.ABSENT)))
    return plan
