"""What `mainstay doctor` looks at: of the cluster, and of this machine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import aiohttp
import yaml

import mainstay
from mainstay.cli import called, health, machine, orphans, ports, system
from mainstay.cli.cluster import NoClusterError, Target, everything
from mainstay.cli.home import data
from mainstay.cli.jobs import is_over, waits
from mainstay.cli.names import Kind, Ref
from mainstay.cli.operator import ephemeral_ports
from mainstay.cli.verifyparts import difference, newer
from mainstay.cli.words import condition, count, one_line, some
from mainstay.core.names import stack_scope
from mainstay.runtime.base import RuntimeUnavailableError
from mainstay.runtime.process.logs import LOW_DISK, free_part
from mainstay.runtime.process.rpc import Supervisor
from mainstay.runtime.process.scope import SOCKET_LIMIT
from mainstay.runtime.process.unitdir import ScopeDir
from mainstay.shell.kube import JOBS, RUNS, STACKS, ApiError, Kube, Object

ANSWER_SECONDS = 3.0
MANY_RESTARTS = 3
_KINDS = {RUNS: Kind.RUN, JOBS: Kind.JOB, STACKS: Kind.STACK}


class Mark(StrEnum):
    """How a check came out."""

    FINE = "✓"
    ATTENTION = "!"
    WRONG = "✗"
    SKIPPED = "-"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the checklist; what is wrong in detail, and what to do about it."""

    mark: Mark
    words: str
    details: tuple[str, ...] = ()
    way: str = ""


def fine(words: str) -> Finding:
    """It is as it should be."""
    return Finding(Mark.FINE, words)


def wrong(words: str, details: Iterable[str] = (), way: str = "") -> Finding:
    """It is not, and what to do."""
    return Finding(Mark.WRONG, words, tuple(details), way)


def attention(words: str, details: Iterable[str] = (), way: str = "") -> Finding:
    """It is as it should be, and somebody has something to do."""
    return Finding(Mark.ATTENTION, words, tuple(details), way)


def skipped(words: str) -> Finding:
    """It can't be told from here."""
    return Finding(Mark.SKIPPED, words)


async def crds(target: Target, kube: Kube) -> Finding:
    """Each CRD is there, and says what this version says."""
    problems = []
    for file in sorted(data("crds").glob("*.yaml")):
        ours = yaml.safe_load(file.read_text())
        name = ours["metadata"]["name"]
        there = await kube.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
        if words := difference(ours, there):
            problems.append(f"{name} {words}")
    if problems:
        return wrong("CRDs are not those of this version", problems, newer(target))
    return fine(f"CRDs are there, those of this version ({mainstay.__version__})")


async def operator(target: Target) -> AsyncIterator[Finding]:
    """It works, stays up, and is of this version."""
    if words := await health.operator_trouble(target):
        yield wrong(words, way=f"mainstay up; {target.say('logs operator')}")
        return
    parts = await machine.parts_of(target)
    often = [f"{one['name']}: {one['restarts']} times" for one in parts if one["restarts"] >= MANY_RESTARTS]
    restarts = next((one["restarts"] for one in parts if one["name"] == system.OPERATOR), 0)
    if often:
        yield wrong(
            "parts of Mainstay ended by themselves again and again", often, target.say("logs operator")
        )
    else:
        yield fine(
            "the operator works"
            + (f"; its supervisor restarted it {count(restarts, 'time')}" if restarts else "")
        )
    version = await _version(target)
    if version and version != mainstay.__version__:
        yield wrong(
            f"the operator is version {version}, and this is {mainstay.__version__}", way="mainstay up"
        )


async def _version(target: Target) -> str:
    """Version of the operator that works here; empty where it doesn't say."""
    try:
        url = target.home.operator_url.read_text().strip() + "/metrics"
        limit = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=limit, trust_env=False) as session,
            session.get(url) as answer,
        ):
            lines = (await answer.text()).splitlines()
    except (OSError, aiohttp.ClientError, TimeoutError):
        return ""
    told = next((line for line in lines if line.startswith("mainstay_build_info{")), "")
    return told.partition('version="')[2].partition('"')[0]


def down(target: Target) -> bool:
    """Nothing of this home runs, not even a supervisor."""
    return not any(system.lives(target.home, scope) for scope in ("system", *system.scopes(target.home)))


