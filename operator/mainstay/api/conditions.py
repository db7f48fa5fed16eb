"""Conditions: a list-map by type, as Kubernetes and kstatus read them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from mainstay.api.meta import Count, Model


class ConditionStatus(StrEnum):
    """Kubernetes' three values."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """One observation about an object, with a reason (CamelCase, for machines) and a message (for people)."""

    type: str = Field(description="Kind of condition, in CamelCase.", max_length=64)
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: str = Field(description="Why, in one CamelCase word.", max_length=64)
    message: str = Field("", description="Why, in words, and what to do.", max_length=4096)
    last_transition_time: datetime = Field(description="When status last changed.")
    observed_generation: Count = Field(0, description="metadata.generation this was computed from.")


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of that type, or None."""
    return next((c for c in conditions if c.type == kind), None)


def condition(
    kind: str, value: ConditionStatus | bool, reason: str, message: str, *, now: datetime, generation: int
) -> Condition:
    """A condition observed now, of that generation; True and False as booleans, words as long as fit."""
    if not isinstance(value, ConditionStatus):
        value = ConditionStatus.TRUE if value else ConditionStatus.FALSE
    return Condition(
        type=kind,
        status=value,
        reason=reason,
        message=message[:4096],
        last_transition_time=now,
        observed_generation=generation,
    )


def merge(old: Iterable[Condition], new: Iterable[Condition], now: datetime) -> tuple[Condition, ...]:
    """`new`, each keeping the transition time of its predecessor where the status did not change.

    Types absent from `new` are dropped: a pass states every condition it stands for.
    """
    before = {c.type: c for c in old}
    merged = []
    for condition in new:
        previous = before.get(condition.type)
        since = previous.last_transition_time if previous and previous.status == condition.status else now
        merged.append(condition.model_copy(update={"last_transition_time": since}))
    return tuple(merged)
