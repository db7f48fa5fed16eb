"""34 units at once, and what the fence costs. Prints figures; the limits are far above them."""

from __future__ import annotations

import asyncio
import time

from mainstay.runtime.base import UnitState


async def test_34_at_once(place):
    names = [f"default.bot-{number}" for number in range(34)]
    began = time.perf_counter()
    await asyncio.gather(*(place.runtime.start(place.spec(name)) for name in names))
    accepted = time.perf_counter()
    await asyncio.gather(*(place.until(name, UnitState.RUNNING) for name in names))
    running = time.perf_counter()
    leaders = {(await place.runtime.observe(name)).leader for name in names}
    assert len(leaders) == 34
    looking = time.perf_counter()
    for _ in range(20):
        for name in names:
            await place.runtime.observe(name)
    one_look = (time.perf_counter() - looking) / 20 / 34
    print(f"\n34 at once: accepted {accepted - began:.3f} s, running {running - began:.3f} s")
    print(f"one look at a healthy unit: {one_look * 1e6:.0f} µs")
    assert running - began < 10
    assert one_look < 0.002


async def test_one_alone(place):
    took = []
    for number in range(5):
        began = time.perf_counter()
        await place.running(f"default.bot-{number}")
        took.append(time.perf_counter() - began)
    print(f"\none alone: {sorted(took)[2] * 1000:.0f} ms")
    assert min(took) < 2
