"""Finishing foreground and orphaning deletions: the garbage collector's work, and the embedded plane has none.

`kubectl delete --cascade=foreground` (or orphan) makes the API server add a finalizer that only a collector removes.
Foreground: the dependents are deleted, and the owner goes when those that block it are gone. Orphan: the dependents
forget their owner, then it goes. Dependents are objects of Mainstay's kinds, Secrets and ConfigMaps. Namespaces are let
go too; what is in one is not its dependent, and emptying it is `namespaces`' work.

Nothing is remembered between passes, and the finalizer goes last: whatever ends us midway, the next pass goes on.

Never run this against a cluster that has a controller-manager.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from mainstay.api.kinds import JOB_BATCH, KINDS
from mainstay.api.meta import FINALIZER as TEARDOWN
from mainstay.api.meta import GROUP
from mainstay.shell.kube import CONFLICTS, ApiError, Kube, core_path, path

Object = dict[str, Any]

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"

IDLE_SECONDS = 2.0
"""Between looks while nothing waits for us: a person waits for it. 1,000 objects cost 11 ms a look."""
ITEMS_A_SECOND = 300.0
"""With more objects, looks are rarer, so that they take 0.3 % of a core, and the API server as much again."""
RARELY_SECONDS = 15.0
"""As rare as looks ever are."""
BUSY_SECONDS = 0.1
"""After a pass that changed something; doubled up to the idle pace by each that didn't."""

AT_ONCE = 8

_METADATA = {
    "Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    "Accept-Encoding": "identity",  # to compress for a loopback costs more than all the rest
}
_OURS = {kind.name: kind.plural for kind in KINDS}
_NAMESPACED = tuple(kind.plural for kind in KINDS if kind.scope == "Namespaced")
_CLUSTER = tuple(kind.plural for kind in KINDS if kind.scope == "Cluster")
_CORE = ("secrets", "configmaps")
_NAMESPACES = "namespaces"
_NEEDED = (*_CORE, JOB_BATCH.plural)
"""What a teardown still needs: the last programs of an object may read their Secrets and ConfigMaps, as in a namespace
that goes; and the compensation of an asset, the only owner of batches, empties it before it can go."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Item:
    """An object, its metadata alone."""

    plural: str
    meta: Object

    @property
    def namespace(self) -> str:
        """Its namespace, "" for what has none."""
        return str(self.meta.get("namespace", ""))

    @property
    def url(self) -> str:
        """URL path of the object."""
        where = core_path if self.plural in (*_CORE, _NAMESPACES) else path
        return where(self.plural, self.namespace, self.meta["name"])

    @property
    def name(self) -> str:
        """The name for logs."""
        return f"{self.plural}/{self.namespace}/{self.meta['name']}"

    @property
    def deleting(self) -> bool:
        """Its deletion was asked for."""
        return "deletionTimestamp" in self.meta

    @property
    def owners(self) -> list[Object]:
        """Its ownerReferences."""
        return self.meta.get("ownerReferences") or []

    def waits(self, *finalizers: str) -> bool:
        """Whether it is being deleted and held by one of these."""
        return self.deleting and any(one in finalizers for one in self.meta.get("finalizers", ()))


Dependents = Mapping[str, Sequence[Item]]  # by the owner's uid


def metadata_only(kube: Kube) -> Kube:
    """The same connection, for lists of metadata."""
    return Kube(kube._api, _METADATA)  # noqa: SLF001


async def run(kube: Kube, light: Kube, wait: Callable[[float], Any] = asyncio.sleep) -> None:
    """Finish deletions until cancelled; `light` lists metadata. API errors are logged and tried again."""
    delay, before = IDLE_SECONDS, ""
    while True:
        idle, remaining = IDLE_SECONDS, {}
        try:
            items = await known(light)
            idle = min(max(IDLE_SECONDS, len(items) / ITEMS_A_SECOND), RARELY_SECONDS)
            remaining = await finish(kube, light, items)
        except ApiError as error:
            _log.debug("deletions: %s", error)
        state = repr(remaining)
        busy = BUSY_SECONDS if state != before else min(2 * delay, idle)
        delay, before = (busy if remaining else idle), state
        await wait(delay)


async def known(light: Kube) -> list[Item]:
    """Every object of ours and each namespace that goes, from the API server's memory: the next look finds the rest."""
    going = {"resourceVersion": "0", "fieldSelector": "status.phase=Terminating"}
    namespaces = await light.request("GET", core_path(_NAMESPACES), query=going)
    return [*await known_of(light, *_NAMESPACED, *_CLUSTER), *_items(_NAMESPACES, namespaces)]


async def known_of(light: Kube, *plurals: str) -> list[Item]:
    """Those of some kinds. A kind that isn't served has none."""
    items: list[Item] = []
    for plural in plurals:
        try:
            items += _items(plural, await light.request("GET", path(plural), query={"resourceVersion": "0"}))
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
    return items


