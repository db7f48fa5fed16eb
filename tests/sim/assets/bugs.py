"""Bugs planted in deciding about assets, in what a job makes of them, and in what of the shell both rest on."""

# ruff: noqa: ARG001, ARG005
from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mainstay.api.asset import AssetState
from mainstay.api.phasedjob import JobPhase
from mainstay.core import plan as p
from mainstay.core.asset import claims, compensation, reports
from mainstay.core.asset import decide as core
from mainstay.core.asset.draft import Draft
from mainstay.core.asset.snapshot import AssetSnapshot, HolderState, Looked
from mainstay.core.job import advance
from mainstay.core.job import decide as job_core
from mainstay.core.job import draft as job_draft
from mainstay.shell.assets import assets, gather
from mainstay.shell.assets.observer import Observer

Plant = Callable[[pytest.MonkeyPatch], None]
BUGS: dict[str, tuple[Plant, str]] = {}
"""Bug → how it is planted, and the story that must notice it."""
right = core.decide


def planted(story: str) -> Callable[[Plant], Plant]:
    """Anywhere."""

    def note(plant: Plant) -> Plant:
        BUGS[plant.__name__] = (plant, story)
        return plant

    return note


def bug(story: str) -> Callable[[Callable[[AssetSnapshot], Any]], Any]:
    """Between a snapshot of an asset and its plan."""

    def note(wrong: Callable[[AssetSnapshot], Any]) -> Any:
        BUGS[wrong.__name__] = (lambda patch: patch.setattr(core, "decide", wrong), story)
        return wrong

    return note


def holder_with(s: AssetSnapshot, state: HolderState) -> AssetSnapshot:
    assert s.holder is not None
    return replace(s, holder=replace(s.holder, state=state))


# --- what is in it


@bug("cancelled_with_cargo")
def released_with_cargo(s):
    """Nobody looks when its holder is over."""
    if s.holder is not None and s.holder.state is not HolderState.ACTIVE and s.status.holder is not None:
        purposes = {f"left:{s.status.holder.uid}:{n}" for n in range(9)}
        return right(replace(s, looked=Looked(holdings=()), purposes=frozenset(purposes)))
    return right(s)


@planted("cancelled_with_cargo")
def any_look_will_do(patch):
    """What was seen for an earlier purpose is taken for what is there now."""
    seen = Draft.seen
    patch.setattr(Draft, "seen", lambda self, purpose: self.known or seen(self, purpose))


@planted("an_old_answer_comes_late")
def a_look_under_way_will_do(patch):
    """It began before the question was asked."""
    ask = Observer.ask

    def wrong(self, key, purpose, who):
        sight = self._sights.get(key)
        if sight is not None and sight.task is not None:
            sight.asking[purpose] = who
        else:
            ask(self, key, purpose, who)

    patch.setattr(Observer, "ask", wrong)


@planted("the_probe_fails")
def a_failure_is_taken_for_empty(patch):
    look = Observer._look

    async def wrong(self, asset, probe):
        looked = await look(self, asset, probe)
        return Looked(holdings=()) if looked.error else looked

    patch.setattr(Observer, "_look", wrong)


@bug("cargo_that_nobody_put_there")
def given_away_unseen(s):
    """A job gets it, and nobody has seen that it is empty."""
    if s.status.holder is None and s.claimants:
        purposes = frozenset(f"nobodys:{one.uid}" for one in s.claimants)
        return right(replace(s, looked=Looked(holdings=()), purposes=purposes))
    return right(s)


# --- whose it is


@bug("collects_and_sells")
def released_before_the_job_has_ended(s):
    if s.holder is not None and s.holder.state is HolderState.ACTIVE and s.looked and not s.looked.holdings:
        return p.Write(s.status.model_copy(update={"holder": None, "state": AssetState.FREE}))
    return right(s)


@planted("waits_for_a_person_with_its_cargo")
def a_job_that_waits_for_a_person_is_compensated(patch):
    patch.setitem(gather._ENDS, JobPhase.ACTION_REQUIRED, HolderState.FAILED)


@planted("suspended_with_its_cargo")
def a_suspended_job_is_compensated(patch):
    patch.setitem(gather._ENDS, JobPhase.SUSPENDED, HolderState.CANCELLED)


@planted("failed_for_good")
def a_failed_job_is_never_compensated(patch):
    patch.delitem(gather._ENDS, JobPhase.FAILED)


@bug("completed_with_cargo_left")
def a_completed_job_is_compensated(s):
    if s.holder is not None and s.holder.state is HolderState.COMPLETED:
        return right(holder_with(s, HolderState.CANCELLED))
    return right(s)


