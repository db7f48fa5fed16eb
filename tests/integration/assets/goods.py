"""Ships, factories, and the jobs that move goods between them, as the samples declare them."""

from __future__ import annotations

import os
import sys
from typing import Any

from tests.support.stage import Object
from tests.support.world import HERE

PYTHON = [os.path.realpath(sys.executable), "-S", "-I"]
BOUGHT = "assets.ship.holdings.exists(h, h.symbol == inputs.symbol && h.units >= inputs.units)"
SOLD = "!assets.ship.holdings.exists(h, h.symbol == inputs.symbol)"
LIQUIDATED = "!assets.asset.holdings.exists(h, h.symbol == inputs.symbol)"
QUIET = 3600
"""Seconds between looks that no decision waits for: what a test sees then was looked at for a reason."""


def task(name: str, word: str = "", **more: Any) -> Object:
    """A task that runs the sample's worker, and is tried again soon."""
    program = {
        "command": [*PYTHON, str(HERE / "worker.py"), word or name],
        "terminationGracePeriodSeconds": 2,
    }
    again = {"retries": 20, "initialBackoffSeconds": 0.05, "maxBackoffSeconds": 0.4}
    return {"name": name, "program": program, "timeoutSeconds": 60, **again, **more}


def phase(name: str, complete_when: str | None = None, **more: Any) -> Object:
    """A phase of one task of that name."""
    found = {"name": name, "tasks": [task(name, **more)]}
    return found if complete_when is None else {**found, "completeWhen": complete_when}


def probe(url: str, path: str = "body.data.cargo.inventory", **more: Any) -> Object:
    return {"probe": {"http": {"url": url, **more}, "path": path}, "everySeconds": QUIET}


def compensation(world: str, *, retries: int = 20, jettison: bool = False, **more: Any) -> Object:
    """LIQUIDATE, a job per good."""
    steps = [{"name": "liquidate", "phases": [phase("liquidate", LIQUIDATED, retries=retries)]}]
    template = {"inputs": {"world": world, "jettison": jettison}, "steps": steps}
    return {"initialBackoffSeconds": 0.1, "maxBackoffSeconds": 1, "template": template, **more}


def ship(world: str, name: str, **changes: Any) -> Object:
    """Spec of a ship; a change to None takes that part away."""
    spec = {
        "type": "Ship",
        "holdings": probe(f"{world}/my/ships/{name}"),
        "compensation": compensation(world),
        **changes,
    }
    return {key: value for key, value in spec.items() if value is not None}


def factory(world: str, name: str, every: int = QUIET) -> Object:
    """Spec of a factory."""
    accepts = {**probe(f"{world}/factories/{name}", "body.data.accepts"), "everySeconds": every}
    return {"type": "Factory", "accepts": accepts}


def collect_sell(
    world: str, ref: str, good: str = "IRON_ORE", units: int = 40, *, ask: bool = False, **more: Any
) -> Object:
    """COLLECT_SELL; with `ask` it waits for a person in between, with its cargo aboard."""
    collect, sell = phase("collect", BOUGHT), phase("sell", SOLD)
    steps: list[Object] = [{"name": "collectSell", "phases": [collect, sell]}]
    if ask:
        action = {"title": "Sell now?", "schema": {"type": "object"}}
        steps = [
            {"name": "first", "phases": [collect]},
            {"name": "go", "action": action},
            {"name": "second", "phases": [sell]},
        ]
    return {
        "inputs": {"world": world, "symbol": good, "units": units},
        "assets": [{"name": "ship", "ref": ref}],
        "steps": steps,
        **more,
    }


def acquire_deliver(
    world: str, ref: str, good: str = "QUARTZ_SAND", units: int = 40, to: str = "factory-1", **more: Any
) -> Object:
    """ACQUIRE_DELIVER."""
    phases = [phase("acquire", BOUGHT), phase("deliver")]
    return {
        "inputs": {"world": world, "symbol": good, "units": units},
        "assets": [{"name": "ship", "ref": ref}, {"name": "factory", "ref": to, "mode": "Shared"}],
        "steps": [{"name": "acquireDeliver", "phases": phases}],
        **more,
    }
