"""The price series: candles counted from 0 without end; after the last one the series begins again."""

from __future__ import annotations

import os

PRICES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "prices.csv")


class Candle:
    """One hour of trading: time as text, prices in USDT, volume in BTC."""

    __slots__ = ("close", "high", "low", "open", "time", "volume")

    def __init__(
        self, time: str, opened: float, high: float, low: float, close: float, volume: float = 0.0
    ) -> None:
        self.time = time
        self.open = opened
        self.high = high
        self.low = low
        self.close = close
        self.volume = volume


class Series:
    """A CSV file of candles: time,open,high,low,close,volume. Lines are parsed when asked for."""

    def __init__(self, path: str = PRICES) -> None:
        with open(path, encoding="ascii") as file:
            lines = [line for line in file.read().splitlines() if not line.startswith("#")]
        self._lines = lines[1:]  # after the header

    def __len__(self) -> int:
        return len(self._lines)

    def candle(self, index: int) -> Candle:
        """Candle `index` ≥ 0. An index past the end wraps: candle 2,003 of 2,000 is candle 3 again."""
        time, *numbers = self._lines[index % len(self._lines)].split(",")
        return Candle(time, *map(float, numbers))
