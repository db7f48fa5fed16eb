"""What the world consists of, and never changes: places, prices, factories.

Prices are whole credits for one unit. A market sells what has a `purchasePrice` and buys what has a `sellPrice`.
"""

from __future__ import annotations

SYSTEM = "X1-DF55"
HARBOUR = f"{SYSTEM}-A1"  # where ships are when the world begins

MARKETS: dict[str, dict[str, dict[str, int]]] = {
    HARBOUR: {
        "IRON_ORE": {"purchasePrice": 42},
        "COPPER_ORE": {"purchasePrice": 51},
        "QUARTZ_SAND": {"purchasePrice": 18},
    },
    f"{SYSTEM}-B2": {
        "IRON_ORE": {"purchasePrice": 74, "sellPrice": 68},
        "COPPER_ORE": {"purchasePrice": 90, "sellPrice": 83},
        "COPPER": {"purchasePrice": 160},
        "ICE_WATER": {"sellPrice": 16},
    },
    f"{SYSTEM}-C3": {
        "IRON_ORE": {"sellPrice": 61},
        "COPPER": {"purchasePrice": 178, "sellPrice": 171},
        "ICE_WATER": {"purchasePrice": 9, "sellPrice": 7},
    },
}
"""Waypoint → good → prices. No market buys QUARTZ_SAND: it is for factories."""

FACTORIES: dict[str, dict] = {
    "factory-1": {"waypoint": f"{SYSTEM}-D4", "accepts": ["IRON_ORE", "QUARTZ_SAND"], "produces": "STEEL"},
    "factory-2": {"waypoint": f"{SYSTEM}-E5", "accepts": ["COPPER", "ICE_WATER"], "produces": "ELECTRONICS"},
}
CONSUMED_PER_MINUTE = 6  # units of each accepted good, while there are any
INPUTS_PER_PRODUCT = 2  # units consumed, of whichever good
SUPPLY_LEVELS = ((0, "SCARCE"), (10, "LIMITED"), (30, "MODERATE"), (60, "HIGH"), (100, "ABUNDANT"))
"""From so many units on, it is called that."""

WAYPOINTS = (*MARKETS, *(one["waypoint"] for one in FACTORIES.values()))


def market(waypoint: str) -> dict:
    """Return a market as it is shown. Raises KeyError where there is none."""
    goods = MARKETS[waypoint]
    return {
        "symbol": waypoint,
        "exports": [{"symbol": good} for good, price in goods.items() if "purchasePrice" in price],
        "imports": [{"symbol": good} for good, price in goods.items() if "sellPrice" in price],
        "tradeGoods": [{"symbol": good, **price} for good, price in goods.items()],
    }


def level(units: int) -> str:
    """Return how a supply of so many units is called."""
    return next(name for least, name in reversed(SUPPLY_LEVELS) if units >= least)
