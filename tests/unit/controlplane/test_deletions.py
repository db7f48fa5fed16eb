"""Foreground and orphaning deletions against an API in memory, with a crash between any two steps."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from mainstay.api.kinds import KINDS
from mainstay.controlplane import deletions
from mainstay.controlplane.deletions import FOREGROUND, ORPHAN
from mainstay.shell.kube import ApiError, ApiUnavailableError, Kube

TEARDOWN = "mainstay.dev/teardown"
KIND = {kind.plural: kind.name for kind in KINDS}


class CrashError(BaseException):
    """We are killed."""


class Store(Kube):
    """As much of an API server as the collector needs."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.objects: dict[tuple[str, str, str], Any] = {}  # (plural, namespace, name)
        self.version = 0
        self.writes: list[str] = []
        self.asked = 0
        self.crash_at: int | None = None
        self.broken: dict[str, ApiError] = {}

    def put(self, plural: str, name: str, *owners: Any, blocks: bool | None = None, **meta: Any) -> Any:
        self.version += 1
        references = [
            {
                "apiVersion": "mainstay.dev/v1alpha1",
                "kind": KIND.get(one["plural"], one["plural"]),
                "name": one["metadata"]["name"],
                "uid": one["metadata"]["uid"],
                **({} if blocks is None else {"blockOwnerDeletion": blocks}),
            }
            for one in owners
        ]
        full = {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{self.version}",
            "resourceVersion": str(self.version),
            "ownerReferences": references,
            **meta,
        }
        obj = {"plural": plural, "metadata": full}
        self.objects[plural, full["namespace"], name] = obj
        return obj

    def doom(self, obj: Any, *finalizers: str) -> None:
        obj["metadata"] |= {"deletionTimestamp": "2026-11-21T00:00:00Z", "finalizers": [*finalizers]}

    def meta(self, plural: str, name: str) -> Any:
        found = self.objects.get((plural, "default", name))
        return found and found["metadata"]

    def names(self) -> list[str]:
        return sorted(f"{plural}/{name}" for plural, _, name in self.objects)

    def state(self) -> Any:
        kept = copy.deepcopy({key: obj["metadata"] for key, obj in self.objects.items()})
        for meta in kept.values():
            del meta["resourceVersion"]
        return kept

    async def _request(self, method: str, url: str, body: Any, query: Any, content_type: str) -> Any:
        await asyncio.sleep(0)
        parts = url.removeprefix("/apis/mainstay.dev/v1alpha1/").removeprefix("/api/v1/").split("/")
        namespace = parts[1] if parts[0] == "namespaces" and len(parts) > 2 else ""
        plural, *name = parts[2:] if namespace else parts
        if plural in self.broken:
            raise self.broken[plural]
        if not name:
            self.asked += 1
            found = [o for (p, n, _), o in self.objects.items() if p == plural and namespace in ("", n)]
            return {"items": copy.deepcopy(found), "metadata": {}}
        key = (plural, namespace, name[0])
        obj = self.objects.get(key)
        if obj is None:
            raise ApiError(404, "NotFound", url)
        if method == "GET":
            return copy.deepcopy(obj)
        self._write(method, key, obj["metadata"], body)
        return {}

    def _write(self, method: str, key: tuple[str, str, str], meta: Any, body: Any) -> None:
        if self.crash_at is not None and len(self.writes) == self.crash_at:
            raise CrashError
        told = body["preconditions"] if method == "DELETE" else body["metadata"]
        for field in {"uid", "resourceVersion"} & {*told}:
            if told[field] != meta[field]:
                raise ApiError(409, "Conflict", field)
        assert "uid" in told
        self.writes.append(f"{method} {key[0]}/{key[2]}")
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        if method == "DELETE":
            added = [FOREGROUND] if body.get("propagationPolicy") == "Foreground" else []
            meta["finalizers"] = [*meta.get("finalizers", []), *added]
            meta["deletionTimestamp"] = "2026-11-21T00:00:00Z"
        else:
            assert "resourceVersion" in told
            meta |= told | {"resourceVersion": str(self.version)}
        if "deletionTimestamp" in meta and not meta.get("finalizers"):
            del self.objects[key]


async def once(kube: Store) -> dict[str, str]:
    return await deletions.finish(kube, kube, await deletions.known(kube))


async def settle(kube: Store) -> None:
    for _ in range(20):
        if not await once(kube):
            return
    raise AssertionError(kube.names())


def library(policy: str) -> Store:
    kube = Store()
    main = kube.put("strategylibraries", "main")
    other = kube.put("strategylibraries", "other")
    for name in ("a", "b"):
        kube.put("strategies", name, main, blocks=False)
    kube.put("strategies", "shared", main, other, blocks=True)
    kube.put("strategies", "of-other", other, blocks=True)
    kube.put("secrets", "key", main)
    kube.put("configmaps", "nobodys")
    kube.put("strategies", "elsewhere", main, namespace="away")
    kube.doom(main, policy, "example.com/mine")
    return kube


def batch(policy: str) -> Store:
    kube = Store()
    night = kube.put("jobbatches", "night")
    for name in ("night-1", "night-2"):
        job = kube.put("phasedjobs", name, night, blocks=True)
        kube.put("configmaps", f"{name}-outputs", job, blocks=True)
    kube.doom(night, policy)
    return kube


async def test_foreground_deletes_dependents_and_leaves_other_finalizers():
    kube = library(FOREGROUND)
    await settle(kube)
    assert kube.meta("strategylibraries", "main")["finalizers"] == ["example.com/mine"]
    assert kube.names() == [
        "configmaps/nobodys",
        "strategies/elsewhere",
        "strategies/of-other",
        "strategies/shared",
        "strategylibraries/main",
        "strategylibraries/other",
    ]
    owners = [one["name"] for one in kube.meta("strategies", "shared")["ownerReferences"]]
    assert owners == ["other"], "who has another owner loses one, and lives"


