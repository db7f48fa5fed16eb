"""The objects of a fleet: ships, and COLLECT_SELL jobs as the sample's pipeline has them."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.api import GROUP, Object
from tests.bench.fleet_world import Command, World, inputs

ASSETS = f"{GROUP}/namespaces/default/assets"
BATCHES = f"{GROUP}/namespaces/default/jobbatches"
JOBS_PER_SHIP = 2
PROBE_SECONDS = 30

Worker = Callable[[str], Command]


def steps(worker: Worker) -> list[Object]:
    """COLLECT_SELL, as the sample's pipeline has it."""
    done = {
        "collect": "assets.ship.holdings.exists(h, h.symbol == inputs.symbol && h.units >= inputs.units)",
        "sell": "!assets.ship.holdings.exists(h, h.symbol == inputs.symbol)",
    }
    phases = [
        {
            "name": name,
            "completeWhen": when,
            "tasks": [
                {
                    "name": name,
                    "program": {"command": worker(name)},
                    "retries": 10,
                    "maxBackoffSeconds": 30,
                    "timeoutSeconds": 60,
                }
            ],
        }
        for name, when in done.items()
    ]
    return [{"name": "collectSell", "phases": phases}]


def asset(world: World, ship: str) -> Object:
    """A ship as the sample has it."""
    url = f"http://127.0.0.1:{world.port}/my/ships/{ship}"
    liquidate = {"name": "liquidate", "program": {"command": world.python("liquidate")}, "retries": 3}
    phases = [{"name": "liquidate", "tasks": [liquidate]}]
    return {
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "Asset",
        "metadata": {"name": ship},
        "spec": {
            "type": "Ship",
            "holdings": {
                "everySeconds": PROBE_SECONDS,
                "probe": {"http": {"url": url}, "path": "body.data.cargo.inventory"},
            },
            "compensation": {
                "template": {
                    "inputs": {"world": f"http://127.0.0.1:{world.port}"},
                    "steps": [{"name": "liquidate", "phases": phases}],
                }
            },
        },
    }


def names_of(world: World) -> list[str]:
    """Jobs by name, those that come first at each ship before the others."""
    return [f"{ship}-{job}" for job in "abcdefgh"[:JOBS_PER_SHIP] for ship in world.ships]


def job(world: World, name: str, worker: Worker) -> Object:
    """One job of a ship."""
    return {
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "PhasedJob",
        "metadata": {"name": name},
        "spec": {
            "assets": [{"name": "ship", "ref": name.rpartition("-")[0]}],
            "inputs": inputs(world),
            "steps": steps(worker),
        },
    }


def batch(world: World, worker: Worker) -> Object:
    """All jobs in one batch."""
    names = names_of(world)
    entries = [{"name": n, "assets": [{"name": "ship", "ref": n.rpartition("-")[0]}]} for n in names]
    return {
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "JobBatch",
        "metadata": {"name": "fleet"},
        "spec": {
            "parallelism": len(names),
            "jobs": entries,
            "template": {"inputs": inputs(world), "steps": steps(worker)},
        },
    }


def completed(obj: Object | None) -> bool:
    return obj is not None and (obj.get("status") or {}).get("phase") == "Completed"


def free(obj: Object | None) -> bool:
    return obj is not None and (obj.get("status") or {}).get("state") == "Free"
