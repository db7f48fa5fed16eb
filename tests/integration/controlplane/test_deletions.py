"""`kubectl delete --cascade=foreground` (or orphan) returns where no garbage collector runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.plane import RealPlane, plane

from mainstay.api.crd import crds
from mainstay.api.kinds import ASSET, KINDS
from mainstay.api.meta import API_VERSION, FINALIZER
from mainstay.cli.apply import apply_all, established, served
from mainstay.controlplane import deletions, garbage, namespaces
from mainstay.shell.kube import BATCHES, JOBS, LIBRARIES, RESTARTS, STACKS, STRATEGIES, Kube, core_path, path

__all__ = ["plane"]

STEPS = {"steps": [{"name": "one", "task": {"program": {"command": ["true"]}}}]}
BATCH = {"template": STEPS, "jobs": [{"name": "1"}, {"name": "2"}]}
NAMESPACE = "deletions"


@pytest.fixture
async def kube(plane: RealPlane) -> AsyncIterator[Kube]:
    connection = await Kube.connect(str(plane.kubeconfig))
    definitions = crds()
    await apply_all(connection, definitions)
    await established(connection, definitions)
    for kind in KINDS:

        async def listed(plural: str = kind.plural) -> None:
            await connection.request("GET", path(plural), query={"resourceVersion": "0"})

        await served(listed)
    plane.kubectl("create", "namespace", NAMESPACE, check=False)
    yield connection
    for kind in KINDS:
        if kind.scope == "Namespaced":
            await connection.request("DELETE", path(kind.plural, NAMESPACE))
    await connection.close()


@pytest.fixture
async def collector(kube: Kube) -> AsyncIterator[None]:
    loop = asyncio.create_task(garbage.run(kube))
    yield
    loop.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await loop


async def make(kube: Kube, plural: str, name: str, spec: Any, *owners: Any, **meta: Any) -> Any:
    kind = next(kind.name for kind in KINDS if kind.plural == plural)
    references = [
        {
            "apiVersion": API_VERSION,
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": plural != STRATEGIES,
        }
        for owner in owners
    ]
    body = {"metadata": {"name": name, "namespace": NAMESPACE, "ownerReferences": references, **meta}}
    return await kube.create(plural, kind, NAMESPACE, {**body, "spec": spec})


async def library(kube: Kube) -> Any:
    main = await make(kube, LIBRARIES, "main", {"source": {"directory": "/strategies"}})
    for name in ("a", "b"):
        await make(kube, STRATEGIES, name, {"library": "main", "source": {"inline": "x = 1"}}, main)
    return main


async def batch(kube: Kube) -> Any:
    night = await make(kube, BATCHES, "night", BATCH)
    for name in ("night-1", "night-2"):
        job = await make(kube, JOBS, name, STEPS, night)
        owner = {"apiVersion": API_VERSION, "kind": "PhasedJob", "name": name, "uid": job["metadata"]["uid"]}
        outputs = {"metadata": {"name": f"{name}-outputs", "ownerReferences": [owner]}}
        await kube.request("POST", core_path("configmaps", NAMESPACE), outputs)
    return night


async def delete(plane: RealPlane, plural: str, name: str, policy: str) -> float:
    """Run kubectl as a person does; the seconds it took."""
    began = time.monotonic()
    ask = ("-n", NAMESPACE, "delete", f"{plural}.mainstay.dev", name, f"--cascade={policy}", "--timeout=40s")
    await asyncio.to_thread(plane.kubectl, *ask)
    return time.monotonic() - began


async def names(kube: Kube, plural: str) -> list[str]:
    where = core_path if plural == "configmaps" else path
    items = (await kube.request("GET", where(plural, NAMESPACE)))["items"]
    return [item["metadata"]["name"] for item in items if item["metadata"]["name"] != "kube-root-ca.crt"]


@pytest.mark.usefixtures("collector")
async def test_a_library_foreground(plane: RealPlane, kube: Kube):
    await library(kube)
    assert await delete(plane, LIBRARIES, "main", "foreground") < 15
    assert await names(kube, LIBRARIES) == await names(kube, STRATEGIES) == []


@pytest.mark.usefixtures("collector")
async def test_a_library_orphan(plane: RealPlane, kube: Kube):
    await library(kube)
    assert await delete(plane, LIBRARIES, "main", "orphan") < 15
    assert await names(kube, STRATEGIES) == ["a", "b"]
    for name in ("a", "b"):
        found = await kube.get(path(STRATEGIES, NAMESPACE, name))
        assert not found["metadata"].get("ownerReferences")


@pytest.mark.usefixtures("collector")
async def test_a_batch_foreground(plane: RealPlane, kube: Kube):
    await batch(kube)
    assert await delete(plane, BATCHES, "night", "foreground") < 15
    assert [*await names(kube, BATCHES), *await names(kube, JOBS), *await names(kube, "configmaps")] == []


@pytest.mark.usefixtures("collector")
async def test_a_batch_orphan(plane: RealPlane, kube: Kube):
    await batch(kube)
    assert await delete(plane, BATCHES, "night", "orphan") < 15
    assert await names(kube, JOBS) == ["night-1", "night-2"]
    assert await delete(plane, JOBS, "night-1", "foreground") < 15
    assert await names(kube, "configmaps") == ["night-2-outputs"]
    await kube.request("DELETE", core_path("configmaps", NAMESPACE, "night-2-outputs"))


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.scope == "Namespaced"], ids=lambda k: k.plural
)
@pytest.mark.parametrize("policy", ["foreground", "orphan"])
async def test_one_that_owns_nothing(plane: RealPlane, kube: Kube, kind: Any, policy: str):
    spec = {
        LIBRARIES: {"source": {"directory": "/strategies"}},
        STRATEGIES: {"library": "main", "source": {"inline": "x = 1"}},
        JOBS: STEPS,
        BATCHES: BATCH,
        STACKS: {"services": [{"name": "a", "kind": "Background", "program": {"command": ["true"]}}]},
        RESTARTS: {"stack": "web"},
        ASSET.plural: {"type": "Ship"},
    }.get(kind.plural, {"program": {"command": ["true"]}})
    await make(kube, kind.plural, "alone", spec)
    await delete(plane, kind.plural, "alone", policy)
    assert await names(kube, kind.plural) == []


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("policy", ["foreground", "orphan"])
async def test_a_namespace(plane: RealPlane, kube: Kube, policy: str):
    name = f"deletions-{policy}"
    plane.kubectl("create", "namespace", name)
    plane.kubectl("-n", name, "create", "configmap", "one")
    emptying = asyncio.create_task(namespaces.run(kube))
    try:
        ask = ("delete", "namespace", name, f"--cascade={policy}", "--timeout=40s")
        await asyncio.to_thread(plane.kubectl, *ask)
    finally:
        emptying.cancel()
    assert await kube.get(core_path("namespaces") + f"/{name}") is None


async def test_what_the_last_programs_read_outlives_the_teardown(kube: Kube):
    light = deletions.metadata_only(kube)

    async def once() -> dict[str, str]:
        await asyncio.sleep(0.2)  # the API server's memory
        return await deletions.finish(kube, light, await deletions.known(light))

    job = await make(kube, JOBS, "busy", STEPS, finalizers=[FINALIZER])
    owner = {"apiVersion": API_VERSION, "kind": "PhasedJob", "name": "busy", "uid": job["metadata"]["uid"]}
    kept = {"metadata": {"name": "answer", "ownerReferences": [{**owner, "blockOwnerDeletion": True}]}}
    await kube.request("POST", core_path("secrets", NAMESPACE), kept)
    where = path(JOBS, NAMESPACE, "busy")
    await kube.request("DELETE", where, {"propagationPolicy": "Foreground"})
    assert await once() == {f"phasedjobs/{NAMESPACE}/busy": "its teardown and 1 dependents"}
    version = (await kube.get(where))["metadata"]["resourceVersion"]
    await once()
    assert (await kube.get(where))["metadata"]["resourceVersion"] == version, "waiting writes nothing"
    assert await kube.get(core_path("secrets", NAMESPACE, "answer")) is not None

    await kube.patch(where, {"metadata": {"finalizers": [deletions.FOREGROUND]}})
    await once()
    assert await kube.get(core_path("secrets", NAMESPACE, "answer")) is None
    await once()
    assert await kube.get(where) is None


async def test_a_compensation_outlives_the_teardown_of_its_asset(kube: Kube):
    light = deletions.metadata_only(kube)

    async def once() -> None:
        await asyncio.sleep(0.2)  # the API server's memory
        await deletions.finish(kube, light, await deletions.known(light))

    ship = await make(kube, ASSET.plural, "ship", {}, finalizers=[FINALIZER])
    await make(kube, BATCHES, "ship-c1", BATCH, ship, finalizers=[FINALIZER])
    where, empties = path(ASSET.plural, NAMESPACE, "ship"), path(BATCHES, NAMESPACE, "ship-c1")
    await kube.request("DELETE", where, {"propagationPolicy": "Foreground"})
    await once()
    assert "deletionTimestamp" not in (await kube.get(empties))["metadata"]

    await kube.patch(where, {"metadata": {"finalizers": [deletions.FOREGROUND]}})
    await once()
    assert "deletionTimestamp" in (await kube.get(empties))["metadata"]
    await kube.patch(empties, {"metadata": {"finalizers": None}})
    await once()
    assert await kube.get(where) is None


async def test_lists_hold_metadata_only_and_are_the_servers_memory(kube: Kube):
    await library(kube)
    light = deletions.metadata_only(kube)
    await asyncio.sleep(0.2)
    page = await light.request("GET", path(LIBRARIES), query={"resourceVersion": "0"})
    assert page["kind"] == "PartialObjectMetadataList"
    assert all("spec" not in item for item in page["items"])
