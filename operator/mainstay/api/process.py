"""A process as status tells of it."""

from __future__ import annotations

from pydantic import Field

from mainstay.api.meta import Count, Model


class ProcessStatus(Model):
    """The leader of a unit's process tree."""

    pid: int = Field(description="Process id.", ge=1, le=2**22)
    start_ticks: Count = Field(description="Start time in clock ticks since boot; with pid, an identity.")
    boot_id: str = Field(description="Boot the pid belongs to.", max_length=64)
