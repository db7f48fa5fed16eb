"""Buy strength: a close above everything of the last `entry` candles; sell a close below the last `leave` ones.

Known as the Donchian channel. The interface of a strategy is described in EmaRsiStrategy.py.
"""

from __future__ import annotations


class BreakoutStrategy:
    """A channel of highs and lows. It remembers `warmup` candles and nothing else."""

    def __init__(self, entry: int = 48, leave: int = 24) -> None:
        """Both in candles. Raises ValueError unless both are positive."""
        if entry < 1 or leave < 1:
            raise ValueError(f"expected entry and leave of at least 1, got {entry}, {leave}")
        self._entry = entry
        self._leave = leave
        self._highs: list[float] = []
        self._lows: list[float] = []
        self.warmup = max(entry, leave)

    def on_candle(self, candle: object) -> str | None:
        """Returns "buy", "sell" or None."""
        highs, lows = self._highs, self._lows
        signal = None
        if len(highs) >= self._entry and candle.close > max(highs[-self._entry :]):
            signal = "buy"
        elif len(lows) >= self._leave and candle.close < min(lows[-self._leave :]):
            signal = "sell"
        self._highs = [*highs, candle.high][-self.warmup :]
        self._lows = [*lows, candle.low][-self.warmup :]
        return signal
