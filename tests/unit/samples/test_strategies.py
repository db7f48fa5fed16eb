"""The arithmetic against a slow, obvious reference and published figures; restarts against undisturbed runs."""

import itertools
import sys

import pytest

STRATEGIES = ["EmaRsiStrategy", "BreakoutStrategy", "MeanReversionStrategy"]

# The worked example of the RSI that StockCharts publishes (14 periods, closes to the cent), with its results.
CLOSES = [
    44.34, 44.09, 44.15, 43.61, 44.33, 44.83, 45.10, 45.42, 45.84, 46.08, 45.89, 46.03, 45.61, 46.28,
    46.28, 46.00, 46.03, 46.41, 46.22, 45.64, 46.21, 46.25, 45.71, 46.45, 45.78, 45.35, 44.03, 44.18,
    44.22, 44.57, 43.42, 42.66, 43.13,
]  # fmt: skip
PUBLISHED_RSI = [
    70.46, 66.25, 66.48, 69.35, 66.29, 57.92, 62.88, 63.21, 56.01, 62.34, 54.67, 50.39, 40.02, 41.49,
    41.90, 45.50, 37.32, 33.09, 37.79,
]  # fmt: skip


def reference_ema(prices, period):
    """From the definition: each value weighs (1 - alpha)^age, the seed takes what is left."""
    if len(prices) < period:
        return None
    alpha, rest = 2 / (period + 1), prices[period:]
    seed = sum(prices[:period]) / period * (1 - alpha) ** len(rest)
    return seed + sum(alpha * (1 - alpha) ** age * price for age, price in enumerate(reversed(rest)))


def reference_rsi(prices, period):
    """As in Wilder's book: 100 - 100 / (1 + RS), averages smoothed by (previous * (n - 1) + current) / n."""
    changes = [later - earlier for earlier, later in itertools.pairwise(prices)]
    if len(changes) < period:
        return None
    gain = sum(c for c in changes[:period] if c > 0) / period
    loss = -sum(c for c in changes[:period] if c < 0) / period
    for change in changes[period:]:
        gain = (gain * (period - 1) + max(change, 0)) / period
        loss = (loss * (period - 1) + max(-change, 0)) / period
    return 100 - 100 / (1 + gain / loss)


@pytest.fixture
def indicators(strategy):
    strategy("EmaRsiStrategy")
    return sys.modules["EmaRsiStrategy"]


@pytest.fixture
def closes(modules):
    series = modules.prices.Series()
    return [series.candle(index).close for index in range(400)]


@pytest.mark.parametrize("period", [1, 2, 12, 26])
def test_ema_agrees_with_its_definition(indicators, closes, period):
    ema = indicators.Ema(period)
    for seen, close in enumerate(closes, start=1):
        value, expected = ema.update(close), reference_ema(closes[:seen], period)
        assert value == (expected and pytest.approx(expected, rel=1e-12))


@pytest.mark.parametrize("period", [2, 14, 21])
def test_rsi_agrees_with_wilders_formula(indicators, closes, period):
    rsi = indicators.Rsi(period)
    for seen, close in enumerate(closes[:200], start=1):
        value = rsi.update(close)
        if seen > period + 2:  # by then there has been a loss
            assert value == pytest.approx(reference_rsi(closes[:seen], period), rel=1e-9)


def test_rsi_gives_the_published_figures(indicators):
    rsi = indicators.Rsi(14)
    values = [rsi.update(close) for close in CLOSES]
    assert values[:14] == [None] * 14
    assert values[14:] == pytest.approx(PUBLISHED_RSI, abs=0.006)


@pytest.mark.parametrize(("prices", "expected"), [([1, 2, 3], 100), ([3, 2, 1], 0), ([2, 2, 2], 50)])
def test_rsi_at_its_edges(indicators, prices, expected):
    rsi = indicators.Rsi(2)
    assert [rsi.update(price) for price in prices][-1] == expected


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_that_saw_the_last_warmup_candles_decides_as_one_that_saw_all(modules, strategy, name):
    series = modules.prices.Series()
    undisturbed = strategy(name)
    expected = [undisturbed.on_candle(series.candle(index)) for index in range(2200)]
    assert {"buy", "sell"} <= set(expected)
    for cut in range(50, 2200, 97):
        restarted = strategy(name)
        for index in range(max(0, cut - restarted.warmup), cut):
            restarted.on_candle(series.candle(index))
        following = [restarted.on_candle(series.candle(index)) for index in range(cut, min(cut + 300, 2200))]
        assert following == expected[cut : cut + 300], cut


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("EmaRsiStrategy", {"fast": 26, "slow": 12}),
        ("EmaRsiStrategy", {"fats": 12}),
        ("BreakoutStrategy", {"entry": 0}),
        ("MeanReversionStrategy", {"period": 1}),
    ],
)
def test_bad_parameters_are_told(strategy, name, params):
    with pytest.raises(ValueError, match=name):
        strategy(name, **params)
