"""Http: decides what becomes of each open trade, by the strike and the present price."""

from __future__ import annotations

from service import Service


def work(service: Service) -> dict:
    """Return a decision per trade; none while the price or the trades aren't known."""
    price = service.ask("btc_price_watchdog").get("state", {}).get("price")
    trades = service.ask("db_poller").get("state", {}).get("trades", [])
    if price is None:
        return {"price": None, "decisions": []}
    decisions = [{"id": one["id"], "do": "hold" if price >= one["strike"] else "close"} for one in trades]
    return {"price": price, "decisions": decisions}


if __name__ == "__main__":
    Service().run(work)
