"""The seam between deciding and processes: the Runtime Protocol and its errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from mainstay.api.program import Readiness
from mainstay.core.asset.observation import ObservationError, Question
from mainstay.core.strategy.views import DirectorySource, FileView, Listing
from mainstay.core.unit import (
    GONE,
    LIVE,
    Exit,
    LogPolicy,
    Outcome,
    PauseCall,
    PortHolder,
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
    "LogPolicy",
    "ObservationError",
    "Outcome",
    "PauseCall",
    "PortHolder",
    "ProbeResult",
    "Probes",
    "ProcessId",
    "Question",
    "Runtime",
    "RuntimeUnavailableError",
    "Shelf",
    "SnapshotLostError",
    "SourceChangedError",
    "StackRuntime",
    "Stacks",
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


class SourceChangedError(Exception):
    """A file has other bytes now than when it was looked at, or is gone: look again."""


class SnapshotLostError(Exception):
    """The bytes of a hash are not kept here, or not whole any more."""


class Probes(Protocol):
    """Asks where the truth about assets is. Nothing of an answer is kept, and nothing outlives the question."""

    async def ask(self, question: Question) -> Any:
        """The JSON that was answered. Raises ObservationError with what went wrong, in words without secrets.

        A GET counts with status 200 alone, a command with exit code 0; neither may take longer than
        `timeout_seconds`, nor answer more than ANSWER_BYTES, nor with anything but JSON. A command's processes are
        gone when this returns or raises, also when it is cancelled.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


ANSWER_BYTES = 1024 * 1024
"""Longest answer of a probe."""


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

    async def strategies(self) -> Collection[str]:
        """STRATEGY_HASH of every unit known here, whoever owns it: code that a restart would need."""
        ...


class StackRuntime(Runtime, Protocol):
    """One stack's own scope: its units are named as its services are, and its supervisor is nobody else's."""

    async def supervisor(self) -> ProcessId | None:
        """The supervisor that answers now; None when it is dead, hung, or being replaced."""
        ...

    async def end_supervisor(self, *, seconds: float, force: bool = False) -> None:
        """End the supervisor, cleanly within that many seconds, else (or with `force`, at once) by KILL.

        Returns once it is gone and its socket and pid file are removed, stale ones too. No effect on units: stop
        them first, or they go on as orphans. A new one is started by `ensure_supervisor`, or soon by itself.
        """
        ...

    async def ensure_supervisor(self) -> None:
        """Have a supervisor that answers. Raises RuntimeUnavailableError with its last words."""
        ...

    async def holders(self, ports: Iterable[int]) -> Sequence[PortHolder]:
        """Every process that listens on one of these ports, by port; several can share one."""
        ...

    async def end_holders(self, ports: Collection[int], *, force: bool = False) -> None:
        """TERM, or with `force` KILL, to strangers that listen on these ports, as a user asked.

        Each is found anew by its socket, held by a pidfd and looked at again before the signal. Never to pid 1, to a
        part of Mainstay, to a unit of any scope or home, nor to a client of the port. Returns without waiting.
        """
        ...

    def keep_logs(self, policy: LogPolicy) -> None:
        """Rotate logs by these sizes from now on, and keep links to them in a directory."""
        ...


class Stacks(Protocol):
    """The scopes of stacks on this host. A key is (namespace, name) of the ServiceStack."""

    async def open(self, key: tuple[str, str]) -> StackRuntime:
        """The stack's scope, made and supervised if it is new. Raises RuntimeUnavailableError."""
        ...

    def known(self) -> Sequence[tuple[str, str]]:
        """Stacks that have a scope on this host, also those whose object is gone; sorted."""
        ...

    async def remove(self, key: tuple[str, str]) -> None:
        """End the stack's supervisor and forget its scope. Raises RuntimeUnavailableError while units live."""
        ...

    def changes(self) -> AsyncIterator[tuple[str, str]]:
        """Keys of stacks of which a unit or the supervisor may have changed. Never ends."""
        ...


class Shelf(Protocol):
    """Strategies on this host: directories that are watched, and a snapshot of every content that was offered.

    A key is (namespace, library).
    """

    def watch(self, key: tuple[str, str], source: DirectorySource | None) -> None:
        """Watch a directory, or forget it. No effect for the source that is watched already."""
        ...

    async def listing(self, key: tuple[str, str], held: Mapping[str, str] | None = None) -> Listing:
        """What the directory has: read anew if it may have changed. Raises KeyError if it isn't watched.

        Of several files of one strategy name the one that `held` (name → file) names counts, else the first.
        """
        ...

    def known(self, key: tuple[str, str]) -> Listing | None:
        """What it had when it was last read."""
        ...

    def dirty(self, key: tuple[str, str]) -> None:
        """What was known of it is wrong: it must be read anew."""
        ...

    def changes(self) -> AsyncIterator[tuple[str, str]]:
        """Keys whose directory may have changed and is still again. Never ends."""
        ...

    async def read(self, key: tuple[str, str], view: FileView) -> bytes:
        """The bytes that were seen. Raises SourceChangedError."""
        ...

    async def problem(self, file: str, data: bytes) -> str | None:
        """Why this can't be run, with the line; None if it can. Nothing of it is executed."""
        ...

    def has(self, content: str) -> bool:
        """Whether there is a snapshot of that hash."""
        ...

    def kept_as(self, content: str, name: str) -> str | None:
        """The file name under which a snapshot was kept for the strategy of that name; None if it never was."""
        ...

    async def keep(self, content: str, file: str, data: bytes) -> None:
        """Make a snapshot. Raises ValueError if these aren't the bytes of that hash."""
        ...

    async def place(self, content: str, file: str) -> str:
        """Absolute path of the snapshot under that file name, its bytes verified. Raises SnapshotLostError."""
        ...

    async def prune(self, used: Collection[str]) -> Collection[str]:
        """Remove what is not used, but for the newest; the hashes that went."""
        ...
