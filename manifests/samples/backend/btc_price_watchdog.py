"""Background: watches the price of BTC, here a random walk that goes on where the process before stopped.

It listens on its port so that others can read the price, but it counts as up as long as it lives.
"""

from __future__ import annotations

import random

from service import Service

FIRST = 64_000.0  # USD
STEP = 0.002  # largest move per beat, as a fraction


def work(service: Service) -> dict:
    """Return the next price and the move since the last one."""
    before = service.state.get("price", FIRST)
    move = random.uniform(-STEP, STEP)  # noqa: S311 (a price, no password)
    return {"price": round(before * (1 + move), 2), "movePercent": round(100 * move, 3)}


if __name__ == "__main__":
    Service().run(work, heartbeat=True)
