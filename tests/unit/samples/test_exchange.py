"""The judge itself: it must be able to say no, and must not cry wolf."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from tests.support.exchange import Refused, running_exchange
from tests.unit.samples.conftest import wait_for

ORDER = {"clientOrderId": "1-tp", "side": "sell", "type": "limit", "quantity": 1, "price": 100, "candle": 5}


@contextmanager
def process():
    """A process that lives: a pid for sessions."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        yield running.pid


def test_two_bots_of_one_run_are_a_violation(exchange, start_bot):
    first = start_bot("--interval=3600", f"--exchange={exchange.url}")
    wait_for(exchange.live_sessions)
    second = start_bot("--interval=3600", f"--exchange={exchange.url}", data="other")
    second.wait_until(lambda status: "SecondLiveSession" in (status["exchange"]["error"] or ""))

    assert [session["pid"] for session in exchange.live_sessions()] == [first.process.pid]
    assert set(exchange.violations()) == {"SecondLiveSession"}
    first.end()
    second.end()
    with pytest.raises(AssertionError, match="SecondLiveSession"):
        exchange.assert_clean()


def test_an_old_process_that_lives_on_is_a_violation(tmp_path):
    with (
        running_exchange(tmp_path, session_seconds=0.2) as exchange,
        process() as silent,
        exchange.session("run-1", 1, silent),
    ):
        wait_for(lambda: not exchange.live_sessions())
        assert exchange.get("/sessions")[0]["reason"] == "connection timed out"
        with pytest.raises(Refused, match="OldProcessAlive"):
            exchange.session("run-1", 2, os.getpid())


def test_an_attempt_that_goes_back_is_a_violation(exchange):
    with process() as pid, exchange.session("run-1", 5, pid):
        pass
    with pytest.raises(Refused, match="AttemptWentBack"):
        exchange.session("run-1", 4, os.getpid())


def test_a_process_that_died_makes_room_at_once(exchange, start_bot):
    for _ in range(5):
        bot = start_bot("--interval=3600", f"--exchange={exchange.url}")
        wait_for(exchange.live_sessions)
        bot.end(signal.SIGKILL)
    assert exchange.violations() == []


def test_a_process_may_lose_its_connection_and_come_back(exchange):
    me = ("run-1", 1, os.getpid())
    with exchange.session(*me) as lost, exchange.session(*me) as session:
        session.ask(op="heartbeat")
        with pytest.raises(Refused, match="has ended"):
            lost.ask(op="heartbeat")
    exchange.assert_clean()


def test_runs_do_not_meet(exchange):
    with exchange.session("run-1", 1, os.getpid()) as one, exchange.session("run-2", 1, os.getppid()) as two:
        one.ask(op="place", order=ORDER)
        two.ask(op="place", order={**ORDER, "price": 200})
        assert two.ask(op="cancelAll")["cancelled"] == ["1-tp"]
        assert len(exchange.open_orders("run-1")) == 1


def test_an_order_sent_twice_is_one_order(exchange):
    with exchange.session("run-1", 1, os.getpid()) as session:
        assert session.ask(op="place", order=ORDER) == session.ask(op="place", order=ORDER)
        assert len(exchange.open_orders("run-1")) == 1
        events = [entry["event"] for entry in exchange.ledger("run-1")]
        assert events == ["session-opened", "order-placed", "order-repeated"]
        session.ask(op="cancel", clientOrderId="1-tp")
        assert session.ask(op="place", order=ORDER)["order"]["status"] == "cancelled"
    exchange.assert_clean()


def test_an_id_used_for_another_order_is_a_violation(exchange):
    with exchange.session("run-1", 1, os.getpid()) as session:
        session.ask(op="place", order=ORDER)
        with pytest.raises(Refused, match="ClientOrderIdReused"):
            session.ask(op="place", order={**ORDER, "quantity": 2})
    assert exchange.violations() == ["ClientOrderIdReused"]


def test_fills_at_the_replayed_price(exchange):
    with exchange.session("run-1", 1, os.getpid()) as session:
        market = {**ORDER, "clientOrderId": "5-buy", "side": "buy", "type": "market", "price": 97}
        assert session.ask(op="place", order=market)["order"]["status"] == "filled"
        session.ask(op="place", order=ORDER)
        assert session.ask(op="candle", index=5, high=500)["filled"] == [], (
            "not by the candle it was placed in"
        )
        assert session.ask(op="candle", index=6, high=99.9)["filled"] == []
        filled = session.ask(op="candle", index=7, high=100)["filled"]
        assert [order["clientOrderId"] for order in filled] == ["1-tp"]
        assert session.ask(op="candle", index=7, high=100)["filled"] == filled, "asked again, the same answer"
        assert session.ask(op="candle", index=8, high=100)["filled"] == []
    assert exchange.fills("run-1") == [("buy", 1, 97, 5), ("sell", 1, 100, 7)]


def test_nonsense_is_refused_and_the_session_goes_on(exchange):
    with exchange.session("run-1", 1, os.getpid()) as session:
        for request in ({}, {"op": "fly"}, {"op": "place", "order": {}}, {"op": "candle", "index": "x"}):
            with pytest.raises(Refused):
                session.ask(**request)
        assert session.ask(op="heartbeat") == {}
    exchange.assert_clean()


def test_the_ledger_is_its_memory(tmp_path):
    with running_exchange(tmp_path) as exchange, exchange.session("run-1", 1, os.getpid()) as session:
        session.ask(op="place", order=ORDER)
        with pytest.raises(Refused):
            session.ask(op="place", order={**ORDER, "price": 1})
        before = exchange.get("/orders"), exchange.violations()
    with running_exchange(tmp_path) as exchange:
        assert (exchange.get("/orders"), exchange.violations()) == before
        assert exchange.live_sessions() == []
        assert exchange.get("/judge")["strandedOrders"] == before[0]
