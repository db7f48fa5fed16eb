"""The host: the package's fake stacks, with a step at every call and an oracle that sees every effect before it counts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from tests.sim.clock import CLOCK
from tests.sim.steps import step
from tests.sim.units import _now

from mainstay.api.program import Readiness
from mainstay.runtime import effects
from mainstay.runtime.base import PauseCall, PortHolder, ProbeResult, ProcessId, Unit, UnitSpec
from mainstay.runtime.fake import FakeRuntime
from mainstay.runtime.fake_stacks import EXECUTES, FakeStackRuntime, FakeStacks, Key

if TYPE_CHECKING:
    from tests.sim.stacks.oracle import StackOracle


class SimScope(FakeStackRuntime):
    """One stack's runtime. `stuck`: time alone brings no new supervisor. `doomed`: services that die as time passes."""

    def __init__(self, told: Callable[[], None], first_pid: int, key: Key, host: SimStacks) -> None:
        super().__init__(told, first_pid)
        self.now = CLOCK.seconds
        self.stuck = False
        self.doomed: dict[str, int] = {}
        self._key, self._host = key, host

    @property
    def pid(self) -> ProcessId | None:
        """The supervisor's process, whether or not it answers."""
        return self._supervisor

    def peek(self, name: str) -> Unit:
        """What is true of a unit now, without a step."""
        return _now(FakeRuntime.observe(self, name))

    def peek_all(self) -> list[Unit]:
        return [self.peek(name) for name in sorted(self._records)]

    def strangers(self) -> list[PortHolder]:
        """Who is told by the script to listen."""
        return [
            PortHolder(one.port, one.who, one.process, protected=one.protected) for one in self._strangers
        ]

    def serves(self, name: str, *, probed: bool) -> bool:
        """It runs, and its probe would answer."""
        record = self._records.get(name)
        running = record is not None and str(record.state) == "Running"
        return running and not (probed and name in self._not_ready)

    def advance(self, seconds: float) -> None:
        if self.stuck:
            FakeRuntime.advance(self, seconds)
        else:
            super().advance(seconds)
        for name, code in self.doomed.items():
            record = self._records.get(name)
            if record is not None and record.leader is not None and str(record.state) == "Running":
                self.exit_with(name, code)

    # --- what is asked

    async def observe(self, name: str) -> Unit:
        await step("observe")
        return await super().observe(name)

    async def names(self) -> Sequence[str]:
        await step("names")
        return await super().names()

    async def units(self) -> Sequence[Unit]:
        await step("units")
        return self.peek_all()

    async def probe(self, name: str, readiness: Readiness, port: int | None) -> ProbeResult:
        await step("probe")
        return await super().probe(name, readiness, port)

    async def supervisor(self) -> ProcessId | None:
        await step("supervisor")
        return await super().supervisor()

    async def holders(self, ports: Iterable[int]) -> Sequence[PortHolder]:
        """A service of another stack is a stranger here, and one that is never ended."""
        wanted = tuple(ports)
        await step("holders")
        found = list(await super().holders(wanted))
        for key, scope in self._host.scopes():
            if key != self._key:
                found += [
                    PortHolder(
                        port, f"pid {record.leader.pid}", record.leader, protected="it is another stack's"
                    )
                    for name, record in scope._records.items()
                    if (port := scope._listens.get(name, record.port)) in wanted
                    and port is not None
                    and record.leader is not None
                    and record.state in EXECUTES
                ]
        return sorted(found, key=lambda one: one.port)

    # --- what is done

    async def start(self, spec: UnitSpec) -> None:
        await step("start")
        self._host.oracle.starting_service(self._key, spec)
        before = len(self.acts)
        try:
            await super().start(spec)
        finally:
            if ("start", spec.name) in self.acts[before:]:
                self._host.oracle.starts[self._key[1], spec.name] += 1
        await step("done start")

    async def define(self, spec: UnitSpec) -> None:
        await step("define")
        with effects.effect("fake define"):
            await super().define(spec)
        await step("done define")

    async def stop(
        self, name: str, *, grace_seconds: float, force: bool = False, deleting: bool = False
    ) -> None:
        await step("stop")
        self._host.oracle.stopping_service(self._key, name, force=force)
        await super().stop(name, grace_seconds=grace_seconds, force=force, deleting=deleting)
        await step("done stop")

    async def resume(self, name: str, call: PauseCall | None = None) -> None:
        await step("resume")
        with effects.effect("fake resume"):
            await super().resume(name, call)
        await step("done resume")

    async def remove(self, name: str, owner_uid: str) -> None:
        await step("remove")
        await super().remove(name, owner_uid)
        await step("done remove")

    async def end_supervisor(self, *, seconds: float, force: bool = False) -> None:
        await step("end supervisor")
        self._host.oracle.ending_supervisor(self._key, force=force)
        await super().end_supervisor(seconds=seconds, force=force)
        await step("done end supervisor")

    async def ensure_supervisor(self) -> None:
        await step("start supervisor")
        await super().ensure_supervisor()
        await step("done start supervisor")

    async def end_holders(self, ports: Collection[int], *, force: bool = False) -> None:
        await step("flush")
        self._host.oracle.flushing(self._key, ports, force=force)
        await super().end_holders(ports, force=force)
        await step("done flush")


class SimStacks(FakeStacks):
    """All stacks of the host. It outlives operators; `listeners` are told of what changes."""

    def __init__(self) -> None:
        super().__init__()
        self.oracle: StackOracle
        self.listeners: list[Callable[[Key], None]] = []

    def at(self, key: Key) -> SimScope:
        if key not in self._scopes:
            self._made += 1
            self._scopes[key] = SimScope(lambda: self._tell(key), 10_000 * self._made, key, self)
        scope = self._scopes[key]
        assert isinstance(scope, SimScope)
        return scope

    def scopes(self) -> list[tuple[Key, SimScope]]:
        return [(key, self.at(key)) for key in sorted(self._scopes)]

    def advance(self, seconds: float) -> None:
        for _, scope in self.scopes():
            scope.advance(seconds)

    async def open(self, key: Key) -> SimScope:
        await step("open")
        return await super().open(key)  # type: ignore[return-value]

    async def remove(self, key: Key) -> None:
        """Strangers belong to the host, and stay."""
        await step("remove stack")
        strangers = self.at(key)._strangers if key in self._scopes else []
        await super().remove(key)
        if strangers and key not in self._known:
            self.at(key)._strangers = strangers
        await step("done remove stack")

    def _tell(self, key: Key) -> None:
        for listener in self.listeners:
            listener(key)
