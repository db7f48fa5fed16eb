"""The manual clock for what jobs have of the shell, and effects of one pass one after the other."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from tests.sim.clock import CLOCK

from mainstay.shell.jobs import batches, gather, reconciler

ORDER = random.Random()
"""In which order effects of one pass happen; a world seeds it."""


class Side:
    """`asyncio.gather` for coroutines that are driven by hand: side by side becomes one after the other."""

    @staticmethod
    async def gather(*coroutines: Awaitable[Any], return_exceptions: bool = False) -> list[Any]:
        assert return_exceptions
        answers: list[Any] = [None] * len(coroutines)
        numbers = list(range(len(coroutines)))
        ORDER.shuffle(numbers)
        left = list(numbers)
        try:
            for number in numbers:
                left.remove(number)
                try:
                    answers[number] = await coroutines[number]
                except Exception as error:
                    answers[number] = error
        finally:
            for number in left:
                coroutines[number].close()  # type: ignore[attr-defined]
        return answers


@contextmanager
def manual_jobs() -> Iterator[None]:
    """Jobs on the manual clock; `tests.sim.clock.manual` is the other half."""
    with ExitStack() as stack:
        for module in (gather, reconciler, batches):
            stack.enter_context(patch.object(module, "time", CLOCK))
        stack.enter_context(patch.object(gather, "datetime", CLOCK))
        for module in (reconciler, batches):
            stack.enter_context(patch.object(module, "asyncio", Side))
        yield
