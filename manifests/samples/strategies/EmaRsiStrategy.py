"""Follow the trend, but don't buy what has already run hot.

Buys when the fast average of closes crosses above the slow one while RSI is below `overbought`; sells when it
crosses below, or when RSI climbs above `exit_rsi`.

The interface, for this and any other strategy file: a class named as the file, created with the parameters of
the configuration as keyword arguments; `warmup`, how many past candles it must see to be ready; and
`on_candle(candle)`, called once per candle in order, which returns "buy", "sell" or None. A strategy doesn't
know what the bot holds: after a restart it is shown the last `warmup` candles and must then say what it
would have said without the restart.
"""

from __future__ import annotations


class Ema:
    """Exponential moving average: a mean in which a price counts the less the older it is.

    Starts as the plain mean of the first `period` prices (`value` is None until then) and moves 2 / (period + 1) of
    the way to each later one.
    """

    def __init__(self, period: int) -> None:
        self.period = period
        self.value: float | None = None
        self._seed: list[float] = []

    def update(self, price: float) -> float | None:
        """Take the next price; returns the average."""
        if self.value is None:
            self._seed.append(price)
            if len(self._seed) == self.period:
                self.value = sum(self._seed) / self.period
        else:
            self.value += (price - self.value) * 2 / (self.period + 1)
        return self.value


class Rsi:
    """Relative strength index, 0 to 100, after Welles Wilder (1978): the average gain against the average loss.

    Both averages start as means of the first `period` changes; then each new change has the weight 1 / period.
    `value` is None until `period` changes, that is `period` + 1 prices, have been seen.
    """

    def __init__(self, period: int) -> None:
        self.period = period
        self.value: float | None = None
        self._previous: float | None = None
        self._changes = 0
        self._gain = 0.0
        self._loss = 0.0

    def update(self, price: float) -> float | None:
        """Take the next price; returns the index."""
        previous, self._previous = self._previous, price
        if previous is None:
            return None
        gain, loss = max(price - previous, 0.0), max(previous - price, 0.0)
        self._changes = min(self._changes + 1, self.period)
        self._gain += (gain - self._gain) / self._changes
        self._loss += (loss - self._loss) / self._changes
        if self._changes == self.period:
            moved = self._gain + self._loss
            self.value = 100 * self._gain / moved if moved else 50.0
        return self.value


class EmaRsiStrategy:
    """Crossing averages, filtered by RSI."""

    def __init__(
        self,
        fast: int = 12,
        slow: int = 26,
        rsi_period: int = 14,
        overbought: float = 70.0,
        exit_rsi: float = 80.0,
    ) -> None:
        """Periods are in candles. Raises ValueError unless 0 < fast < slow."""
        if not 0 < fast < slow or rsi_period < 1:
            raise ValueError(f"expected 0 < fast < slow and rsi_period > 0, got {fast}, {slow}, {rsi_period}")
        self._fast = Ema(fast)
        self._slow = Ema(slow)
        self._rsi = Rsi(rsi_period)
        self._overbought = overbought
        self._exit_rsi = exit_rsi
        self._was_above: bool | None = None
        # Averages never quite forget how they started. After 28 time constants less than 1e-12 of it is left
        # (exp(-28)), far below a cent: then it makes no difference where the replay began.
        self.warmup = 28 * max((slow + 1) // 2 + 1, rsi_period) + slow + rsi_period

    def on_candle(self, candle: object) -> str | None:
        """Returns "buy", "sell" or None."""
        fast = self._fast.update(candle.close)
        slow = self._slow.update(candle.close)
        rsi = self._rsi.update(candle.close)
        if fast is None or slow is None or rsi is None:
            return None
        above, was_above = fast > slow, self._was_above
        self._was_above = above
        if was_above is None:
            return None
        if (was_above and not above) or rsi > self._exit_rsi:
            return "sell"
        if above and not was_above and rsi < self._overbought:
            return "buy"
        return None
