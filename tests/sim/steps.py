"""Coroutines driven by hand: every call to the outside is a step at which the world may do something else."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from mainstay.runtime.base import RuntimeUnavailableError
from mainstay.shell.kube import ApiUnavailableError


@types.coroutine
def step(label: str) -> Generator[str, None, None]:
    """Stand still before or after an effect; whoever drives may go on, raise here, or never come back."""
    yield label


def drive(
    coroutine: Coroutine[Any, Any, Any], at: Callable[[str], BaseException | None] | None = None
) -> Any:
    """Run to the end. `at` sees every step and may answer what is raised there."""
    error: BaseException | None = None
    try:
        while True:
            label = coroutine.send(None) if error is None else coroutine.throw(error)
            error = at(label) if at else None
    except StopIteration as end:
        return end.value
    finally:
        coroutine.close()


OF_THE_API = ("put", "finalizer", "create", "delete", "read")


class Faults:
    """Raises at the n-th step of a pass what a lost request or a lost answer looks like there."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, label: str) -> BaseException | None:
        self._left -= 1
        if self._left != -1:
            return None
        if label.removeprefix("done ").startswith(OF_THE_API):
            return ApiUnavailableError(0, "Unavailable", f"lost at {label}")
        return RuntimeUnavailableError(f"lost at {label}")
