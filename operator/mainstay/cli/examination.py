"""The checklist of `mainstay doctor`, and the end of units that no object stands for."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any, TypeVar

import typer
from rich.text import Text

from mainstay.cli import assetchecks, called, checks, orphans
from mainstay.cli.checks import Finding, Mark
from mainstay.cli.cluster import Target, call, connection
from mainstay.cli.console import fail, note, out
from mainstay.cli.names import Kind
from mainstay.cli.words import count
from mainstay.runtime.base import RuntimeUnavailableError
from mainstay.shell.kube import ApiError, Kube

T = TypeVar("T")

_COLOURS = {Mark.FINE: "green", Mark.ATTENTION: "yellow", Mark.WRONG: "bold red", Mark.SKIPPED: "dim"}


async def examine(target: Target, found: list[Finding], *, tell: bool) -> None:
    """Make all checks into `found`; with `tell` each is printed as soon as it is known."""

    def add(one: Finding) -> None:
        found.append(one)
        if tell:
            _tell(one)

    if target.here:
        for one in checks.home(target):
            add(one)
        if checks.down(target):
            add(checks.wrong("nothing of Mainstay runs here", way="mainstay up"))
        else:
            add(await checks.supervisors(target))
            async for one in checks.operator(target):
                add(one)
    else:
        add(checks.elsewhere(target))
    try:
        async with connection(target) as kube:
            await kube.request("GET", "/readyz")
            add(checks.fine(f"the control plane answers ({_server(target)})"))
            await _examine_cluster(target, kube, add)
    except Exception as error:
        add(checks.unreachable(target, error))


def _server(target: Target) -> str:
    return called.server(target.config_file, target.context) or "the Pod's own account"


async def _examine_cluster(target: Target, kube: Kube, add: Any) -> None:
    async def may(check: Awaitable[T]) -> T | None:
        """What it found; None, and told, where this user may not look."""
        try:
            return await check
        except ApiError as error:
            if error.code != HTTPStatus.FORBIDDEN:
                raise
            add(checks.skipped(error.message))
            return None

    if (found := await may(checks.crds(target, kube))) is not None:
        add(found)
    ours = target.here and (owner := await may(checks.owner(target, kube))) is not None
    if ours and owner is not None:
        add(owner)
        ours = owner.mark is Mark.FINE
    units = await orphans.owned(target.home) if ours else []
    if (known := await may(checks.objects(kube))) is None:
        return
    held = await may(assetchecks.gather(kube))
    for one in checks.stalled(target, known, assetchecks.told_of(known | held) if held is not None else ()):
        add(one)
    for one in assetchecks.of_assets(target, known | held) if held is not None else ():
        add(one)
    left: list[orphans.Owned] = []
    if ours:
        told, left = checks.left_over(units, known)
        add(told)
    for one in checks.of_ports(target, known, left):
        add(one)


def _tell(one: Finding) -> None:
    out.print(Text.assemble((f"{one.mark} ", _COLOURS[one.mark]), one.words))
    for line in one.details:
        out.print(Text(f"    {line}"))
    if one.way:
        out.print(Text(f"    → {one.way}", style="dim"))


def remove(target: Target, *, yes: bool, verbose: bool) -> None:
    """Say which units have no object, ask, and end them."""
    if not target.here:
        fail(
            "--remove-orphans is about this machine and its own cluster: say it without another cluster's name"
        )

    async def look(kube: Kube) -> list[orphans.Owned]:
        await orphans.belongs(target.home, kube)
        units = await orphans.owned(target.home)
        return checks.left_over(units, await checks.objects(kube))[1]

    found = _ours(target, look)
    if not found:
        out.print("no unit on this machine is without an object")
        return
    for one in found:
        out.print(one.told)
    if not yes:
        if not sys.stdin.isatty():
            fail("nothing was ended: say --yes to end these")
        question = (
            f"End {count(len(found), 'unit')} (TERM, then KILL), remove the files and give the ports back?"
        )
        if not typer.confirm(question, err=True):
            out.print("nothing was ended")
            return
    if bad := _ours(target, lambda kube: _end(target, kube, found, verbose=verbose)):
        fail(f"{bad} of {len(found)} are still there")


def _ours(target: Target, work: Any) -> Any:
    async def main(kube: Kube) -> Any:
        try:
            return await work(kube)
        except orphans.NotOursError as error:
            fail(f"nothing was ended: {error}")

    return call(target, main)


async def _end(target: Target, kube: Kube, found: list[orphans.Owned], *, verbose: bool) -> int:
    """End each, then remove the scopes of stacks that have none left; how many are still there."""
    bad: list[orphans.Owned] = []
    for one in found:
        if verbose:
            note(f"asking for {one.kind.told} {one.namespace}/{one.name} once more, then TERM to {one.told}")
        try:
            words = await orphans.end(target.home, kube, one)
        except (orphans.NotOursError, RuntimeUnavailableError) as error:
            bad.append(one)
            note(f"{one.told}: {error}")
            continue
        if one.unit is not None:
            out.print(f"{one.unit.name} {words}")
    for key in dict.fromkeys(one.key for one in found if one.kind is Kind.STACK):
        if any(one.key == key for one in bad):
            continue
        if verbose:
            note(f"ending the supervisor of stack/{key[2]} in namespace {key[1]}, and removing its scope")
        try:
            await orphans.remove_scope(target.home, kube, key)
            out.print(f"stack/{key[2]} in namespace {key[1]}: its supervisor is ended and its scope removed")
        except (orphans.NotOursError, RuntimeUnavailableError) as error:
            bad += [one for one in found if one.key == key][:1]
            note(f"stack/{key[2]}: {error}")
    return len(bad)
