"""What a pass may answer: write the status, act, or wait. Never two of them.

An act happens only under a claim that is already in status, so that a crash between any two steps
leaves a status from which the next pass reaches the same end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Keep the object until its teardown is done."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """Let the object go."""


@dataclass(frozen=True, slots=True)
class CreateLease:
    """Take the claimed port. Already ours is success; another's is found out by the next pass."""

    port: int
    pool: str | None = None  # none for a fixed port


@dataclass(frozen=True, slots=True)
class DeleteLease:
    """Give a port back; with preconditions, so that a lease created since is never hit."""

    name: str
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class StartUnit:
    """Start the claimed attempt; lifts every earlier stop or pause mark, unless `paused`."""

    attempt: int
    port: int | None
    inputs_hash: str
    paused: bool = False


@dataclass(frozen=True, slots=True)
class DefineUnit:
    """Write a lost definition again, around the living process."""

    attempt: int
    port: int | None
    inputs_hash: str


@dataclass(frozen=True, slots=True)
class StopUnit:
    """Begin the stop, or with `force` end every member."""

    grace_seconds: float
    force: bool = False
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class PauseUnit:
    """Pause it, by signal or by its own API, as spec.pause says."""


@dataclass(frozen=True, slots=True)
class ResumeUnit:
    """Let it go on."""


@dataclass(frozen=True, slots=True)
class RemoveUnit:
    """Forget a unit that has no live member."""

    owner_uid: str


@dataclass(frozen=True, slots=True)
class StartTask:
    """Run the claimed attempt of a task."""

    task: str
    attempt: int


@dataclass(frozen=True, slots=True)
class StopTask:
    """Begin to end a task's processes, or with `force` end every one."""

    task: str
    grace_seconds: float
    force: bool = False
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class RemoveTask:
    """Forget a task's unit, which has no live member."""

    task: str
    owner_uid: str


@dataclass(frozen=True, slots=True)
class RemoveRecords:
    """Forget everything that was kept of a job outside its status: units and outputs."""


@dataclass(frozen=True, slots=True)
class StoreOutputs:
    """Keep outputs that status has no room for in a ConfigMap."""

    task: str
    attempt: int


@dataclass(frozen=True, slots=True)
class ObserveAssets:
    """Have these assets looked at now, for one purpose: whatever was seen for another, or earlier, is too old."""

    refs: tuple[str, ...]
    purpose: str


@dataclass(frozen=True, slots=True)
class ObserveAccepts:
    """Have it looked up what an asset accepts."""


@dataclass(frozen=True, slots=True)
class CreateCompensation:
    """Make the batch that is claimed in status. One of ours that exists already is success."""


@dataclass(frozen=True, slots=True)
class DeleteCompensation:
    """Delete a batch that emptied the asset earlier, that very one."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Make a job of a batch. One that exists already is success."""

    name: str


@dataclass(frozen=True, slots=True)
class SetJobState:
    """Pass the batch's state on to a job, that very object."""

    name: str
    uid: str
    state: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a job of a batch, that very object."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class KeepSnapshot:
    """Keep these very bytes of the source, so that runs can have them whatever becomes of it."""

    file: str
    hash: str


@dataclass(frozen=True, slots=True)
class CreateStrategy:
    """Make the object of a file, or of a key of a ConfigMap. One that exists already is success."""

    name: str
    called: str
    file: str
    config_map: str


@dataclass(frozen=True, slots=True)
class SetSource:
    """Have the object, that very one, say where its strategy is now."""

    name: str
    uid: str
    file: str
    config_map: str


@dataclass(frozen=True, slots=True)
class DeleteStrategy:
    """Delete the object of a strategy that is gone, that very one."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class StartService:
    """Start the claimed attempt of a service."""

    service: str
    attempt: int


@dataclass(frozen=True, slots=True)
class DefineService:
    """Write a lost definition again, around the living process."""

    service: str
    attempt: int


@dataclass(frozen=True, slots=True)
class StopService:
    """Begin the stop of a service, or with `force` end every member."""

    service: str
    grace_seconds: float
    force: bool = False
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class ResumeService:
    """Let a service go on that somebody stopped by signal."""

    service: str


@dataclass(frozen=True, slots=True)
class RemoveService:
    """Forget a service's unit, which has no live member."""

    service: str
    owner_uid: str


@dataclass(frozen=True, slots=True)
class RemoveScope:
    """End a stack's supervisor and forget its scope: no unit lives."""


@dataclass(frozen=True, slots=True)
class EndHolders:
    """TERM, or with `force` KILL, to strangers that listen on these ports."""

    ports: tuple[int, ...]
    force: bool = False


@dataclass(frozen=True, slots=True)
class EndSupervisor:
    """End a stack's supervisor and remove its stale files."""

    seconds: float
    force: bool = False


@dataclass(frozen=True, slots=True)
class StartSupervisor:
    """Have a supervisor of the stack that answers."""


@dataclass(frozen=True, slots=True)
class DeleteRestart:
    """Delete a restart that was kept long enough, that very one."""

    name: str
    uid: str


Finalizer = AddFinalizer | RemoveFinalizer
RunEffect = (
    CreateLease | DeleteLease | StartUnit | DefineUnit | StopUnit | PauseUnit | ResumeUnit | RemoveUnit
)
JobEffect = StartTask | StopTask | RemoveTask | RemoveRecords | StoreOutputs | ObserveAssets
AssetEffect = ObserveAssets | ObserveAccepts | CreateCompensation | DeleteCompensation
BatchEffect = CreateJob | SetJobState | DeleteJob
StrategyEffect = KeepSnapshot | CreateStrategy | SetSource | DeleteStrategy
StackEffect = (
    CreateLease
    | DeleteLease
    | StartService
    | DefineService
    | StopService
    | ResumeService
    | RemoveService
    | RemoveScope
)
RestartEffect = EndHolders | EndSupervisor | StartSupervisor | DeleteRestart
Action = (
    Finalizer
    | RunEffect
    | JobEffect
    | BatchEffect
    | StrategyEffect
    | StackEffect
    | RestartEffect
    | AssetEffect
)


@dataclass(frozen=True, slots=True)
class Write(Generic[S]):
    """Replace the status; nothing else happens in this pass."""

    status: S


@dataclass(frozen=True, slots=True)
class Act:
    """Have one effect under the claims already written."""

    action: Action


@dataclass(frozen=True, slots=True)
class ActAll:
    """Have several effects that don't depend on each other, side by side."""

    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until something changes, or until that many seconds have passed.

    `poll`: something is expected at any moment that may give no event; look again soon, then less often.
    `room`: this host runs as many tasks as it may; look again when one of them ends.
    """

    seconds: float | None = None
    poll: bool = False
    room: bool = False


Plan = Write[S] | Act | ActAll | Wait
