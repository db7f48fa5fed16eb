"""`mainstay status stack/NAME`: its services, ports and restarts, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from mainstay.cli.cluster import Target
from mainstay.cli.console import Rows, note, out, show, table
from mainstay.cli.restartstate import (
    latest_first,
    marked,
    mode_of,
    phase_of,
    restarts_table,
    show_steps,
    spent,
)
from mainstay.cli.stackstate import (
    DOWN,
    NOT_ITS_OWN,
    beside,
    coloured,
    holder,
    is_up,
    is_wrong,
    last_exit,
    may_be_ended,
    needs_someone,
    restarts_of,
    state_of,
    status_of,
    trouble_lines,
)
from mainstay.cli.words import age
from mainstay.shell.kube import RESTARTS, Kube, Object, path

HISTORY = 5
"""Restarts shown of a stack."""
SHOWN = 3
"""Services that are down for which there are commands."""


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
    show(services_table(stack))
    if (ports := ports_table(stack)).rows:
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
    if words := beside(stack):
        out.print(Text(words))
    for line in trouble_lines(stack):
        out.print(line)


def services_table(stack: Object) -> Rows:
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


def ports_table(stack: Object) -> Rows:
    """Each assigned port and who has it, those that a stranger has first."""
    made = table("PORT", "SERVICE", "STATE", "PID", "MESSAGE")
    up = {one["name"] for one in status_of(stack).get("services") or [] if is_up(one)}
    for one in sorted(
        status_of(stack).get("ports") or [],
        key=lambda port: (port.get("state") not in NOT_ITS_OWN, port["port"]),
    ):
        words = holder(one) if one.get("state") in NOT_ITS_OWN else ""
        if one.get("state") == "Free" and one["service"] in up:
            words = "nobody listens"
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
    services = {one["name"]: one for one in seen.get("services") or []}
    ports = seen.get("ports") or []
    endable = [one for one in ports if may_be_ended(one, services.get(one["service"], {}))]
    stuck = [one["service"] for one in ports if one.get("state") in NOT_ITS_OWN and one not in endable]
    if endable:
        ways.append((target.say(f"flush {name}"), "ends the strangers"))
    where = f" -n {target.namespace}" if target.namespace != "default" else ""
    edit = f"kubectl edit stack {name}{where}"
    ways += [(edit, f"give {service} another port") for service in stuck]
    held = [one["name"] for one in services.values() if one.get("reason") == "HeldLocally"]
    ways += [
        (f"mainstay release stack/{name}/{one}{where}", "lets it run again, said on its host") for one in held
    ]
    down = [one for one in services.values() if one.get("state") in DOWN]
    ways += [(target.say(f"logs stack/{name}/{one['name']}"), "what it wrote") for one in down[:SHOWN]]
    under_way = (seen.get("restart") or {}).get("name")
    if under_way:
        return [*ways, (target.say(f"status srestart/{under_way}"), "its steps")]
    if restarts and phase_of(restarts[0]) == "Failed" and needs_someone(stack):
        failed = restarts[0]["metadata"]["name"]
        ways.append((target.say(f"status srestart/{failed}"), "why it failed"))
    fatal = [one["name"] for one in down if one["state"] == "Fatal"]
    ways += [
        (target.say(f"restart stack/{name}/{service}"), "starts it afresh, and no other")
        for service in fatal[:SHOWN]
    ]
    if endable:
        ways.append((target.say(f"restart stack/{name}"), "starts all afresh, and ends the strangers"))
    elif down and not stuck:
        ways.append((target.say(f"restart stack/{name}"), "starts all afresh"))
    return ways
