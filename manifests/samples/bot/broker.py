"""Where orders go: to an exchange, or, when none is configured, to a broker on paper with the same rules.

An order is a dictionary: clientOrderId, side (buy, sell), type (market, limit), quantity, price, candle. What a broker
answers adds status (open, filled, cancelled). A client-order id is decided before the order is first sent and
never used for another one, so that sending it again after a crash is safe: the same order comes back.

Two rules, for both: a market order is filled at its price, the close of its candle; an open limit order to sell
is filled by the first *later* candle whose high reaches its price.
"""

from __future__ import annotations

import json
import os
import socket

from prices import Candle

TIMEOUT = 2.0  # seconds to wait for the exchange


class ExchangeError(Exception):
    """The exchange is away, or says no. Worth trying again."""


class PaperBroker:
    """Fills everything itself and never fails."""

    connected = True
    heartbeat_seconds = 3600.0

    def __init__(self) -> None:
        self._open: dict[str, dict] = {}

    def connect(self) -> None:
        """Nothing to connect to."""

    def close(self) -> None:
        """Nothing to close."""

    def heartbeat(self) -> None:
        """Nobody listens."""

    def place(self, order: dict) -> dict:
        """Accept an order."""
        if order["type"] == "market":
            return {**order, "status": "filled"}
        return self._open.setdefault(order["clientOrderId"], {**order, "status": "open"})

    def cancel(self, client_order_id: str) -> None:
        """Cancel an open order; one that isn't open is left alone."""
        self._open.pop(client_order_id, None)

    def cancel_all(self) -> list[str]:
        """Cancel every open order; returns their ids."""
        cancelled = list(self._open)
        self._open.clear()
        return cancelled

    def candle(self, index: int, candle: Candle) -> list[dict]:
        """Show the broker a candle; returns the orders that it fills."""
        orders = self._open.values()
        filled = [o for o in orders if o["candle"] < index and candle.high >= o["price"]]
        for order in filled:
            del self._open[order["clientOrderId"]]
        return filled


class ExchangeBroker:
    """A session at the exchange: one TCP connection, so that the end of this process ends the session too.

    It starts as HTTP (POST /session with `Upgrade: mainstay-session`); after the answer 101 it carries a JSON request
    and a JSON answer per line. Every method raises ExchangeError when the exchange can't be reached or refuses.
    """

    def __init__(self, url: str, run_id: str, attempt: str) -> None:
        """`url` is http://HOST:PORT. Raises ValueError if it isn't."""
        scheme, _, address = url.rstrip("/").partition("://")
        host, _, port = address.rpartition(":")
        if scheme != "http" or not host or not port.isdigit():
            raise ValueError(f"--exchange {url}: expected http://HOST:PORT")
        self._address = (host, int(port))
        self._hello = {"runId": run_id, "attempt": attempt, "pid": os.getpid()}
        self._socket: socket.socket | None = None
        self.heartbeat_seconds = 1.0

    @property
    def connected(self) -> bool:
        """Whether a session is open, as far as we know."""
        return self._socket is not None

    def connect(self) -> None:
        """Open the session."""
        body = json.dumps(self._hello).encode()
        try:
            self._socket = socket.create_connection(self._address, timeout=TIMEOUT)
            self._lines = self._socket.makefile("rb")
            self._socket.sendall(
                b"POST /session HTTP/1.1\r\nHost: %s:%d\r\nConnection: Upgrade\r\nUpgrade: mainstay-session\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (self._address[0].encode(), self._address[1], len(body), body)
            )
            status = self._lines.readline().split(b" ")
            while self._lines.readline().strip():
                pass  # headers
            answer = json.loads(self._lines.readline() or b"{}")
        except (OSError, ValueError) as error:
            self.close()
            raise ExchangeError(f"can't reach the exchange: {error}") from error
        if status[1:2] != [b"101"]:
            self.close()
            raise ExchangeError(f"the exchange refused the session: {answer.get('error', 'no reason given')}")
        self.heartbeat_seconds = answer["expirySeconds"] / 4

    def close(self) -> None:
        """End the session."""
        if self._socket is not None:
            self._lines.close()
            self._socket.close()
            self._socket = None

    def heartbeat(self) -> None:
        """Say that we live; needed every `heartbeat_seconds`."""
        self._ask(op="heartbeat")

    def place(self, order: dict) -> dict:
        """Send an order, or ask what became of it if it was sent before."""
        return self._ask(op="place", order=order)["order"]

    def cancel(self, client_order_id: str) -> None:
        """Cancel an open order; one that isn't open is left alone."""
        self._ask(op="cancel", clientOrderId=client_order_id)

    def cancel_all(self) -> list[str]:
        """Cancel every open order of this run; returns their ids."""
        return self._ask(op="cancelAll")["cancelled"]

    def candle(self, index: int, candle: Candle) -> list[dict]:
        """Show the exchange our candle; returns the orders that it fills. Asked again, it answers the same."""
        return self._ask(op="candle", index=index, high=candle.high)["filled"]

    def _ask(self, **request: object) -> dict:
        if self._socket is None:
            raise ExchangeError("not connected to the exchange")
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            line = self._lines.readline()
            if not line:
                raise OSError("it closed the connection")
            answer = json.loads(line)
        except (OSError, ValueError) as error:
            self.close()
            raise ExchangeError(f"lost the exchange: {error}") from error
        if "error" in answer:
            self.close()
            raise ExchangeError(f"the exchange refused: {answer['error']}")
        return answer
