"""Http: carries out what trade_manager decided, on paper. A trade is closed once, whatever is restarted."""

from __future__ import annotations

from service import Service

REMEMBERED = 100  # ids of closed trades; open ones are far fewer


def work(service: Service) -> dict:
    """Close what is to be closed and isn't yet."""
    decisions = service.ask("trade_manager").get("state", {}).get("decisions", [])
    closed = service.state.get("closed", [])
    new = sorted({one["id"] for one in decisions if one["do"] == "close"}.difference(closed))
    for trade in new:
        service.log(f"closed trade {trade}")
    return {"orders": service.state.get("orders", 0) + len(new), "closed": (closed + new)[-REMEMBERED:]}


if __name__ == "__main__":
    Service().run(work)
