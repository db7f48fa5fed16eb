"""The API server, as little of it as we need. The only module that writes to it."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from kubernetes.aio import client, config

from mainstay.api.meta import API_VERSION, FINALIZER, GROUP, VERSION
from mainstay.runtime.effects import effect
from mainstay.shell.writes import Finish, plainly

P = ParamSpec("P")
T = TypeVar("T")

Object = dict[str, Any]

RUNS, LEASES, POOLS, CONFIG_MAPS = "strategyruns", "portleases", "portpools", "configmaps"
JOBS, BATCHES = "phasedjobs", "jobbatches"
LIBRARIES, STRATEGIES = "strategylibraries", "strategies"
STACKS, RESTARTS = "servicestacks", "stackrestarts"
ASSETS = "assets"

OPERATOR_IDENTITY = {"Impersonate-User": "mainstay-operator", "Impersonate-Group": "mainstay:operators"}

CONFLICTS = (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND)
"""What the API server answers when our copy is old."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")
TIMEOUT_SECONDS = 30.0
PAGE = 500

VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
"""Kubernetes' words for HTTP's."""

CONNECTIONS = 16
"""Enough to keep an API server on two cores busy; each costs both sides a handshake."""


class ApiError(Exception):
    """The API server answered no. `code` is the HTTP status, `reason` Kubernetes' word for it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


class ApiUnavailableError(ApiError):
    """No usable answer: connection refused, cut off, timed out, or a 5xx. The request may have had its effect."""


def path(plural: str, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """URL path of a resource of ours; cluster-scoped without a namespace."""
    parts = ["/apis", GROUP, VERSION]
    if namespace:
        parts += ["namespaces", quote(namespace)]
    parts.append(plural)
    if name:
        parts.append(quote(name))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


def core_path(plural: str, namespace: str = "", name: str = "") -> str:
    """URL path of a resource of the core group."""
    parts = ["/api/v1"]
    if namespace:
        parts += ["namespaces", quote(namespace)]
    parts.append(plural)
    if name:
        parts.append(quote(name))
    return "/".join(parts)


def state_write(
    method: Callable[Concatenate[Kube, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Kube, P], Coroutine[Any, Any, T]]:
    """Once begun it is finished, whatever becomes of who began it."""

    @functools.wraps(method)
    async def begun(kube: Kube, /, *args: P.args, **kwargs: P.kwargs) -> T:
        kube.wrote_at = time.monotonic()
        try:
            return await kube.finish(method.__name__, method(kube, *args, **kwargs))
        finally:
            kube.wrote_at = time.monotonic()

    return begun


class Kube:
    """A connection to one API server. Every method raises ApiError or ApiUnavailableError."""

    def __init__(self, api: client.ApiClient, identity: Mapping[str, str] | None = None) -> None:
        self._api = api
        self._identity = dict(identity or {})
        self.wrote_at = float("-inf")
        """When the last state write was begun or ended, by the monotonic clock."""
        self.finish: Finish = plainly
        """How state writes are awaited."""
        self.answered: Callable[[str, str, float], None] = lambda *_: None
        """Called after each request with its verb, what came back (see `metrics.ANSWERS`) and the seconds it took."""

    @classmethod
    async def connect(
        cls, kubeconfig: str | None = None, context: str | None = None, *, as_operator: bool = False
    ) -> Self:
        """Use that kubeconfig; without one the usual: $KUBECONFIG, ~/.kube/config, the Pod's own account.

        `as_operator` acts as the operator's own user, whom the ownership policy lets through.
        """
        configuration = client.Configuration()
        configuration.connection_pool_maxsize = CONNECTIONS
        if kubeconfig is not None or context is not None:
            await config.load_kube_config(
                config_file=kubeconfig, context=context, client_configuration=configuration
            )
        else:
            await config.load_config(client_configuration=configuration)
        if urlsplit(configuration.host).hostname in LOOPBACK:
            # Else aiohttp looks for proxies and netrc files, in threads, at every request: 3 ms each.
            configuration.client_session_kwargs = {"trust_env": False}
        return cls(client.ApiClient(configuration), OPERATOR_IDENTITY if as_operator else None)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def request(
        self,
        method: str,
        url: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """One request; JSON in, JSON out."""
        verb = "list" if query and "limit" in query else VERBS[method]
        began = time.monotonic()
        try:
            answer = await self._request(method, url, body, query, content_type)
        except ApiError as error:
            self.answered(verb, _answer_of(error), time.monotonic() - began)
            raise
        self.answered(verb, "ok", time.monotonic() - began)
        return answer

    async def _request(
        self, method: str, url: str, body: Any, query: Mapping[str, str] | None, content_type: str
    ) -> Object:
        target = self._api.configuration.host + url + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": content_type, **self._identity}
        try:
            await self._api.update_params_for_auth(headers, [], ["BearerToken"], url, method, body)
            response = await self._api.rest_client.request(
                method, target, headers=headers, body=body, _request_timeout=TIMEOUT_SECONDS
            )
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnavailableError(0, "Unavailable", str(error) or type(error).__name__) from error
        try:
            parsed: Object = json.loads(data) if data else {}
        except ValueError:
            parsed = {"message": data[:500].decode(errors="replace")}
        if response.status < HTTPStatus.BAD_REQUEST:
            return parsed
        kind = (
            ApiUnavailableError
            if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
            or response.status == HTTPStatus.TOO_MANY_REQUESTS
            else ApiError
        )
        reason = parsed.get("reason") or str(response.reason or response.status)
        raise kind(response.status, str(reason), str(parsed.get("message", "")))

    # --- reading

    async def get(self, url: str) -> Object | None:
        """The object as the API server has it now (a consistent read), or None."""
        try:
            return await self.request("GET", url)
        except ApiError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def pages(self, url: str, query: Mapping[str, str] | None = None) -> AsyncIterator[Object]:
        """Every page of a list, each with its metadata.resourceVersion and items."""
        token = ""
        while True:
            extra = {"limit": str(PAGE), **(query or {})}
            if token:
                extra["continue"] = token
            page = await self.request("GET", url, query=extra)
            yield page
            token = page.get("metadata", {}).get("continue", "")
            if not token:
                return

    # --- writing

    @state_write
    async def put_status(self, plural: str, obj: Object, status: Object) -> Object:
        """Replace the status of that very version of the object; 409 if it has moved on."""
        meta = obj["metadata"]
        url = path(plural, meta.get("namespace", ""), meta["name"], "status")
        with effect(f"api put {plural}/status"):
            kept = ("name", "namespace", "uid", "resourceVersion")
            body = {
                "apiVersion": obj["apiVersion"],
                "kind": obj["kind"],
                "metadata": {key: meta[key] for key in kept if key in meta},
                "status": status,
            }
            return await self.request("PUT", url, body)

    @state_write
    async def set_finalizer(self, plural: str, obj: Object, *, present: bool) -> Object:
        """Add or remove our finalizer, on that very version of the object; 409 if it has moved on."""
        meta = obj["metadata"]
        others = [f for f in meta.get("finalizers", ()) if f != FINALIZER]
        body = {
            "metadata": {
                "resourceVersion": meta["resourceVersion"],
                "finalizers": [*others, FINALIZER] if present else others,
                **(_untracked(meta) if present else {}),
            }
        }
        url = path(plural, meta.get("namespace", ""), meta["name"])
        with effect(f"api {'add' if present else 'remove'} finalizer {plural}"):
            return await self.request("PATCH", url, body, content_type="application/merge-patch+json")

    @state_write
    async def create(self, plural: str, kind: str, namespace: str, obj: Object) -> Object:
        """Create an object of ours; 409 AlreadyExists if the name is taken."""
        body = {"apiVersion": API_VERSION, "kind": kind, **obj}
        with effect(f"api create {plural}"):
            return await self.request("POST", path(plural, namespace), body)

    @state_write
    async def delete(self, plural: str, name: str, *, uid: str, resource_version: str) -> None:
        """Delete exactly that version of a cluster-scoped object; gone already is success."""
        body = {"preconditions": {"uid": uid, "resourceVersion": resource_version}}
        with effect(f"api delete {plural}"):
            try:
                await self.request("DELETE", path(plural, name=name), body)
            except ApiError as error:
                if error.code != HTTPStatus.NOT_FOUND:
                    raise

    @state_write
    async def keep_config_map(self, namespace: str, body: Object) -> Object:
        """Create a ConfigMap of ours, or replace what it holds."""
        with effect("api create configmaps"):
            try:
                return await self.request("POST", core_path("configmaps", namespace), body)
            except ApiError as error:
                if error.code != HTTPStatus.CONFLICT:
                    raise
            url = core_path("configmaps", namespace, body["metadata"]["name"])
            return await self.request("PUT", url, body)

    @state_write
    async def delete_object(self, url: str, *, uid: str) -> None:
        """Delete exactly that object; gone already, or another one of that name, is success."""
        with effect("api delete " + url.split("/")[-2]):
            try:
                await self.request("DELETE", url, {"preconditions": {"uid": uid}})
            except ApiError as error:
                if error.code not in CONFLICTS:
                    raise

    @state_write
    async def patch_state(self, plural: str, namespace: str, name: str, uid: str, spec: Object) -> Object:
        """Merge fields into the spec of that very object of ours; 409 if another has its name."""
        with effect(f"api patch {plural}"):
            return await self.patch(path(plural, namespace, name), {"metadata": {"uid": uid}, "spec": spec})

    async def patch(self, url: str, body: Object) -> Object:
        """Merge-patch an object, for the verbs of the CLI."""
        return await self.request("PATCH", url, body, content_type="application/merge-patch+json")

    async def apply(self, url: str, obj: Object, manager: str = "mainstay") -> Object:
        """Server-side apply, taking over what others set: for what ships with Mainstay and for the CLI."""
        query = {"fieldManager": manager, "force": "true"}
        return await self.request("PATCH", url, obj, query=query, content_type="application/apply-patch+yaml")

    async def post_event(self, namespace: str, event: Object) -> None:
        """Create a Kubernetes event."""
        await self.request("POST", core_path("events", namespace), event)

    async def wait_ready(self, deadline_seconds: float) -> None:
        """Return once /readyz says ok; raises ApiUnavailableError after the deadline."""
        async with asyncio.timeout(deadline_seconds):
            while True:
                try:
                    await self.request("GET", "/readyz")
                except ApiError:
                    await asyncio.sleep(0.05)
                else:
                    return


def _answer_of(error: ApiError) -> str:
    if isinstance(error, ApiUnavailableError):
        return "unavailable"
    if error.code == HTTPStatus.CONFLICT:
        return "conflict"
    return "not_found" if error.code == HTTPStatus.NOT_FOUND else "refused"


def _untracked(meta: Mapping[str, Any]) -> Object:
    """What ends the tracking of field owners, where nobody uses it.

    The API server spends a third of a status write on it. Who applies (server-side, or kubectl's apply, which
    may move there) needs it and keeps it; see docs/adr/0008.
    """
    managers = meta.get("managedFields") or ()
    applied = any(
        m.get("operation") == "Apply" or m.get("manager") == "kubectl-client-side-apply" for m in managers
    )
    return {} if applied or not managers else {"managedFields": [{}]}
