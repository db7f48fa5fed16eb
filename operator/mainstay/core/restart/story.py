"""The events of a restart: that it began, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator

from mainstay.api.conditions import find
from mainstay.api.stackrestart import RestartPhase, StackRestart, StackRestartStatus
from mainstay.core.run.story import Event


def events(before: StackRestart, new: StackRestartStatus) -> Iterator[Event]:
    """What happened that is worth telling."""
    old = before.status
    if old.phase is new.phase:
        return
    ready = find(new.conditions, "Ready")
    words = ready.message if ready is not None else ""
    if new.phase is RestartPhase.RUNNING:
        yield Event("Normal", "Restarting", f"{before.spec.mode} restart of {before.spec.stack} begun")
    elif new.phase is RestartPhase.COMPLETED:
        yield Event("Normal", "Completed", words)
    elif new.phase is RestartPhase.FAILED:
        yield Event("Warning", "Failed", words)
