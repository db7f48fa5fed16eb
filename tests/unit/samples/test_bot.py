"""The sample bot as a process: restarts, signals, its control API, and what it says when something is wrong."""

import json
import signal
import socket
import time

import pytest
from tests.support.exchange import SAMPLES, running_exchange
from tests.unit.samples.conftest import wait_for

SLOW, QUICK = "--interval=3600", "--interval=0.002"


def holds_a_position(status):
    return status["openOrders"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
def test_a_restart_in_the_middle_changes_no_trade(exchange, start_bot, number):
    undisturbed = start_bot(
        "--interval=0", "--until=200", f"--exchange={exchange.url}", data="calm", env={"RUN_ID": "calm"}
    )
    for candle in (60, 100, 160):
        bot = start_bot(QUICK, f"--exchange={exchange.url}")
        bot.wait_until(lambda status, candle=candle: status["candle"] >= candle)
        bot.end(number)
    assert start_bot("--interval=0", "--until=200", f"--exchange={exchange.url}").wait() == 0
    assert undisturbed.wait() == 0

    assert len(exchange.fills("calm")) >= 4
    assert exchange.fills("run-1") == exchange.fills("calm")
    exchange.assert_clean()


def test_trades_on_paper_are_those_at_the_exchange(exchange, start_bot, tmp_path):
    bots = [
        start_bot("--interval=0", "--until=200", data="paper"),
        start_bot("--interval=0", "--until=200", f"--exchange={exchange.url}", data="real"),
    ]
    assert [bot.wait() for bot in bots] == [0, 0]
    paper, real = ((tmp_path / data / "position.json").read_text() for data in ("paper", "real"))
    assert paper == real
    assert json.loads(paper)["trades"] >= 4


def test_term_cancels_open_orders_and_exits_0(exchange, start_bot):
    bot = start_bot(QUICK, f"--exchange={exchange.url}")
    bot.wait_until(holds_a_position)
    bot.ask("POST", "/pause")
    held = bot.status()
    assert [order["clientOrderId"] for order in exchange.open_orders("run-1")] == held["openOrders"]

    assert bot.end() == 0
    assert exchange.open_orders("run-1") == []
    exchange.assert_clean()

    again = start_bot(SLOW, f"--exchange={exchange.url}", env={"ATTEMPT": "2"})
    wait_for(lambda: exchange.open_orders("run-1"))
    assert again.status()["quantity"] == held["quantity"]


def test_kill_leaves_an_order_and_the_judge_sees_it(exchange, start_bot):
    bot = start_bot(QUICK, f"--exchange={exchange.url}")
    bot.wait_until(holds_a_position)
    bot.end(signal.SIGKILL)
    wait_for(lambda: not exchange.live_sessions())
    with pytest.raises(AssertionError, match="strandedOrders"):
        exchange.assert_clean()


def test_stopping_a_stopped_process_cancels_all_the_same(tmp_path, start_bot):
    """SIGSTOP, its session expires, then TERM and CONT: it connects again in order to cancel."""
    with running_exchange(tmp_path, session_seconds=0.3) as exchange:
        bot = start_bot(QUICK, f"--exchange={exchange.url}")
        bot.wait_until(holds_a_position)
        bot.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: not exchange.live_sessions())
        bot.process.send_signal(signal.SIGTERM)
        assert bot.end(signal.SIGCONT) == 0
        exchange.assert_clean()


def test_heartbeats_keep_a_waiting_bot_in_session(tmp_path, start_bot):
    with running_exchange(tmp_path, session_seconds=0.3) as exchange:
        bot = start_bot(SLOW, f"--exchange={exchange.url}")
        wait_for(exchange.live_sessions)
        time.sleep(0.5)
        assert bot.status()["exchange"]["connected"]
        assert len(exchange.get("/sessions")) == 1


def test_an_exchange_that_is_away_is_told_and_awaited(tmp_path, start_bot):
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    bot = start_bot(QUICK, f"--exchange=http://127.0.0.1:{port}")
    bot.wait_until(lambda status: "can't reach the exchange" in (status["exchange"]["error"] or ""))
    assert bot.ask("GET", "/health") == (200, {"status": "ok"})
    assert bot.status()["candle"] == 0
    with running_exchange(tmp_path, port=port) as exchange:
        bot.wait_until(lambda status: status["candle"] > 10 and status["exchange"]["error"] is None)
        assert bot.end() == 0
        exchange.assert_clean()


def test_an_exchange_that_comes_back_still_knows_the_order(tmp_path, start_bot):
    with running_exchange(tmp_path) as exchange:
        bot = start_bot("--interval=0.005", f"--exchange={exchange.url}")
        bot.wait_until(holds_a_position)
        port = exchange.port
    bot.wait_until(lambda status: not status["exchange"]["connected"])
    with running_exchange(tmp_path, port=port) as exchange:
        bot.wait_until(lambda status: status["exchange"]["connected"])
        assert bot.end() == 0
        exchange.assert_clean()


