"""Our copies of every kind, as one: what events and lists are taken into."""

from __future__ import annotations

from collections.abc import Callable

from mainstay.shell.jobs.index import JobIndex
from mainstay.shell.kube import (
    ASSETS,
    BATCHES,
    CONFIG_MAPS,
    JOBS,
    LEASES,
    LIBRARIES,
    POOLS,
    RESTARTS,
    RUNS,
    STACKS,
    STRATEGIES,
    Kube,
    core_path,
    path,
)
from mainstay.shell.stacks.index import StackIndex
from mainstay.shell.store import HistoryLostError, Kind, Object, Store, key_of, version_of
from mainstay.shell.strategies.index import StrategyIndex

WATCHED = (POOLS, LEASES, CONFIG_MAPS, LIBRARIES, STRATEGIES, RUNS, JOBS, BATCHES, STACKS, RESTARTS, ASSETS)
"""Every kind that is kept a copy of, in the order in which it is learned."""

Take = Callable[[str, bool, Object], None]
"""`Copies.take`, for who learns of objects from its own writes: the watch tells nothing new of those."""
Changed = Callable[[str, bool, Object, Object | None], None]
"""(plural, deleted, object, what we knew of it before)"""


class Copies:
    """Takes objects in, whoever tells of them, and passes on what was news."""

    def __init__(
        self, store: Store, index: JobIndex, strategies: StrategyIndex, stacks: StackIndex, kube: Kube
    ) -> None:
        self._store = store
        self._index = index
        self._kube = kube
        self._kinds: dict[str, Kind] = {
            RUNS: store.runs,
            JOBS: index.jobs,
            BATCHES: index.batches,
            ASSETS: index.assets.assets,
            STACKS: stacks.stacks,
            RESTARTS: stacks.restarts,
            LEASES: store.leases,
            POOLS: store.pools,
            LIBRARIES: strategies.libraries,
            STRATEGIES: strategies.strategies,
            CONFIG_MAPS: store.config_maps,
        }
        self._put = {
            RUNS: store.put_run,
            LEASES: store.put_lease,
            JOBS: index.put_job,
            ASSETS: index.assets.put,
            STRATEGIES: strategies.put_strategy,
            RESTARTS: stacks.put_restart,
        }
        self._drop = {
            RUNS: store.drop_run,
            LEASES: store.drop_lease,
            JOBS: index.drop_job,
            ASSETS: index.assets.drop,
            STRATEGIES: strategies.drop_strategy,
            RESTARTS: stacks.drop_restart,
        }
        self.changed: Changed = lambda *_: None
        """Called for every change that was news."""

    def kind(self, plural: str) -> Kind:
        """Our copy of one kind."""
        return self._kinds[plural]

    def take(self, plural: str, deleted: bool, obj: Object) -> None:
        """One event, or one item of a list. Late and repeated ones do no harm."""
        if plural == CONFIG_MAPS:
            obj = _only_data(obj)
        kind = self._kinds[plural]
        before = kind.objects.get(key_of(obj))
        take = self._drop.get(plural, kind.drop) if deleted else self._put.get(plural, kind.put)
        news = take(obj)
        if news:
            self.changed(plural, deleted, obj, before)

    async def list(self, plural: str) -> None:
        """Take in a whole list; what it lacks is gone. Raises ApiError, or HistoryLostError."""
        kind = self._kinds[plural]
        url = core_path(plural) if plural == CONFIG_MAPS else path(plural)
        seen = set()
        newest, version = kind.newest, 0  # what comes in while the list is on its way may be newer than it
        async for page in self._kube.pages(url):
            version = version or int(page["metadata"]["resourceVersion"])
            if version < newest:
                raise HistoryLostError(
                    f"{plural}: the API server is at version {version}, {newest} was seen before; "
                    "it was restored from an older state, starting afresh"
                )
            for item in page.get("items", ()):
                seen.add(key_of(item))
                self.take(plural, False, item)
        kind.newest = max(kind.newest, version)
        for key in [k for k in kind.objects if k not in seen]:
            obj = kind.objects[key]
            if version_of(obj) <= version:
                self.take(plural, True, obj)


def _only_data(config_map: Object) -> Object:
    """What we need of a ConfigMap: others may keep megabytes in theirs."""
    meta = config_map["metadata"]
    kept = {k: meta.get(k) for k in ("namespace", "name", "uid", "resourceVersion", "labels")}
    return {"metadata": kept, "data": config_map.get("data")}
