"""Deleting a namespace where no controller-manager runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from tests.support.plane import RealPlane, plane

from mainstay.controlplane import namespaces
from mainstay.shell.kube import Kube

__all__ = ["plane"]

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: namespacetests.mainstay.dev}
spec:
  group: mainstay.dev
  scope: Namespaced
  names: {plural: namespacetests, singular: namespacetest, kind: NamespaceTest}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object}}
"""


@pytest.fixture
async def kube(plane: RealPlane) -> AsyncIterator[Kube]:
    connection = await Kube.connect(str(plane.kubeconfig))
    yield connection
    await connection.close()


@pytest.fixture
def a_kind_of_ours(plane: RealPlane):
    plane.kubectl("apply", "-f", "-", input=CRD)
    plane.kubectl("wait", "--for=condition=Established", "crd/namespacetests.mainstay.dev")
    yield
    plane.kubectl("delete", "crd/namespacetests.mainstay.dev")


def filled(plane: RealPlane, name: str) -> None:
    plane.kubectl("create", "namespace", name)
    plane.kubectl("-n", name, "create", "secret", "generic", "one", "--from-literal=a=b")
    plane.kubectl("-n", name, "create", "serviceaccount", "one")
    plane.kubectl("-n", name, "create", "deployment", "one", "--image=none", "--replicas=0")
    for number in range(3):
        plane.kubectl("-n", name, "create", "configmap", f"cm-{number}")


async def gone(kube: Kube, name: str) -> None:
    async with asyncio.timeout(20):
        while await kube.get(f"/api/v1/namespaces/{name}") is not None:
            await asyncio.sleep(0.02)


async def test_a_deleted_namespace_is_emptied_and_goes(plane: RealPlane, kube: Kube):
    filled(plane, "full")
    filled(plane, "bystander")
    loop = asyncio.create_task(namespaces.run(kube))
    try:
        await asyncio.to_thread(plane.kubectl, "delete", "namespace", "full", "--wait=false")
        await gone(kube, "full")
    finally:
        loop.cancel()
    assert "cm-2" in plane.kubectl("-n", "bystander", "get", "configmaps")


@pytest.mark.usefixtures("a_kind_of_ours")
async def test_ours_go_first_and_what_remains_is_told(plane: RealPlane, kube: Kube):
    filled(plane, "busy")
    held = {
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "NamespaceTest",
        "metadata": {"name": "held", "namespace": "busy", "finalizers": ["mainstay.dev/still-running"]},
    }
    plane.kubectl("apply", "-f", "-", input=json.dumps(held))
    plane.kubectl("delete", "namespace", "busy", "--wait=false")

    for _ in range(3):
        remaining = await namespaces.sweep(kube)
    assert remaining == {"busy": "namespacetests.mainstay.dev has 1 resource instances"}
    assert "one" in plane.kubectl("-n", "busy", "get", "secrets"), "its program may still read it"
    namespace = await kube.get("/api/v1/namespaces/busy")
    told = [each for each in namespace["status"]["conditions"] if each["type"] == namespaces.CONDITION]
    assert "namespacetests.mainstay.dev" in told[0]["message"]

    version = namespace["metadata"]["resourceVersion"]
    await namespaces.sweep(kube)
    again = await kube.get("/api/v1/namespaces/busy")
    assert again["metadata"]["resourceVersion"] == version, "written only when it says something new"

    release = (
        "-n",
        "busy",
        "patch",
        "namespacetest",
        "held",
        "--type=merge",
        "-p",
        '{"metadata":{"finalizers":null}}',
    )
    plane.kubectl(*release)
    assert await namespaces.sweep(kube) == {"busy": ""}
    await gone(kube, "busy")


async def test_idle_it_asks_once_and_writes_nothing(kube: Kube, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, str]] = []
    real = kube.request

    async def counted(method: str, url: str, *args, **options):
        asked.append((method, url))
        return await real(method, url, *args, **options)

    monkeypatch.setattr(kube, "request", counted)
    assert await namespaces.sweep(kube) == {}
    assert asked == [("GET", "/api/v1/namespaces")]
