"""How a ServiceStack is: what its status says, what is wrong with it, and stacks at a glance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from rich.text import Text

from mainstay.cli.cluster import Target
from mainstay.cli.console import out, show, table
from mainstay.cli.jobtree import here_alone
from mainstay.cli.restartstate import (
    brief,
    latest_first,
    mode_of,
    phase_of,
    why,
)
from mainstay.cli.words import age, condition, one_line
from mainstay.shell.kube import Object

_STATES = {
    "Running": "green",
    "Completed": "green",
    "Degraded": "red",
    "Fatal": "red",
    "Backoff": "red",
    "Foreign": "red",
    "Taken": "red",
    "Held": "green",
    "Stopped": "dim",
    "Free": "dim",
}
DOWN = ("Fatal", "Backoff")
_ON_ITS_WAY = (
    "",
    "Starting",
    "Running",
    "DependencyNotReady",
    "InputsChanged",
    "RestartRequested",
    "PortClosing",
    "Restarting",
    "Stopped",
    "StopRequested",
)
"""Reasons that pass by themselves."""
NOT_ITS_OWN = ("Foreign", "Taken")


def coloured(state: str) -> Text:
    """A state in its colour."""
    return Text(state, style=_STATES.get(state, "yellow"))


def status_of(stack: Object) -> dict[str, Any]:
    """Its status; empty before the operator has seen it."""
    return stack.get("status") or {}


def state_of(stack: Object) -> str:
    """Where it is, in one word."""
    if stack["metadata"].get("deletionTimestamp"):
        return "Deleting"
    return str(status_of(stack).get("phase") or "Pending")


def is_up(service: dict[str, Any]) -> bool:
    """It is as declared: it serves, or it has done what it was to do."""
    state = service.get("state")
    return state == "Completed" or (state == "Running" and bool(service.get("ready")))


def is_wrong(service: dict[str, Any]) -> bool:
    """Something is in its way that won't pass by itself."""
    return not is_up(service) and (
        service.get("state") in DOWN or service.get("reason", "") not in _ON_ITS_WAY
    )


def waits(service: dict[str, Any]) -> bool:
    """It is on its way up."""
    return (
        not is_up(service)
        and not is_wrong(service)
        and service.get("state") in ("Pending", "Starting", "Running")
    )


def last_exit(service: dict[str, Any]) -> str:
    """How the process before ended, in a few words; empty where it ended well, or as it was asked to."""
    seen = service.get("lastExit") or {}
    by_itself = service.get("restarts") or service.get("state") in DOWN
    if not by_itself or not (seen.get("code") or seen.get("signal")):
        return ""
    if seen.get("signal"):
        return f"last exit by signal {seen['signal']}"
    return f"last exit code {seen['code']}"


def words_of(service: dict[str, Any]) -> str:
    """Why a service is where it is, all of it."""
    told = one_line(f"{service.get('reason', '')}: {service.get('message', '')}").strip(": ")
    short = last_exit(service)
    ended = one_line((service.get("lastExit") or {}).get("message") or "") or short
    said = not short or ended.removeprefix("last ") in told
    return "; ".join(part for part in (told, "" if said else ended) if part)


def troubles(stack: Object) -> list[tuple[str, str, str]]:
    """(what, state, why) of each service that is down and each port that a stranger has; what waits comes last."""
    seen = status_of(stack)
    services = seen.get("services") or []
    down = [one for one in services if is_wrong(one)]
    wrong = [(one["name"], one.get("state", "Pending"), words_of(one)) for one in down]
    told = {one["name"] for one in down if one.get("reason") in ("PortForeign", "PortTaken")}
    ports = [
        (f"port {one['port']}", one["state"], f"assigned to {one['service']}, {holder(one)}")
        for one in seen.get("ports") or []
        if one.get("state") in NOT_ITS_OWN and one["service"] not in told
    ]
    waiting = [(one["name"], one.get("state", "Pending"), words_of(one)) for one in services if waits(one)]
    return [*wrong, *ports, *waiting]


def holder(port: dict[str, Any]) -> str:
    """Who has a port, in words."""
    words, pid = one_line(port.get("holder") or ""), port.get("pid")
    if port.get("state") == "Taken":
        return f"leased to {words}"
    if pid and f"pid {pid}" not in words:
        words = f"pid {pid} {words}".strip()
    return f"held by {words}"


