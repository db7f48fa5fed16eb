"""One manual clock for every module of the shell that asks what time it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, tzinfo
from unittest.mock import patch

from mainstay.shell import gather, pools, reconcile, recorder, runs
from mainstay.shell.jobs import gather as jobs_gather
from mainstay.shell.strategies import libraries, strategies

EPOCH = 1_000_000.0


class Clock:
    """Stands in for `time` and for `datetime`; moves only when told."""

    def __init__(self) -> None:
        self.seconds = EPOCH

    def monotonic(self) -> float:
        return self.seconds

    def now(self, tz: tzinfo | None = None) -> datetime:
        return datetime.fromtimestamp(self.seconds, tz or UTC)


CLOCK = Clock()


@contextmanager
def manual() -> Iterator[None]:
    """The shell on the manual clock, one pass per call of a reconciler."""
    with ExitStack() as stack:
        for module in (gather, runs, libraries, strategies):
            stack.enter_context(patch.object(module, "time", CLOCK))
        for module in (gather, pools, recorder, jobs_gather):  # the last for strategies too
            stack.enter_context(patch.object(module, "datetime", CLOCK))
        stack.enter_context(patch.object(reconcile, "PASSES", 1))
        yield
