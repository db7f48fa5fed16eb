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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """An operator that dies in-process while it starts a compiler can't close the pipes that asyncio was opening."""
    mark = pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"
    )
    for item in items:
        if "tests/integration/strategies/" in item.nodeid:
            item.add_marker(mark)
