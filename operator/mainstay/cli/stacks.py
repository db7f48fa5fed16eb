"""Which stack a command means, and the change of its spec.state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, NoReturn

from mainstay.api.meta import API_VERSION
from mainstay.cli.cluster import Target, call, everything, get
from mainstay.cli.console import fail, note, out
from mainstay.cli.health import operator_trouble
from mainstay.cli.names import WORK, Kind, Ref, ref, refuse
from mainstay.cli.stacklogs import split
from mainstay.cli.words import condition, one_line, print_yaml, some
from mainstay.shell.kube import STACKS, ApiError, ApiUnavailableError, Kube, Object, path

POLL_SECONDS = 0.2
SERVED = (*WORK, Kind.STACK)
"""What is started and stopped."""
BOTH = (Kind.RUN, Kind.STACK)
"""What a bare name may stand for, where a command is for both."""

_RUNS_AND_STACKS = ("restart", "stop")
_NEVER_A_STACK = {
    "pause": [
        ("stop", "stops its services, and keeps its definition, logs and history"),
        ("start", "starts them again"),
    ],
    "resume": [
        ("start", "starts the services of a stopped stack"),
        ("restart", "starts all of its services afresh"),
    ],
}


def parse(names: Iterable[str], verb: str) -> list[Ref]:
    """Each name, once, as far as it can be told without asking; ends the command for a kind `verb` is not for."""
    told = list(names)
    for name in told:
        _refuse_service(name, verb)
    found = list(dict.fromkeys(ref(name, SERVED) for name in told))
    for one in found:
        if one.kind is Kind.STACK and verb in _NEVER_A_STACK:
            _refuse(one, verb)
        if one.kind in (Kind.JOB, Kind.BATCH) and verb in _RUNS_AND_STACKS:
            refuse(one, verb)
    return found


def settle(target: Target, names: Iterable[str], verb: str) -> list[Ref]:
    """As `parse`; a bare name is the run of that name, or the stack where there is no such run.

    Ends the command where there are both, unless `verb` is for runs alone.
    """
    told = list(names)
    parsed = parse(told, verb)
    bare = {name for name in told if "/" not in name}
    if not bare:
        return parsed

    async def work(kube: Kube) -> list[Ref]:
        return [
            await _settled(kube, target, one.name, verb) if one.kind is Kind.RUN and one.name in bare else one
            for one in parsed
        ]

    return list(dict.fromkeys(call(target, work)))


async def _settled(kube: Kube, target: Target, name: str, verb: str) -> Ref:
    run, stack = Ref(Kind.RUN, name), Ref(Kind.STACK, name)
    is_run = await kube.get(path(run.kind.plural, target.namespace, name)) is not None
    if is_run and verb in _NEVER_A_STACK:
        return run
    is_stack = await _is_there(kube, target, stack)
    if is_run and is_stack:
        fail(f"{name} is a run and a stack; write run/{name} or stack/{name}")
    if is_stack and verb in _NEVER_A_STACK:
        _refuse(stack, verb)
    return stack if is_stack else run


async def run_or_stack(kube: Kube, target: Target, name: str) -> Ref:
    """What a bare name is to a command that only looks: the run, or the stack where there is no such run."""
    run, stack = Ref(Kind.RUN, name), Ref(Kind.STACK, name)
    if await kube.get(path(run.kind.plural, target.namespace, name)) is None and await _is_there(
        kube, target, stack
    ):
        return stack
    return run


async def _is_there(kube: Kube, target: Target, one: Ref) -> bool:
    """Whether it is; one who may not look at stacks has none."""
    try:
        return await kube.get(path(one.kind.plural, target.namespace, one.name)) is not None
    except ApiUnavailableError:
        raise
    except ApiError as error:
        if error.code != HTTPStatus.FORBIDDEN:
            raise
        return False


def _refuse(one: Ref, verb: str) -> NoReturn:
    ways = "".join(
        f"\n  {f'mainstay {word} {one}':<{18 + len(str(one))}}{what}" for word, what in _NEVER_A_STACK[verb]
    )
    fail(f"{verb} is not for stacks, and {one} is one:{ways}")


def _refuse_service(name: str, verb: str) -> None:
    stack, service = split(name)
    if service is not None:
        fail(
            f"{name}: {verb} is not for one service\n"
            f"  mainstay restart {name}   restarts it\n"
            f"  mainstay status {stack}   shows it"
        )


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
                told = {"apiVersion": API_VERSION, "kind": "ServiceStack", "metadata": meta}
                print_yaml({**told, "spec": {"state": state}})
                continue
            changed = await kube.patch(path(STACKS, target.namespace, name), {"spec": {"state": state}})
            out.print(f"servicestack/{name} state: {state}")
            if wait:
                await _reached(kube, target, name, changed["metadata"]["generation"], state, timeout)

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
        if current and (ready.get("status") == "True" or seen.get("phase") == state == "Stopped"):
            up = f", {seen['ready']} up" if seen.get("ready") and state == "Running" else ""
            out.print(f"servicestack/{name} is {seen.get('phase', state)}{up}")
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
