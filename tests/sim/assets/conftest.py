from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.sim.assets.clock import manual_assets
from tests.sim.jobs.clock import manual_jobs


@pytest.fixture(scope="module", autouse=True)
def _asset_clock(_clock: None) -> Iterator[None]:
    with manual_jobs(), manual_assets():
        yield