async def test_orphan_leaves_everything_without_that_owner():
    kube = library(ORPHAN)
    before = kube.names()
    await settle(kube)
    assert kube.names() == before
    assert kube.meta("strategylibraries", "main")["finalizers"] == ["example.com/mine"]
    assert [kube.meta("strategies", name)["ownerReferences"] for name in "ab"] == [[], []]
    assert kube.meta("secrets", "key")["ownerReferences"] == []
    assert [one["name"] for one in kube.meta("strategies", "shared")["ownerReferences"]] == ["other"]


async def test_a_batch_goes_after_its_jobs_and_they_after_theirs():
    kube = batch(FOREGROUND)
    kube.meta("phasedjobs", "night-1")["finalizers"] = [TEARDOWN]
    for _ in range(5):
        remaining = await once(kube)
    assert remaining["jobbatches/default/night"] == "1 dependents"
    assert kube.names() == ["configmaps/night-1-outputs", "jobbatches/night", "phasedjobs/night-1"]
    writes = len(kube.writes)
    await once(kube)
    assert len(kube.writes) == writes, "waiting writes nothing"
    kube.meta("phasedjobs", "night-1")["finalizers"].remove(TEARDOWN)
    await settle(kube)
    assert kube.names() == []


async def test_only_what_blocks_is_waited_for():
    kube = Store()
    main = kube.put("strategylibraries", "main")
    kube.put("strategies", "held", main, blocks=False, finalizers=["example.com/mine"])
    kube.doom(main, FOREGROUND)
    await settle(kube)
    assert kube.names() == ["strategies/held"]


@pytest.mark.parametrize("policy", [FOREGROUND, ORPHAN])
@pytest.mark.parametrize("made", [library, batch])
async def test_a_crash_between_any_two_steps(made: Any, policy: str):
    whole = made(policy)
    await settle(whole)
    assert len(whole.writes) >= 3
    for step in range(len(whole.writes)):
        kube = made(policy)
        kube.crash_at = step
        with pytest.raises(CrashError):
            await settle(kube)
        kube.crash_at = None
        await asyncio.sleep(0.01)  # what was under way at once ends
        await settle(kube)
        assert kube.state() == whole.state(), step


async def test_nothing_to_do_is_one_list_per_kind_and_one_of_namespaces():
    kube = library(FOREGROUND)
    del kube.meta("strategylibraries", "main")["deletionTimestamp"]  # a finalizer alone is no request
    kube.doom(kube.put("strategyruns", "r"), TEARDOWN)
    assert await once(kube) == {}
    assert (kube.asked, kube.writes) == (len(KINDS) + 1, [])


async def test_what_moved_on_meanwhile_is_left_for_the_next_pass():
    kube = batch(ORPHAN)
    seen = await deletions.known(kube)
    kube.meta("jobbatches", "night")["resourceVersion"] = "99"
    assert "Conflict" in (await deletions.finish(kube, kube, seen))["jobbatches/default/night"]
    await settle(kube)
    assert "jobbatches/night" not in kube.names()


async def test_one_that_fails_does_not_hold_up_others():
    kube = batch(FOREGROUND)
    kube.doom(kube.put("strategylibraries", "main"), FOREGROUND)
    kube.objects["phasedjobs", "default", "night-1"]["metadata"]["ownerReferences"].append(
        {"apiVersion": "mainstay.dev/v1alpha1", "kind": "PortPool", "name": "p", "uid": "p"}
    )
    kube.broken["portpools"] = ApiError(403, "Forbidden", "not you")
    items = await deletions.known_of(kube, "jobbatches", "strategylibraries")
    remaining = await deletions.finish(kube, kube, items)
    assert "Forbidden" in remaining["jobbatches/default/night"]
    assert "strategylibraries/main" not in kube.names()


async def test_a_cluster_scoped_owner():
    kube = Store()
    pool = kube.put("portpools", "pool", namespace="")
    kube.put("portleases", "lease", pool, blocks=True, namespace="")
    kube.put("configmaps", "anywhere", pool, namespace="away")
    kube.doom(pool, FOREGROUND)
    await settle(kube)
    assert kube.names() == []


async def test_a_namespace_is_let_go_and_what_is_in_it_left_to_others():
    kube = Store()
    kube.put("strategies", "inside")
    kube.doom(kube.put("namespaces", "default", namespace=""), FOREGROUND, "example.com/mine")
    await settle(kube)
    assert kube.writes == ["PATCH namespaces/default"]
    assert kube.objects["namespaces", "", "default"]["metadata"]["finalizers"] == ["example.com/mine"]


async def test_the_loop_survives_the_api_and_is_quick_only_while_something_moves():
    kube = batch(FOREGROUND)
    kube.meta("phasedjobs", "night-1")["finalizers"] = [TEARDOWN]
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        match len(waits):
            case 10:
                kube.meta("phasedjobs", "night-1")["finalizers"].remove(TEARDOWN)
            case 14:
                kube.broken["phasedjobs"] = ApiUnavailableError(0, "Unavailable", "refused")
            case 15:
                del kube.broken["phasedjobs"]
                for number in range(1200):
                    kube.put("portleases", f"l{number}", namespace="")
            case 16:
                raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await deletions.run(kube, kube, wait)
    assert waits[0] == 0.1
    assert waits[9] == 2.0
    assert kube.names()[0].startswith("portleases")
    assert waits[14:] == [2.0, 4.0]
