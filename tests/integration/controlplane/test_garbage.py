"""What a job leaves in Secrets and ConfigMaps goes after it, where no garbage collector runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.support.plane import RealPlane, plane

from mainstay.api.crd import crds
from mainstay.api.meta import API_VERSION
from mainstay.cli.apply import apply_all, established, served
from mainstay.controlplane import garbage
from mainstay.shell.jobs.executor import JOB_LABEL
from mainstay.shell.kube import JOBS, Kube, core_path, path

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
        await connection.request("GET", path(JOBS))

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
