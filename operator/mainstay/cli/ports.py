"""`mainstay ports`: every leased or assigned port, who has it and who listens, what is wrong first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from mainstay.api.servicestack import PortState
from mainstay.cli.cluster import Target, call, everything
from mainstay.cli.console import Rows, note, out, show, table
from mainstay.cli.options import (
    AllNamespacesOption,
    ContextOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    target_of,
)
from mainstay.cli.stackstate import may_be_ended
from mainstay.cli.words import condition, one_line, print_as
from mainstay.core.names import stack_scope, unit_name
from mainstay.shell.kube import LEASES, POOLS, RUNS, STACKS, Kube, Object

if TYPE_CHECKING:
    from mainstay.cli.listeners import Listening

FIXED = "fixed"
_COLOURS = {PortState.HELD: "green", PortState.FOREIGN: "red", PortState.TAKEN: "red"}
_WORDS = {"StrategyRun": "run", "ServiceStack": "stack"}


def ports(
    namespace: NamespaceOption = "default",
    everywhere: AllNamespacesOption = False,
    output: OutputOption = None,
    home: HomeOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Show every leased or assigned port: its holder, who listens on it now, and each pool's free ports."""
    target = target_of(home, namespace, kubeconfig, context)
    objects = call(target, gather)
    rows = ports_of(objects, target)
    shown = rows if everywhere else [row for row in rows if row["namespace"] == namespace]
    pools = pools_of(objects)
    if output is not None:
        print_as({"ports": shown, "pools": pools}, output)
        return
    if shown:
        show(_table(target, shown, everywhere=everywhere))
    else:
        out.print("no port is leased or assigned" + ("" if everywhere else f" in namespace {namespace}"))
    if len(rows) > len(shown):
        note(f"{len(rows) - len(shown)} more in other namespaces; -A shows them")
    out.print()
    show(_pools_table(pools))


async def gather(kube: Kube) -> dict[str, list[Object]]:
    """What ports are about, by plural."""
    return {plural: await everything(kube, plural) for plural in (LEASES, POOLS, RUNS, STACKS)}


def ports_of(objects: dict[str, list[Object]], target: Target) -> list[dict[str, Any]]:
    """Each port once for each object that has it, or wants it; what is wrong first."""
    by_uid = {one["metadata"]["uid"]: one for plural in (RUNS, STACKS) for one in objects[plural]}
    rows, leased = [], {}
    for lease in objects[LEASES]:
        spec = lease["spec"]
        leased[spec["port"]] = spec["holder"]["uid"]
        rows.append(_leased(spec, by_uid.get(spec["holder"]["uid"])))
    for stack in objects[STACKS]:
        rows += [
            _assigned(stack, service["name"], service["port"])
            for service in stack["spec"]["services"]
            if service.get("port") and leased.get(service["port"]) != stack["metadata"]["uid"]
        ]
    if target.here:
        _look(target, rows)
    return sorted(rows, key=lambda row: (not row["problem"], row["port"]))


def _row(port: int, kind: str, namespace: str, name: str, pool: str | None) -> dict[str, Any]:
    return {
        "port": port, "kind": kind, "namespace": namespace, "name": name, "service": None,
        "pool": pool or FIXED, "state": "", "listens": None, "pid": None, "problem": "",
    }  # fmt: skip


def _leased(spec: Object, holder: Object | None) -> dict[str, Any]:
    """The row of a lease, with what its holder says of the port."""
    of = spec["holder"]
    row = _row(spec["port"], of["kind"], of["namespace"], of["name"], spec.get("pool"))
    if holder is None:
        row["problem"] = (
            f"its holder {of['kind']} {of['namespace']}/{of['name']} is gone; nothing can lease it"
        )
        return row
    if of["kind"] == "ServiceStack":
        named = (one["name"] for one in holder["spec"]["services"] if one.get("port") == spec["port"])
        row["service"] = next(named, None)
        _of_stack(row, holder)
        return row
    row["state"] = (holder.get("status") or {}).get("phase", "Pending")
    allocated = condition(holder, "PortAllocated")
    if allocated.get("status") == "False" and row["state"] not in ("Stopped", "Completed"):
        row["problem"] = one_line(allocated.get("message", ""))
    return row


def _assigned(stack: Object, service: str, port: int) -> dict[str, Any]:
    """The row of a service's port that its stack has no lease of."""
    meta = stack["metadata"]
    row = _row(port, "ServiceStack", meta["namespace"], meta["name"], None)
    row["service"] = service
    _of_stack(row, stack)
    return row


