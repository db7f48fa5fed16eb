"""Removing Secrets and ConfigMaps of jobs that are gone: the garbage collector's work, and the embedded plane has none.

Only what is labelled with a job's uid is looked at, and only what that very job owns is removed. The operator has no
right to delete Secrets, and keeps it that way: this acts as the plane's own administrator.
Deletions in the foreground, and orphaning ones, are finished beside it: see `deletions`.

Never run this against a cluster that has a controller-manager.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from mainstay.controlplane import deletions
from mainstay.shell.jobs.executor import JOB_LABEL
from mainstay.shell.kube import JOBS, ApiError, Kube, core_path, path

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
    """Remove what is owned by jobs that are gone; the names of what went."""
    gone = []
    for plural in ("secrets", "configmaps"):
        kept = [
            item
            async for page in kube.pages(core_path(plural), {"labelSelector": JOB_LABEL})
            for item in page.get("items", ())
        ]
        for item in kept:
            meta = item["metadata"]
            if await _orphan(kube, meta):
                where = core_path(plural, meta["namespace"], meta["name"])
                await kube.delete_object(where, uid=meta["uid"])
                gone.append(f"{plural}/{meta['name']}")
    return gone


async def _orphan(kube: Kube, meta: Object) -> bool:
    """Whether every owner is a job, and all of them are gone by a consistent read."""
    owners = meta.get("ownerReferences") or []
    for owner in owners:
        if owner.get("kind") != "PhasedJob":
            return False
        job = await kube.get(path(JOBS, meta["namespace"], owner["name"]))
        if job is not None and job["metadata"]["uid"] == owner["uid"]:
            return False
    return bool(owners)
