from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.sim.stacks.clock import manual_stacks


@pytest.fixture(scope="module", autouse=True)
def _stacks_on_the_clock() -> Iterator[None]:
    with manual_stacks():
        yield