async def finish(kube: Kube, light: Kube, items: Iterable[Item]) -> dict[str, str]:
    """Make one pass; those that waited for us, each with what it still waits for, "" if it is let go."""
    doomed = defaultdict(list)
    for item in items:
        if item.waits(FOREGROUND, ORPHAN):
            doomed[item.namespace].append(item)
    remaining: dict[str, str] = {}
    for namespace, owners in doomed.items():
        dependents = await _dependents(light, namespace)
        for owner in owners:
            try:
                remaining[owner.name] = await _finish(kube, owner, dependents)
            except ApiError as error:  # one object must not hold up the others
                remaining[owner.name] = str(error)
                level = logging.DEBUG if error.code in CONFLICTS else logging.WARNING
                _log.log(level, "deletion of %s: %s", owner.name, error)
    return remaining


async def _finish(kube: Kube, owner: Item, dependents: Dependents) -> str:
    uid = owner.meta["uid"]
    mine = dependents.get(uid, ())
    if owner.waits(ORPHAN):
        await _each(_disown(kube, item, uid) for item in mine)
        await _release(kube, owner, ORPHAN)
        return ""
    ends = owner.waits(TEARDOWN)
    due = [item for item in mine if not item.deleting and not (ends and item.plural in _NEEDED)]
    await _each(_delete(kube, item, uid, dependents) for item in due)
    blocking = sum(
        one.get("blockOwnerDeletion") is True for item in mine for one in item.owners if one["uid"] == uid
    )
    if ends or blocking:
        return f"{'its teardown and ' if ends else ''}{blocking} dependents"
    await _release(kube, owner, FOREGROUND)
    return ""


async def _release(kube: Kube, owner: Item, finalizer: str) -> None:
    """Remove that finalizer from that very version of the object."""
    left = [one for one in owner.meta["finalizers"] if one != finalizer]
    await _patch(kube, owner, {"finalizers": left})


async def _disown(kube: Kube, item: Item, owner: str) -> None:
    """Remove the reference to that owner."""
    await _patch(kube, item, {"ownerReferences": [one for one in item.owners if one["uid"] != owner]})


async def _patch(kube: Kube, item: Item, meta: Object) -> None:
    """Change that very version of the object; gone already is success."""
    same = {key: item.meta[key] for key in ("uid", "resourceVersion")}
    try:
        await kube.patch(item.url, {"metadata": {**same, **meta}})
    except ApiError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise


async def _delete(kube: Kube, item: Item, owner: str, dependents: Dependents) -> None:
    """Delete what nobody else owns; what has dependents waits for them in turn."""
    for other in item.owners:
        if other["uid"] != owner and await _lives(kube, item.namespace, other):
            await _disown(kube, item, owner)
            return
    if not dependents.get(item.meta["uid"]):
        await kube.delete_object(item.url, uid=item.meta["uid"])
        return
    options = {"propagationPolicy": "Foreground", "preconditions": {"uid": item.meta["uid"]}}
    try:
        await kube.request("DELETE", item.url, options)
    except ApiError as error:
        if error.code not in CONFLICTS:
            raise


async def _lives(kube: Kube, namespace: str, reference: Object) -> bool:
    """Whether that owner is there to stay, by a consistent read. Of what isn't ours we don't know, and say yes."""
    plural = _OURS.get(reference["kind"], "")
    if not plural or reference["apiVersion"].split("/")[0] != GROUP:
        return True
    found = await kube.get(path(plural, "" if plural in _CLUSTER else namespace, reference["name"]))
    if found is None or found["metadata"]["uid"] != reference["uid"]:
        return False
    return not Item(plural, found["metadata"]).waits(FOREGROUND)


async def _dependents(light: Kube, namespace: str) -> Dependents:
    """What has owners, by a consistent read: in that namespace, or anywhere for owners that are in none."""
    found = defaultdict(list)
    for plural in (*_NAMESPACED, *_CORE, *(() if namespace else _CLUSTER)):
        url = core_path(plural, namespace) if plural in _CORE else path(plural, namespace)
        try:
            async for page in light.pages(url):
                for item in _items(plural, page):
                    for uid in {one["uid"] for one in item.owners}:
                        found[uid].append(item)
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
    return found


def _items(plural: str, page: Object) -> Iterable[Item]:
    return (Item(plural, one["metadata"]) for one in page.get("items") or ())


async def _each(work: Iterable[Awaitable[None]]) -> None:
    """Do all of it, a few at once; then raise what went wrong first."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(each: Awaitable[None]) -> None:
        async with limit:
            await each

    done = await asyncio.gather(*(one(each) for each in work), return_exceptions=True)
    for error in done:
        if error is not None:
            raise error
