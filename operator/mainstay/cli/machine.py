"""What is seen of Mainstay on this machine, without starting or changing anything."""

from __future__ import annotations

from typing import Any

from mainstay.cli import system
from mainstay.cli.cluster import Target
from mainstay.cli.home import Home
from mainstay.core.unit import GONE, UnitState
from mainstay.runtime.base import RuntimeUnavailableError
from mainstay.runtime.process import known_scopes

NOT_RUNNING = "not running"


async def parts_of(target: Target) -> list[dict[str, Any]]:
    """Every part of the system that should run here, and the supervisors."""
    seen = {unit["name"]: unit for unit in await _units(system.runtime(target.home))}
    embedded = (target.home.root / "etcd").is_dir()
    wanted = [*(system.PLANE if embedded else ()), system.OPERATOR]
    nothing = {"pid": None, "restarts": 0, "state": NOT_RUNNING}
    parts = [{**nothing, **seen.get(name, {}), "name": name} for name in wanted]
    for part in parts:
        part["state"] = NOT_RUNNING if part["state"] in GONE else part["state"]
        if part["pid"] and part["state"] != NOT_RUNNING and system.halted(part["pid"]):
            part["state"] = str(UnitState.PAUSED)
    stacks = [("/".join(key), scope) for key, scope in known_scopes(target.home.root)]
    for words, scope in (("system", "system"), ("runs", "runs"), ("jobs", "jobs"), *stacks):
        pid = system.supervisor_pid(target.home, scope)
        state = "Running" if pid else NOT_RUNNING
        if pid or (words, scope) not in stacks or system.lives(target.home, scope):
            parts.append({"name": f"supervisord ({words})", "state": state, "pid": pid, "restarts": 0})
    return parts


async def units(home: Home) -> list[dict[str, Any]]:
    """What is seen of programs of users: runs, services of stacks, and tasks that live."""
    found = await _units(system.runtime(home, "runs"))
    for (namespace, stack), scope in known_scopes(home.root):
        services = await _units(system.runtime(home, scope))
        found += [{**one, "name": f"{namespace}.{stack}/{one['name']}"} for one in services]
    return [*found, *(u for u in await _units(system.task_runtime(home)) if u["state"] not in GONE)]


async def _units(runtime: Any) -> list[dict[str, Any]]:
    """What is seen of a scope's units, without starting or changing anything."""
    try:
        found = await runtime.units()
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
        for unit in found
    ]


def metrics(target: Target) -> str | None:
    """Where the operator serves its metrics, if it does."""
    try:
        return target.home.operator_url.read_text().strip() + "/metrics"
    except OSError:
        return None
