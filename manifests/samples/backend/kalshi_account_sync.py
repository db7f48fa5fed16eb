"""Background: copies the account's balance from the exchange, here on paper. It has a port, and listens on none."""

from __future__ import annotations

from service import Service

FIRST = 10_000.0  # USD
FEE = 0.07  # USD per order


def work(service: Service) -> dict:
    """Return the balance after the fees of the orders so far."""
    before = service.state.get("orders", 0)
    orders = service.ask("trade_executor").get("state", {}).get("orders", before)
    return {
        "syncs": service.state.get("syncs", 0) + 1,
        "orders": orders,
        "balance": round(FIRST - FEE * orders, 2),
    }


if __name__ == "__main__":
    Service().run(work, listen=False, heartbeat=True)