@bug("cancelled_with_cargo")
def through_nobody(s):
    """It is nobody's until the compensation is there."""
    plan = right(s)
    if isinstance(plan, p.Write) and plan.status.compensation is not None and s.batch is None:
        return p.Write(plan.status.model_copy(update={"holder": None}))
    return plan


@planted("a_circle_that_must_not_close")
def claimed_in_any_order(patch):
    claimant = claims.claimant
    patch.setattr(
        gather, "claimant", lambda job, ref, holder_of: claimant(job, ref, lambda _: job.metadata.uid)
    )


@planted("one_ship_for_three")
def youngest_first(patch):
    def wrong(found):
        return max(found, key=lambda one: (one.had, one.created, one.name), default=None)

    patch.setattr(core, "first", wrong)


@planted("a_status_nulled_while_an_older_one_waits")
def who_had_it_is_forgotten(patch):
    claimant = claims.claimant

    def wrong(job, ref, holder_of):
        status = job.status.model_copy(update={"assets": ()})
        return claimant(job.model_copy(update={"status": status}), ref, holder_of)

    patch.setattr(gather, "claimant", wrong)


@planted("deleted_without_an_operator")
def processes_of_who_is_gone_are_forgotten(patch):
    async def wrong(self, key, holder):
        return False

    patch.setattr(gather.AssetGatherer, "_lives", wrong)


@planted("a_second_operator_that_hears_nothing")
def a_holder_that_is_not_known_is_gone(patch):
    """Only a consistent read proves that."""

    async def wrong(self, key, holder, memory):
        return None

    patch.setattr(gather.AssetGatherer, "_look_for", wrong)


@planted("one_ship_for_three")
def a_job_does_not_wait(patch):
    patch.setattr(job_draft.Draft, "lacking", lambda self: [])


# --- compensations


@planted("cancelled_with_cargo")
def made_under_another_name(patch):
    """Each time it is looked for and not found, there is one more."""
    numbers = itertools.count()
    made = assets.compensation_of

    def wrong(asset):
        body = made(asset)
        name = f"{body['metadata']['name']}-{next(numbers)}"
        return {**body, "metadata": {**body["metadata"], "name": name}}

    patch.setattr(assets, "compensation_of", wrong)


@bug("cancelled_with_cargo")
def made_before_it_is_claimed(s):
    """First the effect, then the word."""
    plan = right(s)
    if isinstance(plan, p.Write) and plan.status.compensation != s.status.compensation and s.batch is None:
        return p.ActAll((p.CreateCompensation(),))
    return plan


@planted("a_compensation_that_fails")
def freed_by_a_compensation_that_failed(patch):
    patch.setattr(compensation, "_judge", lambda d, c: True)


@planted("a_compensation_that_fails")
def never_tried_again(patch):
    patch.setattr(compensation, "_seconds_left", lambda d: 0.0 if d.failures == 0 else 3600.0)


@planted("a_compensation_that_fails")
def claimed_again_while_one_is_under_way(patch):
    patch.setattr(Draft, "compensating", lambda self: False)


# --- phases, and what tasks report


@planted("killed_after_its_purchase")
def a_phase_is_forgotten(patch):
    """completeWhen is not asked before it begins anew."""
    patch.setattr(advance, "_proved", lambda d, phase: False)


@planted("killed_after_its_purchase")
def proved_by_what_was_seen_before(patch):
    patch.setattr(job_draft.Draft, "_seen", lambda self, name: True)


@planted("killed_after_its_delivery")
def a_report_is_counted_twice(patch):
    take_in = reports.take_in

    def wrong(d):
        d.taken = ()
        take_in(d)

    patch.setattr(core, "take_in", wrong)


@planted("killed_after_its_delivery")
def a_report_is_forgotten_before_it_is_counted(patch):
    def wrong(status, s):
        steps = tuple(
            step.model_copy(
                update={
                    "phases": tuple(
                        ph.model_copy(
                            update={"tasks": tuple(t.model_copy(update={"reports": ()}) for t in ph.tasks)}
                        )
                        for ph in step.phases
                    )
                }
            )
            for step in status.steps
        )
        return status.model_copy(update={"steps": steps})

    patch.setattr(job_core, "forgotten", wrong)


@planted("deleted_before_its_delivery_is_counted")
def a_deleted_job_does_not_wait_for_its_reports(patch):
    patch.setattr(job_core, "untold", lambda s: False)


# --- writes


@planted("collects_and_sells")
def a_write_is_cut_off(patch):
    """Its answer is taken for granted, and others act on it."""

    async def wrong(self, obj, snapshot, status):
        body = {**obj, "status": status.wire()}
        version = str(int(obj["metadata"]["resourceVersion"]) + 1)
        self._put({**body, "metadata": {**obj["metadata"], "resourceVersion": version}})

    patch.setattr(assets.AssetReconciler, "_put_status", wrong)
