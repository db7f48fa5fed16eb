"""What tests and players do to the world: make it slow, make it fail, and stop it exactly before or after a line.

All of it is in memory, and gone when the server is: a world that begins anew is quick and well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

OPERATIONS = ("navigate", "purchase", "sell", "deliver", "jettison")
READS = ("ship", "cargo", "factory", "market")
"""GET /my/ships/{s}; the same and its /cargo; GET /factories/{f}; markets."""
POINTS = ("before", "after")
LATENCY_LIMIT = 600  # seconds


class Invalid(Exception):  # noqa: N818 (an answer, not a malfunction)
    """What was asked for is nothing that can be set."""


@dataclass
class Failure:
    """Some requests are answered with an error, and do nothing."""

    operation: str
    status: int
    times: int | None  # that are left; None: until told otherwise
    ship: str | None

    def show(self) -> dict:
        """Return it as it is shown."""
        return {"operation": self.operation, "status": self.status, "times": self.times, "ship": self.ship}


@dataclass
class Hold:
    """Where requests stop."""

    operation: str
    point: str
    ship: str | None
    late: bool


@dataclass
class Waiting:
    """A request that is stopped."""

    operation: str
    point: str
    ship: str
    request: str | None
    id: int | None  # of its line, once that is written


class Controls:
    """The settings, and the requests that wait. Any thread may call anything."""

    def __init__(self, latency: dict[str, float]) -> None:
        self._changed = threading.Condition()
        self._latency = latency
        self._failures: list[Failure] = []
        self._holds: list[Hold] = []
        self._waiting: list[Waiting] = []

    # --- to set. Each raises Invalid

    def set_latency(self, body: dict) -> dict:
        """Take {"seconds", "operation": all}; return the seconds of each operation."""
        seconds = body.get("seconds")
        if (
            not isinstance(seconds, (int, float))
            or isinstance(seconds, bool)
            or not 0 <= seconds <= LATENCY_LIMIT
        ):
            raise Invalid(f"seconds is a number from 0 to {LATENCY_LIMIT}")
        for operation in [_operation(body)] if "operation" in body else (*OPERATIONS, *READS):
            self._latency[operation] = float(seconds)
        return self.latency()

    def latency(self) -> dict:
        """Return operation → seconds, where there are any."""
        return {operation: seconds for operation, seconds in self._latency.items() if seconds}

    def add_failure(self, body: dict) -> list[dict]:
        """Take {"operation", "times": until told otherwise, "status": 503, "ship": any}; return all there are."""
        times, status = body.get("times"), body.get("status", 503)
        if times is not None and (type(times) is not int or times < 1):
            raise Invalid("times is a whole number above 0, or left out: until DELETE /admin/failures")
        if status not in range(400, 600):
            raise Invalid("status is an error's, 400 to 599")
        with self._changed:
            self._failures.append(Failure(_operation(body), status, times, _ship(body)))
        return self.failures()

    def failures(self) -> list[dict]:
        """Return those that are left."""
        with self._changed:
            return [failure.show() for failure in self._failures]

    def forget_failures(self) -> list[dict]:
        """Fail no more."""
        with self._changed:
            self._failures.clear()
        return []

    def hold(self, body: dict) -> list[dict]:
        """Take {"operation", "point", "ship": any, "late": false}; return all there are.

        What waits before its line, and whose client has gone, does nothing when it is let go. With `late` it is done
        all the same, as a request is that was on its way when its sender died.
        """
        operation = _operation(body)
        if operation not in OPERATIONS[1:]:
            raise Invalid(f"only these write a line that is worth it: {', '.join(OPERATIONS[1:])}")
        if body.get("point") not in POINTS:
            raise Invalid(f"point is one of {', '.join(POINTS)}")
        with self._changed:
            self._holds.append(Hold(operation, body["point"], _ship(body), body.get("late") is True))
        return self.holds()

    def holds(self) -> list[dict]:
        """Return where requests stop."""
        with self._changed:
            return [vars(hold) for hold in self._holds]

    def release(self) -> list[dict]:
        """Stop nothing more, and let go what waits."""
        with self._changed:
            self._holds.clear()
            self._changed.notify_all()
        return []

    def held(self) -> list[dict]:
        """Return the requests that wait."""
        with self._changed:
            return [vars(one) for one in self._waiting]

    # --- to obey

    def seconds(self, names: tuple[str, ...]) -> float:
        """How long a request that goes by these names shall take."""
        return max((self._latency.get(name, 0.0) for name in names), default=0.0)

    def failure(self, names: tuple[str, ...], ship: str | None) -> int | None:
        """Use up one failure of this request; return its status, None if there is none."""
        with self._changed:
            for failure in self._failures:
                if failure.operation in names and failure.ship in (None, ship):
                    if failure.times is not None:
                        failure.times -= 1
                        if not failure.times:
                            self._failures.remove(failure)
                    return failure.status
        return None

    def wait(self, waiting: Waiting, is_gone: Callable[[], bool]) -> bool:
        """Wait while there is such a hold. Return False if it must not go on: its client has gone."""
        with self._changed:
            hold = self._hold_of(waiting)
            if hold is None:
                return True
            self._waiting.append(waiting)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._hold_of(waiting) is None)
            self._waiting.remove(waiting)
        return hold.late or not is_gone()

    def _hold_of(self, waiting: Waiting) -> Hold | None:
        for hold in self._holds:
            if (hold.operation, hold.point) == (waiting.operation, waiting.point) and hold.ship in (
                None,
                waiting.ship,
            ):
                return hold
        return None


def _operation(body: dict) -> str:
    operation = body.get("operation")
    if operation not in (*OPERATIONS, *READS):
        raise Invalid(f"operation is one of {', '.join((*OPERATIONS, *READS))}")
    return operation


def _ship(body: dict) -> str | None:
    ship = body.get("ship")
    if ship is not None and not isinstance(ship, str):
        raise Invalid("ship is a ship's symbol, or left out: any")
    return ship
