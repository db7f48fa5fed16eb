"""What a run's decision needs to know of strategies."""

from __future__ import annotations

from dataclasses import replace

from mainstay.api.strategy import Strategy
from mainstay.api.strategylibrary import StrategyLibrary
from mainstay.api.strategyrun import StrategyInUse, StrategyRef, StrategyRun
from mainstay.core.snapshot import Inputs, over
from mainstay.core.strategy.budget import UserView, allowance, has_turn
from mainstay.core.strategy.names import object_name
from mainstay.core.strategy.resolve import (
    Resolution,
    StrategyView,
    resolve,
    same_program,
    with_strategy,
)
from mainstay.core.strategy.views import Listing
from mainstay.core.unit import LIVE, Unit
from mainstay.runtime.base import Shelf
from mainstay.shell.store import Key, Store
from mainstay.shell.strategies.index import Name, StrategyIndex
from mainstay.shell.strategies.sources import Sources, owning_library


class Views:
    """Resolves a run's strategy, and notes whether it waits for its turn."""

    def __init__(self, store: Store, index: StrategyIndex, sources: Sources, shelf: Shelf) -> None:
        self._store = store
        self.index = index
        self._sources = sources
        self.shelf = shelf

    def resolution(self, key: Key, run: StrategyRun, unit: Unit, inputs: Inputs) -> Resolution:
        """What the run is to run now."""
        ref = run.spec.strategy
        if ref is None:
            return Resolution()
        name = (run.metadata.namespace, ref.library, ref.name)
        view = self._view(key, run, ref, name)
        ended, live = over(run.status), unit.state in LIVE
        settled = (live or ended) and not _starts_anyhow(run, inputs)
        current = _current(run, unit, inputs, view) if live else run.status.strategy
        found = resolve(run.spec, current, view, settled=settled, ended=ended and not live)
        self.index.waits(key, self._group(key, name) if found.waits else None)
        return replace(found, unread=view.unread)

    def _group(self, key: Key, name: Name) -> Name:
        known = self.index.user(key)
        return known.group or name if known is not None else name

    def _view(self, key: Key, run: StrategyRun, ref: StrategyRef, name: Name) -> StrategyView:
        known = self._known(run, ref, name)
        return replace(known, room=self._turn(key, name, known))

    def _known(self, run: StrategyRun, ref: StrategyRef, name: Name) -> StrategyView:
        strategy, library = self.index.named(name), self.index.library(name[0], name[1])
        listing = self._sources.known(library) if library is not None else None
        default = library.spec.default if library is not None else None
        stand_in = self.index.named((name[0], name[1], default)) if default is not None else None
        found = strategy is not None and strategy.status.hash is not None
        return StrategyView(
            found=found,
            offered=self.index.offered(name),
            invalid=_invalid(strategy) if strategy is not None else "",
            library=library is not None,
            coming=not found and self._coming(strategy, name, library, listing),
            default=self._default(stand_in, listing),
            default_name=default,
            pinned=self._pinned(run, ref, strategy),
            unread=_unread(strategy if found else stand_in, library, listing, found=found),
        )

    def _default(self, strategy: Strategy | None, listing: Listing | None) -> StrategyInUse | None:
        """What the default offers, unless its source has it no more: its object goes in a moment, too."""
        if strategy is None:
            return None
        key = strategy.metadata.namespace, strategy.metadata.name
        owned = owning_library(self.index.strategies.objects[key]) is not None
        gone = listing is not None and listing.error is None and not listing.has(strategy.called)
        return (
            None if owned and gone else self.index.offered((key[0], strategy.spec.library, strategy.called))
        )

    def _coming(
        self, strategy: Strategy | None, name: Name, library: StrategyLibrary | None, listing: Listing | None
    ) -> bool:
        """Whether nobody can tell yet that it isn't there: neither it nor its library has been looked at."""
        if strategy is not None and not strategy.status.conditions:
            return True
        if library is None or library.metadata.deletion_timestamp is not None:
            return False
        if listing is None or listing.error is not None:
            return True
        view = listing.files.get(name[2])
        if strategy is not None or view is None:
            return False
        # It is there and has no object: not yet, or never, because another has the name or the API server refused.
        told = {problem.file.rpartition("/")[2] for problem in library.status.problems}
        return (
            name[0],
            object_name(name[1], name[2]),
        ) not in self.index.strategies.objects and view.file not in told

    def _pinned(self, run: StrategyRun, ref: StrategyRef, strategy: Strategy | None) -> StrategyInUse | None:
        """The content that is asked for, if this strategy ever had it: a name never runs the code of another."""
        if ref.revision is None or not self.shelf.has(ref.revision):
            return None
        known = strategy.status.revisions if strategy is not None else ()
        file = next((r.file for r in known if r.hash == ref.revision), None)
        use = run.status.strategy
        if file is None and use is not None and (use.name, use.hash) == (ref.name, ref.revision):
            file = use.file  # it runs that, whatever the object remembers
        file = file or self.shelf.kept_as(ref.revision, ref.name)
        if file is None:
            return None
        return StrategyInUse(name=ref.name, hash=ref.revision, file=file, library=ref.library, pinned=True)

    def _turn(self, key: Key, name: Name, view: StrategyView) -> bool:
        library = self.index.library(name[0], name[1])
        limit = library.spec.rollout.max_unavailable if library is not None else "100%"
        if limit == "100%":
            return True
        users = []
        group = self._group(key, name)
        for other in self.index.users[group]:
            known = self.index.user(other)
            if known is not None and known.running and known.group == group:
                outdated = not known.stuck and self._outdated(other, view if known.asked == name else None)
                users.append(UserView(other, self.index.available(other), outdated))
        return has_turn(key, users, allowance(limit, len(users)))

    def _outdated(self, key: Key, view: StrategyView | None) -> bool:
        """Whether that run will be restarted too; `view` is that of a run of the same strategy, if there is one."""
        run = self._store.run(key)
        if run is None or run.spec.strategy is None or run.spec.strategy.revision is not None:
            return False
        if view is None:
            ref = run.spec.strategy
            view = self._known(run, ref, (run.metadata.namespace, ref.library, ref.name))
        found = resolve(run.spec, run.status.strategy, view, settled=True)
        return found.use is not None and not same_program(found.use, run.status.strategy)


