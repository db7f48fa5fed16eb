"""Bugs planted in what decides and acts for strategies: each is one way in which it could be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.sim.strategies.shelf import SimShelf

from mainstay.api.strategy import UsedBy
from mainstay.api.strategyrun import FallbackPolicy, RunGoal
from mainstay.core import snapshot
from mainstay.core.run import decide as run_core
from mainstay.core.run.ending import stop_because
from mainstay.core.strategy import library as library_core
from mainstay.core.strategy import resolve as resolve_core
from mainstay.core.strategy import strategy as strategy_core
from mainstay.core.strategy.views import Listing
from mainstay.shell.operator import Operator
from mainstay.shell.strategies import views
from mainstay.shell.strategies.strategies import StrategyReconciler
from mainstay.shell.wakes import Wakes

Bug = Callable[[pytest.MonkeyPatch], None]
BUGS: dict[str, tuple[Bug, str]] = {}
"""Name → (how it is planted, the story that should not go as it does)."""
right_strategy, right_library, right_resolve = strategy_core.decide, library_core.decide, resolve_core.resolve


def bug(story: str) -> Callable[[Bug], Bug]:
    def note(plant: Bug) -> Bug:
        BUGS[plant.__name__] = (plant, story)
        return plant

    return note


def _resolving(patch: pytest.MonkeyPatch, wrong: Callable[..., Any]) -> None:
    patch.setattr(views, "resolve", wrong)


@bug("an_edit_restarts_all_at_once")
def snapshot_kept_after_the_status_write(patch):
    def decide(s):
        has = {s.content.hash} if s.content else set()
        return right_strategy(replace(s, kept=s.kept | has))

    patch.setattr(strategy_core, "decide", decide)


@bug("an_edit_waits_behind_a_user_that_does_not_come_back")
def budget_ignores_claims_under_way(patch):
    def has_turn(key, users, allowed):
        return sum(1 for u in users if u.outdated and u.key < key) < allowed

    patch.setattr(views, "has_turn", has_turn)


@bug("an_edit_restarts_one_after_another")
def budget_ignored(patch):
    patch.setattr(views, "has_turn", lambda *_: True)


@bug("a_strategy_is_deleted_by_hand")
def fallback_while_the_library_is_unread(patch):
    patch.setattr(views.Views, "_coming", lambda *_: False)


@bug("an_edit_restarts_all_at_once")
def path_of_the_live_file(patch):
    async def place(*told):
        return f"/strategies/{told[-1]}"

    patch.setattr(SimShelf, "place", place)


@bug("an_edit_restarts_all_at_once")
def other_bytes_than_those_of_the_hash(patch):
    async def keep(self, content, file, data):
        self.snapshots.setdefault(content, {})[file] = data + b"#"

    patch.setattr(SimShelf, "keep", keep)


@bug("a_broken_edit_and_its_repair")
def broken_edit_offered(patch):
    async def problem(*_):
        return None

    patch.setattr(SimShelf, "problem", problem)


@bug("deleted_and_back_again")
def return_forgotten(patch):
    def resolve(spec, current, view, **how):
        if current is not None and current.fallback:
            view = replace(view, found=False, coming=False)
        return right_resolve(spec, current, view, **how)

    _resolving(patch, resolve)


@bug("an_edit_restarts_all_at_once")
def users_not_counted(patch):
    patch.setattr(StrategyReconciler, "_used_by", lambda *_: UsedBy())


@bug("the_directory_is_away_for_a_while")
def objects_deleted_when_the_directory_is_missing(patch):
    def decide(s):
        return right_library(replace(s, listing=Listing()) if s.listing.error else s)

    patch.setattr(library_core, "decide", decide)


@bug("a_revision_outlives_the_history")
def revision_dropped_while_pinned(patch):
    async def prune(self):
        used = {(o.get("status") or {}).get("revision") for o in self.strategies.strategies.objects.values()}
        await self._shelf.prune(used)

    patch.setattr(Operator, "_prune", prune)


@bug("a_paused_run_takes_it_when_resumed")
def paused_run_rolled(patch):
    def resolve(spec, current, view, **how):
        return right_resolve(spec.model_copy(update={"state": RunGoal.RUNNING}), current, view, **how)

    _resolving(patch, resolve)


@bug("one_that_ended_is_not_revived")
def ended_run_revived(patch):
    def resolve(spec, current, view, **how):
        return right_resolve(spec, current, view, settled=how["settled"])

    _resolving(patch, resolve)


@bug("an_edit_restarts_all_at_once")
def roll_frees_the_port(patch):
    patch.setattr(run_core, "roll", stop_because)


@bug("an_edit_restarts_all_at_once")
def edit_not_told_to_its_users(patch):
    def strategy(self, namespace, name, *_, **__):
        self._queue.add(("strategy", namespace, name))

    patch.setattr(Wakes, "_strategy", strategy)


@bug("turns_come_to_those_who_are_not_probed")
def turns_not_told(patch):
    patch.setattr(Wakes, "waiting_for_turn", lambda *_: None)


@bug("deleted_and_back_again")
def fallback_taken_for_the_one_asked(patch):
    def resolve(spec, current, view, **how):
        found = right_resolve(spec, current, view, **how)
        use = found.use.model_copy(update={"fallback": False}) if found.use else None
        return replace(found, use=use)

    _resolving(patch, resolve)


@bug("keep_last")
def keep_last_ignored(patch):
    def resolve(spec, current, view, **how):
        spec = spec.model_copy(update={"fallback_policy": FallbackPolicy.USE_DEFAULT})
        return right_resolve(spec, current, view, **how)

    _resolving(patch, resolve)


@bug("etcd_restored_to_before_the_edit")
def what_lives_is_not_asked(patch):
    patch.setattr(views, "_current", lambda run, *_: run.status.strategy)

    def unread(_, library, listing, *, found):
        return library is not None and listing is None and not found

    patch.setattr(views, "_unread", unread)


@bug("registered_users_keep_the_object")
def registered_users_forgotten(patch):
    def decide(s):
        known = {k: replace(o, registered=False) for k, o in s.objects.items()}
        return right_library(replace(s, objects=known))

    patch.setattr(library_core, "decide", decide)


@bug("two_names_collide")
def the_newcomer_takes_the_name(patch):
    def decide(s):
        files = {n: v for n, v in s.listing.files.items() if n != "Ema" or "EMA" not in s.listing.files}
        return right_library(replace(s, listing=replace(s.listing, files=files)))

    patch.setattr(library_core, "decide", decide)


@bug("an_edit_restarts_all_at_once")
def strategy_is_no_input(patch):
    patch.setattr(snapshot, "with_strategy", lambda declared, _: declared)


@bug("a_paused_run_takes_it_when_resumed")
def started_with_the_oldest_instead_of_the_claimed(patch):
    async def place(self, *told):
        oldest, file = next(iter(self.snapshots)), told[-1]
        return f"/strategies/{oldest.removeprefix('sha256:')}/{file}"

    patch.setattr(SimShelf, "place", place)
