"""What has to look again when something changed."""

from __future__ import annotations

from collections import Counter

from mainstay.core.inputs import config_map_refs
from mainstay.shell.jobs.index import JobIndex, batch_of
from mainstay.shell.kube import BATCHES, JOBS, LEASES, POOLS, RUNS
from mainstay.shell.pools import POOL_WRITE_SECONDS
from mainstay.shell.queue import Queue
from mainstay.shell.store import Object, Store, key_of

WorkKey = tuple[str, str, str]
"""(what, namespace, name): what is run, job, batch, unit (of a run), task (its unit), lease or pool."""

WOKEN_AT_ONCE = 64
"""Runs of a pool that look again when a port may be free; whoever takes one wakes nobody, who gives one back does."""


class Wakes:
    """Puts keys into the queue. Silent until `awake`: at the start everything is looked at anyhow."""

    def __init__(self, queue: Queue[WorkKey], store: Store, index: JobIndex) -> None:
        self._queue = queue
        self._store = store
        self._index = index
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
        elif plural == LEASES:
            self._lease(obj, deleted=deleted)
        elif plural == POOLS:
            self._queue.add(("pool", "", name))
            self.waiting_for_ports()
        else:
            self._users_of_config_map(namespace, name)

    def _run(self, namespace: str, name: str, deleted: bool, obj: Object, before: Object | None) -> None:
        self._queue.add(("run", namespace, name))
        if before is not None and (deleted or before["metadata"]["uid"] != obj["metadata"]["uid"]):
            for lease in self._store.leases_of(before["metadata"]["uid"]):
                self._queue.add(("lease", "", lease.metadata.name))
        if deleted:
            self._queue.add(("unit", namespace, name))

    def _lease(self, obj: Object, *, deleted: bool) -> None:
        holder = obj.get("spec", {}).get("holder", {})
        key = (str(holder.get("namespace", "")), str(holder.get("name", "")))
        if key in self._store.runs.objects:
            self._queue.add(("run", *key))
        if not deleted:
            self.lease_without_holder(obj["metadata"]["name"])

    def lease_without_holder(self, name: str) -> None:
        """A lease whose holder we don't know has to be looked into."""
        lease = self._store.leases.objects[("", name)]
        holder = lease.get("spec", {}).get("holder", {})
        known = self._store.runs.objects.get((holder.get("namespace", ""), holder.get("name", "")))
        if known is None or known["metadata"]["uid"] != holder.get("uid"):
            self._queue.add(("lease", "", name))

    def batch_of(self, job: Object) -> None:
        """What a job comes to counts in its batch."""
        if self.awake and (batch := batch_of(job)) is not None:
            self._queue.add(("batch", *batch))

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

    def _users_of_config_map(self, namespace: str, name: str) -> None:
        for key in [k for k in self._store.runs.objects if k[0] == namespace]:
            try:
                run = self._store.run(key)
            except ValueError:
                continue
            if run is not None and any(ref == name for ref, _ in config_map_refs(run.spec)):
                self._queue.add(("run", *key))
