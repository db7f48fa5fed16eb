"""The seam between deciding and processes: the Runtime Protocol and its errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Protocol

from mainstay.api.program import Readiness
from mainstay.core.unit import (
    GONE,
    LIVE,
    Exit,
    Outcome,
    PauseCall,
    ProbeResult,
    ProcessId,
    Unit,
    UnitSpec,
    UnitState,
)

__all__ = [
    "GONE",
    "LIVE",
    "Exit",
    "Outcome",
    "PauseCall",
    "ProbeResult",
    "ProcessId",
    "Runtime",
    "RuntimeUnavailableError",
    "TaskRuntime",
    "Unit",
    "UnitRefusedError",
    "UnitSpec",
    "UnitState",
]


class RuntimeUnavailableError(Exception):
    """The runtime can't act now (supervisord is starting, hung, out of descriptors). Retried with backoff."""


class UnitRefusedError(Exception):
    """This unit can never start as declared; the user must change something.

    `reason` is a CamelCase word for the condition, the message says what and what to do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TaskRuntime(Protocol):
    """Units that run to completion, once per attempt. Every method is idempotent.

    All raise RuntimeUnavailableError when the runtime can't be reached; `start` raises UnitRefusedError for a
    unit that can never start as declared.
    """

    async def observe(self, name: str) -> Unit:
        """What is true of this unit now; state ABSENT if nothing is known of it.

        Of a task: `attempt` is the latest one that was claimed here, RUNNING while anything of it lives,
        EXITED with its `outcome` afterwards, or without one when its end was lost; `started_at` is None when
        its program was never executed.
        """
        ...

    async def units(self) -> Sequence[Unit]:
        """Every unit known here, also those whose owner object is gone."""
        ...

    async def names(self) -> Sequence[str]:
        """Names of all units that have a record here, without a look at any of them."""
        ...

    async def start(self, spec: UnitSpec) -> None:
        """Make a tree of this name and attempt live. No effect while one of that attempt lives.

        Lifts an earlier stop. Returns once the supervisor has accepted it, not when it runs. Of a task:
        returns once the attempt is claimed, and has no effect for one that was ever claimed before.
        """
        ...

    async def stop(
        self, name: str, *, grace_seconds: float, force: bool = False, deleting: bool = False
    ) -> None:
        """Begin to stop: record the intent, TERM. With `force`: KILL every member now.

        `deleting` marks that the deletion of its owner was witnessed, so that a sweep may finish it.
        """
        ...

    async def remove(self, name: str, owner_uid: str) -> None:
        """Forget a unit without live members: program, files, data, logs. No effect for another owner's."""
        ...

    def changes(self) -> AsyncIterator[str]:
        """Names of units that may have changed, as it happens. Never ends; may repeat or miss none."""
        ...


class Runtime(TaskRuntime, Protocol):
    """What the shell needs of a place where units live that run until they are stopped, and serve."""

    async def define(self, spec: UnitSpec) -> None:
        """Write the unit's files and the supervisor's program again, without touching its processes.

        Raises UnitRefusedError as `start` does.
        """
        ...

    async def pause(self, name: str, call: PauseCall | None = None) -> None:
        """Hold first, so that a killed unit comes back held; then STOP every member, or make the call."""
        ...

    async def resume(self, name: str, call: PauseCall | None = None) -> None:
        """The reverse of `pause`."""
        ...

    async def probe(self, name: str, readiness: Readiness, port: int | None) -> ProbeResult:
        """Ask once whether it serves. Only a listener that belongs to the unit counts."""
        ...

    async def foreign_ports(self, ports: Iterable[int], name: str) -> Mapping[int, str]:
        """Which of these ports a process outside unit `name` listens on: port → who, in words."""
        ...
