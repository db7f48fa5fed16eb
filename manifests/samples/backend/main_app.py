"""Http: what people look at; the others put together."""

from __future__ import annotations

from service import Service


def work(service: Service) -> dict:
    """Return one line on each of the three that trade."""
    managed = service.ask("trade_manager").get("state", {})
    watched = service.ask("active_trade_supervisor").get("state", {})
    executed = service.ask("trade_executor").get("state", {})
    return {"price": managed.get("price"), "held": watched.get("held"), "orders": executed.get("orders")}


if __name__ == "__main__":
    Service().run(work)
