"""Probes in memory: they answer what they were told, at once or when they are let. They ship with the package."""

from __future__ import annotations

import types
from collections.abc import Generator
from copy import deepcopy
from typing import Any

from mainstay.core.asset.observation import ObservationError, Question

Key = str | tuple[str, ...]
"""The url, or the command, of a question."""


def key_of(question: Question) -> Key:
    """What its answer is kept under."""
    return question.argv or question.url


class FakeProbes:
    """Implements Probes. Without an answer a question fails, as a server that isn't there.

    Nothing here needs an event loop: a question that is held back stands still at a bare `yield`, again every time it
    is driven on, until it is let go.
    """

    def __init__(self) -> None:
        self.answers: dict[Key, Any] = {}
        """By url or command: JSON, an exception, or a function of the question that returns one or the other.

        A failure is an ObservationError; another exception comes as it is, such as the death of the operator.
        """
        self.asked: list[Question] = []
        """Every question, when it was asked."""
        self.answered: list[Question] = []
        """Every question that came to its end, with an answer or a failure; one that was cancelled did not."""
        self.waiting = 0
        """Questions that are held back now."""
        self.closed = False
        self._held: set[Key] = set()
        self._all_held = False

    def hold(self, *keys: Key) -> None:
        """Let questions of these keys wait before they are answered; without a key, every question."""
        self._held.update(keys)
        self._all_held = self._all_held or not keys

    def let(self, *keys: Key) -> None:
        """Answer these again, the waiting ones with what is the answer then; without a key, all."""
        self._held.difference_update(keys)
        if not keys:
            self._held.clear()
            self._all_held = False

    async def ask(self, question: Question) -> Any:
        """See Probes."""
        key = key_of(question)
        self.asked.append(question)
        self.waiting += 1
        try:
            while self._all_held or key in self._held:
                await _turn()
        finally:
            self.waiting -= 1
        self.answered.append(question)
        if key not in self.answers:
            raise ObservationError(f"{question.shown}: nothing answers")
        found = self.answers[key]
        if callable(found):
            found = found(question)
        if isinstance(found, BaseException):
            raise found
        return deepcopy(found)

    async def close(self) -> None:
        """See Probes."""
        self.closed = True


@types.coroutine
def _turn() -> Generator[None, None, None]:
    """Whoever drives goes on when it likes; an event loop does at its next turn."""
    yield
