"""Our copy of the objects: fed by watches, by lists, and at once by the answers to our own writes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from mainstay.api.meta import Model
from mainstay.api.ports import PortLease, PortPool
from mainstay.api.strategyrun import RunPhase, StrategyRun
from mainstay.core import reasons

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Model)

Object = dict[str, Any]
Key = tuple[str, str]
"""(namespace, name); the namespace is empty for cluster-scoped objects."""

_HOLDING = frozenset(
    {
        RunPhase.STARTING,
        RunPhase.RUNNING,
        RunPhase.PAUSING,
        RunPhase.PAUSED,
        RunPhase.RESUMING,
        RunPhase.STOPPING,
    }
)


class HistoryLostError(Exception):
    """The API server is older than what we have seen: restored from a snapshot. Only a fresh start is safe."""


GONE_KEPT = 1024
"""Uids remembered of objects that went: a late answer is seconds late."""


def key_of(obj: Object) -> Key:
    """The key of an object."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def version_of(obj: Object) -> int:
    """Return the resourceVersion as the number it is: comparable since Kubernetes 1.35."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def condition_of(obj: Object, kind: str) -> Object:
    """The condition of that type, as it was written into an object's status; empty where there is none."""
    conditions: Any = (obj.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == kind), {})


@dataclass(slots=True)
class Kind:
    """The objects of one kind. Events may come late and out of order: an older version never replaces a newer."""

    objects: dict[Key, Object] = field(default_factory=dict)
    newest: int = 0  # highest resourceVersion seen
    gone: dict[str, None] = field(default_factory=dict)  # uids of what went last

    def put(self, obj: Object) -> bool:
        """Take the object in; False if we know a newer version of it, or that it is gone.

        The answer to our own write may come in after the event that tells of the deletion.
        """
        key, version = key_of(obj), version_of(obj)
        self.newest = max(self.newest, version)
        if obj["metadata"].get("uid") in self.gone:
            return False
        known = self.objects.get(key)
        if known is not None and version_of(known) >= version:
            return False
        self.objects[key] = obj
        return True

    def drop(self, obj: Object) -> bool:
        """The object is gone; False if what we know under its name is another one, or newer."""
        key, uid = key_of(obj), obj["metadata"].get("uid")
        if uid:
            self.gone[uid] = None
            if len(self.gone) > GONE_KEPT:
                del self.gone[next(iter(self.gone))]
        known = self.objects.get(key)
        if known is None or known["metadata"].get("uid") != uid:
            return False
        del self.objects[key]
        return True


class Parsed(Kind, Generic[T]):
    """The objects of one kind and what they say, parsed once per version."""

    def __init__(self, model: type[T]) -> None:
        super().__init__()
        self._model = model
        self._read: dict[Key, tuple[int, str, T]] = {}

    def get(self, key: Key) -> T | None:
        """The object; None if it is gone. Raises ValidationError for one that doesn't parse."""
        obj = self.objects.get(key)
        if obj is None:
            return None
        state = version_of(obj), obj["metadata"]["uid"]
        cached = self._read.get(key)
        if cached is not None and cached[:2] == state:
            return cached[2]
        made = self._model.model_validate(obj)
        self._read[key] = (*state, made)
        return made

    def drop(self, obj: Object) -> bool:
        """See Kind."""
        dropped = super().drop(obj)
        if dropped:
            self._read.pop(key_of(obj), None)
        return dropped


@dataclass(frozen=True, slots=True)
class KnownPool:
    """A pool, parsed once per version."""

    version: int
    pool: PortPool
    ports: tuple[int, ...]


