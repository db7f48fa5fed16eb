"""What has to look again when something changed."""

from __future__ import annotations

from collections import Counter

from mainstay.api.asset import ASSET_ANNOTATION
from mainstay.api.phasedjob import FINAL
from mainstay.api.stackrestart import OVER
from mainstay.api.strategy import DEFAULT_LIBRARY
from mainstay.api.strategyrun import StrategyRun
from mainstay.core.inputs import config_map_refs
from mainstay.core.strategy.strategy import COUNT_SECONDS
from mainstay.shell.jobs.index import JobIndex, batch_of, owners_of
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
)
from mainstay.shell.pools import POOL_WRITE_SECONDS
from mainstay.shell.queue import Queue
from mainstay.shell.stacks.index import StackIndex, stack_of
from mainstay.shell.store import Key, Object, Store, condition_of, key_of
from mainstay.shell.strategies.index import Name, StrategyIndex

WorkKey = tuple[str, str, str]
"""(what, namespace, name): what is run, job, batch, library, strategy, stack, restart, asset, unit (of a run), task (its unit),
scope (of a stack), lease or pool."""

TOLD_SECONDS = 0.05
"""Per job that waits for the same asset: how soon each tells that another one has it now."""
WOKEN_AT_ONCE = 64
"""Runs of a pool that look again when a port may be free; whoever takes one wakes nobody, who gives one back does."""


