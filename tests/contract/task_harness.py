"""What the contract tests of tasks need beyond TaskRuntime: programs that end as a test says."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from mainstay.runtime.base import GONE, ProcessId, TaskRuntime, Unit, UnitSpec, UnitState
from mainstay.runtime.fake_tasks import Ending, FakeTaskRuntime
from mainstay.runtime.process import proc
from mainstay.runtime.process.tasks import ProcessTaskRuntime, install
from mainstay.runtime.process.tasks.files import task_leader

TASK = "default.job.phase"
SLEEPER = "sleep 1000"
STUBBORN = "trap '' TERM; while :; do sleep 1000; done"


class TaskHarness:
    """One runtime under test and its levers. `kind` of a spec is how its program behaves."""

    runtime: TaskRuntime

    def spec(self, name: str = TASK, kind: str = "sleeper", **more: Any) -> UnitSpec:
        given: dict[str, Any] = {"owner_uid": "uid-1", "attempt": 1, "inputs_hash": "sha256:abc"}
        given["argv"] = self.argv(kind)
        return UnitSpec(name, **{**given, **more})

    def argv(self, kind: str) -> tuple[str, ...]:
        """`sleeper`, `stubborn`, or `exit CODE`, `outputs SIZE`, `stderr LINES`, `missing`."""
        match kind.split():
            case ["sleeper"]:
                script = SLEEPER
            case ["stubborn"]:
                script = STUBBORN
            case ["exit", code]:
                script = f"exit {code}"
            case ["outputs", size]:
                script = f"head -c {size} /dev/zero | tr '\\0' 7 > $OUTPUTS_PATH"
            case ["stderr", count]:
                script = f"for i in $(seq {count}); do echo line $i >&2; done; exit 3"
            case ["missing"]:
                return ("/no/such/program",)
            case _:
                raise ValueError(kind)
        return ("/bin/sh", "-c", script)

    async def until(self, name: str, *states: UnitState, seconds: float = 10.0) -> Unit:
        until = time.monotonic() + seconds
        while True:
            seen = await self.runtime.observe(name)
            if seen.state in states:
                return seen
            if time.monotonic() > until:
                raise AssertionError(f"{name} is {seen}, not {states}")
            await asyncio.sleep(0.005)

    async def running(self, name: str = TASK, kind: str = "sleeper", **more: Any) -> Unit:
        await self.runtime.start(self.spec(name, kind, **more))
        while True:
            seen = await self.until(name, UnitState.RUNNING)
            if seen.leader is not None:
                return seen

    async def ended(self, name: str = TASK, kind: str = "exit 0", **more: Any) -> Unit:
        await self.runtime.start(self.spec(name, kind, **more))
        return await self.until(name, UnitState.EXITED)

    async def executions(self) -> int:
        raise NotImplementedError


class FakeTaskHarness(TaskHarness):
    def __init__(self) -> None:
        self.runtime: FakeTaskRuntime = FakeTaskRuntime()
        self.runtime.auto = self._end

    def argv(self, kind: str) -> tuple[str, ...]:
        return (kind,)

    def spec(self, name: str = TASK, kind: str = "sleeper", **more: Any) -> UnitSpec:
        self.runtime.ignore_term(name, kind == "stubborn")
        return super().spec(name, kind, **more)

    def _end(self, spec: UnitSpec) -> Ending | None:
        match spec.argv[0].split():
            case ["exit", code]:
                return Ending(int(code))
            case ["outputs", size]:
                return Ending(outputs=b"7" * int(size))
            case ["stderr", count]:
                return Ending(3, stderr="".join(f"line {i + 1}\n" for i in range(int(count))))
            case ["missing"]:
                return Ending(127, stderr="mainstay: cannot start '/no/such/program': no such file\n")
            case _:
                return None

    async def kill_leader(self, name: str = TASK) -> None:
        self.runtime.kill(name)

    async def lose(self, name: str = TASK) -> None:
        self.runtime.lose(name)

    async def pass_time(self, seconds: float) -> None:
        self.runtime.advance(seconds)

    async def executions(self) -> int:
        return len(self.runtime.started)

    async def restart_operator(self) -> None:
        pass

    async def close(self) -> None:
        pass


class ProcessTaskHarness(TaskHarness):
    """The real one, in a home of its own."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="mt"))
        self.runtime: ProcessTaskRuntime = self.new()

    def new(self) -> ProcessTaskRuntime:
        return ProcessTaskRuntime(
            self.home, home_id="h" + self.home.name, extra_env={"RAN": str(self.home / "ran")}
        )

    def argv(self, kind: str) -> tuple[str, ...]:
        found = super().argv(kind)
        if len(found) < 3:
            return found
        trap = STUBBORN.partition(";")[0] if kind == "stubborn" else ":"
        return (*found[:2], f"{trap}; echo >> $RAN; {found[2]}")

    async def running(self, name: str = TASK, kind: str = "sleeper", **more: Any) -> Unit:
        before = await self.executions()
        seen = await super().running(name, kind, **more)
        while await self.executions() == before:  # only then it has its traps
            await asyncio.sleep(0.002)
        return seen

    async def open(self) -> None:
        await self.runtime.start_up()

    async def another(self) -> ProcessTaskRuntime:
        """A second operator on the same scope, or the next one after a crash."""
        other = self.new()
        await other.start_up()
        return other

    async def restart_operator(self) -> None:
        await self.runtime.close()
        self.runtime = await self.another()

    async def executions(self) -> int:
        """How many programs ran at all."""
        ran = self.home / "ran"
        return len(ran.read_text().splitlines()) if ran.exists() else 0

    def shim(self, name: str = TASK) -> ProcessId:
        leader = task_leader(self.runtime._dir.unit(name))
        assert leader is not None
        return leader.shim

    async def kill_leader(self, name: str = TASK) -> None:
        seen = await self.runtime.observe(name)
        assert seen.leader is not None
        proc.send(seen.leader, signal.SIGKILL)

    async def lose(self, name: str = TASK) -> None:
        proc.send(self.shim(name), signal.SIGKILL)
        await self.kill_leader(name)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def fork_server(self) -> ProcessId | None:
        info = await self.runtime._scope.supervisor.info(install.PROGRAM)
        return proc.identify(int(info["pid"])) if info is not None else None

    def path(self, name: str = TASK) -> Path:
        return self.home / "scopes/jobs/units" / name

    def alive(self) -> list[int]:
        """Processes that carry this home's mark of a unit."""
        mark = f"MAINSTAY_UNIT=h{self.home.name}/".encode()
        return [pid for pid in proc.pids() if mark in environ(pid)]

    async def close(self) -> None:
        try:
            for seen in await self.runtime.units():
                if seen.state not in GONE:
                    await self.runtime.stop(seen.name, grace_seconds=0, force=True)
            await self.runtime.shut_down_scope(True)
        finally:
            await self.runtime.close()
            if (supervisord := self.runtime._scope.holder()) is not None:
                proc.send(supervisord, signal.SIGKILL)
            shutil.rmtree(self.home, ignore_errors=True)


def environ(pid: int) -> bytes:
    """Its environment, as far as it is there."""
    try:
        return proc.read_bytes(f"/proc/{pid}/environ")
    except OSError:
        return b""


async def opened() -> AsyncIterator[ProcessTaskHarness]:
    """A harness that runs, and is torn down whatever happens."""
    harness = ProcessTaskHarness()
    try:
        await harness.open()
        yield harness
    finally:
        await harness.close()
        assert not os.path.exists(harness.home)