def test_control_api(start_bot):
    bot = start_bot("--interval=0.01")
    assert bot.ask("GET", "/health") == (200, {"status": "ok"})
    bot.wait_until(lambda status: status["candle"] > 3)

    assert bot.ask("POST", "/pause") == (200, {"paused": True})
    candle = bot.status()["candle"]
    time.sleep(0.1)
    assert (bot.status()["candle"], bot.status()["paused"]) == (candle, True)
    assert bot.ask("POST", "/resume") == (200, {"paused": False})
    bot.wait_until(lambda status: status["candle"] > candle)

    assert bot.ask("GET", "/nowhere")[0] == 404
    assert bot.ask("GET", "/pause")[0] == 405
    assert bot.ask("POST", "/pause", Origin="https://example.com")[0] == 403
    assert bot.ask("POST", "/pause", Host="rebound.example.com")[0] == 403
    assert not bot.status()["paused"]


def test_a_pause_survives_a_kill_but_not_a_new_attempt(start_bot):
    bot = start_bot(QUICK)
    bot.ask("POST", "/pause")
    bot.end(signal.SIGKILL)
    bot = start_bot(QUICK)
    assert bot.status()["paused"]
    bot.end(signal.SIGKILL)
    assert not start_bot(QUICK, env={"ATTEMPT": "2"}).status()["paused"]


def test_the_series_starts_over_and_says_so(start_bot, tmp_path):
    bot = start_bot("--interval=0", "--until=1")
    assert bot.wait() == 0
    file = tmp_path / "data" / "position.json"
    file.write_text(file.read_text().replace('"cursor": 1,', '"cursor": 1990,'))
    bot = start_bot("--interval=0", "--until=2010")
    assert bot.wait() == 0
    assert "end of the price series after 2000 candles: starting over" in bot.output()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def on_candle(:", "line 1: SyntaxError"),
        ("import nowhere", "No module named 'nowhere'"),
        ("class Other: pass", "has no attribute 'Broken'"),
        ("class Broken:\n def __init__(self): raise KeyError('x')", "KeyError"),
    ],
)
def test_a_broken_strategy_is_one_line_on_stderr(start_bot, tmp_path, source, says):
    (tmp_path / "Broken.py").write_text(source)
    bot = start_bot(f"--strategy={tmp_path / 'Broken.py'}")
    assert bot.wait() == 1
    assert bot.stderr.startswith("bot: can't load strategy")
    assert says in bot.stderr
    assert bot.stderr.count("\n") == 1


def test_a_strategy_that_fails_leaves_no_order(exchange, start_bot, tmp_path):
    (tmp_path / "Broken.py").write_text(
        "class Broken:\n warmup = 0\n def on_candle(self, candle):\n"
        "  if candle.time.endswith('T03:00Z'): raise RuntimeError('no idea')\n  return 'buy'\n"
    )
    for _ in range(2):
        bot = start_bot("--interval=0", f"--exchange={exchange.url}", f"--strategy={tmp_path / 'Broken.py'}")
        assert bot.wait() == 1
        assert bot.stderr == "bot: RuntimeError: no idea\n"
        exchange.assert_clean()
    assert len(exchange.fills("run-1")) == 1


def test_a_disk_that_cannot_be_written_leaves_no_order(exchange, start_bot, tmp_path):
    bot = start_bot("--interval=0.005", f"--exchange={exchange.url}")
    bot.wait_until(holds_a_position)
    bot.ask("POST", "/pause")
    (tmp_path / "data" / "position.json.new").mkdir()  # where the next save would write
    assert bot.ask("POST", "/resume")[0] == 500
    assert bot.status()["paused"], "in doubt, don't trade"
    assert bot.end() == 1
    assert "not written down" in bot.stderr
    assert exchange.open_orders("run-1") == []

    (tmp_path / "data" / "position.json.new").rmdir()
    again = start_bot("--interval=0", "--until=200", f"--exchange={exchange.url}", env={"ATTEMPT": "2"})
    assert again.wait() == 0
    exchange.assert_clean()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is damaged"),
        ("[]", "lacks"),
        ('{"runId": "run-1"}', "lacks cursor"),
        (None, "belongs to run 'run-1', this is run 'run-2'"),
    ],
)
def test_a_position_is_never_guessed(start_bot, tmp_path, content, says):
    start_bot("--interval=0", "--until=1").wait()
    file = tmp_path / "data" / "position.json"
    file.write_text(content or file.read_text())
    bot = start_bot(env={} if content else {"RUN_ID": "run-2"})
    assert bot.wait() == 1
    assert says in bot.stderr
    assert bot.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--colour=blue", "unknown option --colour"),
        ("--interval=soon", "--interval soon: not a number"),
        ("--strategy=", "--strategy FILE is needed"),
        ("--config=/nowhere.json", "No such file"),
        (f"--config={SAMPLES / 'README.md'}", "is not JSON"),
        ("--exchange=ftp://x", "expected http://HOST:PORT"),
    ],
)
def test_wrong_options_are_told(start_bot, option, says):
    bot = start_bot(option)
    assert bot.wait() == 1
    assert bot.stderr.startswith("bot: ")
    assert says in bot.stderr


def test_a_port_that_is_taken_is_told(start_bot):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bot = start_bot(f"--control-api-port={taken.getsockname()[1]}")
        assert bot.wait() == 1
    assert "can't listen on 127.0.0.1:" in bot.stderr