async def supervisors(target: Target) -> Finding:
    """Each scope's supervisord answers."""
    silent, answering = [], []
    for name in ("system", *system.scopes(target.home)):
        scope = ScopeDir(target.home.root, name)
        told = await _scope_words(target, name)
        pid = system.supervisor_pid(target.home, name)
        if pid is None:
            if system.lives(target.home, name):
                silent.append(f"that of {told} does not run, and its programs go on without it")
            elif name in ("system", "runs", "jobs"):
                silent.append(f"that of {told} does not run")
            continue
        supervisor = Supervisor(scope.socket)
        try:
            await supervisor.call("supervisor.getPID", timeout=ANSWER_SECONDS)
            answering.append(name)
        except (RuntimeUnavailableError, OSError, TimeoutError):
            silent.append(f"that of {told}, pid {pid}, hangs")
        finally:
            await supervisor.close()
    if silent:
        way = "the operator replaces one that is dead or hung; where none works: mainstay up"
        return wrong("a supervisor does not answer", silent, way)
    return fine(f"every supervisor answers ({len(answering)})")


async def _scope_words(target: Target, scope: str) -> str:
    from mainstay.runtime.process import known_scopes

    for (namespace, name), known in known_scopes(target.home.root):
        if known == scope:
            return f"stack/{name} in namespace {namespace}"
    return scope


async def objects(kube: Kube) -> dict[str, list[Object]]:
    """What the checks are about, by plural."""
    return {**await ports.gather(kube), JOBS: await everything(kube, JOBS)}


def stalled(
    target: Target, known: dict[str, list[Object]], elsewhere: Container[str] = ()
) -> Iterator[Finding]:
    """Nothing stands still that goes no further by itself; a job that waits for an answer does what it is to do.

    `elsewhere`: uids of jobs that are told with their assets, or are tried again by somebody else.
    """
    apart = 0
    stuck: list[tuple[Ref, str, str]] = []
    for plural, kind in _KINDS.items():
        for obj in known[plural]:
            told = condition(obj, "Stalled")
            if obj["metadata"]["uid"] in elsewhere:
                apart += told.get("status") == "True" and not is_over(obj)
                continue
            if told.get("status") == "True" and not (kind is Kind.JOB and waits(obj)):
                words = f"{told.get('reason', '')}: {one_line(told.get('message', ''))}"
                stuck.append((Ref(kind, obj["metadata"]["name"]), obj["metadata"]["namespace"], words))
    all_ = count(sum(len(known[plural]) for plural in _KINDS), "object")
    if stuck:
        details = [f"{one} in namespace {namespace}: {words}" for one, namespace, words in stuck]
        first, where, _ = stuck[0]
        way = replace(target, namespace=where).say(f"status {first}")
        goes = "is stalled, and goes" if len(stuck) == 1 else "are stalled, and go"
        yield wrong(f"{len(stuck)} of {all_} {goes} no further until somebody acts", details, way)
    else:
        beside = f", apart from {count(apart, 'job')} told with assets" if apart else ""
        yield fine(f"none of {all_} (runs, jobs, stacks) is stalled{beside}")
    asking = [obj for obj in known[JOBS] if waits(obj) and obj["metadata"]["uid"] not in elsewhere]
    if asking:
        verb = "waits" if len(asking) == 1 else "wait"
        meta = asking[0]["metadata"]
        way = replace(target, namespace=meta["namespace"]).say(f"input job/{meta['name']}")
        others = [f"job/{one['metadata']['name']}" for one in asking] if len(asking) > 1 else []
        yield attention(
            f"{count(len(asking), 'job')} {verb} for an answer", [some(others)] if others else [], way
        )


