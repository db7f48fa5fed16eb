"""A TaskRuntime in memory: deterministic, without clocks or processes, and scriptable. It ships with the package.

It obeys the same contract tests as the real one. Time passes only through `advance`; programs do only what a
test tells them: `finish`, `lose`, `ignore_term`, or at their start what `auto` returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from mainstay.runtime import effects
from mainstay.runtime.base import (
    GONE,
    Exit,
    Outcome,
    ProcessId,
    RuntimeUnavailableError,
    TaskRuntime,
    Unit,
    UnitRefusedError,
    UnitSpec,
    UnitState,
)
from mainstay.runtime.fake import BOOT

OUTPUT_BYTES = 900 * 1024
LINES = 5


@dataclass(frozen=True, slots=True)
class Ending:
    """How a program ends at once: what `auto` returns. With `lost`, without a record."""

    code: int | None = 0
    signal: int | None = None
    outputs: bytes | None = None
    stderr: str = ""
    lost: bool = False


@dataclass(slots=True)
class _Task:
    spec: UnitSpec  # of the latest attempt
    state: UnitState = UnitState.RUNNING
    leader: ProcessId | None = None
    started_at: float | None = None
    stopping_since: float | None = None
    kill_at: float | None = None  # end of the grace of a stop or a timeout
    timed_out: bool = False
    deleting: bool = False
    exit: Exit | None = None
    outcome: Outcome | None = None


class FakeTaskRuntime:
    """Implements TaskRuntime. Every method that acts counts in `acts`, as (verb, unit)."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.available = True
        self.auto: Callable[[UnitSpec], Ending | None] | None = None
        self.acts: list[tuple[str, str]] = []
        self.started: list[UnitSpec] = []  # every program that was ever executed
        self._tasks: dict[str, _Task] = {}
        self._next_pid = 100
        self._ignores_term: set[str] = set()
        self._refused: dict[str, UnitRefusedError] = {}
        self._queues: set[asyncio.Queue[str]] = set()

    # -- the script ------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass; timeouts and graces that are over have their effect."""
        self.now += seconds
        for name, task in self._tasks.items():
            if task.state in GONE:
                continue
            timeout = task.spec.timeout_seconds
            begun = task.started_at if task.started_at is not None else self.now
            if timeout is not None and not task.timed_out and begun + timeout <= self.now:
                task.timed_out = True
                task.kill_at = min(task.kill_at or self.now + 1e9, begun + timeout + task.spec.grace_seconds)
                self._term(name, task)
            if task.state not in GONE and task.kill_at is not None and task.kill_at <= self.now:
                self._end(name, task, Ending(None, 9))

    def finish(self, name: str, code: int = 0, *, outputs: bytes | None = None, stderr: str = "") -> None:
        """The program of a living unit exits with this code."""
        self._end(name, self._living(name), Ending(code, None, outputs, stderr))

    def kill(self, name: str, signal: int = 9, *, stderr: str = "") -> None:
        """The program of a living unit dies by a signal from elsewhere."""
        self._end(name, self._living(name), Ending(None, signal, None, stderr))

    def lose(self, name: str) -> None:
        """A living unit dies, and nobody writes down how."""
        self._end(name, self._living(name), Ending(lost=True))

    def lose_everything(self) -> None:
        """A reboot: processes are gone, records stay."""
        for name, task in self._tasks.items():
            if task.state not in GONE:
                self._end(name, task, Ending(lost=True))
            task.stopping_since = None

    def ignore_term(self, name: str, ignores: bool = True) -> None:
        """Whether a stop or a timeout needs force."""
        (self._ignores_term.add if ignores else self._ignores_term.discard)(name)

    def refuse(self, name: str, error: UnitRefusedError | None) -> None:
        """Whether `start` of this unit is refused."""
        if error is None:
            self._refused.pop(name, None)
        else:
            self._refused[name] = error

    # -- TaskRuntime -----------------------------------------------------------------------------

    async def observe(self, name: str) -> Unit:
        """See TaskRuntime."""
        self._check()
        task = self._tasks.get(name)
        if task is None:
            return Unit(name, UnitState.ABSENT, defined=False)
        return Unit(
            name=name,
            state=task.state,
            owner_uid=task.spec.owner_uid,
            attempt=task.spec.attempt,
            port=task.spec.port,
            inputs_hash=task.spec.inputs_hash,
            leader=task.leader,
            started_at=task.started_at,
            exit=task.exit,
            stopping_seconds=None if task.stopping_since is None else self.now - task.stopping_since,
            deletion_witnessed=task.deleting,
            assets=task.spec.assets,
            outcome=task.outcome,
        )

    async def units(self) -> Sequence[Unit]:
        """See TaskRuntime."""
        return [await self.observe(name) for name in sorted(self._tasks)]

    async def names(self) -> Sequence[str]:
        """See TaskRuntime."""
        self._check()
        return sorted(self._tasks)

    async def start(self, spec: UnitSpec) -> None:
        """See TaskRuntime."""
        self._check(spec.name)
        if spec.attempt < 1:
            raise UnitRefusedError("InvalidAttempt", "attempts are counted from 1")
        task = self._tasks.get(spec.name)
        if task is not None:
            if task.state is UnitState.STOPPING:
                raise RuntimeUnavailableError(f"{spec.name} is still stopping")
            if task.state not in GONE:
                if task.spec.attempt != spec.attempt:
                    raise RuntimeUnavailableError(f"attempt {task.spec.attempt} of {spec.name} still lives")
                return
            if task.spec.owner_uid != spec.owner_uid:
                raise RuntimeUnavailableError(
                    f"{spec.name} is still another owner's; it must be removed first"
                )
            if spec.attempt <= task.spec.attempt:
                return
        with effects.effect("fake start"):
            self.acts.append(("start", spec.name))
            self._next_pid += 1
            leader = ProcessId(self._next_pid, self._next_pid, BOOT)
            task = self._tasks[spec.name] = _Task(replace(spec), leader=leader, started_at=self.now)
            self.started.append(task.spec)
            ending = self.auto(task.spec) if self.auto is not None else None
            if ending is not None:
                self._end(spec.name, task, ending)
        self._tell(spec.name)

    async def stop(
        self, name: str, *, grace_seconds: float, force: bool = False, deleting: bool = False
    ) -> None:
        """See TaskRuntime."""
        self._check()
        task = self._tasks.get(name)
        if task is None:
            return
        with effects.effect("fake stop"):
            self.acts.append(("stop", name))
            task.deleting = task.deleting or deleting
            if task.stopping_since is None:
                task.stopping_since = self.now
            if task.state in GONE:
                return
            task.state = UnitState.STOPPING
            if task.kill_at is None:
                task.kill_at = self.now + grace_seconds
            if force:
                self._end(name, task, Ending(None, 9))
            else:
                self._term(name, task)
        self._tell(name)

    async def remove(self, name: str, owner_uid: str) -> None:
        """See TaskRuntime."""
        self._check()
        task = self._tasks.get(name)
        if task is None or task.spec.owner_uid != owner_uid:
            return
        if task.state not in GONE:
            raise RuntimeUnavailableError(f"{name} still lives ({task.state})")
        with effects.effect("fake remove"):
            self.acts.append(("remove", name))
            del self._tasks[name]
        self._tell(name)

    async def changes(self) -> AsyncIterator[str]:
        """See TaskRuntime."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)

    # -- within ----------------------------------------------------------------------------------

    def _check(self, name: str = "") -> None:
        if not self.available:
            raise RuntimeUnavailableError("the fake runtime was told to be away")
        if name in self._refused:
            raise self._refused[name]

    def _tell(self, name: str) -> None:
        for queue in self._queues:
            queue.put_nowait(name)

    def _living(self, name: str) -> _Task:
        task = self._tasks[name]
        if task.state in GONE:
            raise ValueError(f"{name} does not live")
        return task

    def _term(self, name: str, task: _Task) -> None:
        if name not in self._ignores_term:
            self._end(name, task, Ending(None, 15))

    def _end(self, name: str, task: _Task, ending: Ending) -> None:
        lines = tuple(line for line in ending.stderr.splitlines() if line)[-LINES:]
        task.state, task.leader = UnitState.EXITED, None
        if ending.lost:
            task.exit = Exit(last_lines=lines)
        else:
            code = None if ending.signal is not None else ending.code
            task.exit = Exit(code, ending.signal, () if code == 0 else lines)
            large = ending.outputs is not None and len(ending.outputs) > OUTPUT_BYTES
            task.outcome = Outcome(
                attempt=task.spec.attempt,
                exit=task.exit,
                ended_at=self.now,
                timed_out=task.timed_out,
                outputs=None if large else ending.outputs,
                outputs_problem=f"the outputs are larger than {OUTPUT_BYTES // 1024} KiB" if large else "",
            )
        self._tell(name)


_implements: type[TaskRuntime] = FakeTaskRuntime
