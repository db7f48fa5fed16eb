"""The world as its ledger tells it: ships, factories, requests that were answered.

`propose` says what line an operation would be, and changes nothing; `take` makes it so. A server that starts takes all
lines of the file, one that runs takes each right after it was written: there is no other way to change anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from catalog import (
    CONSUMED_PER_MINUTE,
    FACTORIES,
    HARBOUR,
    INPUTS_PER_PRODUCT,
    MARKETS,
    SYSTEM,
    WAYPOINTS,
    level,
)

TRADES = ("purchase", "sale", "delivery", "jettison")
"""Kinds of lines that change a cargo: all that GET /ledger shows."""
KIND_OF = {"purchase": "purchase", "sell": "sale", "deliver": "delivery", "jettison": "jettison"}
"""Operation → kind of its line."""
CREDITS = 1_000_000  # at the beginning; may become negative, as this world is about goods
UNITS_LIMIT = 1_000_000


class Refused(Exception):  # noqa: N818 (an answer, not a malfunction)
    """The world says no, with an HTTP status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class Ship:
    """Where it is and what is in it."""

    symbol: str
    capacity: int
    waypoint: str = HARBOUR
    cargo: dict[str, int] = field(default_factory=dict)
    version: int = 0  # raised whenever the cargo changes

    def show_cargo(self) -> dict:
        """Return the cargo as it is shown."""
        return {
            "capacity": self.capacity,
            "units": sum(self.cargo.values()),
            "version": self.version,
            "inventory": [{"symbol": good, "units": units} for good, units in sorted(self.cargo.items())],
        }

    def show(self) -> dict:
        """Return the ship as it is shown."""
        nav = {"systemSymbol": SYSTEM, "waypointSymbol": self.waypoint, "status": "DOCKED"}
        return {"symbol": self.symbol, "nav": nav, "cargo": self.show_cargo()}


@dataclass
class Factory:
    """What it accepts, and what was delivered to it. Supplies dwindle with time alone, so a replay finds the same."""

    symbol: str
    accepts: list[str]
    delivered: dict[str, int] = field(default_factory=dict)
    used: float = 0.0
    supply: dict[str, float] = field(default_factory=dict)
    seen: float = 0.0  # Unix time up to which supplies are worked out

    def deliver(self, good: str, units: int, now: float) -> None:
        """Take it in. What is not accepted is stored, and never used."""
        self.pass_time(now)
        self.delivered[good] = self.delivered.get(good, 0) + units
        self.supply[good] = self.supply.get(good, 0.0) + units

    def pass_time(self, now: float) -> None:
        """Use up what was used up until now (Unix time)."""
        most = max(0.0, now - self.seen) * CONSUMED_PER_MINUTE / 60
        for good in self.supply:
            if good in self.accepts:
                gone = min(most, self.supply[good])
                self.supply[good] -= gone
                self.used += gone
        self.seen = max(self.seen, now)

    def show(self, now: float) -> dict:
        """Return the factory as it is shown."""
        self.pass_time(now)
        supply = {good: int(self.supply.get(good, 0)) for good in (*self.accepts, *self.supply)}
        made = int(self.used / INPUTS_PER_PRODUCT)
        return {
            "symbol": self.symbol,
            "waypointSymbol": FACTORIES[self.symbol]["waypoint"],
            "accepts": self.accepts,
            "supply": [{"symbol": good, "units": n, "level": level(n)} for good, n in sorted(supply.items())],
            "delivered": [{"symbol": good, "units": n} for good, n in sorted(self.delivered.items())],
            "produces": [{"symbol": FACTORIES[self.symbol]["produces"], "units": made}],
        }


