"""The operator crashes before or after any effect of any verb; the next one ends where it would have."""

from __future__ import annotations

import pytest
from tests.contract.harness import eventually

from mainstay.runtime import effects
from mainstay.runtime.base import UnitState

BOT = "default.bot"


class Crash(BaseException):
    """The operator is gone."""


async def at_work(place):
    return await place.until(BOT, UnitState.RUNNING)


STORIES = {
    "start": (lambda place: place.runtime.start(place.spec()), UnitState.RUNNING),
    "define": (lambda place: place.runtime.define(place.spec()), UnitState.RUNNING),
    "pause": (lambda place: place.runtime.pause(BOT), UnitState.PAUSED),
    "resume": (lambda place: place.runtime.resume(BOT), UnitState.RUNNING),
    "stop": (lambda place: place.runtime.stop(BOT, grace_seconds=5), UnitState.EXITED),
    "force": (lambda place: place.runtime.stop(BOT, grace_seconds=5, force=True), UnitState.EXITED),
    "remove": (lambda place: place.runtime.remove(BOT, "uid-1"), UnitState.ABSENT),
}


async def prepare(place, verb):
    if verb == "start":
        return
    await place.running()
    if verb == "resume":
        await place.runtime.pause(BOT)
    if verb == "remove":
        await place.runtime.stop(BOT, grace_seconds=5)
        await place.until(BOT, UnitState.EXITED)


async def back_to_nothing(place):
    await place.runtime.stop(BOT, grace_seconds=0, force=True)
    await place.until(BOT, UnitState.EXITED, UnitState.ABSENT)
    await place.runtime.remove(BOT, "uid-1")
    await place.until(BOT, UnitState.ABSENT)


@pytest.mark.parametrize("verb", STORIES)
async def test_a_crash_around_any_effect(place, verb):
    act, end = STORIES[verb]
    names: list[str] = []
    await prepare(place, verb)
    with effects.hooked(names.append):
        await act(place)
        await place.until(BOT, end)
    total = len(names)
    assert total > 0
    for when in ("before", "after"):
        for number in range(min(total, 12)):
            await back_to_nothing(place)
            await prepare(place, verb)
            seen: list[str] = []

            def hook(name, seen=seen, number=number):
                seen.append(name)
                if len(seen) == number + 1:
                    raise Crash(name)

            with effects.hooked(**{f"on_{when}": hook}):
                try:  # noqa: SIM105 - the crash may also hit a task in the background
                    await act(place)
                except Crash:
                    pass
            await place.runtime.close()
            place.runtime = await place.another()
            await act(place)
            state = await place.until(BOT, end)
            if end is UnitState.RUNNING:
                assert state.defined
    await eventually(lambda: True)
