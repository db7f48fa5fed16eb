"""Assets and jobs as people write them: ships, factories, and what is done with them."""

from __future__ import annotations

from typing import Any

SOLD = "!assets.ship.holdings.exists(h, h.symbol == inputs.symbol)"
BOUGHT = "assets.ship.holdings.exists(h, h.symbol == inputs.symbol && h.units >= inputs.units)"


def probe(name: str, **fields: Any) -> dict[str, Any]:
    return {"http": {"url": f"http://fleet/{name}"}, **fields}


def phase(name: str, **fields: Any) -> dict[str, Any]:
    task = {"name": name, "program": {"command": ["worker", name]}}
    for field in ("retries", "initialBackoffSeconds", "maxBackoffSeconds"):
        if field in fields:
            task[field] = fields.pop(field)
    return {"name": name, "tasks": [task], **fields}


def ship(name: str, *, compensation: bool = True, **more: Any) -> dict[str, Any]:
    """The spec of a ship. `more`: fields of its compensation."""
    spec: dict[str, Any] = {
        "type": "Ship",
        "holdings": {"probe": probe(name, path="body.cargo"), "everySeconds": 30},
    }
    if compensation:
        spec["compensation"] = {
            "template": {"steps": [{"name": "liquidation", "phases": [phase("liquidate")]}]},
            "initialBackoffSeconds": 2,
            "maxBackoffSeconds": 8,
            **more,
        }
    return spec


def factory(name: str) -> dict[str, Any]:
    return {"type": "Factory", "accepts": {"probe": probe(name), "everySeconds": 600}}


def collect_sell(ref: str, symbol: str = "IRON", units: int = 40, **spec: Any) -> dict[str, Any]:
    """Buys a good, and sells it. `mode`, `others` (more ships, in this order, before its own) and `retries` are taken out of `spec`."""
    return _job(
        ref,
        symbol,
        units,
        {"name": "collect", "completeWhen": BOUGHT},
        {"name": "sell", "completeWhen": SOLD},
        **spec,
    )


def acquire_deliver(
    ref: str, plant: str, symbol: str = "SAND", units: int = 20, **spec: Any
) -> dict[str, Any]:
    """Buys a good, and delivers it to a factory that it does not claim."""
    made = _job(ref, symbol, units, {"name": "acquire", "completeWhen": BOUGHT}, {"name": "deliver"}, **spec)
    made["assets"].append({"name": "factory", "ref": plant, "mode": "Shared"})
    return made


def _job(ref: str, symbol: str, units: int, *phases: dict[str, Any], **spec: Any) -> dict[str, Any]:
    mode, others, retries = spec.pop("mode", None), spec.pop("others", ()), spec.pop("retries", 0)
    own = {"name": "ship", "ref": ref} | ({"mode": mode} if mode else {})
    claims = [{"name": f"other{n}", "ref": other} for n, other in enumerate(others)]
    backoff = {"retries": retries, "initialBackoffSeconds": 1, "maxBackoffSeconds": 2}
    return {
        "assets": [*claims, own],
        "inputs": {"symbol": symbol, "units": units},
        "steps": [{"name": "work", "phases": [phase(**one, **backoff) for one in phases]}],
        **spec,
    }
