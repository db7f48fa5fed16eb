"""One control plane per worker, and one stage per module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.strategies.shop import Shop
from tests.support.plane import RealPlane, plane
from tests.support.stage import staged

__all__ = ["plane"]


@pytest.fixture(scope="module")
def shop(plane: RealPlane) -> Iterator[Shop]:
    with staged(plane, ports=60) as stage:
        yield Shop(stage)
