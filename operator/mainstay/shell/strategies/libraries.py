"""StrategyLibraries: what gathering, deciding and acting are for one of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from mainstay.api.meta import API_VERSION
from mainstay.api.strategy import Strategy
from mainstay.api.strategylibrary import StrategyLibrary, StrategyLibraryStatus
from mainstay.core.plan import Action, CreateStrategy, DeleteStrategy, Plan, SetSource, StrategyEffect
from mainstay.core.strategy.library import LibrarySnapshot, StrategyObject, decide, events
from mainstay.core.strategy.names import object_name
from mainstay.core.strategy.views import FileProblem, FileView, Listing
from mainstay.runtime.base import Shelf
from mainstay.shell.copies import Take
from mainstay.shell.jobs.gather import now
from mainstay.shell.kube import CONFLICTS, LIBRARIES, STRATEGIES, ApiError, ApiUnavailableError, Kube, path
from mainstay.shell.reconcile import Memory, Reconciler
from mainstay.shell.recorder import Recorder
from mainstay.shell.store import Key, Object
from mainstay.shell.strategies.index import Name, StrategyIndex
from mainstay.shell.strategies.sources import Sources, owning_library


@dataclass(slots=True)
class LibraryMemory(Memory):
    """What is remembered of a library between passes."""

    counted_at: float = -1e9
    listing: Listing | None = None
    refused: dict[str, str] = field(default_factory=dict)  # name of an object → why it can't be made


class LibraryReconciler(Reconciler[LibrarySnapshot, StrategyLibraryStatus, LibraryMemory]):
    """Converges libraries."""

    plural = LIBRARIES
    kind = "StrategyLibrary"

    def __init__(
        self, index: StrategyIndex, sources: Sources, shelf: Shelf, kube: Kube, recorder: Recorder, take: Take
    ) -> None:
        super().__init__(kube, index.libraries)
        self._index = index
        self._sources = sources
        self._shelf = shelf
        self._recorder = recorder
        self._take = take
        self.left: Callable[[Name], None] = lambda _: None
        """Called with a strategy that its source has no more: it may have no object whose end would tell."""
        self.touched: Callable[[Key], None] = lambda _: None
        """Called with a strategy whose file changed, or that has no library any more."""
        self.learned: Callable[[Key], None] = lambda _: None
        """Called with a library that was read for the first time, or whose source came or went as a whole."""

    def _memory(self) -> LibraryMemory:
        return LibraryMemory()

    async def _snapshot(self, key: Key, memory: LibraryMemory) -> LibrarySnapshot | None:
        library = self._index.libraries.get(key)
        if library is None:
            self._shelf.watch(key, None)
            for strategy in self._index.of_library(*key):  # they are nobody's now
                self.touched((key[0], strategy.metadata.name))
            return None
        if memory.uid != library.metadata.uid:
            memory.uid, memory.counted_at, memory.listing = library.metadata.uid, -1e9, None
            memory.refused.clear()
        source = self._sources.directory(library)
        self._shelf.watch(key, source)
        held = self._held(key)
        listing = await self._shelf.listing(key, held) if source else self._sources.config_maps(library, held)
        library = self._index.libraries.get(key)  # it may have changed while the directory was read
        if library is None:
            return None
        self._tell(key, memory, listing)
        objects = {s.metadata.name: self._object(s, library) for s in self._index.of_library(*key)}
        for name in (object_name(key[1], view) for view in listing.files):
            if name not in objects and (key[0], name) in self._index.strategies.objects:
                objects[name] = StrategyObject(uid="", name="", ours=False)
        return LibrarySnapshot(
            library=library,
            now=now(),
            listing=listing,
            objects=objects,
            refused=dict(memory.refused),
            counted_seconds_ago=time.monotonic() - memory.counted_at,
        )

    def _held(self, key: Key) -> dict[str, str]:
        """Which file, or which ConfigMap, has the name of each strategy now."""
        sources = {s.called: s.spec.source for s in self._index.of_library(*key)}
        return {
            name: source.file.path if source.file else source.config_map.name if source.config_map else ""
            for name, source in sources.items()
        }

    def _tell(self, key: Key, memory: LibraryMemory, listing: Listing) -> None:
        """Have strategies whose file is another one now, or was not known, look."""
        before = memory.listing
        memory.listing = listing
        if before is not None and before == listing:
            return
        memory.refused.clear()
        if before is None or before.error != listing.error:
            self.learned(key)
            for strategy in self._index.of_library(*key):  # also what it has no more
                self.touched((key[0], strategy.metadata.name))
        old, new = _entries(before), _entries(listing)
        for name in old.keys() | new.keys():
            if old.get(name) != new.get(name) or before is None or before.error != listing.error:
                self.touched((key[0], object_name(key[1], name)))
            if name not in new:
                self.left((*key, name))

    def _object(self, strategy: Strategy, library: StrategyLibrary) -> StrategyObject:
        meta, source, status = strategy.metadata, strategy.spec.source, strategy.status
        owner = owning_library(self._index.strategies.objects[meta.namespace, meta.name])
        return StrategyObject(
            uid=meta.uid,
            name=strategy.called,
            file=source.file.path if source.file else "",
            config_map=(source.config_map.name, source.config_map.key) if source.config_map else None,
            ours=owner is not None and owner.get("name") == library.metadata.name,
            adopted=owner is not None and owner.get("uid") == library.metadata.uid,
            registered=bool(strategy.spec.users),
            valid=status.valid,
            offered=status.revision is not None,
        )

    def _decide(self, snapshot: LibrarySnapshot) -> Plan[StrategyLibraryStatus]:
        return decide(snapshot)

    def _seen(self, snapshot: LibrarySnapshot) -> str:
        return snapshot.library.metadata.resource_version

    def _put(self, obj: Object) -> None:
        self._take(LIBRARIES, False, obj)

    def _drop(self, obj: Object) -> None:
        self._index.libraries.drop(obj)

    def _written(self, snapshot: LibrarySnapshot, status: StrategyLibraryStatus, obj: Object) -> None:
        meta = snapshot.library.metadata
        self._memories[meta.namespace, meta.name].counted_at = time.monotonic()
        for event in events(snapshot.library.status, status):
            self._recorder.record(obj, event)

    async def _act(
        self, key: Key, snapshot: LibrarySnapshot, actions: tuple[Action, ...], memory: LibraryMemory
    ) -> None:
        done = await asyncio.gather(
            *(self._one(key, snapshot.library, action, memory) for action in actions), return_exceptions=True
        )
        for error in (outcome for outcome in done if isinstance(outcome, BaseException)):
            if not (isinstance(error, ApiError) and error.code in CONFLICTS):
                raise error

    async def _one(self, key: Key, library: StrategyLibrary, action: Action, memory: LibraryMemory) -> None:
        assert isinstance(action, StrategyEffect)
        where = path(STRATEGIES, key[0], getattr(action, "name", ""))
        match action:
            case CreateStrategy():
                await self._create(key, library, action, memory)
            case SetSource(uid=uid):
                owners = [_owner(library)]
                body = {
                    "metadata": {"uid": uid, "ownerReferences": owners},
                    "spec": {"source": {"file": None, "configMap": None, "inline": None, **_source(action)}},
                }
                self._take(STRATEGIES, False, await self._kube.patch(where, body))
            case DeleteStrategy(name=name, uid=uid):
                await self._kube.delete_object(where, uid=uid)
                known = self._index.strategies.objects.get((key[0], name))
                if known is not None and known["metadata"]["uid"] == uid:
                    self._take(STRATEGIES, True, known)
            case _:
                raise AssertionError(action)

    async def _create(
        self, key: Key, library: StrategyLibrary, action: CreateStrategy, memory: LibraryMemory
    ) -> None:
        body = {
            "metadata": {"name": action.name, "namespace": key[0], "ownerReferences": [_owner(library)]},
            "spec": {"library": key[1], "name": action.called, "source": _source(action)},
        }
        try:
            obj = await self._kube.create(STRATEGIES, "Strategy", key[0], body)
        except ApiUnavailableError:
            raise
        except ApiError as error:
            if error.code != HTTPStatus.CONFLICT:  # a quota, a policy: say so
                memory.refused[action.name] = error.message
                return
            existing = await self._kube.get(path(STRATEGIES, key[0], action.name))
            if existing is None:
                return
            obj = existing
        self._take(STRATEGIES, False, obj)


def _entries(listing: Listing | None) -> dict[str, FileView | FileProblem]:
    """By name what is there, whether it can be read or not."""
    return {**listing.files, **listing.withheld} if listing is not None else {}


def _source(action: CreateStrategy | SetSource) -> dict[str, Any]:
    if action.config_map:
        return {"configMap": {"name": action.config_map, "key": action.file}}
    return {"file": {"path": action.file}}


def _owner(library: StrategyLibrary) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "StrategyLibrary",
        "name": library.metadata.name,
        "uid": library.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
