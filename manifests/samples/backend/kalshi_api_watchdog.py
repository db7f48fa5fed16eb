"""Background: watches whether the exchange's API answers, here always. It has a port, and listens on none."""

from __future__ import annotations

from service import Service


def work(service: Service) -> dict:
    """Count the checks; the count outlives restarts."""
    return {"checks": service.state.get("checks", 0) + 1, "api": "answers"}


if __name__ == "__main__":
    Service().run(work, listen=False, heartbeat=True)