class World:
    """Everything that the lines so far come to."""

    def __init__(self, lines: Iterable[dict] = ()) -> None:
        """Replay. Raises KeyError, TypeError and ValueError for lines that no world has written."""
        self.next_id = 1
        self._empty()
        for line in lines:
            self.take(line)

    def _empty(self) -> None:
        self.ships: dict[str, Ship] = {}
        self.factories = {name: Factory(name, list(one["accepts"])) for name, one in FACTORIES.items()}
        self.trades: list[dict] = []
        self.requests: dict[str, tuple[dict, dict]] = {}  # requestId → (its line, its answer)
        self.credits = CREDITS

    def ship(self, symbol: str) -> Ship:
        """Return it. Raises Refused."""
        if symbol not in self.ships:
            raise Refused(404, f"there is no ship {symbol}; GET /my/ships lists those that are")
        return self.ships[symbol]

    def factory(self, symbol: str) -> Factory:
        """Return it. Raises Refused."""
        if symbol not in self.factories:
            raise Refused(404, f"there is no factory {symbol}, only {', '.join(self.factories)}")
        return self.factories[symbol]

    # --- what an operation would be

    def propose(self, operation: str, ship: Ship, body: dict, now: float) -> dict | None:
        """Return the line, None where nothing is to be done. Raises Refused; changes nothing."""
        line = {"id": self.next_id, "time": now, "ship": ship.symbol}
        if operation == "navigate":
            to = body.get("waypointSymbol")
            if to not in WAYPOINTS:
                raise Refused(422, f"waypointSymbol {to!r} is none of {', '.join(WAYPOINTS)}")
            return None if to == ship.waypoint else {**line, "kind": "navigation", "at": to}
        good, units = body.get("symbol"), body.get("units")
        if not isinstance(good, str) or not good or type(units) is not int or not 0 < units <= UNITS_LIMIT:
            raise Refused(422, "symbol must be a word, and units a whole number above 0")
        line |= {"kind": KIND_OF[operation], "symbol": good, "units": units, "at": ship.waypoint}
        held = ship.cargo.get(good, 0)
        if operation == "purchase":
            room = ship.capacity - sum(ship.cargo.values())
            line["price"] = self._price(ship, good, "purchasePrice", "sells")
            if units > room:
                raise Refused(422, f"{ship.symbol} has room for {room} units, not for {units}")
            return {**line, "held": held + units}
        if operation == "sell":
            line["price"] = self._price(ship, good, "sellPrice", "buys")
        if operation == "deliver":
            line |= self._delivery(ship, good, body.get("factory"))
        if units > held:
            raise Refused(422, f"{ship.symbol} has {held} units of {good}, not {units}")
        return {**line, "held": held - units}

    def _price(self, ship: Ship, good: str, which: str, does: str) -> int:
        price = MARKETS.get(ship.waypoint, {}).get(good, {}).get(which)
        if price is None:
            raise Refused(422, f"nobody at {ship.waypoint}, where {ship.symbol} is, {does} {good}")
        return price

    def _delivery(self, ship: Ship, good: str, name: object) -> dict:
        factory = self.factory(str(name))
        where = FACTORIES[factory.symbol]["waypoint"]
        if ship.waypoint != where:
            raise Refused(422, f"{factory.symbol} is at {where}, and {ship.symbol} at {ship.waypoint}")
        return {"factory": factory.symbol, "accepted": good in factory.accepts}

    # --- what it is once its line is written

    def take(self, line: dict) -> dict:
        """Make a line so, and return what whoever asked for it is answered."""
        self.next_id = line["id"] + 1
        kind = line["kind"]
        if kind == "begin":
            self._empty()
        if kind in ("begin", "ships"):
            for number in range(len(self.ships) + 1, line["ships"] + 1):
                self.ships[f"ship-{number}"] = Ship(f"ship-{number}", line["capacity"])
            return {"ships": len(self.ships)}
        if kind == "accepts":
            self.factories[line["factory"]].pass_time(line["time"])
            self.factories[line["factory"]].accepts = list(line["accepts"])
            return self.factories[line["factory"]].show(line["time"])
        ship = self.ships[line["ship"]]
        if kind == "navigation":
            ship.waypoint = line["at"]
            return {"nav": ship.show()["nav"]}
        return self._trade(line, ship)

    def _trade(self, line: dict, ship: Ship) -> dict:
        sign = 1 if line["kind"] == "purchase" else -1
        good, units = line["symbol"], line["units"]
        ship.cargo[good] = ship.cargo.get(good, 0) + sign * units
        if not ship.cargo[good]:
            del ship.cargo[good]
        ship.version += 1
        self.credits -= sign * units * line.get("price", 0)
        if line["kind"] == "delivery":
            self.factories[line["factory"]].deliver(good, units, line["time"])
        self.trades.append(line)
        answer = {
            "agent": {"credits": self.credits},
            "cargo": ship.show_cargo(),
            "transaction": {**line, "totalPrice": units * line.get("price", 0)},
        }
        if "requestId" in line:
            self.requests[line["requestId"]] = (line, answer)
        return answer

    def answered(self, request: str, operation: str, ship: Ship, body: dict) -> dict | None:
        """Return the answer that this request had before; None if it is new. Raises Refused if it was another one."""
        if request not in self.requests:
            return None
        line, answer = self.requests[request]
        if (line["kind"], line["ship"], line["symbol"]) != (
            KIND_OF[operation],
            ship.symbol,
            body.get("symbol"),
        ):
            raise Refused(
                409, f"requestId {request} was used for {line['kind']} {line['id']}, which is another"
            )
        return answer
