"""Removing what jobs and assets left that are gone: the garbage collector's work, and the embedded plane has none.

Secrets and ConfigMaps of a job, compensations (JobBatches) of an asset. Only what is labelled with the uid of such an
owner is looked at, and only what that very object owns is removed. The operator has no right to delete Secrets, and
keeps it that way: this acts as the plane's own administrator.
Deletions in the foreground, and orphaning ones, are finished beside it: see `deletions`.

Never run this against a cluster that has a controller-manager.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from mainstay.api.asset import ASSET_UID_LABEL
from mainstay.api.kinds import ASSET, JOB_BATCH, PHASED_JOB, Kind
from mainstay.controlplane import deletions
from mainstay.shell.jobs.executor import JOB_LABEL
from mainstay.shell.kube import ApiError, Kube, core_path, path

Object = dict[str, Any]

EVERY_SECONDS = 15.0

_log = logging.getLogger(__name__)


async def run(kube: Kube, wait: Callable[[float], Any] = asyncio.sleep) -> None:
    """Sweep, and finish deletions, until cancelled. API errors are logged and tried again."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_sweeping(kube, wait))
        tasks.create_task(deletions.run(kube, deletions.metadata_only(kube), wait))


async def _sweeping(kube: Kube, wait: Callable[[float], Any]) -> None:
    while True:
        try:
            await sweep(kube)
        except ApiError as error:
            _log.debug("garbage: %s", error)
        await wait(EVERY_SECONDS)


async def sweep(kube: Kube) -> list[str]:
    """Remove what is owned by jobs and assets that are gone; the names of what went."""
    gone = []
    for plural, url, label, kind in (
        ("secrets", core_path, JOB_LABEL, PHASED_JOB),
        ("configmaps", core_path, JOB_LABEL, PHASED_JOB),
        (JOB_BATCH.plural, path, ASSET_UID_LABEL, ASSET),
    ):
        for item in await _labelled(kube, url(plural), label):
            meta = item["metadata"]
            if "deletionTimestamp" not in meta and await _orphan(kube, meta, kind):
                await kube.delete_object(url(plural, meta["namespace"], meta["name"]), uid=meta["uid"])
                gone.append(f"{plural}/{meta['name']}")
    return gone


async def _labelled(kube: Kube, url: str, label: str) -> list[Object]:
    """Everything with that label. A kind that isn't served has nothing."""
    try:
        pages = [page async for page in kube.pages(url, {"labelSelector": label})]
    except ApiError as error:
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        return []
    return [item for page in pages for item in page.get("items") or ()]


async def _orphan(kube: Kube, meta: Object, kind: Kind) -> bool:
    """Whether every owner is of that kind, and all of them are gone by a consistent read."""
    owners = meta.get("ownerReferences") or []
    for owner in owners:
        if owner.get("kind") != kind.name:
            return False
        found = await kube.get(path(kind.plural, meta["namespace"], owner["name"]))
        if found is not None and found["metadata"]["uid"] == owner["uid"]:
            return False
        if found is None:  # 404 is also what a server says that doesn't know the kind: then this raises
            await kube.request("GET", path(kind.plural), query={"limit": "1"})
    return bool(owners)
