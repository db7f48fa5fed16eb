"""What a ServiceStack is in: at a glance, and in depth with its services, ports and restarts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.text import Text

from mainstay.cli.cluster import Target
from mainstay.cli.console import Rows, note, out, show, table
from mainstay.cli.jobtree import here_alone
from mainstay.cli.restartstate import (
    brief,
    latest_first,
    marked,
    mode_of,
    phase_of,
    restarts_table,
    show_steps,
    spent,
    why,
)
from mainstay.cli.words import age, condition, one_line
from mainstay.shell.kube import RESTARTS, Kube, Object, path

HISTORY = 5
"""Restarts shown of a stack."""

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
_DOWN = ("Fatal", "Backoff")
_ON_ITS_WAY = (
    "",
    "Starting",
    "Running",
    "DependencyNotReady",
    "InputsChanged",
    "Restarting",
    "Stopped",
    "StopRequested",
)
"""Reasons that pass by themselves."""
_NOT_ITS_OWN = ("Foreign", "Taken")


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
        service.get("state") in _DOWN or service.get("reason", "") not in _ON_ITS_WAY
    )


def waits(service: dict[str, Any]) -> bool:
    """It is on its way up."""
    return (
        not is_up(service)
        and not is_wrong(service)
        and service.get("state") in ("Pending", "Starting", "Running")
    )


def last_exit(service: dict[str, Any]) -> str:
    """How the process before ended, in a few words."""
    seen = service.get("lastExit") or {}
    if seen.get("signal"):
        return f"last exit by signal {seen['signal']}"
    return f"last exit code {seen['code']}" if seen.get("code") is not None else ""


def words_of(service: dict[str, Any]) -> str:
    """Why a service is where it is, all of it."""
    told = one_line(f"{service.get('reason', '')}: {service.get('message', '')}").strip(": ")
    exit_ = one_line((service.get("lastExit") or {}).get("message") or "") or last_exit(service)
    return "; ".join(part for part in (told, "" if exit_.removeprefix("last ") in told else exit_) if part)


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
        if one.get("state") in _NOT_ITS_OWN and one["service"] not in told
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


def needs_someone(stack: Object) -> bool:
    """It is not as asked."""
    return condition(stack, "Ready").get("status") != "True"


def why_stack(stack: Object) -> str:
    """Why it is where it is; empty where nothing is wrong."""
    if not needs_someone(stack):
        return ""
    return why(stack) if status_of(stack) else "no operator has looked at it yet"


# -- at a glance


def glance(target: Target, stacks: Sequence[Object], restarts: Sequence[Object]) -> list[Rows]:
    """Stacks, those in trouble first; then what is wrong with them, a line each."""
    made = table("NAMESPACE", "STACK", "STATE", "UP", "LAST RESTART", "AGE", "MESSAGE")
    what = table("NAMESPACE", "STACK", "WHAT", "STATE", "MESSAGE")
    for stack in sorted(stacks, key=lambda one: (not needs_someone(one), *_key(one))):
        meta, seen = stack["metadata"], status_of(stack)
        last = latest_first(restarts_of(stack, restarts))[:1]
        made.add_row(
            meta["namespace"],
            meta["name"],
            coloured(state_of(stack)),
            seen.get("ready") or "",
            brief(last[0]) if last else "",
            age(meta["creationTimestamp"]),
            why_stack(stack),
        )
        for name, state, words in troubles(stack):
            what.add_row(meta["namespace"], meta["name"], name, coloured(state), words)
    return [here_alone(target, one, stacks) for one in (made, what) if one.rows]


def restarts_of(stack: Object, restarts: Iterable[Object]) -> list[Object]:
    """Those of them that are about this stack."""
    place = _key(stack)
    return [one for one in restarts if (one["metadata"]["namespace"], one["spec"]["stack"]) == place]


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def summary(stack: Object, restarts: Sequence[Object]) -> dict[str, Any]:
    """A stack for -o json."""
    meta, seen, ready = stack["metadata"], status_of(stack), condition(stack, "Ready")
    last = latest_first(restarts_of(stack, restarts))[:1]
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


# -- in depth


async def restarts_for(kube: Kube, stack: Object) -> dict[str, Object]:
    """Its restarts by name, the latest first."""
    url, query = (
        path(RESTARTS, stack["metadata"]["namespace"]),
        {"fieldSelector": f"spec.stack={stack['metadata']['name']}"},
    )
    found = [obj async for page in kube.pages(url, query) for obj in page["items"]]
    return {one["metadata"]["name"]: one for one in latest_first(restarts_of(stack, found))}


def show_stack(target: Target, stack: Object, restarts: dict[str, Object]) -> None:
    """Print a stack: what is wrong with it, its services, ports and restarts, and what to do next."""
    _show_head(stack)
    out.print()
    show(_services_table(stack))
    if (ports := _ports_table(stack)).rows:
        out.print()
        show(ports)
    under_way = restarts.get((status_of(stack).get("restart") or {}).get("name", ""))
    if under_way is not None:
        for_ = f"   for {spent(under_way['status'])}" if spent(under_way.get("status") or {}) else ""
        name = under_way["metadata"]["name"]
        out.print(Text(f"\nrestart under way: {mode_of(under_way)}   srestart/{name}{for_}", style="bold"))
        show_steps(under_way, details=False)
    if restarts:
        out.print()
        show(restarts_table(list(restarts.values())[:HISTORY]))
    if len(restarts) > HISTORY:
        note(f"and {len(restarts) - HISTORY} earlier ones; `kubectl get srestart -n {target.namespace}`")
    if ways := next_commands(target, stack, list(restarts.values())):
        out.print("\nnext:")
        width = max(len(command) for command, _ in ways)
        for command, words in ways:
            out.print(Text(f"  {command:<{width}}   {words}"))


def _show_head(stack: Object) -> None:
    meta, seen = stack["metadata"], status_of(stack)
    facts = [f"stack/{meta['name']}", state_of(stack)]
    if meta["namespace"] != "default":
        facts.insert(0, meta["namespace"])
    if seen.get("ready"):
        facts.append(f"{seen['ready']} up")
    if seen.get("supervisor"):
        facts.append(f"supervisor pid {seen['supervisor']['pid']}")
    facts.append(f"age {age(meta['creationTimestamp'])}")
    if owner := (stack["spec"].get("owner") or {}).get("userId"):
        facts.append(f"owner {owner}")
    out.print(Text("   ".join(facts), style="bold"))
    found = troubles(stack)
    if not found and (words := why_stack(stack)):
        out.print(Text(words))
    elif found and condition(stack, "Ready").get("reason") not in ("ServicesDown", "Starting", None):
        out.print(Text(why_stack(stack)))  # more than its services tell
    for name, state, words in found:
        line = Text(f"  {name} ") + coloured(state)
        out.print(line + Text(f": {words}" if words else ""))


def _services_table(stack: Object) -> Rows:
    """Each declared service, and each that is there though it isn't declared any more."""
    seen = {one["name"]: one for one in status_of(stack).get("services") or []}
    declared = {one["name"]: one for one in stack["spec"]["services"]}
    made = table("SERVICE", "KIND", "STATE", "PID", "SINCE", "RESTARTS", "MESSAGE")
    for name in dict.fromkeys([*declared, *seen]):
        one = seen.get(name, {"name": name})
        state = one.get("state", "Pending")
        sign = "Completed" if is_up(one) else "Failed" if is_wrong(one) else "Pending"
        live = one.get("process") or {}
        told = [last_exit(one)] if is_up(one) else [one.get("reason") or "", last_exit(one)]
        made.add_row(
            marked(sign, name),
            declared.get(name, {}).get("kind", "-"),
            coloured(state),
            str(live.get("pid") or ""),
            age(one["since"]) if one.get("since") and live else "",
            str(one.get("restarts") or 0),
            "; ".join(part for part in told if part),
        )
    return made


