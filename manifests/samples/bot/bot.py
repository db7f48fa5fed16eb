"""A trading bot to try Mainstay with: replays a synthetic price series through a strategy. Standard library only.

    python3 bot.py --control-api-port 8766 --config config.json --strategy ../strategies/EmaRsiStrategy.py

It goes on where it stopped, cancels its open orders when it is told to stop (SIGTERM), and serves a control API.
Start reading at `main`; trader.py has the trading, broker.py the way to the exchange, position.py what is remembered.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from broker import ExchangeBroker, ExchangeError, PaperBroker
from control_api import ControlApi
from options import arguments, load_config, load_strategy
from position import Position
from prices import Series
from trader import Trader, log

STOP_SECONDS = 5.0  # how long a stop tries to reach the exchange to cancel orders
RETRY_SECONDS = (0.1, 5.0)  # first and longest wait for an exchange that is away


class Bot:
    """The main loop: connect, trade a candle, wait. Signals end a wait through a pipe."""

    def __init__(self, options: dict) -> None:
        """Raises ValueError or OSError, with a message for the user."""
        self._stopping = False
        self._wakeup, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake)  # the kernel may give a signal to any thread
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        config = load_config(options["config"])
        self._run_id = os.environ.get("RUN_ID", "by-hand")
        self._attempt = os.environ.get("ATTEMPT", "0")
        self._url = options["exchange"]
        self._interval = (
            options["interval"] if options["interval"] is not None else float(config.get("interval", 1))
        )
        self._until = options["until"]
        self._strategy_path = options["strategy"]
        strategy = load_strategy(options["strategy"], config.get("params", {}))
        self._broker = ExchangeBroker(self._url, self._run_id, self._attempt) if self._url else PaperBroker()
        self._position = Position(options["data-dir"], self._run_id)
        self._trader = Trader(
            strategy,
            Series(),
            self._position,
            self._broker,
            self._attempt,
            float(config.get("quantity", 0.01)),
            float(config.get("takeProfit", 0.03)),
        )
        self._trader.warm_up()
        self._exchange_error: str | None = None
        self._api = ControlApi(
            options["control-api-port"],
            {
                ("GET", "/health"): lambda: {"status": "ok"},
                ("GET", "/status"): self.status,
                ("POST", "/pause"): self._trader.pause,
                ("POST", "/resume"): self._resume,
            },
        )

    def _resume(self) -> dict:
        answer = self._trader.resume()
        os.write(self._wake, b"!")
        return answer

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def status(self) -> dict:
        """GET /status."""
        return {
            "runId": self._run_id,
            "attempt": self._attempt,
            "pid": os.getpid(),
            "strategy": os.path.splitext(os.path.basename(self._strategy_path))[0],
            "strategyHash": os.environ.get("STRATEGY_HASH"),
            **self._trader.status(),
            "exchange": {
                "url": self._url or "paper",
                "connected": self._broker.connected,
                "error": self._exchange_error,
            },
        }

    def run(self) -> int:
        """Trade until told to stop; returns the exit status."""
        position = self._position
        log(
            f"run {self._run_id}, attempt {self._attempt}, pid {os.getpid()}: http://127.0.0.1:{self._api.port}"
        )
        log(f"{self._strategy_path} from candle {position.cursor}, holding {position.quantity} BTC")
        try:
            self._loop()
            failed = 0
        except Exception as error:  # a strategy's bug, a full disk: orders must not stay behind
            print(f"bot: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed = 1
        cancelled = self._cancel_orders()
        return 0 if cancelled and not failed else 1

    def _loop(self) -> None:
        retry, settled, due = RETRY_SECONDS[0], False, time.monotonic()
        while not self._stopping and (self._until is None or self._position.cursor < self._until):
            try:
                if not self._broker.connected:
                    settled = False
                    self._broker.connect()
                if not settled:
                    self._trader.settle()
                    settled = True
                    self._exchange_error, retry = None, RETRY_SECONDS[0]
                if time.monotonic() >= due and not self._trader.paused:
                    due = time.monotonic() + self._interval
                    self._trader.step()
                else:
                    self._broker.heartbeat()
                pause = self._broker.heartbeat_seconds
                if not self._trader.paused:
                    pause = min(pause, due - time.monotonic())
            except ExchangeError as error:
                if str(error) != self._exchange_error:
                    log(f"{error}; trying again")
                self._exchange_error = str(error)
                pause, retry = retry, min(2 * retry, RETRY_SECONDS[1])
            if pause > 0 and select.select([self._wakeup], [], [], pause)[0]:
                os.read(self._wakeup, 4096)

    def _cancel_orders(self) -> bool:
        """Whether no order of ours stays open. Tries for STOP_SECONDS if the exchange is away."""
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            try:
                if not self._broker.connected:
                    if not (self._position.take_profit or self._position.intents):
                        return True  # nothing was ever sent, or all of it is settled
                    self._broker.connect()
                cancelled = self._trader.stop()
                self._broker.close()
                log(
                    f"stopped at candle {self._position.cursor}; cancelled: {', '.join(cancelled) or 'nothing'}"
                )
                return True
            except OSError as error:
                print(f"bot: orders cancelled, but not written down: {error}", file=sys.stderr, flush=True)
                return False
            except ExchangeError as error:
                if time.monotonic() > deadline:
                    print(f"bot: orders may still be open: {error}", file=sys.stderr, flush=True)
                    return False
                time.sleep(0.2)


def main() -> int:
    """Run the bot. Whatever the user can get wrong ends in one line on stderr and exit status 1."""
    try:
        bot = Bot(arguments(sys.argv[1:]))
    except (ValueError, OSError) as error:
        print(f"bot: {error}", file=sys.stderr)
        return 1
    return bot.run()


if __name__ == "__main__":
    sys.exit(main())
