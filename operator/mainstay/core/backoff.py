"""Capped exponential backoff."""

from __future__ import annotations


def delay(failures: int, *, initial: float, cap: float) -> float:
    """Seconds to wait after that many failures in a row: 0 for none, then initial × 2^(n-1), at most `cap`."""
    if failures <= 0:
        return 0.0
    # 2.0**1024 overflows; by then every cap has long been reached.
    return min(cap, initial * 2.0 ** min(failures - 1, 64))