def _ports_table(stack: Object) -> Rows:
    made = table("PORT", "SERVICE", "STATE", "PID", "MESSAGE")
    for one in sorted(
        status_of(stack).get("ports") or [],
        key=lambda port: (port.get("state") not in _NOT_ITS_OWN, port["port"]),
    ):
        words = holder(one) if one.get("state") in _NOT_ITS_OWN else ""
        made.add_row(
            str(one["port"]), one["service"], coloured(one.get("state", "")), str(one.get("pid") or ""), words
        )
    return made


def next_commands(target: Target, stack: Object, restarts: Sequence[Object]) -> list[tuple[str, str]]:
    """What to do now: (command, what it does); none while it needs nobody."""
    name, seen = stack["metadata"]["name"], status_of(stack)
    ways: list[tuple[str, str]] = []
    if state_of(stack) == "Deleting":
        return ways
    if stack["spec"].get("state") == "Stopped":
        return [(target.say(f"start stack/{name}"), "starts its services")]
    strangers = [one for one in seen.get("ports") or [] if one.get("state") == "Foreign"]
    if strangers:
        ways.append((target.say(f"flush {name}"), "ends the strangers"))
    down = [one["name"] for one in seen.get("services") or [] if one.get("state") in _DOWN]
    ways += [(target.say(f"logs stack/{name}/{service}"), "what it wrote") for service in down[:3]]
    under_way = (seen.get("restart") or {}).get("name")
    if under_way:
        ways.append((target.say(f"status srestart/{under_way}"), "its steps"))
    elif restarts and phase_of(restarts[0]) == "Failed" and needs_someone(stack):
        failed = restarts[0]["metadata"]["name"]
        ways.append((target.say(f"status srestart/{failed}"), "why it failed"))
    if down and not under_way:
        ways.append((target.say(f"restart stack/{name}"), "starts all afresh"))
    return ways
