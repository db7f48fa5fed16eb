"""Emptying and finalizing namespaces, which is a controller-manager's work and there is none in the embedded plane.

A namespace that is being deleted keeps the finalizer "kubernetes" in its spec until nothing is left inside.
Our own objects go first, while the ConfigMaps and Secrets that their last programs may read still exist;
everything else goes when ours are gone. What remains is told in the namespace's condition
NamespaceContentRemaining, as a real controller-manager does.

Never run this against a cluster that has a controller-manager.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from mainstay.api.meta import GROUP
from mainstay.shell.kube import ApiError, Kube

Object = dict[str, Any]

FINALIZER = "kubernetes"
CONDITION = "NamespaceContentRemaining"

IDLE_SECONDS = 2.0
"""Between looks while no namespace is being deleted: one small request, answered from the server's memory."""
BUSY_SECONDS = 0.1
"""After a pass that changed something; doubled up to IDLE_SECONDS by each that didn't."""

AT_ONCE = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """A namespaced resource that can be listed and deleted."""

    group: str
    version: str
    plural: str
    collection: bool = True  # deletecollection is served

    @property
    def prefix(self) -> str:
        """URL path of the group and version."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def name(self) -> str:
        """The name as kubectl takes it: "configmaps", "strategyruns.mainstay.dev"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str) -> str:
        """URL path of the resource in `namespace`."""
        return f"{self.prefix}/namespaces/{namespace}/{self.plural}"


async def run(kube: Kube, wait: Callable[[float], Any] = asyncio.sleep) -> None:
    """Empty and finalize terminating namespaces until cancelled. API errors are logged and tried again."""
    delay, before = IDLE_SECONDS, ""
    while True:
        try:
            remaining = await sweep(kube)
        except ApiError as error:
            _log.warning("namespaces: %s", error)
            remaining = None
        state = repr(remaining)
        if not remaining:
            delay = IDLE_SECONDS
        else:
            delay = BUSY_SECONDS if state != before else min(2 * delay, IDLE_SECONDS)
        before = state
        await wait(delay)


async def sweep(kube: Kube) -> dict[str, str]:
    """Make one pass; return the namespaces that still terminate, each with what remains in it."""
    query = {"fieldSelector": "status.phase=Terminating", "resourceVersion": "0"}
    terminating = [
        item
        for item in (await kube.request("GET", "/api/v1/namespaces", query=query)).get("items", [])
        if FINALIZER in item.get("spec", {}).get("finalizers", [])
    ]
    if not terminating:
        return {}
    resources = await discover(kube)
    remaining: dict[str, str] = {}
    for namespace in terminating:
        name = namespace["metadata"]["name"]
        try:
            remaining[name] = await _empty(kube, name, resources)
            if remaining[name]:
                await _tell(kube, namespace, remaining[name])
            else:
                await _finalize(kube, name, namespace["metadata"]["uid"])
        except ApiError as error:  # one namespace must not hold up the others
            remaining[name] = str(error)
            _log.warning("namespace %s: %s", name, error)
    return remaining


async def discover(kube: Kube) -> list[Resource]:
    """Return every namespaced resource once, in its preferred version.

    Raises ApiError if a single group doesn't answer: what can't be listed may hold objects, and finalizing
    their namespace would strand them.
    """
    groups = (await kube.request("GET", "/apis")).get("groups", [])
    preferred = [("", "v1"), *((group["name"], group["preferredVersion"]["version"]) for group in groups)]

    async def served(group: str, version: str) -> list[Resource]:
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        return namespaced(group, version, await kube.request("GET", path))

    found = await asyncio.gather(*(served(group, version) for group, version in preferred))
    return [resource for each in found for resource in each]


def namespaced(group: str, version: str, listed: Object) -> list[Resource]:
    """Pick what can be listed and deleted in a namespace from one group's resource list."""
    if group == "events.k8s.io":
        return []  # the same objects as the core group's
    return [
        Resource(group, version, item["name"], collection="deletecollection" in item["verbs"])
        for item in listed.get("resources", [])
        if item.get("namespaced")
        and "/" not in item["name"]
        and "list" in item["verbs"]
        and ("delete" in item["verbs"] or "deletecollection" in item["verbs"])
    ]


async def _empty(kube: Kube, namespace: str, resources: Sequence[Resource]) -> str:
    """Ask for the deletion of everything; return what remains, "" if nothing does."""
    ours = [resource for resource in resources if resource.group == GROUP]
    others = [resource for resource in resources if resource.group != GROUP]
    for stage in (ours, others):
        limit = asyncio.Semaphore(AT_ONCE)

        async def counted(resource: Resource, limit: asyncio.Semaphore = limit) -> tuple[Resource, int]:
            async with limit:
                return resource, await _delete_all(kube, namespace, resource)

        counts = await asyncio.gather(*(counted(resource) for resource in stage))
        if left := {resource.name: count for resource, count in counts if count}:
            return describe(left)
    return ""


def describe(left: dict[str, int]) -> str:
    """Tell what remains in the words of a controller-manager."""
    return ", ".join(f"{name} has {count} resource instances" for name, count in sorted(left.items()))


async def _delete_all(kube: Kube, namespace: str, resource: Resource) -> int:
    """Delete what isn't being deleted yet; return how many objects there are then."""
    path = resource.path(namespace)
    items = await _list(kube, path)
    waiting = [item for item in items if "deletionTimestamp" not in item["metadata"]]
    if not waiting:
        return len(items)
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    paths = [path] if resource.collection else [f"{path}/{item['metadata']['name']}" for item in waiting]
    for each in paths:
        try:
            await kube.request("DELETE", each, options)
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
    return len(await _list(kube, path))


async def _list(kube: Kube, path: str) -> list[Object]:
    """List all pages, from the store and not from a cache. A resource that is gone has no objects."""
    items: list[Object] = []
    try:
        async for page in kube.pages(path):
            items += page.get("items") or []
    except ApiError as error:
        if error.code not in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
            raise
    return items


async def _finalize(kube: Kube, name: str, uid: str) -> None:
    """Drop our finalizer from that very namespace; the API server removes it when it was the last."""
    path = f"/api/v1/namespaces/{name}"
    namespace = await kube.get(path)
    if namespace is None or namespace["metadata"]["uid"] != uid:
        return
    finalizers = [each for each in namespace["spec"].get("finalizers", []) if each != FINALIZER]
    namespace["spec"]["finalizers"] = finalizers
    try:
        await kube.request("PUT", f"{path}/finalize", namespace)
    except ApiError as error:
        if error.code not in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:  # a conflict: the next pass
            raise


async def _tell(kube: Kube, namespace: Object, message: str) -> None:
    """Write the condition if it says something new."""
    status = namespace.get("status", {})
    conditions = [each for each in status.get("conditions") or [] if each["type"] == CONDITION]
    text = f"Some resources are remaining: {message}"
    if conditions and conditions[0].get("message") == text:
        return
    condition = {"type": CONDITION, "status": "True", "reason": "SomeResourcesRemain", "message": text}
    path = f"/api/v1/namespaces/{namespace['metadata']['name']}/status"
    await kube.request(
        "PATCH",
        path,
        {"status": {"conditions": [condition]}},
        content_type="application/strategic-merge-patch+json",
    )
