"""Applying what ships with Mainstay: CRDs, policies, RBAC and samples."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from mainstay.api.kinds import KINDS
from mainstay.shell.kube import ApiError, Kube

SERVED_SECONDS = 30
POLL_SECONDS = 0.05

_PLURALS = {
    "CustomResourceDefinition": "customresourcedefinitions",
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "Namespace": "namespaces",
    "Secret": "secrets",
    "ConfigMap": "configmaps",
    **{kind.name: kind.plural for kind in KINDS},
}
_NAMESPACED = {"Secret", "ConfigMap", *(kind.name for kind in KINDS if kind.scope == "Namespaced")}
_CLUSTER_SCOPED = frozenset(_PLURALS) - _NAMESPACED


def documents(*paths: Path) -> Iterator[dict[str, Any]]:
    """Yield every object of these YAML files, and of the files of these directories."""
    for path in paths:
        for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
            for document in yaml.safe_load_all(file.read_text()):
                if document and document.get("kind") in _PLURALS:
                    yield document


def url_of(obj: dict[str, Any]) -> str:
    """Return the URL path of an object of a kind we ship."""
    version = obj["apiVersion"]
    kind = obj["kind"]
    base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    if kind not in _CLUSTER_SCOPED:
        base += f"/namespaces/{quote(obj['metadata'].get('namespace', 'default'))}"
    return f"{base}/{_PLURALS[kind]}/{quote(obj['metadata']['name'])}"


async def apply_all(kube: Kube, objects: Iterable[dict[str, Any]]) -> None:
    """Apply each in order, server-side; what is there already and the same is not written again."""
    for obj in objects:
        await kube.apply(url_of(obj), obj)


async def established(kube: Kube, crds: Iterable[dict[str, Any]]) -> None:
    """Return once every CRD is served; TimeoutError after SERVED_SECONDS."""
    async with asyncio.timeout(SERVED_SECONDS):
        for crd in crds:
            while not _established(await kube.get(url_of(crd)) or {}):
                await asyncio.sleep(POLL_SECONDS)


def _established(crd: dict[str, Any]) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


async def served(work: Callable[[], Awaitable[None]]) -> None:
    """Do `work`, again while a new CRD is not served yet: established, it may still answer 404 or 429."""
    async with asyncio.timeout(SERVED_SECONDS):
        while True:
            try:
                return await work()
            except ApiError as error:
                if error.code not in (HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS):
                    raise
                await asyncio.sleep(POLL_SECONDS)
