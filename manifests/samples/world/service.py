"""What the world does when it is asked: the one place that writes the ledger."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from audit import audit
from catalog import MARKETS, market
from controls import Controls, Waiting
from ledger import NAME, Ledger, read
from state import Refused, World

SHIPS_LIMIT = 10_000
CAPACITY = 60  # units, of a ship


class Dropped(Exception):  # noqa: N818 (nobody is there to be answered)
    """The client went away before its request took effect."""


class Service:
    """Ledger, world and controls of one directory. Any thread may call anything."""

    def __init__(self, directory: str, ships: int, controls: Controls) -> None:
        """Go on where the file ends, with at least so many ships. Raises OSError, ValueError, KeyError, TypeError."""
        self._directory = directory
        self._lock = threading.Lock()
        self._ledger = Ledger(directory)
        self.controls = controls
        self.world = World(self._ledger.replay)
        self._ledger.replay = []
        if len(self.world.ships) < ships:
            self._write(self._line("ships", ships=ships, capacity=CAPACITY))

    # --- operations

    def operate(
        self, operation: str, symbol: str, body: dict, is_gone: Callable[[], bool]
    ) -> tuple[dict, bool]:
        """Do it once for a requestId; return the answer, and whether it is one that was given before.

        When this returns, the line is on disk. Raises Refused, and Dropped.
        """
        request = body.get("requestId")
        if request is not None and not (isinstance(request, str) and 0 < len(request) <= 200):
            raise Refused(422, "requestId is a word of at most 200 characters")
        with self._lock:
            answer, line = self._look(operation, symbol, body, request)
        if answer is not None:
            return answer, True
        if line is not None:
            if not self.controls.wait(Waiting(operation, "before", symbol, request, None), is_gone):
                raise Dropped
            with self._lock:  # while it waited, the world went on
                answer, line = self._look(operation, symbol, body, request)
                if answer is not None:
                    return answer, True
                if line is not None:
                    answer = self._write(line)
        if line is None:
            return {"nav": self.ship(symbol)["nav"]}, False
        self.controls.wait(Waiting(operation, "after", symbol, request, line["id"]), is_gone)
        return answer or {}, False

    def _look(
        self, operation: str, symbol: str, body: dict, request: str | None
    ) -> tuple[dict | None, dict | None]:
        """What was answered before; else the line, None where nothing is to be done."""
        ship = self.world.ship(symbol)
        if request is not None:
            answer = self.world.answered(request, operation, ship, body)
            if answer is not None:
                return answer, None
        line = self.world.propose(operation, ship, body, time.time())
        if line is not None and request is not None:
            line["requestId"] = request
        return None, line

    def _line(self, kind: str, **more: object) -> dict:
        return {"id": self.world.next_id, "time": time.time(), "kind": kind, **more}

    def _write(self, line: dict) -> dict:
        self._ledger.append(line)
        return self.world.take(line)

    # --- what there is

    def agent(self) -> dict:
        """Return the credits."""
        with self._lock:
            return {"symbol": "MAINSTAY", "credits": self.world.credits}

    def ships(self) -> list[dict]:
        """Return all ships."""
        with self._lock:
            return [ship.show() for ship in self.world.ships.values()]

    def ship(self, symbol: str) -> dict:
        """Return one. Raises Refused."""
        with self._lock:
            return self.world.ship(symbol).show()

    def factories(self) -> list[dict]:
        """Return all factories."""
        with self._lock:
            return [factory.show(time.time()) for factory in self.world.factories.values()]

    def factory(self, symbol: str) -> dict:
        """Return one. Raises Refused."""
        with self._lock:
            return self.world.factory(symbol).show(time.time())

    def markets(self) -> list[dict]:
        """Return all markets."""
        return [market(waypoint) for waypoint in MARKETS]

    def market(self, waypoint: str) -> dict:
        """Return one. Raises Refused."""
        if waypoint not in MARKETS:
            raise Refused(404, f"there is no market at {waypoint}, only at {', '.join(MARKETS)}")
        return market(waypoint)

    def ledger(self, ship: str | None, request: str | None) -> list[dict]:
        """Return every trade since the world began, in order; of one ship, or whose requestId begins like this."""
        with self._lock:
            trades = list(self.world.trades)
        return [
            line
            for line in trades
            if ship in (None, line["ship"])
            and (request is None or line.get("requestId", "").startswith(request))
        ]

    def audit(self) -> dict:
        """Return what the file says against what the ships have: see audit.py."""
        with self._lock:
            lines, _ = read(os.path.join(self._directory, NAME))
            return audit(lines, self.world)

    # --- for tests and players

    def accept(self, factory: str, body: dict) -> dict:
        """Let a factory accept {"accepts": [symbols]} from now on. Raises Refused."""
        accepts = body.get("accepts")
        if not isinstance(accepts, list) or not all(isinstance(one, str) and one for one in accepts):
            raise Refused(422, "accepts is a list of symbols")
        with self._lock:
            self.world.factory(factory)
            return self._write(self._line("accepts", factory=factory, accepts=accepts))

    def begin(self, body: dict) -> dict:
        """Begin anew with {"ships": as many as now, "capacity": 60}. What was before stays in the file. Raises Refused."""
        ships, capacity = body.get("ships", len(self.world.ships)), body.get("capacity", CAPACITY)
        if type(ships) is not int or not 0 <= ships <= SHIPS_LIMIT:
            raise Refused(422, f"ships is a whole number, at most {SHIPS_LIMIT}")
        if type(capacity) is not int or capacity < 1:
            raise Refused(422, "capacity is a whole number above 0")
        with self._lock:
            return self._write(self._line("begin", ships=ships, capacity=capacity))
