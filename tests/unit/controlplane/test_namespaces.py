"""The namespace loop against an API that refuses."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from mainstay.controlplane import namespaces
from mainstay.controlplane.namespaces import Resource
from mainstay.shell.kube import ApiError, ApiUnavailableError

TERMINATING = {
    "metadata": {"name": "going", "uid": "u1"},
    "spec": {"finalizers": ["kubernetes"]},
    "status": {"phase": "Terminating"},
}
CORE = {
    "resources": [
        {"name": "configmaps", "namespaced": True, "verbs": ["list", "delete", "deletecollection"]},
        {"name": "bindings", "namespaced": True, "verbs": ["create"]},
        {"name": "nodes", "namespaced": False, "verbs": ["list", "delete"]},
        {"name": "pods/status", "namespaced": True, "verbs": ["list", "delete"]},
        {"name": "services", "namespaced": True, "verbs": ["list", "delete"]},
    ]
}


class FakeKube:
    """Answers from a table of paths; what isn't there is an empty list."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "/api/v1/namespaces": {"items": [TERMINATING]},
            "/api/v1/namespaces/going": TERMINATING,
            "/apis": {"groups": [{"name": "metrics", "preferredVersion": {"version": "v1"}}]},
            "/api/v1": CORE,
            "/apis/metrics/v1": {"resources": []},
            **answers,
        }
        self.writes: list[str] = []

    async def request(self, method: str, url: str, body: Any = None, **_: Any) -> Any:
        if method != "GET":
            self.writes.append(f"{method} {url}")
        answer = self.answers.get(f"{method} {url}", self.answers.get(url, {}))
        if isinstance(answer, Exception):
            raise answer
        return copy.deepcopy(answer)

    async def get(self, url: str) -> Any:
        return await self.request("GET", url)

    async def pages(self, url: str):
        yield await self.request("GET", url)


async def test_an_empty_namespace_is_finalized():
    kube = FakeKube()
    assert await namespaces.sweep(kube) == {"going": ""}
    assert kube.writes == ["PUT /api/v1/namespaces/going/finalize"]


async def test_a_group_that_does_not_answer_keeps_the_namespace():
    kube = FakeKube(**{"/apis/metrics/v1": ApiUnavailableError(503, "ServiceUnavailable", "down")})
    with pytest.raises(ApiUnavailableError):
        await namespaces.sweep(kube)
    assert kube.writes == []


async def test_a_list_that_is_refused_keeps_the_namespace():
    kube = FakeKube(**{"/api/v1/namespaces/going/services": ApiError(403, "Forbidden", "not you")})
    assert "Forbidden" in (await namespaces.sweep(kube))["going"]
    assert kube.writes == []


async def test_a_namespace_made_anew_under_the_same_name_is_left_alone():
    kube = FakeKube(
        **{"/api/v1/namespaces/going": {**TERMINATING, "metadata": {"name": "going", "uid": "u2"}}}
    )
    await namespaces.sweep(kube)
    assert kube.writes == []


async def test_objects_already_being_deleted_are_not_deleted_again():
    leaving = {"items": [{"metadata": {"name": "a", "deletionTimestamp": "2026-11-21T00:00:00Z"}}]}
    kube = FakeKube(**{"/api/v1/namespaces/going/configmaps": leaving})
    assert await namespaces.sweep(kube) == {"going": "configmaps has 1 resource instances"}
    assert kube.writes == ["PATCH /api/v1/namespaces/going/status"]


async def test_what_has_no_collection_is_deleted_one_by_one():
    kube = FakeKube(**{"/api/v1/namespaces/going/services": {"items": [{"metadata": {"name": "a"}}]}})
    await namespaces.sweep(kube)
    assert "DELETE /api/v1/namespaces/going/services/a" in kube.writes


async def test_the_loop_survives_the_api_and_slows_down_while_nothing_changes():
    leaving = {"items": [{"metadata": {"name": "a", "deletionTimestamp": "2026-11-21T00:00:00Z"}}]}
    kube = FakeKube(**{"/api/v1/namespaces/going/configmaps": leaving})
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        match len(waits):
            case 7:
                kube.answers["/apis"] = ApiUnavailableError(0, "Unavailable", "refused")
            case 8:
                raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await namespaces.run(kube, wait)
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_only_what_can_be_listed_and_deleted_in_a_namespace_counts():
    assert namespaces.namespaced("", "v1", CORE) == [
        Resource("", "v1", "configmaps"),
        Resource("", "v1", "services", collection=False),
    ]
    assert namespaces.namespaced("events.k8s.io", "v1", CORE) == []
    assert Resource("mainstay.dev", "v1alpha1", "strategyruns").path("a") == (
        "/apis/mainstay.dev/v1alpha1/namespaces/a/strategyruns"
    )
