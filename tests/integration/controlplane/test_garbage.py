"""What jobs and assets leave goes after them, where no garbage collector runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.plane import RealPlane, plane

from mainstay.api.asset import ASSET_UID_LABEL
from mainstay.api.crd import crds
from mainstay.api.kinds import ASSET
from mainstay.api.meta import API_VERSION
from mainstay.cli.apply import apply_all, established, served
from mainstay.controlplane import garbage
from mainstay.shell.jobs.executor import JOB_LABEL
from mainstay.shell.kube import BATCHES, JOBS, ApiError, Kube, core_path, path

__all__ = ["plane"]

JOB = {
    "metadata": {"name": "owner", "namespace": "default"},
    "spec": {"steps": [{"name": "one", "task": {"program": {"command": ["true"]}}}]},
}


@pytest.fixture
async def kube(plane: RealPlane) -> AsyncIterator[Kube]:
    connection = await Kube.connect(str(plane.kubeconfig))
    definitions = crds()
    await apply_all(connection, definitions)
    await established(connection, definitions)

    async def listed() -> None:
        for plural in (JOBS, BATCHES, ASSET.plural):
            await connection.request("GET", path(plural))

    await served(listed)
    yield connection
    await connection.close()


def kept(name: str, uid: str, kind: str = "PhasedJob", **meta: object) -> dict[str, object]:
    owner = {"apiVersion": API_VERSION, "kind": kind, "name": "owner", "uid": uid}
    return {"metadata": {"name": name, "labels": {JOB_LABEL: uid}, "ownerReferences": [owner], **meta}}


async def test_only_what_gone_jobs_own_goes(kube: Kube):
    job = await kube.create(JOBS, "PhasedJob", "default", JOB)
    uid = job["metadata"]["uid"]
    where = core_path("secrets", "default")
    await kube.request("POST", where, kept("of-a-living-job", uid))
    await kube.request(
        "POST", where, kept("of-an-earlier-job-of-that-name", "11111111-0000-0000-0000-000000000000")
    )
    await kube.request("POST", where, kept("of-something-else", uid, kind="StrategyRun"))
    await kube.request("POST", where, kept("of-nobody", uid, ownerReferences=[]))
    unlabelled = kept("unlabelled", "22222222-0000-0000-0000-000000000000", labels={})
    await kube.request("POST", where, unlabelled)
    await kube.request("POST", core_path("configmaps", "default"), kept("outputs", uid))
    try:
        first = await garbage.sweep(kube)  # other tests may have left something too
        assert "secrets/of-an-earlier-job-of-that-name" in first
        assert not {"secrets/of-a-living-job", "configmaps/outputs"} & {*first}
        await kube.delete_object(path(JOBS, "default", "owner"), uid=uid)
        assert sorted(await garbage.sweep(kube)) == ["configmaps/outputs", "secrets/of-a-living-job"]
        assert await garbage.sweep(kube) == []
    finally:
        for name in ("of-something-else", "of-nobody", "unlabelled"):
            await kube.request("DELETE", core_path("secrets", "default", name))


async def compensation(kube: Kube, name: str, asset: dict[str, Any], **meta: Any) -> None:
    uid = asset["metadata"]["uid"]
    owner = {"apiVersion": API_VERSION, "kind": "Asset", "name": asset["metadata"]["name"], "uid": uid}
    told = {
        "name": name,
        "namespace": "default",
        "labels": {ASSET_UID_LABEL: uid},
        "ownerReferences": [owner],
    }
    spec = {"template": JOB["spec"], "jobs": [{"name": "iron-ore"}]}
    await kube.create(BATCHES, "JobBatch", "default", {"metadata": told | meta, "spec": spec})


async def test_only_compensations_of_gone_assets_go(kube: Kube):
    made = [
        await kube.create(
            ASSET.plural, "Asset", "default", {"metadata": {"name": name, "namespace": "default"}, "spec": {}}
        )
        for name in ("here", "gone")
    ]
    here, gone = made
    await compensation(kube, "of-a-living-asset", here)
    await compensation(kube, "of-a-gone-asset", gone)
    await compensation(kube, "of-nobody", gone, ownerReferences=[])
    await compensation(kube, "unlabelled", gone, labels={})
    try:
        assert not any(name.startswith("jobbatches/") for name in await garbage.sweep(kube))
        await kube.delete_object(path(ASSET.plural, "default", "gone"), uid=gone["metadata"]["uid"])
        went = [name for name in await garbage.sweep(kube) if name.startswith("jobbatches/")]
        assert went == ["jobbatches/of-a-gone-asset"]
    finally:
        for name in ("of-a-living-asset", "of-nobody", "unlabelled"):
            await kube.request("DELETE", path(BATCHES, "default", name))
        await kube.request("DELETE", path(ASSET.plural, "default", "here"))


async def test_nothing_goes_where_the_owners_kind_is_not_served(kube: Kube, monkeypatch: pytest.MonkeyPatch):
    await kube.request(
        "POST", core_path("secrets", "default"), kept("kept", "33333333-0000-0000-0000-000000000000")
    )

    async def unserved(method: str, url: str, *_: Any, **__: Any) -> Any:
        raise ApiError(404, "Not Found", f"{method} {url}: 404 page not found")

    blind = Kube(kube._api)
    monkeypatch.setattr(blind, "request", unserved)
    monkeypatch.setattr(blind, "pages", kube.pages)
    deleted: list[str] = []

    async def delete(url: str, **_: Any) -> None:
        deleted.append(url)

    monkeypatch.setattr(blind, "delete_object", delete)
    try:
        with pytest.raises(ApiError):
            await garbage.sweep(blind)
        assert deleted == []
    finally:
        await kube.request("DELETE", core_path("secrets", "default", "kept"))
