"""An API server in memory: versions, generations, uids, finalizers, 404 and 409; and a client like shell.kube's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from copy import deepcopy
from http import HTTPStatus
from typing import Any

from tests.sim.clock import CLOCK
from tests.sim.steps import step

from mainstay.api.meta import FINALIZER
from mainstay.shell.kube import CONFIG_MAPS, LEASES, LIBRARIES, POOLS, RUNS, STRATEGIES, ApiError
from mainstay.shell.store import Object

NAMESPACE = "default"
Ref = tuple[str, str, str]
"""(plural, namespace, name)"""
Backup = tuple[int, dict[Ref, Object]]
Refused = Callable[[str, Ref, ApiError], None]
Watcher = Callable[[str, bool, Object], None]


def conflict(what: str) -> ApiError:
    return ApiError(HTTPStatus.CONFLICT, "Conflict", what)


def missing(what: str) -> ApiError:
    return ApiError(HTTPStatus.NOT_FOUND, "NotFound", what)


class Api:
    """The objects and their laws. Objects handed out are never changed afterwards."""

    def __init__(self) -> None:
        self.objects: dict[Ref, Object] = {}
        self.version = 100
        self.watchers: list[Watcher] = []
        self.uids = 0
        self.past: list[Object] = []  # every version a run ever had

    # --- what a person does

    def create(self, plural: str, namespace: str, name: str, body: Object) -> Object:
        ref = (plural, namespace, name)
        if ref in self.objects:
            raise ApiError(HTTPStatus.CONFLICT, "AlreadyExists", f"{plural} {name} exists")
        self.uids += 1
        meta = {
            "name": name,
            "uid": f"{name}-{self.uids}",
            "generation": 1,
            "creationTimestamp": _stamp(),
            **({"namespace": namespace} if namespace else {}),
            **body.get("metadata", {}),
        }
        return self._store(ref, {**body, "metadata": meta})

    def edit(self, plural: str, namespace: str, name: str, **spec: Any) -> Object:
        """Merge into spec; None removes. The generation moves with it."""
        ref = (plural, namespace, name)
        obj = deepcopy(self._get(ref))
        for field, value in spec.items():
            obj["spec"][field] = value
            if value is None:
                del obj["spec"][field]
        if obj["spec"] == self.objects[ref]["spec"]:
            return self.objects[ref]
        obj["metadata"]["generation"] += 1
        return self._store(ref, obj)

    def remove(self, plural: str, namespace: str, name: str) -> None:
        """Ask for the deletion; objects without finalizers go at once."""
        ref = (plural, namespace, name)
        obj = deepcopy(self._get(ref))
        if not obj["metadata"].get("finalizers"):
            self._erase(ref)
        elif "deletionTimestamp" not in obj["metadata"]:
            obj["metadata"]["deletionTimestamp"] = _stamp()
            obj["metadata"]["generation"] += 1
            self._store(ref, obj)

    def backup(self) -> Backup:
        return self.version, dict(self.objects)

    def restore(self, saved: Backup) -> None:
        """Everything as of then, the version too; watchers are told nothing, as etcd tells nothing."""
        self.version, self.objects = saved[0], dict(saved[1])

    def roll_back(self, old: Object) -> None:
        """One run as it was, under a new version."""
        ref = (RUNS, old["metadata"]["namespace"], old["metadata"]["name"])
        if self._get(ref)["metadata"]["uid"] == old["metadata"]["uid"]:
            kept = {**old["metadata"], "generation": self.objects[ref]["metadata"]["generation"] + 1}
            self._store(ref, {**old, "metadata": kept})

    # --- reading the truth

    def get(self, plural: str, namespace: str, name: str) -> Object | None:
        return self.objects.get((plural, namespace, name))

    def all(self, plural: str) -> Iterator[Object]:
        return (obj for ref, obj in sorted(self.objects.items()) if ref[0] == plural)

    def versions(self) -> dict[Ref, str]:
        """Which version of everything there is now."""
        return {ref: obj["metadata"]["resourceVersion"] for ref, obj in self.objects.items()}

    # --- what a client does

    def put_status(self, ref: Ref, obj: Object, status: Object) -> Object:
        current = self._same(ref, obj)
        return self._store(ref, {**current, "status": deepcopy(status)})

    def set_finalizers(self, ref: Ref, obj: Object, finalizers: list[str]) -> Object:
        current = deepcopy(self._same(ref, obj))
        current["metadata"]["finalizers"] = finalizers
        if "deletionTimestamp" in current["metadata"] and not finalizers:
            self._erase(ref)
            return current
        return self._store(ref, current)

    def patch(self, ref: Ref, body: Object) -> Object:
        """A merge patch; a uid in it is a precondition. The generation moves with spec."""
        current = deepcopy(self._get(ref))
        if body["metadata"].get("uid", current["metadata"]["uid"]) != current["metadata"]["uid"]:
            raise conflict(f"{ref[0]} {ref[2]} is another one")
        patched = _merged(current, body)
        if patched["spec"] != current["spec"]:
            patched["metadata"]["generation"] += 1
        return self._store(ref, patched)

    def delete(self, ref: Ref, uid: str, version: str) -> None:
        self._same(ref, {"metadata": {"uid": uid, "resourceVersion": version}})
        self._erase(ref)

    def _same(self, ref: Ref, obj: Object) -> Object:
        current, meta = self._get(ref), obj["metadata"]
        for field in ("uid", "resourceVersion"):
            if meta[field] != current["metadata"][field]:
                raise conflict(f"{ref[0]} {ref[2]} has moved on")
        return current

    def _get(self, ref: Ref) -> Object:
        if ref not in self.objects:
            raise missing(f"{ref[0]} {ref[2]}")
        return self.objects[ref]

    def _next(self) -> str:
        self.version += 1
        return str(self.version)

    def _store(self, ref: Ref, obj: Object) -> Object:
        known = self.objects.get(ref)
        if known is not None and known == obj:
            return known
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": self._next()}}
        self.objects[ref] = obj
        if ref[0] == RUNS:
            self.past.append(obj)
        self._tell(ref, deleted=False, obj=obj)
        return obj

    def _erase(self, ref: Ref) -> None:
        obj = self.objects.pop(ref)
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": self._next()}}
        self._tell(ref, deleted=True, obj=obj)

    def _tell(self, ref: Ref, *, deleted: bool, obj: Object) -> None:
        for watcher in self.watchers:
            watcher(ref[0], deleted, obj)


class SimKube:
    """The part of shell.kube.Kube that the operator uses, on an Api. `on_write` sees every write before it counts."""

    def __init__(self, api: Api, on_write: Callable[[str, Ref, Any], None], on_refusal: Refused) -> None:
        self._api = api
        self._on_write = on_write
        self._on_refusal = on_refusal

    def _ask(self, what: str, ref: Ref, precondition: Object, body: Any) -> None:
        """Whether the write will count; says so to who listens."""
        try:
            self._api._same(ref, precondition)
        except ApiError as error:
            self._on_refusal(what, ref, error)
            raise
        self._on_write(what, ref, body)

    async def get(self, url: str) -> Object | None:
        await step("read")
        parts = url.split("/")
        if "namespaces" in parts:
            at = parts.index("namespaces")
            return self._api.get(parts[at + 2], parts[at + 1], parts[at + 3])
        return self._api.get(parts[-2], "", parts[-1])

    async def pages(self, url: str) -> AsyncIterator[Object]:
        plural = url.rsplit("/", 1)[-1]
        assert plural in {RUNS, LEASES, POOLS, CONFIG_MAPS, LIBRARIES, STRATEGIES}
        yield {"metadata": {"resourceVersion": str(self._api.version)}, "items": list(self._api.all(plural))}

    async def put_status(self, plural: str, obj: Object, status: Object) -> Object:
        ref = _ref(plural, obj)
        await step(f"put {plural}")
        self._ask("status", ref, obj, status)
        answer = self._api.put_status(ref, obj, status)
        await step("done put")
        return answer

    async def set_finalizer(self, plural: str, obj: Object, *, present: bool) -> Object:
        ref = _ref(plural, obj)
        others = [f for f in obj["metadata"].get("finalizers", ()) if f != FINALIZER]
        await step("finalizer")
        self._ask("add finalizer" if present else "remove finalizer", ref, obj, obj)
        answer = self._api.set_finalizers(ref, obj, [*others, FINALIZER] if present else others)
        await step("done finalizer")
        return answer

    async def create(self, plural: str, kind: str, namespace: str, obj: Object) -> Object:
        await step("create")
        ref = (plural, namespace, obj["metadata"]["name"])
        if self._api.get(*ref) is None:
            self._on_write("create", ref, obj)
        else:
            self._on_refusal("create", ref, ApiError(HTTPStatus.CONFLICT, "AlreadyExists", ""))
        answer = self._api.create(plural, namespace, obj["metadata"]["name"], obj)
        await step("done create")
        return answer

    async def delete(self, plural: str, name: str, *, uid: str, resource_version: str) -> None:
        await step("delete")
        ref = (plural, "", name)
        if (known := self._api.get(*ref)) is not None:
            precondition = {"metadata": {"uid": uid, "resourceVersion": resource_version}}
            self._ask("delete", ref, precondition, known)
            self._api.delete(ref, uid, resource_version)
        await step("done delete")

    async def delete_object(self, url: str, *, uid: str) -> None:
        await step("delete")
        ref = _at(url)
        known = self._api.get(*ref)
        if known is not None and known["metadata"]["uid"] == uid:
            self._on_write("delete", ref, known)
            self._api.remove(*ref)
        elif known is not None:
            self._on_refusal("delete", ref, conflict(f"{ref[2]} is another one"))
        await step("done delete")

    async def patch(self, url: str, body: Object) -> Object:
        await step("put patch")
        ref = _at(url)
        try:
            answer = self._api.patch(ref, body)
        except ApiError as error:
            self._on_refusal("patch", ref, error)
            raise
        self._on_write("patch", ref, answer)
        await step("done put")
        return answer


def _at(url: str) -> Ref:
    """What a URL of a namespaced object names."""
    parts = url.split("/")
    at = parts.index("namespaces")
    return parts[at + 2], parts[at + 1], parts[at + 3]


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _ref(plural: str, obj: Object) -> Ref:
    return (plural, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def _stamp() -> str:
    return CLOCK.now().strftime("%Y-%m-%dT%H:%M:%SZ")
