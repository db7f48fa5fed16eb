"""What `mainstay verify` looks at before it starts anything: API server, CRDs, parts, operator, left-overs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import mainstay
from mainstay.api.crd import crds
from mainstay.cli import machine
from mainstay.cli.cluster import Target
from mainstay.cli.health import SilentError, paused, readyz
from mainstay.cli.verification import (
    LABEL,
    FailedError,
    SkippedError,
    Verification,
    abandoned,
    remove,
)
from mainstay.cli.words import condition
from mainstay.shell.kube import RUNS, STRATEGIES, ApiError, ApiUnavailableError, Kube, Object, path

LEFT_OVER_SECONDS = 20.0


async def _api(kube: Kube, work: Verification) -> str:
    try:
        version = await kube.request("GET", "/version")
    except ApiUnavailableError as error:
        raise FailedError(f"it does not answer ({error.message}); `mainstay up` starts it") from error
    return f"{version.get('gitVersion', 'of unknown version')}, namespace {work.target.namespace}"


async def _definitions(kube: Kube, work: Verification) -> str:
    wanted = crds()
    for crd in wanted:
        name = crd["metadata"]["name"]
        url = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
        try:
            seen = await kube.get(url)
        except ApiError as error:
            if error.code != HTTPStatus.FORBIDDEN:
                raise
            raise SkippedError("this user may not read CustomResourceDefinitions") from error
        if problem := difference(crd, seen):
            raise FailedError(f"{name} {problem}; {newer(work.target)}")
    return f"{len(wanted)} kinds, as Mainstay {mainstay.__version__} has them"


def newer(target: Target) -> str:
    """How the definitions become those of this Mainstay. `up` applied them under a field manager of its own."""
    if target.embedded:
        return "`mainstay up` applies those of this Mainstay"
    return (
        "`mainstay crds | kubectl apply --server-side --force-conflicts -f -` applies those of this Mainstay"
    )


def difference(wanted: Object, seen: Object | None) -> str | None:
    """In what a definition is not the one that Mainstay ships; None if it is."""
    if seen is None:
        return "is missing"
    if condition(seen, "Established").get("status") != "True":
        return f"is not established: {condition(seen, 'NamesAccepted').get('message', 'nobody says why')}"
    served = {version["name"]: version for version in seen["spec"]["versions"]}
    for version in wanted["spec"]["versions"]:
        there = served.get(version["name"])
        if there is None or not there.get("served"):
            return f"does not serve {version['name']}"
        if there.get("schema") != version.get("schema"):
            return f"has another schema than that of Mainstay {mainstay.__version__}"
    return None


async def _parts(_: Kube, work: Verification) -> str:
    _laptop(work.target)
    parts = await machine.parts_of(work.target)
    # A scope's supervisord is started with its first unit.
    wanted = [p for p in parts if not p["name"].startswith("supervisord (") or "system" in p["name"]]
    if missing := [part["name"] for part in wanted if part["state"] == machine.NOT_RUNNING]:
        raise FailedError(f"{', '.join(missing)}: not running; `mainstay up` starts it")
    if words := paused(wanted):
        raise FailedError(words)
    return ", ".join(f"{part['name']} {part['pid']}" for part in wanted)


async def _operator(_: Kube, work: Verification) -> str:
    _laptop(work.target)
    try:
        url = await readyz(work.target)
    except SilentError as error:
        raise FailedError(str(error)) from error
    if url is None:
        raise SkippedError("the operator of this home serves no /readyz (--health)")
    return url


async def _left_overs(kube: Kube, work: Verification) -> str:
    found: dict[str, str] = {}
    busy = False
    for plural, kind in ((RUNS, "StrategyRun"), (STRATEGIES, "Strategy")):
        query = {"labelSelector": LABEL}
        async for page in kube.pages(path(plural, work.target.namespace), query):
            for obj in page["items"]:
                name = obj["metadata"]["name"]
                if abandoned(obj):
                    found[f"{kind} {name}"] = path(plural, work.target.namespace, name)
                else:
                    busy = True
    names, left = list(found), list(found)
    words = await remove(kube, found, left, time.monotonic() + LEFT_OVER_SECONDS) if found else ""
    if left:
        raise FailedError(f"{', '.join(left)} can't be removed: {words}")
    if names:
        return f"removed {', '.join(names)}"
    return "another verification is at work, and left alone" if busy else ""


def _laptop(target: Target) -> None:
    """Whether the parts of this machine are what is asked about."""
    if target.kubeconfig is not None or target.context is not None:
        raise SkippedError("--kubeconfig names a cluster, and what runs on this machine is not asked about")
    if not target.home.exists:
        raise SkippedError(f"Mainstay has no home on this machine at {target.home.root}")


PREREQUISITES: tuple[tuple[str, Callable[[Kube, Verification], Awaitable[str]]], ...] = (
    ("the API server answers", _api),
    ("the kinds are those of this Mainstay", _definitions),
    ("the parts of this machine run", _parts),
    ("the operator is ready", _operator),
    ("nothing of an earlier verification is left", _left_overs),
)
"""What all else rests on; the first that fails ends the verification."""
