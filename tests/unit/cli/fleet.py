"""Ships, a factory and the jobs that want them, on a cluster of a few objects."""

from __future__ import annotations

from typing import Any

from tests.unit.cli.cluster import Cluster

from mainstay.shell.kube import ASSETS, BATCHES, JOBS, path

SINCE = "2026-11-21T10:00:00Z"
TEMPLATE = {"steps": [{"name": "sell", "task": {"program": {"command": ["sell"]}}}]}
COMPENSATED = {
    "type": "Ship",
    "holdings": {"probe": {}, "everySeconds": 15},
    "compensation": {"template": TEMPLATE},
}
IRON = [{"symbol": "IRON_ORE", "units": 40}]


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


SEEN = condition("HoldingsObserved", "True", "Observed", "asked 3 s ago")
READY = condition("Ready", "True", "Held", "job/mine has it")


def holder(name: str, kind: str = "PhasedJob") -> dict[str, Any]:
    return {"kind": kind, "name": name, "uid": f"uid-{name}", "since": SINCE}


def iron(summary: str = "IRON_ORE 40") -> dict[str, Any]:
    return {"holdings": IRON, "summary": summary}


def claim(*refs: str, mode: str = "Exclusive") -> list[dict[str, str]]:
    return [{"name": ref.replace("-", ""), "ref": ref, "mode": mode} for ref in refs]


class Fleet(Cluster):
    """ship-1 is mine and full, three jobs want it; ship-2 is free; factory-1 took deliveries."""

    def __init__(self) -> None:
        super().__init__()
        self.ship("ship-1", "Held", holder("mine"), **iron())
        self.ship("ship-2", "Free")
        self.ship(
            "factory-1",
            "Free",
            spec={"type": "Factory", "accepts": {"probe": {}}},
            accepts=["IRON_ORE", "COPPER_ORE"],
            delivered=[{"symbol": "IRON_ORE", "units": 65, "count": 2}],
            deliveries=[
                {
                    "symbol": "IRON_ORE",
                    "units": 25,
                    "accepted": True,
                    "job": "first",
                    "task": "deliver",
                    "time": SINCE,
                },
                {
                    "symbol": "GOLD",
                    "units": 40,
                    "accepted": False,
                    "job": "second",
                    "task": "deliver",
                    "time": SINCE,
                },
            ],
        )
        self.job("mine", "InProgress", claim("ship-1"), born="2026-11-20T00:00:00Z")
        self.job("late", "Pending", claim("ship-1", "ship-2"), born="2026-11-20T03:00:00Z")
        self.job("early", "Pending", claim("ship-1", "ghost"), born="2026-11-20T02:00:00Z")
        self.job("looks", "InProgress", claim("ship-1", mode="Shared"))
        self.job("done", "Completed", claim("ship-1"))
        self.job("elsewhere", "Pending", claim("ship-1"), namespace="other")

    def ship(
        self,
        name: str,
        state: str,
        by: dict[str, Any] | None = None,
        spec: Any = None,
        *told: Any,
        **status: Any,
    ) -> None:
        held = {"holder": by} if by else {}
        conditions = told or (READY, SEEN)
        self.add(
            ASSETS, name, spec or COMPENSATED, state=state, conditions=list(conditions), **held, **status
        )

    def job(
        self,
        name: str,
        phase: str,
        wanted: list[dict[str, str]],
        *told: Any,
        born: str = "2026-11-20T09:00:00Z",
        namespace: str = "default",
        **status: Any,
    ) -> None:
        spec = {"steps": [{"name": "fly", "task": {}}], "assets": wanted}
        self.add(JOBS, name, spec, namespace, phase=phase, conditions=list(told), **status)
        self.objects[path(JOBS, namespace, name)]["metadata"]["creationTimestamp"] = born

    def batch(self, name: str, phase: str, *told: Any, **status: Any) -> None:
        spec = {"template": TEMPLATE, "jobs": [{"name": "iron-ore"}]}
        self.add(BATCHES, name, spec, phase=phase, conditions=list(told), **status)
