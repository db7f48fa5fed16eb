"""Stacks in memory: deterministic and scriptable. They ship with the package, and obey the real ones' contract tests.

Beyond what FakeRuntime can be told: `occupy`, `listens_on`, `hang_supervisor`, `kill_supervisor`, `refuse_supervisor`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from mainstay.runtime import effects
from mainstay.runtime.base import (
    GONE,
    LogPolicy,
    PortHolder,
    ProcessId,
    RuntimeUnavailableError,
    StackRuntime,
    Stacks,
    UnitSpec,
    UnitState,
)
from mainstay.runtime.fake import BOOT, FakeRuntime

Key = tuple[str, str]
EXECUTES = (UnitState.RUNNING, UnitState.PAUSED, UnitState.STOPPING)


@dataclass(frozen=True, slots=True)
class _Stranger:
    port: int
    who: str
    ends_on: str | None
    protected: str
    passing: bool
    process: ProcessId | None


class FakeStackRuntime(FakeRuntime):
    """Implements StackRuntime. A dead or hung supervisor is replaced by `ensure_supervisor`, `start` and `advance`."""

    def __init__(self, told: Callable[[], None] = lambda: None, first_pid: int = 100) -> None:
        super().__init__()
        self._next_pid = first_pid
        self.log_policy: LogPolicy | None = None
        self._told = told
        self._supervisor: ProcessId | None = None
        self._hung = False
        self._refusal: str | None = None
        self._strangers: list[_Stranger] = []
        self._listens: dict[str, int | None] = {}

    # -- the script ------------------------------------------------------------------------------

    def occupy(
        self,
        port: int,
        who: str | None,
        *,
        ends_on: str | None = "TERM",
        protected: str = "",
        hidden: bool = False,
        passing: bool = False,
    ) -> None:
        """One more stranger listens on this port; `who` None: no stranger does any longer.

        It ends on TERM or KILL, on KILL only, or (None) never, as another user's process; `hidden`: only its
        socket can be seen; `passing`: closed connections of nobody, which `occupy(port, None)` lets go.
        """
        if who is None:
            self._strangers = [one for one in self._strangers if one.port != port]
        else:
            process = None if hidden or passing else self._process()
            self._strangers.append(_Stranger(port, who, ends_on, protected, passing, process))
        super().occupy(port, who or next((one.who for one in self._strangers if one.port == port), None))

    def listens_on(self, unit: str, port: int | None) -> None:
        """Where this unit listens while it lives, instead of its own port; None: nowhere."""
        self._listens[unit] = port

    def hang_supervisor(self) -> None:
        """It lives, and answers nothing."""
        self._hung = True
        self._tell_key()

    def kill_supervisor(self) -> None:
        """It dies; its units go on as orphans."""
        self._supervisor, self._hung = None, False
        self._tell_key()

    def refuse_supervisor(self, message: str | None) -> None:
        """Whether no new one can be started, with these last words."""
        self._refusal = message

    def advance(self, seconds: float) -> None:
        """See FakeRuntime. By then a dead or hung supervisor was replaced, if it can be."""
        super().advance(seconds)
        if not self._answers() and self._refusal is None:
            self._renew()

    def lose_everything(self) -> None:
        """See FakeRuntime."""
        super().lose_everything()
        self._strangers.clear()
        self._foreign.clear()
        self.kill_supervisor()

    # -- StackRuntime ----------------------------------------------------------------------------

    async def supervisor(self) -> ProcessId | None:
        """See StackRuntime."""
        self._check()
        return self._supervisor if self._answers() else None

    async def end_supervisor(self, *, seconds: float, force: bool = False) -> None:
        """See StackRuntime."""
        self._check()
        if self._supervisor is None:
            return
        killed = force or self._hung or bool(self.living())
        with effects.effect("fake end supervisor"):
            self.acts.append(("end supervisor", "KILL" if killed else "shutdown"))
            self.kill_supervisor()

    async def ensure_supervisor(self) -> None:
        """See StackRuntime."""
        self._check()
        if self._answers():
            return
        if self._refusal is not None:
            raise RuntimeUnavailableError(f"supervisord ended at once: {self._refusal}")
        with effects.effect("fake start supervisor"):
            self.acts.append(("start supervisor", ""))
            self._renew()

    async def holders(self, ports: Iterable[int]) -> Sequence[PortHolder]:
        """See StackRuntime."""
        self._check()
        wanted = set(ports)
        found = [
            PortHolder(one.port, one.who, one.process, protected=one.protected, passing=one.passing)
            for one in self._strangers
            if one.port in wanted
        ]
        for name, record in self._records.items():
            port = self._listens.get(name, record.port)
            if port in wanted and port is not None and record.leader and record.state in EXECUTES:
                words = f"pid {record.leader.pid} ({record.spec.argv[0]})"
                found.append(PortHolder(port, words, record.leader, name))
        return sorted(found, key=lambda one: (one.port, one.process.pid if one.process else 0))

    async def end_holders(self, ports: Collection[int], *, force: bool = False) -> None:
        """See StackRuntime."""
        self._check()
        for one in [one for one in self._strangers if one.port in ports]:
            if one.process is None or one.protected:
                continue
            number = "KILL" if force else "TERM"
            with effects.effect(f"fake flush {number} port {one.port}"):
                self.acts.append((f"flush {number}", str(one.port)))
                if one.ends_on == "TERM" or (one.ends_on == "KILL" and force):
                    self._strangers.remove(one)
                    rest = [other.who for other in self._strangers if other.port == one.port]
                    super().occupy(one.port, rest[0] if rest else None)

    def keep_logs(self, policy: LogPolicy) -> None:
        """See StackRuntime."""
        self.log_policy = policy

    async def start(self, spec: UnitSpec) -> None:
        """See Runtime. Without a supervisor it has a new one first."""
        self._check(spec.name)
        if spec.name not in self.living():
            await self.ensure_supervisor()
        await super().start(spec)

    async def remove(self, name: str, owner_uid: str) -> None:
        """See Runtime. The supervisor has to forget it."""
        if name in self._records and not self._answers():
            raise RuntimeUnavailableError("supervisord doesn't answer")
        await super().remove(name, owner_uid)

    # -- within ----------------------------------------------------------------------------------

    def living(self) -> list[str]:
        """Units of which something lives."""
        return [name for name, record in self._records.items() if record.state not in GONE]

    def _answers(self) -> bool:
        return self._supervisor is not None and not self._hung

    def _renew(self) -> None:
        self._supervisor, self._hung = self._process(), False
        self._tell_key()

    def _process(self) -> ProcessId:
        self._next_pid += 1
        return ProcessId(self._next_pid, self._next_pid, BOOT)

    def _tell(self, name: str) -> None:
        super()._tell(name)
        self._told()

    def _tell_key(self) -> None:
        for name in self._records:
            super()._tell(name)
        self._told()


class FakeStacks:
    """Implements Stacks. It stands for the host, so it outlives operators: a test goes on with the same object."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, str]] = []
        self._scopes: dict[Key, FakeStackRuntime] = {}
        self._known: set[Key] = set()
        self._made = 0
        self._queues: dict[asyncio.Queue[Key], set[Key]] = {}

    def at(self, key: Key) -> FakeStackRuntime:
        """The stack's runtime, to be told what happens; also before it is opened."""
        if key not in self._scopes:
            self._made += 1  # no pid is that of a process of another stack
            self._scopes[key] = FakeStackRuntime(lambda: self._tell(key), 10_000 * self._made)
        return self._scopes[key]

    def advance(self, seconds: float) -> None:
        """Let time pass in every scope there is."""
        for key in self._known:
            self._scopes[key].advance(seconds)

    # -- Stacks ----------------------------------------------------------------------------------

    async def open(self, key: Key) -> FakeStackRuntime:
        """See Stacks."""
        scope = self.at(key)
        if key not in self._known:
            await scope.ensure_supervisor()
            self._known.add(key)
            self._tell(key)
        return scope

    def known(self) -> Sequence[Key]:
        """See Stacks."""
        return sorted(self._known)

    async def remove(self, key: Key) -> None:
        """See Stacks."""
        if key not in self._known:
            return
        if living := self._scopes[key].living():
            raise RuntimeUnavailableError(f"units of {'/'.join(key)} still live: {', '.join(living)}")
        with effects.effect("fake remove stack"):
            self.acts.append(("remove stack", "/".join(key)))
            self._known.discard(key)
            del self._scopes[key]
        self._tell(key)

    async def changes(self) -> AsyncIterator[Key]:
        """See Stacks."""
        queue: asyncio.Queue[Key] = asyncio.Queue()
        waiting = self._queues[queue] = set()
        try:
            while True:
                key = await queue.get()
                waiting.discard(key)
                yield key
        finally:
            del self._queues[queue]

    def _tell(self, key: Key) -> None:
        for queue, waiting in self._queues.items():
            if key not in waiting:
                waiting.add(key)
                queue.put_nowait(key)


_implements: tuple[type[StackRuntime], type[Stacks]] = (FakeStackRuntime, FakeStacks)
