"""Background: polls the database for open trades, here made from the number of the poll.

It listens on its port so that trade_manager can read them.
"""

from __future__ import annotations

from service import Service

MOST = 4  # open trades at once
POLLS = 3  # until there is a new one
STRIKES = (63_500, 64_000, 64_500, 65_000)  # USD


def work(service: Service) -> dict:
    """Return the trades that are open after this poll. Polls, and so the ids, go on after a restart."""
    polls = service.state.get("polls", 0) + 1
    newest = polls // POLLS + 1
    ids = range(max(1, newest - MOST + 1), newest + 1)
    return {"polls": polls, "trades": [{"id": one, "strike": STRIKES[one % len(STRIKES)]} for one in ids]}


if __name__ == "__main__":
    Service().run(work, heartbeat=True)
