"""A unit as it is observed and as it is declared.

A *unit* is one process tree with a name. The name is a mutex: however often it is started, and by
however many operators, at most one tree of that name lives. The attempt is a label on it, not part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mainstay.api.process import ProcessStatus
from mainstay.api.program import Limits, RestartPolicy


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


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, safe against pid reuse: start time in ticks since boot, and the boot."""

    pid: int
    start_ticks: int
    boot_id: str

    @property
    def status(self) -> ProcessStatus:
        """As a status tells of it."""
        return ProcessStatus(pid=self.pid, start_ticks=self.start_ticks, boot_id=self.boot_id)


@dataclass(frozen=True, slots=True)
class Exit:
    """How the last process of a unit ended. Code and signal are None where nobody could see it."""

    code: int | None = None
    signal: int | None = None
    last_lines: tuple[str, ...] = ()  # of stderr, newest last, at most 5 of at most 400 characters


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt of a task ended, as its own record on disk says; it never changes again."""

    attempt: int
    exit: Exit
    ended_at: float  # wall clock, seconds since the epoch
    timed_out: bool = False
    interrupted: bool = False  # a stop had been begun, or the machine was being shut down
    outputs: bytes | None = field(default=None, repr=False)  # of OUTPUTS_PATH; None when nothing was written
    outputs_problem: str = ""  # why what was written can't be taken: too large, unreadable

    @property
    def succeeded(self) -> bool:
        """The program ended with exit code 0. Whether its outputs can be read is another question."""
        return self.exit.code == 0


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
    stopping_seconds: float | None = None  # since a stop was begun that no start has lifted; never jumps
    stop_told: bool = True  # the leader has got its TERM; False after a crash between intent and signal
    pause_marked: bool = False  # a pause was begun that nobody has lifted, whatever came of it
    held_locally: bool = False  # braked by `mainstay stop --offline`
    deletion_witnessed: bool = False  # its owner's deletion was seen, so that a sweep may finish it
    grace_seconds: float | None = None  # as it was declared; None when nothing tells
    defined: bool = True  # its files and the supervisor's program are as `start` left them
    assets: tuple[str, ...] = ()  # of a task: assets of its namespace that it has to itself
    outcome: Outcome | None = (
        None  # of a task's latest attempt; None while it runs, and when its end was lost
    )


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
    inputs: bytes | None = field(default=None, repr=False)  # of a task: what INPUTS_PATH holds
    timeout_seconds: float | None = None  # of a task: how long an attempt may take
    assets: tuple[str, ...] = ()  # of a task: assets of its namespace that it has to itself


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Whether the unit serves, and why not in words."""

    ready: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class PortHolder:
    """A process that listens on an assigned port, or a socket whose process could not be seen, or of nobody."""

    port: int
    words: str  # who, for people: pid 812 (nginx); uid 1001, pid unknown; a socket that is bound but does not listen
    process: ProcessId | None = None
    unit: str = ""  # the unit of this stack that it belongs to
    protected: str = (
        ""  # of others: why it is never ended, "it is part of Mainstay"; empty for a mere stranger
    )
    passing: bool = False  # it goes by itself within a minute: closed connections, which the kernel keeps

    @property
    def stranger(self) -> bool:
        """It is no process of this stack."""
        return not self.unit

    @property
    def endable(self) -> bool:
        """A flush that a user asked for may end it."""
        return self.stranger and self.process is not None and not self.protected and not self.passing


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """Sizes of the logs of a stack's services, and where links to them are put."""

    max_bytes: int = 10 * 1024 * 1024
    backups: int = 3
    directory: str | None = None
