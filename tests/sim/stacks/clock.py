"""The manual clock for what stacks have of the shell, and what one pass does side by side one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from tests.sim.clock import CLOCK
from tests.sim.jobs.clock import ORDER, Side

from mainstay.shell import probing
from mainstay.shell.stacks import gather, restarts, stacks


class Answer:
    """A task that was over at once: what it asks for is in memory."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._error: Exception | None = None
        try:
            while True:
                coroutine.send(None)  # nothing comes between a question and its answer
        except StopIteration as end:
            self._value = end.value
        except Exception as error:
            self._error = error

    def done(self) -> bool:
        return True

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    def add_done_callback(self, told: Callable[[Any], object]) -> None:
        told(self)


class Questions:
    """`asyncio` for what is only asked: one after the other, and the first error of a gather ends it."""

    create_task = Answer

    @staticmethod
    async def wait(tasks: Iterable[Answer], timeout: float) -> None:
        """They are over."""

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
