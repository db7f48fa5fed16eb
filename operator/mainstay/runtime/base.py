"""The seam between deciding and processes: a unit, its closed set of states, and the Runtime Protocol.

A *unit* is one process tree with a name. The name is a mutex: however often `start` is called, and by
however many operators, at most one tree of that name lives. The attempt is a label on it, not part of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from mainstay.api.program import Limits, Readiness, RestartPolicy


class UnitState(StrEnum):
    """Every state a unit can be observed in."""

    ABSENT = "Absent"  # no record and no live member
    WAITING = "Waiting"  # its fence stands before exec: starting, or ending what an earlier leader left
    HELD = "Held"  # its fence waits: paused, stopped or braked before exec; nothing of the user's runs
    BACKOFF = "Backoff"  # its fence waits out the delay after a crash
    RUNNING = "Running"  # the leader is the user's program
    PAUSED = "Paused"  # every member is stopped, or the program confirmed its own pause
    STOPPING = "Stopping"  # a stop was begun; members still live
    EXITED = "Exited"  # it has a record, and no member lives


LIVE = (
    UnitState.WAITING,
    UnitState.HELD,
    UnitState.BACKOFF,
    UnitState.RUNNING,
    UnitState.PAUSED,
    UnitState.STOPPING,
)
"""States in which a process of the unit exists, the fence included."""

GONE = (UnitState.ABSENT, UnitState.EXITED)
"""States in which no process of the unit exists, so its port may be given back."""


class RuntimeUnavailableError(Exception):
    """The runtime can't act now (supervisord is starting, hung, out of descriptors). Retried with backoff."""


class UnitRefusedError(Exception):
    """This unit can never start as declared; the user must change something.

    `reason` is a CamelCase word for the condition, the message says what and what to do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, safe against pid reuse: start time in ticks since boot, and the boot."""

    pid: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class Exit:
    """How the last process of a unit ended. Code and signal are None where nobody could see it."""

    code: int | None = None
    signal: int | None = None
    last_lines: tuple[str, ...] = ()  # of stderr, newest last, at most 5 of at most 400 characters


@dataclass(frozen=True, slots=True)
class Unit:
    """What was seen of one unit."""

    name: str
    state: UnitState
    owner_uid: str = ""
    attempt: int = 0
    port: int | None = None
    inputs_hash: str = ""
    leader: ProcessId | None = None
    started_at: float | None = None  # wall clock, seconds since the epoch
    restarts: int = 0  # by the supervisor, within the attempt
    exit: Exit | None = None  # of the process before the present one
    stopping_seconds: float | None = None  # since the stop was begun, on a clock that never jumps
    held_locally: bool = False  # braked by `mainstay stop --offline`
    defined: bool = True  # its files and the supervisor's program are as `start` left them


@dataclass(frozen=True, slots=True)
class PauseCall:
    """A POST to the unit's control port that pauses or resumes it, instead of signals."""

    path: str
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class UnitSpec:
    """Everything needed to start a unit. Values may hold secrets: never logged, 0600 on disk."""

    name: str
    owner_uid: str
    attempt: int
    argv: tuple[str, ...]  # with $(NAME) still in it: some names are known to the runtime only
    inputs_hash: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    port: int | None = None
    working_dir: str | None = None
    user: str | None = None
    umask: int = 0o077
    nice: int | None = None
    limits: Limits | None = None
    config_name: str = "config"  # file name of CONFIG_PATH, with the format's suffix
    config: bytes | None = field(default=None, repr=False)
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    grace_seconds: float = 30.0
    paused: bool = False  # start held before exec, as a paused run that was killed comes back


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Whether the unit serves, and why not in words."""

    ready: bool
    message: str = ""


class Runtime(Protocol):
    """What the shell needs of a place where units live. Every method is idempotent.

    All raise RuntimeUnavailableError when the runtime can't be reached; `start` and `define` raise
    UnitRefusedError for a unit that can never start as declared.
    """

    async def observe(self, name: str) -> Unit:
        """What is true of this unit now; state ABSENT if nothing is known of it."""
        ...

    async def units(self) -> Sequence[Unit]:
        """Every unit known here, also those whose owner object is gone."""
        ...

    async def start(self, spec: UnitSpec) -> None:
        """Make a tree of this name and attempt live. No effect while one of that attempt lives.

        Lifts an earlier stop. Returns once the supervisor has accepted it, not when it runs.
        """
        ...

    async def define(self, spec: UnitSpec) -> None:
        """Write the unit's files and the supervisor's program again, without touching its processes."""
        ...

    async def stop(
        self, name: str, *, grace_seconds: float, force: bool = False, deleting: bool = False
    ) -> None:
        """Begin to stop: record the intent, TERM. With `force`: KILL every member now.

        `deleting` marks that the deletion of its owner was witnessed, so that a sweep may finish it.
        """
        ...

    async def pause(self, name: str, call: PauseCall | None = None) -> None:
        """Hold first, so that a killed unit comes back held; then STOP every member, or make the call."""
        ...

    async def resume(self, name: str, call: PauseCall | None = None) -> None:
        """The reverse of `pause`."""
        ...

    async def remove(self, name: str, owner_uid: str) -> None:
        """Forget a unit without live members: program, files, data, logs. No effect for another owner's."""
        ...

    async def probe(self, name: str, readiness: Readiness, port: int | None) -> ProbeResult:
        """Ask once whether it serves. Only a listener that belongs to the unit counts."""
        ...

    async def foreign_ports(self, ports: Iterable[int], name: str) -> Mapping[int, str]:
        """Which of these ports a process outside unit `name` listens on: port → who, in words."""
        ...

    def changes(self) -> AsyncIterator[str]:
        """Names of units that may have changed, as it happens. Never ends; may repeat or miss none."""
        ...