def _of_stack(row: dict[str, Any], stack: Object) -> None:
    seen = next((p for p in (stack.get("status") or {}).get("ports") or () if p["port"] == row["port"]), None)
    if seen is None:
        return
    row.update(state=seen["state"], pid=seen.get("pid"), listens=seen.get("holder") or None)
    if seen["state"] in (PortState.FOREIGN, PortState.TAKEN):
        services = (stack.get("status") or {}).get("services") or ()
        service: dict[str, Any] = next((one for one in services if one["name"] == row["service"]), {})
        protected = not may_be_ended(seen, service)
        row["problem"] = _foreign(row, seen.get("holder") or "a stranger, not seen which", protected)


def _who(one: Listening) -> str:
    if one.protected:
        return f"{one.words}, {one.protected}"
    return f"{one.words}, unit {one.unit}" if one.unit else one.words


def _foreign(row: dict[str, Any], holder: str, protected: bool = False) -> str:
    if row["state"] == PortState.TAKEN:
        return f"leased to another: {holder}"
    way = "; give one of the two another port" if protected else ""
    if row["kind"] == "ServiceStack" and not protected:
        way = f"; `mainstay flush stack/{row['name']}` ends it"
    return f"a stranger listens: {holder}{way}"


def _look(target: Target, rows: list[dict[str, Any]]) -> None:
    """Of this machine: who listens now. Newer than what any status says."""
    from mainstay.cli.listeners import listening

    found = listening(target.home, {row["port"]: _unit(row).partition("/")[0] for row in rows})
    for row in rows:
        here = found.get(row["port"], [])
        own = [one for one in here if one.unit and one.unit == _unit(row)]
        strangers = [one for one in here if one not in own]
        if row["state"] == PortState.TAKEN:
            continue
        if strangers:
            row.update(state=str(PortState.FOREIGN), pid=strangers[0].pid)
            row["listens"] = ", ".join(one.words for one in strangers)
            row["problem"] = _foreign(
                row, ", ".join(map(_who, strangers)), any(one.protected for one in strangers)
            )
        elif own:
            row.update(state=str(PortState.HELD), pid=own[0].pid, listens=own[0].words)
        else:
            row.update(pid=None, listens=None)
            row["state"] = str(PortState.FREE)
        if not strangers and row["problem"].startswith("a stranger"):
            row["problem"] = ""


def _unit(row: dict[str, Any]) -> str:
    """The unit that may listen there, as SCOPE/NAME."""
    if row["kind"] == "ServiceStack":
        return f"{stack_scope(row['namespace'], row['name'])}/{row['service']}"
    return f"runs/{unit_name(row['namespace'], row['name'])}"


def pools_of(objects: dict[str, list[Object]]) -> list[dict[str, Any]]:
    """Each pool: its ranges, and how many of its ports are free."""
    leased = {lease["spec"]["port"] for lease in objects[LEASES]}
    told = []
    for pool in objects[POOLS]:
        spec, ready = pool["spec"], condition(pool, "Ready")
        every = {p for r in spec["ranges"] for p in range(r["first"], r["last"] + 1)}
        every -= set(spec.get("reserved") or ())
        told.append(
            {
                "name": pool["metadata"]["name"],
                "ranges": ", ".join(f"{r['first']}-{r['last']}" for r in spec["ranges"]),
                "free": len(every - leased),
                "leased": len(every & leased),
                "problem": one_line(ready.get("message", ""))
                or ("" if every - leased else "no port is free: widen spec.ranges"),
            }
        )
    return sorted(told, key=lambda one: (not one["problem"], one["name"]))


def _table(target: Target, rows: list[dict[str, Any]], *, everywhere: bool) -> Rows:
    made = table("PORT", "NAMESPACE", "HOLDER", "SERVICE", "STATE", "LISTENS", "POOL", "MESSAGE")
    for row in rows:
        made.add_row(
            str(row["port"]),
            row["namespace"],
            f"{_WORDS.get(row['kind'], row['kind'])}/{row['name']}",
            row["service"] or "",
            Text(row["state"], style=_COLOURS.get(row["state"], "")),
            row["listens"] or ("nobody" if target.here else ""),
            row["pool"],
            row["problem"],
        )
    return made if everywhere else made.without("NAMESPACE")


def _pools_table(pools: list[dict[str, Any]]) -> Rows:
    made = table("POOL", "RANGES", "FREE", "LEASED", "MESSAGE")
    for one in pools:
        made.add_row(one["name"], one["ranges"], str(one["free"]), str(one["leased"]), one["problem"])
    return made
