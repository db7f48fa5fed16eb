"""A Process runtime of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.contract.harness import ProcessHarness


@pytest.fixture
async def place() -> AsyncIterator[ProcessHarness]:
    harness = ProcessHarness()
    await harness.open()
    try:
        yield harness
    finally:
        await harness.close()
