"""The package's fake runtime, with a step at every call and an ear for what changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from tests.sim.clock import CLOCK
from tests.sim.steps import step

from mainstay.api.program import Readiness
from mainstay.runtime.base import PauseCall, ProbeResult, Unit, UnitSpec
from mainstay.runtime.fake import FakeRuntime


class SimRuntime(FakeRuntime):
    """`on_start` sees every start before it counts, `on_execute` every process that was executed."""

    def __init__(self, on_start: Callable[[UnitSpec], None], on_execute: Callable[[UnitSpec], None]) -> None:
        super().__init__()
        self.now = CLOCK.seconds
        self.listeners: list[Callable[[str], None]] = []
        self._on_start = on_start
        self._on_execute = on_execute

    def peek(self, name: str) -> Unit:
        """What is true of a unit now, without a step."""
        return _now(super().observe(name))

    def peek_all(self) -> list[Unit]:
        return [self.peek(name) for name in sorted(self._records)]

    def calls(self, name: str) -> list[str]:
        """Pause and resume calls the program got."""
        return self._records[name].calls

    def supervisor_lost(self) -> None:
        """A new supervisor knows none of the programs; what lives goes on."""
        for name in self._records:
            self.undefine(name)

    def _tell(self, name: str) -> None:
        for listener in self.listeners:
            listener(name)

    def _execute(self, name: str, record: object) -> None:
        super()._execute(name, record)  # type: ignore[arg-type]
        self._on_execute(self.started[-1])

    async def observe(self, name: str) -> Unit:
        await step("observe")
        return await super().observe(name)

    async def units(self) -> Sequence[Unit]:
        await step("units")
        return self.peek_all()

    async def start(self, spec: UnitSpec) -> None:
        await step("start")
        self._on_start(spec)
        await super().start(spec)
        await step("done start")

    async def define(self, spec: UnitSpec) -> None:
        await step("define")
        await super().define(spec)
        await step("done define")

    async def stop(
        self, name: str, *, grace_seconds: float, force: bool = False, deleting: bool = False
    ) -> None:
        await step("stop")
        await super().stop(name, grace_seconds=grace_seconds, force=force, deleting=deleting)
        await step("done stop")

    async def pause(self, name: str, call: PauseCall | None = None) -> None:
        await step("pause")
        await super().pause(name, call)
        await step("done pause")

    async def resume(self, name: str, call: PauseCall | None = None) -> None:
        await step("resume")
        await super().resume(name, call)
        await step("done resume")

    async def remove(self, name: str, owner_uid: str) -> None:
        await step("remove")
        await super().remove(name, owner_uid)
        await step("done remove")

    async def probe(self, name: str, readiness: Readiness, port: int | None) -> ProbeResult:
        await step("probe")
        return await super().probe(name, readiness, port)

    async def foreign_ports(self, ports: Iterable[int], name: str) -> Mapping[int, str]:
        await step("foreign ports")
        return await super().foreign_ports(ports, name)


def _now(coroutine: object) -> Unit:
    """The answer of a coroutine that never waits."""
    try:
        coroutine.send(None)  # type: ignore[attr-defined]
    except StopIteration as end:
        answer: Unit = end.value
        return answer
    raise AssertionError("it waits")
