"""Whose turn it is to be restarted: spec.rollout of a library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UserView:
    """A run that uses the strategy, and should be running."""

    key: tuple[str, str]
    available: bool  # it runs, serves, and nobody has begun to restart it
    outdated: bool  # it has to be restarted


def allowance(max_unavailable: int | str, users: int) -> int:
    """How many of so many users may be unavailable; at least one, or nothing would ever move."""
    if isinstance(max_unavailable, int):
        return max_unavailable
    return max(1, users * int(max_unavailable.removesuffix("%")) // 100)


def has_turn(key: tuple[str, str], users: Sequence[UserView], allowed: int) -> bool:
    """Whether this one may be restarted now: in the order of names, as many as are allowed.

    One that is not available anyhow costs nobody anything.
    """
    if allowed >= len(users):
        return True
    if not any(user.key == key and user.available for user in users):
        return True
    left = allowed - sum(1 for user in users if not user.available)
    return sum(1 for user in users if user.available and user.outdated and user.key < key) < left
