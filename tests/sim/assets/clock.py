"""The manual clock for what assets have of the shell, and looks in the background as coroutines that are driven by hand."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from tests.sim.clock import CLOCK

from mainstay.core.asset import decide as asset_core
from mainstay.core.batch import decide as batch_core
from mainstay.core.job import decide as job_core
from mainstay.shell.assets import assets, gather, observer
from mainstay.shell.jobs import batches, reconciler


class Look:
    """A task that goes on when it is driven, and only then."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        self.name = name
        self.over = False
        self.at = ""  # the step that it stands at
        self._coroutine = coroutine

    def go(self) -> None:
        """To the next step."""
        try:
            self.at = str(self._coroutine.send(None))
        except StopIteration:
            self.over = True

    def cancel(self) -> None:
        """It never goes on; its last words are said."""
        if not self.over:
            self.over = True
            self._coroutine.close()


class Background:
    """`asyncio` for the observer: what it begins is left to whom `looks` belongs to."""

    def __init__(self) -> None:
        self.looks: list[Look] = []

    def create_task(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> Look:
        look = Look(coroutine, name)
        self.looks.append(look)
        return look


BACKGROUND = Background()
"""A world says whose looks begin, before it lets anybody go on."""


class Deciding:
    """What decides for whom goes on now: a world lays its log and its oracle around what the package decides."""

    def __init__(self) -> None:
        self.job: Callable[[Any], Any] = job_core.decide
        self.batch: Callable[[Any], Any] = batch_core.decide
        self.asset: Callable[[Any], Any] = asset_core.decide

    def of_job(self, s: Any) -> Any:
        return self.job(s)

    def of_batch(self, s: Any) -> Any:
        return self.batch(s)

    def of_asset(self, s: Any) -> Any:
        return self.asset(s)


DECIDING = Deciding()


class Even:
    """`random` without a jitter: when a look is due depends on nothing else."""

    @staticmethod
    def uniform(low: float, high: float) -> float:
        return (low + high) / 2


@contextmanager
def manual_assets() -> Iterator[None]:
    """Assets on the manual clock; `tests.sim.clock.manual` and `tests.sim.jobs.clock.manual_jobs` are the rest."""
    with ExitStack() as stack:
        for module in (assets, gather, observer):
            stack.enter_context(patch.object(module, "time", CLOCK))
        stack.enter_context(patch.object(observer, "asyncio", BACKGROUND))
        stack.enter_context(patch.object(observer, "random", Even))
        stack.enter_context(patch.object(reconciler, "decide", DECIDING.of_job))
        stack.enter_context(patch.object(batches, "decide", DECIDING.of_batch))
        stack.enter_context(patch.object(assets, "decide", DECIDING.of_asset))
        yield
