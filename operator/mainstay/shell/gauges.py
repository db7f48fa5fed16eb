"""Gauges that are worked out at a scrape."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.core import GaugeMetricFamily, Metric


def gauge(name: str, text: str, labels: list[str], values: Mapping[tuple[str, ...], float]) -> Metric:
    """A gauge with these values by their labels."""
    made = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        made.add_metric(key, value)
    return made


def by(values: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    """Values by one label."""
    return {(key,): value for key, value in values.items()}
