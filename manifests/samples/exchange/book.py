"""What the exchange knows: sessions, orders, violations. All of it follows from one append-only ledger.

Every change is an event. An event is first written to the ledger (a line of JSON, fsynced), then applied; an
exchange that starts again applies its ledger's events and knows what it knew. The rules that make it a judge:

- SecondLiveSession: a run opened a session while another process had one. The second is refused.
- OldProcessAlive: a run opened a session while the process of an earlier one still lives, though silent (stopped
  by SIGSTOP, say). Refused too.
- AttemptWentBack: a session with a lower attempt than an earlier one of its run. Refused.
- ClientOrderIdReused: an id that is taken was sent with another order's content. Refused.

The same order sent again under its own id is no violation: it is how a bot recovers. It is one order, and the
repetition is in the ledger.
"""

from __future__ import annotations

import json
import os
import threading
import time

ORDER_FIELDS = ("side", "type", "quantity", "price", "candle")


class Refused(Exception):  # noqa: N818 (an answer, not a malfunction)
    """The exchange says no; the text tells why."""


class Book:
    """The state of the exchange. Thread-safe: every public method takes `lock`."""

    def __init__(self, ledger_path: str) -> None:
        """Reads the ledger if there is one. Raises ValueError if a line of it doesn't parse."""
        self.lock = threading.Condition()
        self.events: list[dict] = []
        self.sessions: dict[int, dict] = {}
        self.orders: dict[str, dict[str, dict]] = {}  # by run, then by client-order id
        self.violations: list[dict] = []
        self._ledger = open(ledger_path, "a+", encoding="utf-8")  # noqa: SIM115 (open as long as we are)
        self._ledger.seek(0)
        for line in self._ledger:
            self._apply(json.loads(line))
        for session in [s for s in self.sessions.values() if s["live"]]:
            self._record(
                "session-ended", session["runId"], session=session["id"], reason="exchange restarted"
            )

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()

    def _record(self, event: str, run_id: str, **details: object) -> dict:
        """Make an event durable, then true."""
        entry = {
            "seq": len(self.events) + 1,
            "time": round(time.time(), 3),
            "event": event,
            "runId": run_id,
            **details,
        }
        self._ledger.write(json.dumps(entry) + "\n")
        self._ledger.flush()
        os.fsync(self._ledger.fileno())
        self._apply(entry)
        return entry

    def _apply(self, entry: dict) -> None:
        """The only place where state changes."""
        self.events.append(entry)
        run_id, event = entry["runId"], entry["event"]
        if event == "session-opened":
            keys = ("runId", "attempt", "pid", "startTicks")
            self.sessions[entry["session"]] = {
                "id": entry["session"],
                "live": True,
                **{k: entry[k] for k in keys},
            }
        elif event == "session-ended":
            self.sessions[entry["session"]].update(live=False, reason=entry["reason"])
        elif event == "order-placed":
            self.orders.setdefault(run_id, {})[entry["order"]["clientOrderId"]] = dict(entry["order"])
        elif event in ("order-filled", "order-cancelled"):
            self.orders[run_id][entry["clientOrderId"]].update(
                status=event[len("order-") :], closedAtCandle=entry["candle"]
            )
        elif event == "violation":
            self.violations.append(entry)

    # --- sessions

    def open_session(self, run_id: str, attempt: int, pid: int) -> int:
        """Returns the new session's id. Raises Refused, after recording the violation."""
        with self.lock:
            ticks = start_ticks(pid)
            me = {"attempt": attempt, "pid": pid, "startTicks": ticks}
            self._let_the_dead_go(run_id)
            for other in self._sessions_of(run_id):
                if (other["pid"], other["startTicks"]) == (pid, ticks):
                    if other["live"]:  # a process that lost its connection comes back
                        self._end(other, "replaced by the same process")
                elif other["live"]:
                    self._violate("SecondLiveSession", run_id, other=_process(other), **me)
                elif _lives(other):
                    self._violate("OldProcessAlive", run_id, other=_process(other), **me)
                elif attempt < other["attempt"]:
                    self._violate("AttemptWentBack", run_id, other=_process(other), **me)
            session = len(self.sessions) + 1
            self._record("session-opened", run_id, session=session, **me)
            return session

    def _sessions_of(self, run_id: str) -> list[dict]:
        return [s for s in self.sessions.values() if s["runId"] == run_id]

    def _let_the_dead_go(self, run_id: str) -> None:
        """Of a process that is gone, the connection's end may not have been read yet: wait for it, up to 1 s."""

        def lingering() -> bool:
            return any(s["live"] and s["startTicks"] and not _lives(s) for s in self._sessions_of(run_id))

        self.lock.wait_for(lambda: not lingering(), timeout=1)

    def end_session(self, session: int, reason: str) -> None:
        """A session's connection ended, or it fell silent. Its open orders stay open: that is for the judge to see."""
        with self.lock:
            if self.sessions[session]["live"]:
                self._end(self.sessions[session], reason)

    def _end(self, session: dict, reason: str) -> None:
        self._record("session-ended", session["runId"], session=session["id"], reason=reason)
        self.lock.notify_all()

    def _violate(self, kind: str, run_id: str, **details: object) -> None:
        self._record("violation", run_id, kind=kind, **details)
        raise Refused(f"{kind}: {json.dumps(details.get('other', details))}")

    # --- orders: each of these is a request of a live session

    def request(self, session: int, request: dict) -> dict:
        """Answer a request of a session. Raises Refused; KeyError and TypeError for one that makes no sense."""
        with self.lock:
            if not self.sessions[session]["live"]:
                raise Refused("this session has ended")
            run_id, operation = self.sessions[session]["runId"], request["op"]
            if operation == "heartbeat":
                return {}
            if operation == "place":
                return {"order": self._place(run_id, session, request["order"])}
            if operation == "cancel":
                return {"cancelled": self._cancel(run_id, [request["clientOrderId"]])}
            if operation == "cancelAll":
                return {
                    "cancelled": self._cancel(run_id, [o["clientOrderId"] for o in self.open_orders(run_id)])
                }
            if operation == "candle":
                return {"filled": self._match(run_id, int(request["index"]), float(request["high"]))}
            raise Refused(f"unknown operation {operation!r}")

    def _place(self, run_id: str, session: int, order: dict) -> dict:
        client_order_id, content = order["clientOrderId"], {field: order[field] for field in ORDER_FIELDS}
        known = self.orders.get(run_id, {}).get(client_order_id)
        if known:
            if any(known[field] != content[field] for field in ORDER_FIELDS):
                self._violate("ClientOrderIdReused", run_id, clientOrderId=client_order_id, sent=content)
            self._record("order-repeated", run_id, session=session, clientOrderId=client_order_id)
            return known
        placed = {"runId": run_id, "clientOrderId": client_order_id, "status": "open", **content}
        self._record("order-placed", run_id, session=session, order=placed)
        if content["type"] == "market":
            self._fill(run_id, placed, content["candle"])
        return self.orders[run_id][client_order_id]

    def _fill(self, run_id: str, order: dict, candle: int) -> None:
        what = {field: order[field] for field in ("clientOrderId", "side", "quantity", "price")}
        self._record("order-filled", run_id, candle=candle, **what)

    def _match(self, run_id: str, index: int, high: float) -> list[dict]:
        """Fill limit orders that this candle reaches; returns all that it filled, also when asked before."""
        for order in self.open_orders(run_id):
            if order["candle"] < index and high >= order["price"]:
                self._fill(run_id, order, index)
        limits = [order for order in self.all_orders(run_id) if order["type"] == "limit"]
        return [o for o in limits if o["status"] == "filled" and o["closedAtCandle"] == index]

    def _cancel(self, run_id: str, client_order_ids: list[str]) -> list[str]:
        """Cancel those that are open; returns them."""
        cancelled = []
        for client_order_id in client_order_ids:
            order = self.orders.get(run_id, {}).get(client_order_id)
            if order and order["status"] == "open":
                self._record("order-cancelled", run_id, clientOrderId=client_order_id, candle=None)
                cancelled.append(client_order_id)
        return cancelled

    # --- what anybody may ask

    def all_orders(self, run_id: str | None = None) -> list[dict]:
        """Orders, of one run or of all, in the order they came."""
        with self.lock:
            runs = self.orders.values() if run_id is None else [self.orders.get(run_id, {})]
            return [order for orders in runs for order in orders.values()]

    def open_orders(self, run_id: str | None = None) -> list[dict]:
        """Those that are open."""
        return [order for order in self.all_orders(run_id) if order["status"] == "open"]

    def verdict(self) -> dict:
        """Is anything wrong? Orders of a run without a live session are stranded: nobody looks after them."""
        with self.lock:
            live = {s["runId"] for s in self.sessions.values() if s["live"]}
            stranded = [o for o in self.open_orders() if o["runId"] not in live]
            return {
                "ok": not self.violations and not stranded,
                "violations": list(self.violations),
                "strandedOrders": stranded,
                "liveSessions": sorted(live),
            }


def _process(session: dict) -> dict:
    return {key: session[key] for key in ("id", "attempt", "pid")}


def _lives(session: dict) -> bool:
    """Whether the process that opened a session still runs."""
    return session["startTicks"] is not None and start_ticks(session["pid"]) == session["startTicks"]


def start_ticks(pid: int) -> int | None:
    """When a process started, in ticks since boot: with its pid, an identity.

    None if it is gone or a zombie, or if there is no /proc; then only connections are judged.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
