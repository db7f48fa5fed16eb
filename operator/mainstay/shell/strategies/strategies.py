"""Strategies: what gathering, deciding and acting are for one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mainstay.api.strategy import USERS_SHOWN, Strategy, StrategyStatus, UsedBy
from mainstay.core.plan import Action, DeleteStrategy, KeepSnapshot, Plan
from mainstay.core.strategy.strategy import KEEP_AGAIN_SECONDS, StrategySnapshot, decide, events
from mainstay.runtime.base import Shelf, SourceChangedError
from mainstay.shell.copies import Take
from mainstay.shell.jobs.gather import now
from mainstay.shell.kube import LIBRARIES, STRATEGIES, Kube, path
from mainstay.shell.reconcile import Memory, Reconciler
from mainstay.shell.recorder import Recorder
from mainstay.shell.store import Key, Object
from mainstay.shell.strategies.index import StrategyIndex
from mainstay.shell.strategies.sources import Found, Sources, content, owning_library


@dataclass(slots=True)
class StrategyMemory(Memory):
    """What is remembered of a strategy between passes."""

    counted_at: float = -1e9
    unkept: tuple[str, str, float] | None = None  # (hash, why it could not be kept, when)
    checked: tuple[str, str, str | None] | None = None  # (hash, file, what is wrong with it)

    def trouble(self, content: str) -> str:
        """Why that content could not be kept a moment ago; empty when it is to be tried."""
        if self.unkept is None or self.unkept[0] != content:
            return ""
        _, why, at = self.unkept
        return why if time.monotonic() - at < KEEP_AGAIN_SECONDS - 0.1 else ""


class StrategyReconciler(Reconciler[StrategySnapshot, StrategyStatus, StrategyMemory]):
    """Converges strategies."""

    plural = STRATEGIES
    kind = "Strategy"

    def __init__(
        self, index: StrategyIndex, sources: Sources, shelf: Shelf, kube: Kube, recorder: Recorder, take: Take
    ) -> None:
        super().__init__(kube, index.strategies)
        self._index = index
        self._sources = sources
        self._shelf = shelf
        self._recorder = recorder
        self._take = take
        self.stale: Callable[[Key], None] = lambda _: None
        """Called with a library that has to be read again."""

    def _memory(self) -> StrategyMemory:
        return StrategyMemory()

    async def _snapshot(self, key: Key, memory: StrategyMemory) -> StrategySnapshot | None:
        strategy = self._index.strategies.get(key)
        if strategy is None:
            return None
        if memory.uid != strategy.metadata.uid:
            memory.uid, memory.counted_at, memory.checked = strategy.metadata.uid, -1e9, None
        found, moved = self._sources.find(strategy), False
        try:
            problem = await self._problem(strategy, found, memory)
        except SourceChangedError:
            self._look_again(strategy)
            found, problem, moved = Found(unknown=True), None, True
        strategy = self._index.strategies.get(key)  # it may have changed while the compiler looked
        if strategy is None:
            return None
        library = self._index.library(key[0], strategy.spec.library)
        namesake = self._index.named((key[0], strategy.spec.library, strategy.called))
        what = content(found, problem)
        hashes = {r.hash for r in strategy.status.revisions} | {strategy.status.revision or ""}
        owned = owning_library(self._objects.objects[key]) is not None
        hashes.add(what.hash if what is not None else "")
        return StrategySnapshot(
            strategy=strategy,
            now=now(),
            content=what,
            used_by=self._used_by(strategy),
            kept=frozenset(h for h in hashes if h and self._shelf.has(h)),
            missing=found.missing,
            refused=found.refused,
            unknown=found.unknown,
            moved=moved,
            orphaned=library is None and owned,
            owned=owned,
            unkept=memory.trouble(what.hash) if what is not None else "",
            namesake=""
            if namesake is None or namesake.metadata.uid == strategy.metadata.uid
            else namesake.metadata.name,
            history=library.spec.revision_history_limit if library is not None else 10,
            counted_seconds_ago=time.monotonic() - memory.counted_at,
        )

    def _look_again(self, strategy: Strategy) -> None:
        """Its file is another one than the library knows of."""
        key = strategy.metadata.namespace, strategy.spec.library
        self._shelf.dirty(key)
        self.stale(key)

    async def _problem(self, strategy: Strategy, found: Found, memory: StrategyMemory) -> str | None:
        if found.view is None:
            return None
        asked = (found.view.hash, found.view.file)
        if memory.checked is None or memory.checked[:2] != asked:
            data = await self._sources.read(strategy, found)
            memory.checked = (*asked, await self._shelf.problem(found.view.file, data))
        return memory.checked[2]

    def _used_by(self, strategy: Strategy) -> UsedBy:
        namespace = strategy.metadata.namespace
        runs = sorted(self._index.users.get((namespace, strategy.spec.library, strategy.called), ()))
        external = sorted(user.name for user in strategy.spec.users)
        return UsedBy(
            count=len(runs) + len(external),
            runs=tuple(name for _, name in runs[:USERS_SHOWN]),
            external=tuple(external[:USERS_SHOWN]),
        )

    def _decide(self, snapshot: StrategySnapshot) -> Plan[StrategyStatus]:
        return decide(snapshot)

    def _seen(self, snapshot: StrategySnapshot) -> str:
        return snapshot.strategy.metadata.resource_version

    def _put(self, obj: Object) -> None:
        self._take(STRATEGIES, False, obj)

    def _drop(self, obj: Object) -> None:
        self._take(STRATEGIES, True, obj)

    def _written(self, snapshot: StrategySnapshot, status: StrategyStatus, obj: Object) -> None:
        meta = snapshot.strategy.metadata
        self._memories[meta.namespace, meta.name].counted_at = time.monotonic()
        for event in events(snapshot.strategy.status, status):
            self._recorder.record(obj, event)

    async def _act(
        self, key: Key, snapshot: StrategySnapshot, actions: tuple[Action, ...], memory: StrategyMemory
    ) -> None:
        for action in actions:
            match action:
                case KeepSnapshot(file=file, hash=kept):
                    found = self._sources.find(snapshot.strategy)
                    if found.view is None or found.view.hash != kept:
                        return  # it has moved on; the next pass sees to what
                    try:
                        data = await self._sources.read(snapshot.strategy, found)
                    except SourceChangedError:
                        self._look_again(snapshot.strategy)
                        return
                    try:
                        await self._shelf.keep(kept, file, data)
                    except OSError as error:  # the disk is full
                        memory.unkept = (kept, error.strerror or str(error), time.monotonic())
                        continue
                    memory.unkept = None
                case DeleteStrategy(name=name, uid=uid):
                    await self._delete(key, snapshot.strategy, name, uid)
                case _:
                    raise AssertionError(action)

    async def _delete(self, key: Key, strategy: Strategy, name: str, uid: str) -> None:
        """Of a library that is gone, by a consistent read: our copy may be behind."""
        if await self._kube.get(path(LIBRARIES, key[0], strategy.spec.library)) is not None:
            return
        await self._kube.delete_object(path(STRATEGIES, key[0], name), uid=uid)
        await self.refresh(key)
