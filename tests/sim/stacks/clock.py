"""The manual clock for what stacks have of the shell, and what one pass does side by side one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from tests.sim.clock import CLOCK
from tests.sim.jobs.clock import ORDER, Side

from mainstay.shell import probing
from mainstay.shell.stacks import gather, restarts, stacks


class Questions:
    """`asyncio.gather` for what is only asked: one after the other, and the first error ends it."""

    @staticmethod
    async def gather(*coroutines: Awaitable[Any], return_exceptions: bool = False) -> list[Any]:
        if return_exceptions:
            return await Side.gather(*coroutines, return_exceptions=True)
        answers = []
        left = list(coroutines)
        try:
            while left:
                answers.append(await left.pop(0))
        finally:
            for one in left:
                one.close()  # type: ignore[attr-defined]
        return answers


@contextmanager
def manual_stacks() -> Iterator[None]:
    """Stacks on the manual clock; `tests.sim.clock.manual` is the other half."""
    with ExitStack() as stack:
        for timed in (gather, restarts, stacks, probing):
            stack.enter_context(patch.object(timed, "time", CLOCK))
        for dated in (gather, restarts):
            stack.enter_context(patch.object(dated, "datetime", CLOCK))
        for asks in (gather, restarts, stacks):
            stack.enter_context(patch.object(asks, "asyncio", Questions))
        yield


__all__ = ["ORDER", "manual_stacks"]
