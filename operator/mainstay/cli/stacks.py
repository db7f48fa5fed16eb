"""Which stack a command means, and the change of its spec.state."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from mainstay.api.meta import API_VERSION
from mainstay.cli.cluster import Target, call, everything, get
from mainstay.cli.console import fail, note, out
from mainstay.cli.health import operator_trouble
from mainstay.cli.names import Kind, Ref, ref
from mainstay.cli.words import condition, one_line, print_yaml, some
from mainstay.shell.kube import STACKS, Kube, Object, path

POLL_SECONDS = 0.2


def stack_name(name: str) -> str:
    """The name of a stack: stack/NAME, or NAME where nothing else can be meant."""
    return name if "/" not in name else ref(name, (Kind.STACK,)).name


async def the_stack(kube: Kube, target: Target, name: str | None, verb: str) -> Object:
    """The stack of that name; without one the only stack of the namespace. Ends the command otherwise."""
    if name is not None:
        return await get(kube, target, Ref(Kind.STACK, name))
    there = sorted(
        await everything(kube, STACKS, target.namespace), key=lambda one: str(one["metadata"]["name"])
    )
    if not there:
        fail(
            f"no stack in namespace {target.namespace}. -n names another namespace; "
            "`mainstay status` lists what there is."
        )
    if len(there) > 1:
        names = [one["metadata"]["name"] for one in there]
        fail(
            f"{len(names)} stacks in namespace {target.namespace}: {some(names, 20)}; "
            f"say which, for example: {target.say(f'{verb} stack/{names[0]}')}"
        )
    return there[0]


# -- spec.state


def set_stack_state(
    target: Target, names: list[str], state: str, wait: bool, timeout: float, dry_run: bool
) -> None:
    """Ask for a state of each stack (Running, Stopped), and wait for it."""

    async def work(kube: Kube) -> None:
        for name in map(stack_name, names):
            obj = await get(kube, target, Ref(Kind.STACK, name))
            if obj["metadata"].get("deletionTimestamp"):
                fail(f"stack/{name} is being deleted")
            if dry_run:
                meta = {"name": name, "namespace": target.namespace}
                head = {"apiVersion": API_VERSION, "kind": "ServiceStack", "metadata": meta}
                print_yaml({**head, "spec": {"state": state}})
                continue
            if (obj["spec"].get("state") or "Running") != state:
                obj = await kube.patch(path(STACKS, target.namespace, name), {"spec": {"state": state}})
                out.print(f"servicestack/{name} state: {state}")
            elif told := _so(obj, state):
                out.print(f"{told} already")
                continue
            else:
                note(f"stack/{name}: state is {state} already; it is not reached yet")
            if wait:
                await _reached(kube, target, name, obj["metadata"]["generation"], state, timeout)

    call(target, work)


async def _reached(
    kube: Kube, target: Target, name: str, generation: int, state: str, timeout: float
) -> None:
    """Return when the stack is as asked; end the command if that needs a person, or too long."""
    deadline, said = time.monotonic() + timeout, ""
    way = f"\n  {target.say(f'status stack/{name}')}"
    while True:
        obj = await get(kube, target, Ref(Kind.STACK, name))
        seen, ready, stalled = obj.get("status") or {}, condition(obj, "Ready"), condition(obj, "Stalled")
        current = int(seen.get("observedGeneration") or 0) >= generation
        if int(seen.get("observedGeneration") or 0) >= generation and (told := _so(obj, state)):
            out.print(told)
            return
        if current and stalled.get("status") == "True":
            fail(f"stack/{name}: {stalled['reason']}: {one_line(stalled.get('message', ''))}{way}")
        words = _progress(seen, state) if current else ""
        if words and words != said:
            said = words
            note(f"{name}: {words}")
        if time.monotonic() > deadline:
            trouble = await operator_trouble(target)
            why = f"{ready['reason']}: {one_line(ready.get('message', ''))}" if ready else ""
            told = (why if current else "") or "nobody has looked at it"
            fail(
                f"stack/{name} is not as asked after {timeout:.0f} s: {told}{way}"
                + (f"\n{trouble}" if trouble else "")
            )
        await asyncio.sleep(POLL_SECONDS)


def _so(obj: Object, state: str) -> str:
    """That it is as asked, in words; empty while it is not."""
    seen = obj.get("status") or {}
    ready = condition(obj, "Ready").get("status") == "True"
    if int(seen.get("observedGeneration") or 0) < int(obj["metadata"]["generation"]):
        return ""
    if not ready and not seen.get("phase") == state == "Stopped":
        return ""
    up = f", {seen['ready']} up" if seen.get("ready") and state == "Running" else ""
    return f"servicestack/{obj['metadata']['name']} is {seen.get('phase', state)}{up}"


def _progress(seen: dict[str, Any], state: str) -> str:
    """Services that are not yet as asked, and why, in one line."""
    done = ("Stopped", "Completed", "Fatal") if state == "Stopped" else ("Completed",)
    left = [one for one in seen.get("services") or [] if not (one.get("ready") and state == "Running")]
    left = [one for one in left if one.get("state") not in done]
    if not left:
        return ""
    by_state: dict[str, list[str]] = {}
    for one in left:
        by_state.setdefault(one.get("state", "Pending"), []).append(one["name"])
    parts = [f"{phase}: {some(names)}" for phase, names in by_state.items()]
    return "; ".join([f"{seen['ready']} up"] * (state == "Running" and "ready" in seen) + parts)