class Taken(Mapping[int, str]):
    """Ports that belong to others than one run, by lease, claim or a living unit, and to whom in words."""

    def __init__(self, store: Store, uid: str, unit: str) -> None:
        self._store = store
        self._uid = uid
        self._unit = unit

    def __getitem__(self, port: int) -> str:
        if words := self._words(port):
            return words
        raise KeyError(port)

    def get(self, port: int, default: Any = None) -> Any:
        """As of every mapping, without the cost of an exception per free port."""
        return self._words(port) or default

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self._words(port) is not None

    def _words(self, port: int) -> str | None:
        lease = self._store.lease_by_port.get(port)
        if lease is not None and lease.spec.holder.uid != self._uid:
            holder = lease.spec.holder
            return f"{holder.kind} {holder.namespace}/{holder.name}"
        for uid, words in self._store.claims.get(port, {}).items():
            if uid != self._uid:
                return words
        for unit in self._store.carried.get(port, ()):
            if unit != self._unit:
                return f"the process of {unit}"
        return None

    def __iter__(self) -> Iterator[int]:
        known = {*self._store.lease_by_port, *self._store.claims, *self._store.carried}
        return (port for port in known if port in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Store:
    """Runs, pools, leases and the ConfigMaps they refer to, with the indexes that decisions need."""

    def __init__(self) -> None:
        self.runs: Parsed[StrategyRun] = Parsed(StrategyRun)
        self.pools = Kind()
        self.leases = Kind()
        self.config_maps = Kind()
        self.lease_by_port: dict[int, PortLease] = {}
        self.leases_by_uid: dict[str, dict[str, PortLease]] = {}
        self.claims: dict[int, dict[str, str]] = {}  # port → uid of the claiming run → words
        self.carried: dict[int, set[str]] = {}  # port → names of living units that were started with it
        self.port_freed: Callable[[], None] = lambda: None
        """Called when a port may have become free: a lease, a claim or a living unit is gone."""
        self.run_changed: Callable[[Key, StrategyRun | None], None] = lambda *_: None
        """Called with every run that was taken in or dropped; None for one that is gone or does not parse."""
        self.leases_changed: Callable[[], None] = lambda: None
        """Called when the number of leases may have changed."""
        self.waiting: dict[Key, tuple[str, str]] = {}  # runs waiting for a port → (created, pool)
        self._queued: set[Key] = set()  # of those, the ones that any port of the pool would serve
        self._pools: dict[str, KnownPool] = {}
        self._claimed: dict[str, int] = {}  # uid → port
        self._carries: dict[str, int] = {}  # name of a living unit → port

    # --- runs

    def run(self, key: Key) -> StrategyRun | None:
        """The run, parsed; None if it is gone. Raises ValidationError for one that doesn't parse."""
        return self.runs.get(key)

    def put_run(self, obj: Object) -> bool:
        """Take a run in."""
        key = key_of(obj)
        known = self.runs.objects.get(key)
        if not self.runs.put(obj):
            return False
        if known is not None and known["metadata"]["uid"] != obj["metadata"]["uid"]:
            self._unclaim(known["metadata"]["uid"])
        try:
            run = self.run(key)
        except ValidationError:
            self.run_changed(key, None)
            return True
        self.run_changed(key, run)
        if run is not None:
            self.claim(run, run.status.port if run.status.phase in _HOLDING else None)
            self._index_waiting(key, run)
        return True

    def drop_run(self, obj: Object) -> bool:
        """A run is gone."""
        if not self.runs.drop(obj):
            return False
        key = key_of(obj)
        self.waiting.pop(key, None)
        self._queued.discard(key)
        self.run_changed(key, None)
        self._unclaim(obj["metadata"]["uid"])
        return True

    def claim(self, run: StrategyRun, port: int | None) -> None:
        """Note a claim before it is written, so that two decisions at once never choose the same port."""
        uid = run.metadata.uid
        if self._claimed.get(uid) == port:
            return
        self._unclaim(uid)
        if port is not None:
            self._claimed[uid] = port
            words = f"StrategyRun {run.metadata.namespace}/{run.metadata.name}"
            self.claims.setdefault(port, {})[uid] = words

    def _unclaim(self, uid: str) -> None:
        port = self._claimed.pop(uid, None)
        if port is None:
            return
        holders = self.claims.get(port, {})
        holders.pop(uid, None)
        if not holders:
            self.claims.pop(port, None)
        self.port_freed()

    def carry(self, unit: str, port: int | None) -> None:
        """Note the port that a living unit was started with; None when none lives."""
        before = self._carries.get(unit)
        if before == port:
            return
        if before is not None:
            self.carried[before].discard(unit)
            if not self.carried[before]:
                del self.carried[before]
            del self._carries[unit]
        if port is not None:
            self._carries[unit] = port
            self.carried.setdefault(port, set()).add(unit)
        if before is not None:
            self.port_freed()

    def _index_waiting(self, key: Key, run: StrategyRun) -> None:
        waits = run.status.phase is RunPhase.PENDING and any(
            c.type == "PortAllocated" and c.reason != reasons.RELEASED for c in run.status.conditions
        )
        if waits and run.spec.control_api is not None and run.metadata.deletion_timestamp is None:
            created = run.metadata.creation_timestamp
            self.waiting[key] = (created.isoformat() if created else "", run.spec.control_api.pool)
        else:
            self.waiting.pop(key, None)
        any_port = run.spec.control_api is not None and run.spec.control_api.port is None
        (self._queued.add if key in self.waiting and any_port else self._queued.discard)(key)

    def older_waiting(self, key: Key, run: StrategyRun) -> int:
        """How many runs have waited longer for a port of the same pool."""
        if not self.waiting or run.spec.control_api is None:
            return 0
        created = run.metadata.creation_timestamp
        mine = (created.isoformat() if created else "", key)
        return sum(
            1
            for other, (since, pool) in self.waiting.items()
            if other in self._queued and pool == run.spec.control_api.pool and (since, other) < mine
        )

    # --- leases and pools

    def put_lease(self, obj: Object) -> bool:
        """Take a lease in. It may have changed hands while no event told us."""
        known = self.leases.objects.get(key_of(obj))
        if not self.leases.put(obj):
            return False
        if known is not None:
            self._unindex_lease(known)
        try:
            lease = PortLease.model_validate(obj)
        except ValidationError:
            logger.warning("PortLease %s does not parse", obj["metadata"].get("name"))
            return True
        self.lease_by_port[lease.spec.port] = lease
        self.leases_by_uid.setdefault(lease.spec.holder.uid, {})[lease.metadata.name] = lease
        self.leases_changed()
        return True

    def drop_lease(self, obj: Object) -> bool:
        """A lease is gone."""
        if not self.leases.drop(obj):
            return False
        self._unindex_lease(obj)
        self.leases_changed()
        self.port_freed()
        return True

    def _unindex_lease(self, obj: Object) -> None:
        lease = self.lease_by_port.pop(obj["spec"]["port"], None)
        if lease is None:
            return
        held = self.leases_by_uid.get(lease.spec.holder.uid, {})
        held.pop(lease.metadata.name, None)
        if not held:
            self.leases_by_uid.pop(lease.spec.holder.uid, None)

    def leases_of(self, uid: str) -> tuple[PortLease, ...]:
        """Leases held by that object."""
        return tuple(self.leases_by_uid.get(uid, {}).values())

    def pool(self, name: str) -> KnownPool | None:
        """The pool, parsed; None if there is none, or it doesn't parse."""
        obj = self.pools.objects.get(("", name))
        if obj is None:
            return None
        version = version_of(obj)
        cached = self._pools.get(name)
        if cached is not None and cached.version == version:
            return cached
        try:
            pool = PortPool.model_validate(obj)
        except ValidationError:
            return None
        known = self._pools[name] = KnownPool(version, pool, pool.ports())
        return known

    def unused(self, ports: Iterable[int], mine: int | None) -> frozenset[int]:
        """Those of these ports that nobody has by lease, claim or process; and `mine` whoever has it."""
        free = frozenset(ports).difference(self.lease_by_port, self.claims, self.carried)
        return free if mine is None else free | {mine}

    def config_maps_with(
        self, namespace: str, labels: Mapping[str, str]
    ) -> list[tuple[str, Mapping[str, str]]]:
        """(name, texts by key) of ConfigMaps that have all these labels, by name."""
        found = []
        for key, obj in self.config_maps.objects.items():
            theirs = obj["metadata"].get("labels") or {}
            if key[0] == namespace and all(theirs.get(k) == v for k, v in labels.items()):
                data = obj.get("data") or {}
                found.append((key[1], {k: v for k, v in data.items() if isinstance(v, str)}))
        return sorted(found, key=lambda item: item[0])

    def config_map_value(self, namespace: str, name: str, key: str) -> str | None:
        """The text under a key of a ConfigMap."""
        obj = self.config_maps.objects.get((namespace, name))
        value = ((obj or {}).get("data") or {}).get(key)
        return value if isinstance(value, str) else None
