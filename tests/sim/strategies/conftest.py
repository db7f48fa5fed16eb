from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from tests.sim.jobs.clock import Side

from mainstay.shell.strategies import libraries


@pytest.fixture(scope="module", autouse=True)
def _one_after_the_other() -> Iterator[None]:
    with patch.object(libraries, "asyncio", Side):
        yield