class Wakes:
    """Puts keys into the queue. Silent until `awake`: at the start everything is looked at anyhow."""

    def __init__(
        self,
        queue: Queue[WorkKey],
        store: Store,
        index: JobIndex,
        strategies: StrategyIndex,
        stacks: StackIndex,
    ) -> None:
        self._queue = queue
        self._store = store
        self._index = index
        self._strategies = strategies
        self._stacks = stacks
        self.awake = False

    def changed(self, plural: str, deleted: bool, obj: Object, before: Object | None) -> None:
        """An object was created, changed or deleted."""
        if not self.awake:
            return
        namespace, name = key_of(obj)
        if plural == RUNS:
            self._run(namespace, name, deleted, obj, before)
        elif plural == JOBS:
            self._queue.add(("job", namespace, name))
            self.batch_of(obj)
        elif plural == BATCHES:
            self._queue.add(("batch", namespace, name))
            self.batch_changed(obj, deleted=deleted)
        elif plural == ASSETS:
            self._queue.add(("asset", namespace, name))
        elif plural == LEASES:
            self._lease(obj, deleted=deleted)
        elif plural == POOLS:
            self._queue.add(("pool", "", name))
            self.waiting_for_ports()
        elif plural == LIBRARIES:
            self._library(namespace, name, obj, before)
        elif plural == STRATEGIES:
            self._strategy(namespace, name, obj, before, deleted=deleted)
        elif plural == STACKS:
            self._stack(namespace, name, deleted=deleted, before=before)
        elif plural == RESTARTS:
            self._queue.add(("restart", namespace, name))
            self.stack_of_restart(stack_of(obj))
        elif plural == CONFIG_MAPS:
            self._users_of_config_map(namespace, name)
            self._strategies_of_config_map(namespace, name, obj, before)

    def _run(self, namespace: str, name: str, deleted: bool, obj: Object, before: Object | None) -> None:
        self._queue.add(("run", namespace, name))
        if before is not None and (deleted or before["metadata"]["uid"] != obj["metadata"]["uid"]):
            for lease in self._store.leases_of(before["metadata"]["uid"]):
                self._queue.add(("lease", "", lease.metadata.name))
        if deleted:
            self._queue.add(("unit", namespace, name))

    def _stack(self, namespace: str, name: str, *, deleted: bool, before: Object | None) -> None:
        self._queue.add(("stack", namespace, name))
        self.restarts_of((namespace, name))
        if deleted:
            self._queue.add(("scope", namespace, name))
            for lease in self._store.leases_of(before["metadata"]["uid"] if before else ""):
                self._queue.add(("lease", "", lease.metadata.name))

    def restarts_of(self, stack: Key) -> None:
        """What a stack comes to is what its restarts wait for."""
        if self.awake:
            for key in self._stacks.restarts_of(stack):
                restart = self._stacks.restart(key)
                if restart is None or restart.status.phase not in OVER:
                    self._queue.add(("restart", *key))

    def stack_of_restart(self, stack: Key) -> None:
        """A stack goes by the step that its restart is at; those that wait, by whose turn it is."""
        if self.awake:
            if stack in self._stacks.stacks.objects:
                self._queue.add(("stack", *stack))
            self.restarts_of(stack)

    def _lease(self, obj: Object, *, deleted: bool) -> None:
        holder = obj.get("spec", {}).get("holder", {})
        key = (str(holder.get("namespace", "")), str(holder.get("name", "")))
        if key in self._store.runs.objects:
            self._queue.add(("run", *key))
        if key in self._stacks.stacks.objects:
            self._queue.add(("stack", *key))
        if not deleted:
            self.lease_without_holder(obj["metadata"]["name"])
        for stack in self._stacks.with_port(obj.get("spec", {}).get("port", 0)):
            self._queue.add(("stack", *stack))

    def lease_without_holder(self, name: str) -> None:
        """A lease whose holder we don't know has to be looked into."""
        lease = self._store.leases.objects[("", name)]
        holder = lease.get("spec", {}).get("holder", {})
        kind = self._stacks.stacks if holder.get("kind") == "ServiceStack" else self._store.runs
        known = kind.objects.get((holder.get("namespace", ""), holder.get("name", "")))
        if known is None or known["metadata"]["uid"] != holder.get("uid"):
            self._queue.add(("lease", "", name))

    def batch_of(self, job: Object) -> None:
        """What a job comes to counts in its batch."""
        if self.awake and (batch := batch_of(job)) is not None:
            self._queue.add(("batch", *batch))

    def batch_changed(self, batch: Object, *, deleted: bool = False) -> None:
        """What a compensation comes to is what its asset waits for; a job whose batch is gone is nobody's."""
        if not self.awake:
            return
        namespace, name = key_of(batch)
        if asset := (batch["metadata"].get("annotations") or {}).get(ASSET_ANNOTATION):
            self._queue.add(("asset", namespace, asset))
        if deleted:
            for job in self._index.children((namespace, name), batch["metadata"]["uid"]):
                self._queue.add(("job", *key_of(job)))

    def asset(self, key: Key) -> None:
        """What became of a job matters to this asset."""
        if self.awake:
            self._queue.add(("asset", *key))

    def users_of_asset(self, key: Key, whether: bool) -> None:
        """An asset has another holder or state, or has counted reports: who waits for that looks again.

        `whether`: it is new, or gone, or accepts something else.
        """
        if not self.awake:
            return
        assets = self._index.assets
        concerned = assets.users(key) if whether else (*assets.claimers(key), *assets.carriers(key))
        behind: set[Key] = set()
        holder = assets.holder_of(key)
        waiting = []
        for job in dict.fromkeys(concerned):
            obj = self._index.jobs.objects[job]
            if (obj.get("status") or {}).get("phase") in FINAL and not assets.carries(job):
                continue
            its = (obj["metadata"]["uid"], *(owner["uid"] for owner in owners_of(obj)))
            if whether or holder is None or holder in its or assets.carries(job):
                self._queue.add(("job", *job))
            else:
                waiting.append(job)
            # Those that are taken after this one; all, when the job had no hope without it.
            behind |= {asset for asset in assets.claimed(job) if asset > key or whether}
        for asset in behind:
            self._queue.add(("asset", *asset))
        # They only tell who has it now: of many that wait for one asset, each does so now and then.
        for job in waiting:
            self._queue.add_after(("job", *job), len(waiting) * TOLD_SECONDS)

    def waiting_for_room(self) -> None:
        """Jobs that wait for room on this host look again, those that waited longest first."""
        if self.awake:
            for key in list(self._index.waiting)[: max(1, self._index.room)]:
                self._queue.add(("job", *key))

    def waiting_for_ports(self) -> None:
        """Runs that wait for a port look again, those that waited longest first."""
        if not self.awake:
            return
        woken: Counter[str] = Counter()
        for key, (_, pool) in sorted(self._store.waiting.items(), key=lambda item: item[1]):
            woken[pool] += 1
            if woken[pool] <= WOKEN_AT_ONCE:
                self._queue.add(("run", *key))

    def pools_soon(self) -> None:
        """Counts of pools are written at most once a second."""
        if self.awake:
            for _, name in self._store.pools.objects:
                self._queue.add_after(("pool", "", name), POOL_WRITE_SECONDS)

    def _library(self, namespace: str, name: str, obj: Object, before: Object | None) -> None:
        self._queue.add(("library", namespace, name))
        if before is not None and before.get("spec") != obj.get("spec"):  # how many revisions are kept
            for strategy in self._strategies.of_library(namespace, name):
                self._queue.add(("strategy", namespace, strategy.metadata.name))
            self.users_of_library((namespace, name))  # how many of them may be restarted
        if before is None or before.get("spec") != obj.get("spec") or _problems(before) != _problems(obj):
            self._those_without_their_own(namespace, name)

    def _strategy(
        self, namespace: str, name: str, obj: Object, before: Object | None, *, deleted: bool
    ) -> None:
        self._queue.add(("strategy", namespace, name))
        library, called = named(obj)
        self._queue.add(("library", namespace, library))
        for other in self._strategies.namesakes((namespace, library, called)):
            self._queue.add(("strategy", *other))
        if deleted or _offer(before or {}) != _offer(obj):
            self.users_of((namespace, library, called))
            known = self._strategies.library(namespace, library)
            if known is not None and known.spec.default == called:
                self._those_without_their_own(namespace, library)

    def users_of(self, name: Name) -> None:
        """Runs that use a strategy look again, in the order of their names."""
        if self.awake:
            for run in sorted(self._strategies.users.get(name, ())):
                self._queue.add(("run", *run))

    def users_of_library(self, library: Key) -> None:
        """What was a memory of it is known now: whoever held still for that looks again."""
        if self.awake:
            for name in [n for n in self._strategies.users if n[:2] == library]:
                self.users_of(name)

    def _those_without_their_own(self, namespace: str, library: str) -> None:
        """Runs of a library whose strategy isn't offered: its default is their business."""
        for name in [n for n in self._strategies.users if n[:2] == (namespace, library)]:
            if self._strategies.offered(name) is None:
                self.users_of(name)

    def users_soon(self, name: Name) -> None:
        """Counts of users are written at most once a second."""
        if self.awake:
            for key in self._strategies.namesakes(name):
                self._queue.add_after(("strategy", *key), COUNT_SECONDS)

    def waiting_for_turn(self, name: Name) -> None:
        """Runs that wait for their turn to be restarted look again, in the order of their names."""
        if self.awake:
            for key in sorted(self._strategies.waiting.get(name, ()))[:WOKEN_AT_ONCE]:
                self._queue.add(("run", *key))

    def strategy_of(self, run: StrategyRun) -> None:
        """Its bytes are lost: perhaps their source has them still."""
        ref, use = run.spec.strategy, run.status.strategy
        if ref is not None and use is not None:
            for called in {ref.name, use.name}:
                for key in self._strategies.namesakes((run.metadata.namespace, ref.library, called)):
                    self._queue.add(("strategy", *key))

    def _strategies_of_config_map(
        self, namespace: str, name: str, obj: Object, before: Object | None
    ) -> None:
        for key, strategy in self._strategies.strategies.objects.items():
            ref = strategy.get("spec", {}).get("source", {}).get("configMap") or {}
            if key[0] == namespace and ref.get("name") == name:
                self._queue.add(("strategy", *key))
        seen = [o["metadata"].get("labels") or {} for o in (obj, before) if o is not None]
        for key, library in self._strategies.libraries.objects.items():
            selector = (library.get("spec", {}).get("source", {}).get("configMaps") or {}).get("matchLabels")
            if (
                key[0] == namespace
                and selector
                and any(selector.items() <= labels.items() for labels in seen)
            ):
                self._queue.add(("library", *key))

    def _users_of_config_map(self, namespace: str, name: str) -> None:
        for stack in self._stacks.with_config_map(namespace, name):
            self._queue.add(("stack", *stack))
        for key in [k for k in self._store.runs.objects if k[0] == namespace]:
            try:
                run = self._store.run(key)
            except ValueError:
                continue
            if run is not None and any(ref == name for ref, _ in config_map_refs(run.spec)):
                self._queue.add(("run", *key))


def named(strategy: Object) -> tuple[str, str]:
    """(library, name as runs write it) of a Strategy."""
    spec = strategy.get("spec") or {}
    return spec.get("library") or DEFAULT_LIBRARY, spec.get("name") or strategy["metadata"]["name"]


def _problems(library: Object) -> object:
    """What a library has and can't offer."""
    return (library.get("status") or {}).get("problems") or []


def _offer(strategy: Object) -> tuple[object, ...]:
    """What of a Strategy its users go by."""
    status = strategy.get("status") or {}
    shown = ("hash", "revision", "file", "valid")
    return (
        *(status.get(k) for k in shown),
        bool(status.get("conditions")),
        condition_of(strategy, "Stalled").get("message"),
    )