def left_over(
    units: list[orphans.Owned], known: dict[str, list[Object]]
) -> tuple[Finding, list[orphans.Owned]]:
    """No unit is without an object; and those that are."""
    keys = {
        (kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
        for plural, kind in _KINDS.items()
        for obj in known[plural]
    }
    found = orphans.without_object(units, keys)
    if not found:
        return fine(f"every unit has its object ({count(len(units), 'unit')})"), []
    told = [one.told for one in found]
    return wrong(
        f"{count(len(found), 'unit')} without an object: the operator leaves them alone",
        told,
        "mainstay doctor --remove-orphans",
    ), found


def of_ports(
    target: Target, known: dict[str, list[Object]], left: Iterable[orphans.Owned] = ()
) -> Iterator[Finding]:
    """No stranger listens, no lease is without a holder, no pool is used up or meant for outgoing connections."""
    rows = ports.ports_of(known, target)
    cured = {(one.kind.told, one.namespace, one.name) for one in left}
    cure = "; `mainstay doctor --remove-orphans` ends its unit, and gives the port back"
    bad = [
        f"{row['port']}: {row['problem']}"
        + (cure if (row["kind"], row["namespace"], row["name"]) in cured else "")
        for row in rows
        if row["problem"]
    ]
    pools = ports.pools_of(known)
    bad += [f"pool {one['name']}: {one['problem']}" for one in pools if one["problem"]]
    if target.here and (range_ := ephemeral_ports()) is not None:
        inside = [
            str(row["port"]) for row in rows if row["pool"] == ports.FIXED and _within(row["port"], range_)
        ]
        if inside:
            bad.append(
                f"{', '.join(inside)}: outgoing connections of this host use {range_[0]}-{range_[1]} too, and may hold them"
            )
    if bad:
        yield wrong("ports are not as they should be", bad, target.say("ports -A"))
    else:
        yield fine(
            f"{count(len(rows), 'port')} and {count(len(pools), 'pool')}: no stranger, no lease without a holder"
        )


def _within(port: int, ends: tuple[int, int]) -> bool:
    return ends[0] <= port <= ends[1]


def home(target: Target) -> Iterator[Finding]:
    """Disk and paths of this home."""
    root = target.home.root
    free = free_part(str(root))
    files = os.statvfs(root)
    spare = files.f_favail / files.f_files if files.f_files else 1.0
    if free < LOW_DISK or spare < LOW_DISK:
        what = f"{free:.1%} of the disk" if free < LOW_DISK else f"{spare:.1%} of the disk's inodes"
        yield wrong(
            f"{what} of {root} is free; below {LOW_DISK:.0%} old logs go first, then nothing can be written"
        )
    else:
        yield fine(f"{free:.0%} of the disk of {root} is free")
    longest = ScopeDir(root, stack_scope("", "")).socket
    size = len(os.fsencode(longest))
    if size > SOCKET_LIMIT:
        yield wrong(
            f"the path of a socket has {size} bytes, at most {SOCKET_LIMIT} work: {longest}",
            way="a shorter MAINSTAY_HOME",
        )
    else:
        yield fine(f"paths of sockets are short enough: {size} of {SOCKET_LIMIT} bytes")


async def owner(target: Target, kube: Kube) -> Finding:
    """This home's processes belong to this cluster."""
    try:
        await orphans.belongs(target.home, kube)
    except orphans.NotOursError as error:
        return wrong(str(error))
    return fine(f"{target.home.root} belongs to this cluster")


def elsewhere(target: Target) -> Finding:
    """Why checks of this machine are left out."""
    if not target.home.exists:
        return skipped(
            f"nothing of Mainstay is on this machine ({target.home.root}): its processes, ports and disk are not looked at"
        )
    return skipped(
        f"{target.home.root} on this machine is another cluster's: its processes, ports and disk are not looked at"
    )


def unreachable(target: Target, error: Exception) -> Finding:
    """The control plane does not answer."""
    if isinstance(error, ApiError) and error.code:
        return wrong(f"the API server refuses: {error.message or error}")
    if isinstance(error, NoClusterError):
        return wrong(str(error))
    told = called.server(target.config_file, target.context) or "a Pod's own"
    way = "mainstay up; with it down: mainstay stop --offline" if target.here else "kubectl cluster-info"
    why = error.message if isinstance(error, ApiError) else str(error)
    return wrong(f"the control plane does not answer ({told}): {one_line(why)[:200]}", way=way)


def summary(found: list[Finding]) -> dict[str, Any]:
    """As -o json tells it."""
    return {
        "ok": all(one.mark is not Mark.WRONG for one in found),
        "checks": [
            {
                "result": one.mark.name.capitalize(),
                "message": one.words,
                "details": list(one.details),
                "next": one.way,
            }
            for one in found
        ],
    }