def _unread(
    strategy: Strategy | None, library: StrategyLibrary | None, listing: Listing | None, *, found: bool
) -> bool:
    """Whether the status of what would be run is of another content than its file has, as far as anybody looked.

    `strategy` is the one that is asked for, or without one that was `found` the library's default.
    """
    if library is None:
        return False
    if listing is None and not found:
        return True
    if strategy is None or library.spec.source.directory is None or strategy.spec.source.file is None:
        return False
    if listing is None or listing.error is not None:
        return listing is None
    if strategy.called in listing.withheld:
        return False
    view = listing.files.get(strategy.called)
    return (view.hash if view is not None else None) != strategy.status.hash


def _starts_anyhow(run: StrategyRun, inputs: Inputs) -> bool:
    """The user changed something in the run: the start that this brings takes what there is."""
    status = run.status
    if status.handled_restart_nonce not in (None, run.spec.restart_nonce):
        return True
    claimed = with_strategy(inputs.hash, status.strategy)
    return inputs.problem is None and status.inputs_hash is not None and claimed != status.inputs_hash


def _current(run: StrategyRun, unit: Unit, inputs: Inputs, view: StrategyView) -> StrategyInUse | None:
    """What was claimed last: of a process that its object has forgotten, what its inputs tell."""
    claimed = run.status.strategy
    if unit.attempt <= run.status.attempt:
        return claimed
    default = view.default.model_copy(update={"fallback": True}) if view.default is not None else None
    for use in (claimed, view.pinned, view.offered, default):
        if use is not None and with_strategy(inputs.hash, use) == unit.inputs_hash:
            return use
    return claimed


def _invalid(strategy: Strategy) -> str:
    if strategy.status.valid is not False:
        return ""
    return next((c.message for c in strategy.status.conditions if c.type == "Stalled"), "it is invalid")