def may_be_ended(port: dict[str, Any], service: dict[str, Any]) -> bool:
    """A flush ends who listens there, as far as its service's status tells: what is protected is never ended."""
    if port.get("state") != "Foreign":
        return False
    if service.get("reason") == "PortForeign" and f"port {port['port']} " in service.get("message", ""):
        return " ends it" in service["message"]
    return bool(port.get("pid")) and ", service " not in (port.get("holder") or "")


def needs_someone(stack: Object) -> bool:
    """It is not as asked."""
    return condition(stack, "Ready").get("status") != "True"


def why_stack(stack: Object) -> str:
    """Why it is where it is; empty where nothing is wrong."""
    if not needs_someone(stack):
        return ""
    return why(stack) if status_of(stack) else "no operator has looked at it yet"


# -- at a glance


def show_glance(target: Target, stacks: Sequence[Object], restarts: Sequence[Object], *, apart: bool) -> None:
    """Print stacks, those in trouble first, each with what is wrong; `apart` from what is above."""
    made = table("NAMESPACE", "STACK", "STATE", "UP", "LAST RESTART", "AGE", "MESSAGE")
    found = sorted(stacks, key=lambda one: (not needs_someone(one), *_key(one)))
    for stack in found:
        meta, seen = stack["metadata"], status_of(stack)
        last = _last(stack, restarts)
        made.add_row(
            meta["namespace"],
            meta["name"],
            coloured(state_of(stack)),
            seen.get("ready") or "",
            brief(last[0]) if last else "",
            age(meta["creationTimestamp"]),
            beside(stack),
        )
    if made.rows:
        if apart:
            out.print()
        show(here_alone(target, made, stacks))
    for stack in found:
        if lines := trouble_lines(stack):
            here = replace(target, namespace=stack["metadata"]["namespace"])
            name = f"stack/{stack['metadata']['name']}"
            out.print(Text(f"\nAbout {name} (`{here.say(f'status {name}')}`):"))
            for line in lines:
                out.print(line)


def trouble_lines(stack: Object) -> list[Text]:
    """What is wrong with it, whole: a line each."""
    return [
        Text(f"  {name} ") + coloured(state) + Text(f": {words}" if words else "")
        for name, state, words in troubles(stack)
    ]


def beside(stack: Object) -> str:
    """Why it is where it is, as far as its services and ports don't tell."""
    told = troubles(stack) and condition(stack, "Ready").get("reason") in ("ServicesDown", "Starting")
    return "" if told else why_stack(stack)


def restarts_of(stack: Object, restarts: Iterable[Object]) -> list[Object]:
    """Those of them that are about this stack."""
    place = _key(stack)
    return [one for one in restarts if (one["metadata"]["namespace"], one["spec"]["stack"]) == place]


def _last(stack: Object, restarts: Iterable[Object]) -> list[Object]:
    """Its last restart; a flush restarts nothing."""
    found = [one for one in restarts_of(stack, restarts) if mode_of(one) != "Flush"]
    return latest_first(found)[:1]


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def summary(stack: Object, restarts: Sequence[Object]) -> dict[str, Any]:
    """A stack for -o json."""
    meta, seen, ready = stack["metadata"], status_of(stack), condition(stack, "Ready")
    last = _last(stack, restarts)
    return {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "state": state_of(stack),
        "up": seen.get("ready", ""),
        "ready": ready.get("status", "Unknown"),
        "reason": ready.get("reason", ""),
        "message": ready.get("message", ""),
        "wrong": [{"what": name, "state": state, "why": words} for name, state, words in troubles(stack)],
        "restart": (seen.get("restart") or {}).get("name"),
        "lastRestart": _restart_summary(last[0]) if last else None,
        "created": meta["creationTimestamp"],
    }


def _restart_summary(restart: Object) -> dict[str, Any]:
    seen = restart.get("status") or {}
    return {
        "name": restart["metadata"]["name"],
        "mode": mode_of(restart),
        "state": phase_of(restart),
        "step": seen.get("step"),
        "startedAt": seen.get("startedAt"),
        "completedAt": seen.get("completedAt"),
    }
