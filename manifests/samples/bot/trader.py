"""The trading itself: candle by candle, so that a crash anywhere loses nothing and does nothing twice.

A candle is consumed in this order: (1) the broker sees it and tells what it filled, (2) the strategy sees it, (3) the
new cursor and the orders decided on ("intents") are saved together, (4) the orders are sent, (5) the outcome is saved.
A crash before 3 repeats the candle from the start, and the broker answers as before. After 3 the candle is never
looked at again: a restart sends the intents, under their old client-order ids, whatever the strategy says by then.
"""

from __future__ import annotations

import threading

from broker import ExchangeBroker, PaperBroker
from position import Position
from prices import Candle, Series


def log(message: str) -> None:
    """Print a line. A full disk or a closed pipe must not stop a bot that has orders to look after."""
    try:
        print(message, flush=True)
    except OSError:
        return


class Trader:
    """One strategy, one position, one broker. The lock makes pausing and trading take turns."""

    def __init__(
        self,
        strategy: object,
        series: Series,
        position: Position,
        broker: PaperBroker | ExchangeBroker,
        attempt: str,
        quantity: float,
        take_profit: float,
    ) -> None:
        """`quantity` is BTC per trade; `take_profit` is a fraction: 0.03 sells 3 % above the entry."""
        self._strategy = strategy
        self._series = series
        self._position = position
        self._broker = broker
        self._attempt = attempt
        self._quantity = quantity
        self._take_profit = take_profit
        self._lock = threading.Lock()
        self.last_price: float | None = None

    def warm_up(self) -> None:
        """Show the strategy the candles before the cursor, as many as it needs, without trading them."""
        cursor = self._position.cursor
        for index in range(max(0, cursor - self._strategy.warmup), cursor):
            self._strategy.on_candle(self._series.candle(index))

    @property
    def paused(self) -> bool:
        """A pause holds through restarts of this attempt. A new attempt is a new wish, and runs."""
        return self._position.paused_attempt == self._attempt

    def pause(self) -> dict:
        """Stop trading; the position and open orders stay. When this returns, nothing is under way."""
        return self._set_paused(self._attempt)

    def resume(self) -> dict:
        """Trade on."""
        return self._set_paused(None)

    def _set_paused(self, attempt: str | None) -> dict:
        with self._lock:
            if attempt != self._position.paused_attempt:
                self._position.paused_attempt = attempt
                try:
                    self._position.save()
                except OSError:
                    self._position.paused_attempt = self._attempt  # in doubt, don't trade
                    raise
                log("resumed" if attempt is None else "paused")
        return {"paused": self.paused}

    def settle(self) -> None:
        """Bring our file and the broker together: after each start and each reconnection."""
        position = self._position
        with self._lock:
            self._carry_out()
            if position.quantity and position.take_profit:
                answer = self._broker.place(position.take_profit)
                if answer["status"] == "cancelled":
                    position.take_profit = None
            if position.quantity and not position.take_profit:
                position.intents = [self._take_profit_order(position.cursor - 1, position.entry_price)]
                position.save()
                self._carry_out()

    def step(self) -> None:
        """Trade one candle, unless paused. From the broker's answer to the save, nothing may fail half-way."""
        position = self._position
        with self._lock:
            if self.paused:
                return
            index = position.cursor
            candle = self._series.candle(index)
            fills = self._broker.candle(index, candle)
            signal = self._strategy.on_candle(candle)
            for order in fills:
                self._filled(order)
            position.intents = self._decide(signal, index, candle)
            position.cursor = index + 1
            self.last_price = candle.close
            position.save()
            self._carry_out()
        if position.cursor % len(self._series) == 0:
            log(f"{candle.time}  end of the price series after {position.cursor} candles: starting over")

    def stop(self) -> list[str]:
        """Cancel every open order; returns their ids. The position itself is kept for the next start."""
        with self._lock:
            cancelled = self._broker.cancel_all()
            self._position.take_profit = None
            self._position.save()
        return cancelled

    def status(self) -> dict:
        """What GET /status tells about the trading."""
        position = self._position
        take_profit = position.take_profit
        return {
            "candle": position.cursor,
            "lap": position.cursor // len(self._series) + 1,
            "price": self.last_price,
            "quantity": position.quantity,
            "entryPrice": position.entry_price if position.quantity else None,
            "realised": round(position.realised, 2),
            "trades": position.trades,
            "openOrders": [take_profit["clientOrderId"]] if take_profit else [],
            "paused": self.paused,
        }

    def _decide(self, signal: str | None, index: int, candle: Candle) -> list[dict]:
        """The orders that follow from a signal. One position at a time: a second buy is ignored."""
        position = self._position
        if signal == "buy" and not position.quantity:
            buy = {"side": "buy", "type": "market", "quantity": self._quantity, "price": candle.close}
            return [
                {**buy, "clientOrderId": f"{index}-buy", "candle": index, "time": candle.time},
                self._take_profit_order(index, candle.close, self._quantity),
            ]
        if signal == "sell" and position.quantity:
            sell = {"side": "sell", "type": "market", "quantity": position.quantity, "price": candle.close}
            cancel = [{"cancel": position.take_profit["clientOrderId"]}] if position.take_profit else []
            return [*cancel, {**sell, "clientOrderId": f"{index}-sell", "candle": index, "time": candle.time}]
        return []

    def _take_profit_order(self, index: int, entry_price: float, quantity: float | None = None) -> dict:
        position = self._position
        position.take_profits += 1
        return {
            "clientOrderId": f"take-profit-{position.take_profits}",
            "side": "sell",
            "type": "limit",
            "quantity": quantity or position.quantity,
            "price": round(entry_price * (1 + self._take_profit), 2),
            "candle": index,
        }

    def _carry_out(self) -> None:
        """Send what was decided, one by one. One that fails stays in the list, with those behind it."""
        position = self._position
        if not position.intents:
            return
        while position.intents:
            intent = position.intents[0]
            if "cancel" in intent:
                self._broker.cancel(intent["cancel"])
                position.take_profit = None
            else:
                self._placed(self._broker.place(intent))
            position.intents = position.intents[1:]
        position.save()

    def _placed(self, order: dict) -> None:
        if order["type"] == "market":
            self._filled(order)
        elif order["status"] != "cancelled":
            self._position.take_profit = order

    def _filled(self, order: dict) -> None:
        position = self._position
        quantity, price = order["quantity"], order["price"]
        position.trades += 1
        if order["side"] == "buy":
            position.quantity, position.entry_price = quantity, price
            result = ""
        else:
            profit = (price - position.entry_price) * quantity
            position.realised += profit
            position.quantity, position.entry_price, position.take_profit = 0.0, 0.0, None
            result = f"  {profit:+,.2f} USDT, {position.realised:+,.2f} in all"
        log(
            f"{order['side'].upper():4} {quantity:.8f} BTC at {price:,.2f}  [{order['clientOrderId']}]{result}"
        )
