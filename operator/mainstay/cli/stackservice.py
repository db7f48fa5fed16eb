"""`mainstay restart stack/NAME/SERVICE`: one service of a stack, and no other."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Any

from mainstay.cli.cluster import Target, call, get
from mainstay.cli.console import fail, note, out
from mainstay.cli.health import operator_trouble
from mainstay.cli.names import Kind, Ref
from mainstay.cli.stackstate import is_up, is_wrong, status_of, words_of
from mainstay.cli.words import FORM, print_as
from mainstay.shell.kube import STACKS, ApiError, Kube, Object, path

POLL_SECONDS = 0.2
STAY_SECONDS = 1.0
"""How long a service is watched once it is up, before a command says so."""
WRONG_SECONDS = 3.0
"""How long something may be in its way, or it may end by itself, before a command gives up."""
TRIES = 5


def restart_service(
    target: Target, stack: str, service: str, wait: bool, timeout: float, dry_run: bool
) -> None:
    """Raise restartNonce of that service, and wait until its next process is up."""

    async def work(kube: Kube) -> None:
        obj = await get(kube, target, Ref(Kind.STACK, stack))
        _possible(target, obj, service)
        if dry_run:
            _tell(_patch(obj, service))
            return
        before = int(_service(obj, service).get("attempt") or 0)
        changed = await _raised(kube, target, obj, service)
        out.print(f"servicestack/{stack} restart of {service} asked for")
        if wait:
            await _restarted(kube, target, changed, service, before, timeout)

    call(target, work)


def _possible(target: Target, obj: Object, service: str) -> None:
    name = obj["metadata"]["name"]
    declared = [one["name"] for one in obj["spec"]["services"]]
    if service not in declared:
        fail(f"stack/{name} has no service {service}; it has: {', '.join(declared)}")
    if obj["metadata"].get("deletionTimestamp"):
        fail(f"stack/{name} is being deleted")
    if obj["spec"].get("state") == "Stopped":
        fail(
            f"stack/{name} is stopped, there is nothing to restart; "
            f"`{target.say(f'start stack/{name}')}` starts it"
        )


def _service(obj: Object, service: str) -> dict[str, Any]:
    seen = status_of(obj).get("services") or []
    return next((one for one in seen if one["name"] == service), {"name": service})


def _patch(obj: Object, service: str) -> list[dict[str, Any]]:
    """The change of that service alone: whoever else owns the list keeps it."""
    services = obj["spec"]["services"]
    at = next(number for number, one in enumerate(services) if one["name"] == service)
    handled = int(_service(obj, service).get("handledRestartNonce") or 0)
    nonce = max(int(services[at].get("restartNonce") or 0), handled) + 1  # one that vanished asks for nothing
    return [
        {"op": "test", "path": f"/spec/services/{at}/name", "value": service},
        {"op": "add", "path": f"/spec/services/{at}/restartNonce", "value": nonce},
    ]


def _tell(patch: list[dict[str, Any]]) -> None:
    """Print the patch as `kubectl patch --type json` takes it: in one line, unless a form was asked for."""
    import json

    import typer

    if (form := FORM.get()) is not None:
        print_as(patch, form)
    else:
        typer.echo(json.dumps(patch))


async def _raised(kube: Kube, target: Target, obj: Object, service: str) -> Object:
    url, tries = path(STACKS, target.namespace, obj["metadata"]["name"]), 1
    while True:
        try:
            return await kube.request(
                "PATCH", url, _patch(obj, service), content_type="application/json-patch+json"
            )
        except ApiError as error:
            if error.code != HTTPStatus.UNPROCESSABLE_ENTITY or tries == TRIES:
                raise
        tries += 1  # the list was changed meanwhile
        obj = await get(kube, target, Ref(Kind.STACK, obj["metadata"]["name"]))
        _possible(target, obj, service)


async def _restarted(
    kube: Kube, target: Target, changed: Object, service: str, before: int, timeout: float
) -> None:
    """Return when a process of a later attempt is up, and stays so; end the command if that can't be, or takes too long."""
    name, generation = changed["metadata"]["name"], changed["metadata"]["generation"]
    deadline, said, settled = time.monotonic() + timeout, "", False
    wrong_since: float | None = None
    ways = f"\n  {target.say(f'logs stack/{name}/{service}')}\n  {target.say(f'status stack/{name}')}"
    while True:
        obj = await get(kube, target, Ref(Kind.STACK, name))
        one = _service(obj, service)
        current = int(status_of(obj).get("observedGeneration") or 0) >= generation
        if current and int(one.get("attempt") or 0) > before and is_up(one):
            if settled:
                out.print(f"{service} of stack/{name} is {one['state']}")
                return
            settled = True
            await asyncio.sleep(STAY_SECONDS)
            continue
        settled = False
        now = time.monotonic()
        wrong_since = (wrong_since or now) if current and is_wrong(one) else None
        if wrong_since is not None and now - wrong_since > WRONG_SECONDS:
            fail(f"{service} of stack/{name} is {one.get('state', 'Pending')}: {words_of(one)}{ways}")
        words = words_of(one) if current else ""
        if words and words != said:
            said = words
            note(f"{service}: {words}")
        if now > deadline:
            trouble = await operator_trouble(target)
            told = said or "nobody has looked at it"
            more = f"\n{trouble}" if trouble else ""
            fail(f"{service} of stack/{name} is not up after {timeout:.0f} s: {told}{ways}{more}")
        await asyncio.sleep(POLL_SECONDS)
