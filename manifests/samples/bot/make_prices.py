"""Makes prices.csv: run it once, `python3 make_prices.py > prices.csv`; the same bytes come out every time.

The series is synthetic: no exchange ever traded at these prices. It looks like hourly BTC/USDT candles because
volatility comes in clusters and single hours jump, and it ends where it began, so that a replay which
starts over sees no gap.
"""

from __future__ import annotations

import math
import random
from datetime import datetime, timedelta, timezone

CANDLES = 2000
START_PRICE = 62_000.0
START_TIME = datetime(2025, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 (the sample runs on Python 3.9)
SEED = 8766


def log_returns(rng: random.Random) -> list[float]:
    """Hourly log returns: each hour's variance remembers the last one's size, and they sum to zero."""
    variance = calm = 0.0045**2
    returns = []
    for _ in range(CANDLES):
        move = rng.gauss(0, math.sqrt(variance))
        if rng.random() < 0.005:
            move += rng.gauss(0, 0.02)
        returns.append(move)
        variance = 0.04 * calm + 0.10 * move * move + 0.86 * variance
    drift = sum(returns) / CANDLES
    return [move - drift for move in returns]


def main() -> None:
    """Write the series to stdout."""
    rng = random.Random(SEED)  # noqa: S311 (prices, not passwords)
    print("# Synthetic BTC/USDT-like hourly candles, made by make_prices.py. Not market data.")
    print("time,open,high,low,close,volume")
    price = START_PRICE
    for hour, move in enumerate(log_returns(rng)):
        opened, price = price, price * math.exp(move)
        high = max(opened, price) * (1 + abs(rng.gauss(0, 0.0015)))
        low = min(opened, price) * (1 - abs(rng.gauss(0, 0.0015)))
        volume = rng.lognormvariate(5.5, 0.4) * (1 + 40 * abs(move))
        time = (START_TIME + timedelta(hours=hour)).strftime("%Y-%m-%dT%H:%MZ")
        print(f"{time},{opened:.2f},{high:.2f},{low:.2f},{price:.2f},{volume:.3f}")


if __name__ == "__main__":
    main()
