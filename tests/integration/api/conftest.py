"""A real API server with our CRDs and policies, as `mainstay up` applies them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.integration.api.client import NAMESPACE, Api, action, batch, job, path, run, step
from tests.integration.api.copies import PROJECT
from tests.support.plane import RealPlane, plane

from mainstay.api.kinds import KINDS

__all__ = ["plane"]


@pytest.fixture(scope="session")
def api(plane: RealPlane) -> Iterator[Api]:
    plane.kubectl("apply", "--server-side", "-f", str(PROJECT / "crds"))
    plane.kubectl("apply", "--server-side", "-f", str(PROJECT / "manifests/policies"))
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
    plane.kubectl("create", "namespace", NAMESPACE)
    client = Api(plane.kubeconfig)
    until = time.monotonic() + 20
    theirs = run(owner={"userId": "somebody"})
    # Established comes before the storage is ready to list (429), and before the policy is compiled
    while any(client.request("GET", path(kind.name)).code == 429 for kind in KINDS):
        assert time.monotonic() < until, "lists are not served after 20 s"
        time.sleep(0.1)
    refused = (
        lambda: client.create(theirs, dry=True, user="else", groups=("system:masters",)),
        lambda: client.create(job(action("a", "s"), inputs={"a": {"s": "x"}}), dry=True),
        lambda: client.create(batch(action("a", "s"), inputs={"a": {"s": "x"}}), dry=True),
        lambda: client.patch("PhasedJob", "locked", {"spec": {"steps": [step("b")]}}, dryRun="All"),
    )
    client.create(job(name="locked")).ok()
    client.patch("PhasedJob", "locked", {"status": {"phase": "InProgress"}}, "status").ok()
    while any(ask().code not in {403, 422} for ask in refused):
        assert time.monotonic() < until, "the policies are not in force after 20 s"
        time.sleep(0.1)
    client.delete("PhasedJob", "locked").ok()
    yield client
    client.close()


@pytest.fixture(autouse=True)
def clean(api: Api) -> Iterator[None]:
    """Each test starts without objects of ours in its namespace, and without its pools and leases."""
    yield
    for kind, names in (
        ("StrategyRun", None),
        ("StrategyLibrary", None),
        ("Strategy", None),
        ("PhasedJob", None),
        ("JobBatch", None),
        ("Asset", None),
        ("PortPool", {"p"}),
        ("PortLease", {"port-5001"}),
    ):
        for item in api.request("GET", path(kind)).ok()["items"]:
            name = item["metadata"]["name"]
            if names is None or name in names:
                api.delete(kind, name)
