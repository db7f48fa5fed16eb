"""start, pause and cancel of jobs and batches: a change of spec.state, and nothing else."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from mainstay.api.meta import API_VERSION
from mainstay.cli.assetleft import left_in
from mainstay.cli.cluster import Target, call, get
from mainstay.cli.console import fail, note, out
from mainstay.cli.jobs import POLL_SECONDS, Asked, batch_of, follow, is_over, phase_of, trouble
from mainstay.cli.meant import Meant, job_or
from mainstay.cli.names import Kind, Ref, refs
from mainstay.cli.options import (
    ContextOption,
    DryRunOption,
    DryRunOutputOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    NoTimeoutOption,
    NoWaitOption,
    dry,
    target_of,
)
from mainstay.cli.words import print_yaml
from mainstay.shell.kube import BATCHES, Kube, Object, path

REACHED = {"Running": "Completed", "Suspended": "Suspended", "Cancelled": "Cancelled"}
"""What `--wait` waits for when a state is asked for."""


def cancel(
    names: Annotated[list[str], typer.Argument(help="job/NAME or batch/NAME.", metavar="NAME...")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    namespace: NamespaceOption = "default",
    wait: NoWaitOption = False,
    timeout: NoTimeoutOption = None,
    dry_run: DryRunOption = False,
    output: DryRunOutputOption = None,
    home: HomeOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Cancel jobs and batches for good (spec.state: Cancelled): what runs is stopped, nothing can resume it.

    What is in their assets is then emptied by the compensation of each: it says of which, before it asks.
    """
    target = target_of(home, namespace, kubeconfig, context)
    dry_run = dry(dry_run, output)

    async def work(kube: Kube) -> tuple[list[tuple[Ref, Object]], list[str]]:
        wanted = [
            one if one.kind is not Kind.RUN or "/" in name else await job_or(kube, target, name)
            for name in dict.fromkeys(names)
            for one in refs([name])
        ]
        for one in wanted:
            if one.kind is Kind.RUN:
                fail(
                    f"cancel is for jobs and batches; `mainstay stop {one.name}` stops a run, "
                    f"job/{one.name} is a job"
                )
        found = [(one, await get(kube, target, one)) for one in dict.fromkeys(wanted)]
        return found, await left_in(kube, target, found)

    found, leftovers = call(target, work)
    wanted = [one for one, _ in found]
    for words in leftovers:
        note(words)
    left = [f"{one} ({phase_of(obj)})" for one, obj in found if not is_over(obj)]
    if not dry_run and not yes and left:
        if not sys.stdin.isatty():
            fail(f"cancelling is final; say --yes to cancel {', '.join(left)}")
        typer.confirm(f"Cancel {', '.join(left)} for good?", abort=True, err=True)
    set_job_state(target, wanted, "Cancelled", wait, timeout, dry_run)


def set_job_state(
    target: Target, wanted: list[Ref], state: str, wait: bool, timeout: float | None, dry_run: bool
) -> None:
    """Ask for a state of each job and batch; with `wait` until it, or the end of the job, is reached."""

    async def work(kube: Kube) -> None:
        problems = []
        found = [(one, await get(kube, target, one)) for one in wanted]
        for one, obj in found:
            if why := _never(target, one, obj, state):
                fail(why)
        for one, obj in found:
            asked = (obj["spec"].get("state") or "Running") == state
            if is_over(obj) or (asked and phase_of(obj) == state and not dry_run):
                note(f"{one} is {phase_of(obj)} already")
                continue
            changed = await _set(kube, target, one, state, dry_run)
            if wait and changed is not None:
                problems.append(await _reached(kube, target, one, changed, state, timeout))
        if told := [why for why in problems if why is not None]:
            fail("\n".join(told))

    call(target, work)


def refuse_never(target: Target, found: Sequence[Meant], state: str) -> None:
    """End the command where this can't be asked of one of the jobs and batches."""
    for one in found:
        if one.ref.kind in (Kind.JOB, Kind.BATCH) and (why := _never(target, one.ref, one.obj, state)):
            fail(why)


def _never(target: Target, one: Ref, obj: Object, state: str) -> str | None:
    """Why this can't be asked of it."""
    now = obj["spec"].get("state") or "Running"
    if one.kind is Kind.JOB and state != "Cancelled" and (batch := batch_of(obj)) is not None:
        verb = "pause" if state == "Suspended" else "start"
        return (
            f"{one} is of batch/{batch}, whose jobs are suspended and started together:\n"
            f"  {target.say(f'{verb} batch/{batch}')}"
        )
    if state != "Cancelled" and now == "Cancelled":
        return f"{one} is cancelled, and stays so; create another one"
    return None


async def _set(kube: Kube, target: Target, one: Ref, state: str, dry_run: bool) -> Object | None:
    if dry_run:
        meta = {"name": one.name, "namespace": target.namespace}
        spec = {"state": state}
        print_yaml({"apiVersion": API_VERSION, "kind": one.kind.told, "metadata": meta, "spec": spec})
        return None
    changed = await kube.patch(path(one.kind.plural, target.namespace, one.name), {"spec": {"state": state}})
    out.print(f"{one.told} state: {state}")
    return changed


async def _reached(
    kube: Kube, target: Target, one: Ref, changed: Object, state: str, timeout: float | None
) -> str | None:
    """Wait; None when it is as asked."""
    if one.kind is Kind.JOB:
        return await follow(kube, target, Asked.of(changed), timeout, until=REACHED[state])
    return await follow_batch(kube, target, changed, timeout, until=REACHED[state])


async def follow_batch(
    kube: Kube, target: Target, batch: Object, timeout: float | None, *, until: str
) -> str | None:
    """Tell how a batch goes until it stands still; None if that is at `until`."""
    deadline = None if timeout is None else time.monotonic() + timeout
    name, said = batch["metadata"]["name"], ""
    while True:
        obj = await kube.get(path(BATCHES, target.namespace, name))
        if obj is None or obj["metadata"]["uid"] != batch["metadata"]["uid"]:
            return f"batch/{name} was deleted"
        seen, phase = obj.get("status") or {}, phase_of(obj)
        if int(seen.get("observedGeneration") or 0) >= batch["metadata"]["generation"]:
            if phase == until:
                out.print(f"jobbatch/{name} is {phase}")
                return None
            if phase not in ("Pending", "InProgress", "Deleting") and (until != "Cancelled" or is_over(obj)):
                return f"batch/{name} is {phase}: {trouble(obj)}\n  {target.say(f'status batch/{name}')}"
            words = f"{name}: {trouble(obj) or phase}"
            if words != said:
                said = words
                note(words)
        if deadline is not None and time.monotonic() > deadline:
            return f"batch/{name} is {phase} after {timeout:.0f} s\n  {target.say(f'status batch/{name}')}"
        await asyncio.sleep(POLL_SECONDS)
