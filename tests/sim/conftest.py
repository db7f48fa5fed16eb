from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.sim.clock import manual


@pytest.fixture(scope="module", autouse=True)
def _clock() -> Iterator[None]:
    with manual():
        yield
