"""`mainstay status` and `mainstay env`: what runs here, and how to reach it."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from datetime import UTC, datetime
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from mainstay.cli.cluster import Target, connection
from mainstay.cli.console import fail, note, out, show, table
from mainstay.cli.options import HomeOption, OutputOption, home_of
from mainstay.cli.verbs import condition
from mainstay.runtime.base import GONE, RuntimeUnavailableError
from mainstay.shell.kube import RUNS, ApiError, Kube, Object, path

NOT_RUNNING = "not running"
_COLOURS = {"True": "green", "False": "red", "Unknown": "yellow"}


def env(home: HomeOption = None) -> None:
    """Print exports for your shell: eval "$(mainstay env)"."""
    place = home_of(home)
    if not place.kubeconfig.exists():
        fail(f"{place.root} has no control plane yet; `mainstay up` makes it")
    typer.echo(f"export MAINSTAY_HOME={shlex.quote(str(place.root))}")
    typer.echo(f"export KUBECONFIG={shlex.quote(str(place.kubeconfig))}")
    if str(place.bin) not in os.environ.get("PATH", "").split(os.pathsep):
        typer.echo(f'export PATH={shlex.quote(str(place.bin))}:"$PATH"')


def status(home: HomeOption = None, output: OutputOption = None) -> None:
    """Show the parts of Mainstay on this machine and every run, with what is wrong."""
    target = Target(home_of(home))
    if not target.home.exists:
        fail(f"{target.home.root} is not in use; `mainstay up` starts there")
    told = asyncio.run(_status(target))
    if output == "json":
        typer.echo(json.dumps(told, indent=2))
        return
    if output == "yaml":
        import yaml

        typer.echo(yaml.safe_dump(told, sort_keys=False), nl=False)
        return
    if output is not None:
        fail(f"-o {output}: json or yaml")
    out.print(f"home: {told['home']}   api: {told['api']}")
    out.print()
    parts = table("PART", "STATE", "PID", "RESTARTS")
    for part in told["parts"]:
        parts.add_row(part["name"], part["state"], str(part["pid"] or ""), str(part["restarts"]))
    show(parts)
    missing = [part["name"] for part in told["parts"] if part["state"] == NOT_RUNNING]
    out.print()
    if told["runs"] is None:
        note(f"the API server does not answer: {told['problem']}")
        local = table("UNIT", "STATE", "PID", "PORT")
        for unit in told["units"]:
            local.add_row(unit["name"], unit["state"], str(unit["pid"] or ""), str(unit["port"] or ""))
        show(local)
        raise typer.Exit(1)
    show(_table(told["runs"]))
    if missing:
        note(f"{', '.join(missing)}: not running; `mainstay up` starts it. What stands above may be old.")
        raise typer.Exit(1)


async def _status(target: Target) -> dict[str, Any]:
    from mainstay.cli import system

    told: dict[str, Any] = {
        "home": str(target.home.root),
        "api": _server(target),
        "parts": await _parts(target),
        "units": await _units(system.runtime(target.home, "runs")),
        "runs": None,
    }
    try:
        async with connection(target) as kube:
            told["runs"] = [run async for run in _runs(kube, None)]
    except ApiError as error:
        told["problem"] = error.message
    except Exception as error:
        told["problem"] = str(error)
    return told


async def _parts(target: Target) -> list[dict[str, Any]]:
    """Every part of the system that should run here, and the two supervisors."""
    from mainstay.cli import system

    seen = {unit["name"]: unit for unit in await _units(system.runtime(target.home))}
    embedded = (target.home.root / "etcd").is_dir()
    wanted = [*(("etcd", "kube-apiserver") if embedded else ()), system.OPERATOR]
    nothing = {"pid": None, "restarts": 0, "state": NOT_RUNNING}
    parts = [{**nothing, **seen.get(name, {}), "name": name} for name in wanted]
    for part in parts:
        part["state"] = NOT_RUNNING if part["state"] in GONE else part["state"]
    for scope in ("system", "runs"):
        pid = system.supervisor_pid(target.home, scope)
        state = "Running" if pid else NOT_RUNNING
        parts.append({"name": f"supervisord ({scope})", "state": state, "pid": pid, "restarts": 0})
    return parts


async def _units(runtime: Any) -> list[dict[str, Any]]:
    """What is seen of a scope's units, without starting or changing anything."""
    try:
        units = await runtime.units()
    except (OSError, RuntimeUnavailableError):
        return []
    finally:
        await runtime.close()
    return [
        {
            "name": unit.name,
            "state": str(unit.state),
            "pid": unit.leader.pid if unit.leader else None,
            "port": unit.port,
            "restarts": unit.restarts,
            "heldLocally": unit.held_locally,
        }
        for unit in units
    ]


def _server(target: Target) -> str:
    import yaml

    try:
        loaded = yaml.safe_load(target.home.kubeconfig.read_text())
        return str(loaded["clusters"][0]["cluster"]["server"])
    except (OSError, KeyError, IndexError, TypeError):
        return "a cluster of your own"


async def runs_table(kube: Kube, namespace: str | None) -> Table:
    """Return all runs as a table, those with a problem first."""
    return _table([run async for run in _runs(kube, namespace)])


async def _runs(kube: Kube, namespace: str | None) -> Any:
    async for page in kube.pages(path(RUNS, namespace or "")):
        for obj in page["items"]:
            yield _row(obj)


def _row(obj: Object) -> dict[str, Any]:
    seen = obj.get("status") or {}
    ready = condition(obj, "Ready")
    return {
        "namespace": obj["metadata"]["namespace"],
        "name": obj["metadata"]["name"],
        "state": seen.get("phase", "Pending"),
        "ready": ready.get("status", "Unknown"),
        "reason": ready.get("reason", ""),
        "message": ready.get("message", ""),
        "port": seen.get("port") if seen.get("endpoint") else None,
        "restarts": seen.get("restarts", 0),
        "attempt": seen.get("attempt", 0),
        "runId": seen.get("runId"),
        "created": obj["metadata"]["creationTimestamp"],
    }


def _table(runs: list[dict[str, Any]]) -> Table:
    made = table("NAMESPACE", "NAME", "STATE", "READY", "PORT", "RESTARTS", "AGE", "MESSAGE")
    for run in sorted(runs, key=lambda r: (r["ready"] == "True", r["namespace"], r["name"])):
        message = "" if run["ready"] == "True" else " ".join(f"{run['reason']}: {run['message']}".split())
        made.add_row(
            run["namespace"],
            run["name"],
            run["state"],
            Text(run["ready"], style=_COLOURS.get(run["ready"], "")),
            str(run["port"] or ""),
            str(run["restarts"]),
            _age(run["created"]),
            message,
        )
    return made


def _age(created: str) -> str:
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"
