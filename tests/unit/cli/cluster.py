"""An API server of a few objects, for commands."""

from __future__ import annotations

import copy
from typing import Any

from mainstay.shell.kube import ApiError, ApiUnavailableError, path


class Cluster:
    """What `Kube` is to the commands."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.patches: list[tuple[str, Any]] = []
        self.down = False

    def add(
        self, plural: str, name: str, spec: dict[str, Any], namespace: str = "default", **status: Any
    ) -> None:
        meta = {
            "name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1,
            "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        made = {"kind": plural, "metadata": meta, "spec": spec, "status": {"observedGeneration": 1, **status}}
        self.objects[path(plural, namespace, name)] = made

    async def get(self, url: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.objects.get(url))

    async def create(self, plural: str, kind: str, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        name = obj["metadata"]["name"]
        if path(plural, namespace, name) in self.objects:
            raise ApiError(409, "AlreadyExists", f'{plural} "{name}" already exists')
        self.add(plural, name, copy.deepcopy(obj["spec"]), namespace)
        made = self.objects[path(plural, namespace, name)]
        made["status"] = {}
        return copy.deepcopy(made)

    async def patch(self, url: str, body: Any, **_: Any) -> dict[str, Any]:
        self.patches.append((url, body))
        return copy.deepcopy(self.objects.get(url) or {})

    async def request(self, method: str, url: str, body: Any = None, **_: Any) -> dict[str, Any]:
        return await self.patch(url, body)

    async def pages(self, url: str, query: Any = None) -> Any:
        plural = url.rpartition("/")[2]
        here = url if "/namespaces/" in url else ""
        yield {
            "items": [
                copy.deepcopy(obj)
                for at, obj in self.objects.items()
                if at.split("/")[-2] == plural and at.startswith(here)
            ]
        }

    async def close(self) -> None:
        pass

    async def connect(self, *_: Any) -> Cluster:
        if self.down:
            raise ApiUnavailableError(0, "", "Cannot connect to host 127.0.0.1:1 ssl:default")
        return self
