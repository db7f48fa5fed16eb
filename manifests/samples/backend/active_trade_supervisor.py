"""Http: keeps an eye on the trades that are held."""

from __future__ import annotations

from service import Service


def work(service: Service) -> dict:
    """Return the trades that are held, and the price they are watched at."""
    managed = service.ask("trade_manager").get("state", {})
    executed = service.ask("trade_executor").get("state", {})
    held = [one["id"] for one in managed.get("decisions", []) if one["do"] == "hold"]
    return {"price": managed.get("price"), "held": held, "orders": executed.get("orders")}


if __name__ == "__main__":
    Service().run(work)
