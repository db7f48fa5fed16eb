"""Many tasks at once, and who competes for one. Prints figures; nothing depends on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from tests.contract.task_harness import TASK, ProcessTaskHarness, opened

from mainstay.runtime.base import RuntimeUnavailableError, UnitState


@pytest.fixture
async def place() -> AsyncIterator[ProcessTaskHarness]:
    async for harness in opened():
        yield harness


async def test_one_tree_under_50_starts_from_two_operators(place):
    other = await place.another()
    try:
        for attempt in (1, 2, 3):
            spec = place.spec(attempt=attempt, argv=("/bin/sh", "-c", "echo >> $RAN; sleep 0.3"))
            starts = [(place.runtime if number % 2 else other).start(spec) for number in range(50)]
            for error in await asyncio.gather(*starts, return_exceptions=True):
                assert error is None or isinstance(error, RuntimeUnavailableError)
            await place.until(TASK, UnitState.EXITED)
            assert await place.executions() == attempt
    finally:
        await other.close()


async def test_64_at_once(place):
    names = [f"default.job-{number}" for number in range(64)]
    await asyncio.gather(*(place.runtime.start(place.spec(name)) for name in names))
    leaders = set()
    for name in names:
        seen = await place.until(name, UnitState.RUNNING)
        leaders.add(seen.leader)
    assert len({unit.name for unit in await place.runtime.units()}) == 64
    assert await place.executions() <= 64
    await asyncio.gather(*(place.runtime.stop(name, grace_seconds=5) for name in names))
    for name in names:
        assert (await place.until(name, UnitState.EXITED)).outcome.exit.signal == 15
    assert place.alive() == []


async def test_throughput(place):
    names = [f"default.job-{number}" for number in range(100)]
    began = time.perf_counter()
    await asyncio.gather(*(place.runtime.start(place.spec(name, argv=("/bin/true",))) for name in names))
    accepted = time.perf_counter() - began
    for name in names:
        assert (await place.until(name, UnitState.EXITED)).outcome.succeeded
    ended = time.perf_counter() - began
    print(f"\n100 tasks: accepted {accepted:.3f} s, ended {ended:.3f} s, {100 / ended:.0f} a second")
