"""What a failed start tells a user, and when it is tried again."""

from __future__ import annotations

from mainstay.core import reasons
from mainstay.core.backoff import delay
from mainstay.core.snapshot import Problem
from mainstay.core.unitspec import SourceNotFoundError
from mainstay.runtime.base import RuntimeUnavailableError, UnitRefusedError
from mainstay.shell.reconcile import Memory

QUIET_FAILURES = 3
"""Failures of the runtime in a row that are not worth telling anybody."""

TOLD = (UnitRefusedError, SourceNotFoundError, RuntimeUnavailableError)


def problem_of(
    error: UnitRefusedError | SourceNotFoundError | RuntimeUnavailableError, memory: Memory
) -> Problem:
    """The problem to show. Raises the error again while it is one of the runtime's first few in a row."""
    match error:
        case UnitRefusedError():
            return Problem(error.reason, str(error), needs_person=True, retry_seconds=60.0, refused=True)
        case SourceNotFoundError():
            return Problem(error.reason, str(error), needs_person=True, retry_seconds=5.0)
        case _:
            memory.failures += 1
            if memory.failures <= QUIET_FAILURES:
                raise error
            wait = delay(memory.failures - QUIET_FAILURES, initial=0.5, cap=10.0)
            return Problem(reasons.RUNTIME_UNAVAILABLE, str(error), needs_person=False, retry_seconds=wait)
