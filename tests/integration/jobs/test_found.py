"""Defects that were found, each by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.jobs.workshop import Works, completed, ladder
from tests.support.plane import RealPlane
from tests.support.stage import Stage, staged

from mainstay.shell.kube import BATCHES


@pytest.fixture(scope="module")
def stage(plane: RealPlane) -> Iterator[Stage]:
    with staged(plane, ports=4) as one:
        yield one


def test_a_batch_goes_with_the_last_of_its_jobs(stage: Stage):
    """The operator removes a job's finalizer itself: no event tells the batch that this was the last."""
    desk = Works(stage, BATCHES).desk
    jobs = [{"name": name} for name in ("x", "y", "z")]
    template = ladder(stage.judge, phases=1, tasks=1)
    for number in range(5):
        name = f"batch-{number}"
        desk.create(name, {"template": template, "jobs": jobs}, BATCHES)
        desk.until(name, completed, plural=BATCHES)
        desk.delete(name, BATCHES)
        desk.until_gone(name, 10, BATCHES)
