"""A job with assets: what it sees of them, on top of everything else that a decision looks at."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.sim.jobs.pure import UID, Pure, a_job, task

from mainstay.api.holdings import Holding
from mainstay.core import plan as p
from mainstay.core.job.snapshot import AssetView, JobSnapshot

IRON = (Holding(symbol="IRON_ORE", units=40),)
FULL = "assets.ship.holdings.exists(h, h.symbol == 'IRON_ORE' && h.units >= 40)"
SHIP = {"name": "ship", "ref": "ship-1"}
FACTORY = {"name": "factory", "ref": "factory-1", "mode": "Shared"}


def spec(*phases: dict[str, Any], assets: Any = (SHIP, FACTORY), **fields: Any) -> dict[str, Any]:
    """A step of these phases."""
    return {"steps": [{"name": "step", "phases": list(phases)}], "assets": list(assets), **fields}


def phase(name: str, *tasks: Any, **fields: Any) -> dict[str, Any]:
    return {"name": name, "tasks": [task(t) if isinstance(t, str) else t for t in tasks], **fields}


def ship(**changes: Any) -> AssetView:
    """The job's own, with a probe, not looked at yet."""
    said: dict[str, Any] = {
        "ref": "ship-1",
        "exists": True,
        "uid": "uid-of-ship",
        "type": "Ship",
        "state": "Held",
        "mine": True,
        "holder": "job job",
        "probed": True,
    }
    return AssetView(**{**said, **changes})


def factory(**changes: Any) -> AssetView:
    said: dict[str, Any] = {
        "ref": "factory-1",
        "exists": True,
        "uid": "uid-of-factory",
        "type": "Factory",
        "state": "Free",
    }
    return AssetView(**{**said, **changes})


@dataclass
class AssetWorld(Pure):
    """Looks are answered when the test says so."""

    views: dict[str, AssetView] = field(default_factory=lambda: {"ship": ship(), "factory": factory()})
    orphaned: str = ""
    asked: list[tuple[tuple[str, ...], str]] = field(default_factory=list)

    @classmethod
    def made(cls, spec: dict[str, Any], **job: Any) -> AssetWorld:
        return cls(a_job(spec, **job))

    def snapshot(self, **changes: Any) -> JobSnapshot:
        views = {claim.name: self.views[claim.name] for claim in self.job.spec.assets}
        return super().snapshot(**{"assets": views, "orphaned": self.orphaned, **changes})

    def act(self, action: p.Action) -> None:
        if isinstance(action, p.ObserveAssets):
            self.asked.append((action.refs, action.purpose))
            for name, view in self.views.items():
                if view.ref in action.refs:
                    self.views[name] = replace(view, asking=view.asking | {action.purpose})
            return
        super().act(action)

    def change(self, name: str, **changes: Any) -> None:
        self.views[name] = replace(self.views[name], **changes)

    def answer(self, holdings: tuple[Holding, ...] = (), name: str = "ship") -> None:
        """The look that is under way ends."""
        view = self.views[name]
        assert view.asking, "nobody asked"
        self.change(
            name, holdings=holdings, purposes=view.purposes | view.asking, asking=frozenset(), error=""
        )

    def fails(self, words: str = "no answer", seconds: float = 4.0) -> None:
        """The look that is under way fails; what was seen before is good for nothing."""
        changes = {
            "error": words,
            "next_look_seconds": seconds,
            "purposes": frozenset(),
            "asking": frozenset(),
        }
        self.change("ship", **changes)

    def report_id(self, name: str) -> str:
        return f"{UID}/{name}/{self.tasks()[name].attempt}"
