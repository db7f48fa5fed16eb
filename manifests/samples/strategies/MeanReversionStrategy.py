"""Buy weakness: a close far below the average of the last `period` closes; sell when it is back at the average.

Far is `width` standard deviations: the lower of Bollinger's bands. The interface of a strategy is described in
EmaRsiStrategy.py.
"""

from __future__ import annotations


class MeanReversionStrategy:
    """Bollinger bands. It remembers `warmup` closes and nothing else."""

    def __init__(self, period: int = 20, width: float = 2.0) -> None:
        """`period` is in candles. Raises ValueError unless it is at least 2."""
        if period < 2:
            raise ValueError(f"expected a period of at least 2, got {period}")
        self._width = width
        self._closes: list[float] = []
        self.warmup = period

    def on_candle(self, candle: object) -> str | None:
        """Returns "buy", "sell" or None."""
        self._closes = [*self._closes, candle.close][-self.warmup :]
        if len(self._closes) < self.warmup:
            return None
        mean = sum(self._closes) / self.warmup
        deviation = (sum((close - mean) ** 2 for close in self._closes) / self.warmup) ** 0.5
        if candle.close < mean - self._width * deviation:
            return "buy"
        if candle.close > mean:
            return "sell"
        return None
