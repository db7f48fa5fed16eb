"""What the contract tests need of a place where units live, beyond Runtime: programs that misbehave on demand."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mainstay.api.program import Readiness, RestartPolicy, RestartPolicyType
from mainstay.runtime.base import Runtime, Unit, UnitSpec, UnitState
from mainstay.runtime.fake import FakeRuntime
from mainstay.runtime.process import ProcessRuntime, brake, proc

SERVER = "import http.server as h,sys; h.HTTPServer(('127.0.0.1',int(sys.argv[1])),h.SimpleHTTPRequestHandler).serve_forever()"
STUBBORN = "trap '' TERM; while :; do sleep 1000; done"


async def eventually(check: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The first true answer of `check`, which may be a coroutine function; fails after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        answer = check()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"still {answer!r} after {seconds} s")
        await asyncio.sleep(0.005)


class Harness:
    """One runtime under test and its levers."""

    runtime: Runtime

    async def until(self, name: str, *states: UnitState, seconds: float = 10.0) -> Unit:
        until = time.monotonic() + seconds
        while True:
            seen = await self.runtime.observe(name)
            if seen.state in states:
                return seen
            if time.monotonic() > until:
                raise AssertionError(f"{name} is {seen}, not {states}")
            await asyncio.sleep(0.005)

    def spec(self, name: str = "default.bot", kind: str = "sleeper", **more: Any) -> UnitSpec:
        given: dict[str, Any] = {"owner_uid": "uid-1", "attempt": 1, "inputs_hash": "sha256:abc"}
        given["argv"] = self.argv(kind, more.get("port"))
        initial = more.pop("backoff", 0.0)
        policy = more.pop("policy", RestartPolicyType.ALWAYS)
        given["restart"] = RestartPolicy(
            policy=policy, initial_backoff_seconds=initial, max_backoff_seconds=max(initial, 60)
        )
        return UnitSpec(name, **{**given, **more})

    def argv(self, kind: str, port: int | None) -> tuple[str, ...]:
        match kind:
            case "sleeper":
                return ("sleep", "1000")
            case "stubborn":
                return ("/bin/sh", "-c", STUBBORN)
            case "server":
                return (os.path.realpath(sys.executable), "-c", SERVER, "$(CONTROL_API_PORT)")
            case _:
                raise ValueError(kind)

    async def running(self, name: str = "default.bot", kind: str = "sleeper", **more: Any) -> Unit:
        await self.runtime.start(self.spec(name, kind, **more))
        return await self.until(name, UnitState.RUNNING)

    async def close(self) -> None:
        raise NotImplementedError


class FakeHarness(Harness):
    def __init__(self) -> None:
        self.runtime: FakeRuntime = FakeRuntime()

    def argv(self, kind: str, port: int | None) -> tuple[str, ...]:
        return (kind,)

    def spec(self, name: str = "default.bot", kind: str = "sleeper", **more: Any) -> UnitSpec:
        self.runtime.ignore_term(name, kind == "stubborn")
        return super().spec(name, kind, **more)

    async def end_program(self, name: str, code: int) -> None:
        self.runtime.exit_with(name, code)

    async def kill_leader(self, name: str) -> None:
        self.runtime.crash(name, signal=9)

    async def lose_supervisor(self) -> None:
        pass

    async def pass_backoff(self, seconds: float) -> None:
        self.runtime.advance(seconds)

    async def occupy(self, port: int) -> Callable[[], None]:
        self.runtime.occupy(port, "pid 1 (x)")
        return lambda: self.runtime.occupy(port, None)

    async def brake(self, name: str) -> None:
        self.runtime.brake(name)

    async def release(self, name: str) -> None:
        self.runtime.release(name)

    async def undefine(self, name: str) -> None:
        self.runtime.undefine(name)

    async def close(self) -> None:
        pass


class ProcessHarness(Harness):
    """The real one, in a home of its own."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ms"))
        self.codes: dict[str, str] = {}
        self.runtime: ProcessRuntime = ProcessRuntime(self.home, "runs", home_id="h" + self.home.name)

    async def open(self) -> None:
        await self.runtime.start_up()

    async def another(self) -> ProcessRuntime:
        """A second operator on the same scope, or the next one after a crash."""
        other = ProcessRuntime(self.home, "runs", home_id="h" + self.home.name)
        await other.start_up()
        return other

    async def end_program(self, name: str, code: int) -> None:
        """Make the program exit by itself: its shell waits for this file."""
        unit = self.home / "scopes/runs/units" / name
        (unit / "data/exit").write_text(str(code))

    def spec(self, name: str = "default.bot", kind: str = "sleeper", **more: Any) -> UnitSpec:
        if more.get("policy") is not None and "argv" not in more and kind == "sleeper":
            loop = "while ! [ -s exit ]; do sleep 0.01; done; code=$(cat exit); rm exit; exit $code"
            more["argv"] = ("/bin/sh", "-c", loop)
        return super().spec(name, kind, **more)

    async def kill_leader(self, name: str) -> None:
        seen = await self.runtime.observe(name)
        assert seen.leader is not None
        proc.send(seen.leader, signal.SIGKILL)

    def supervisord(self) -> Any:
        process = self.runtime._scope.process
        assert process is not None
        return process

    async def lose_supervisor(self) -> None:
        old = self.supervisord()
        proc.send(old, signal.SIGKILL)
        await eventually(
            lambda: self.runtime._scope.process != old and proc.look(self.runtime._scope.process)
        )

    async def pass_backoff(self, seconds: float) -> None:
        pass

    async def occupy(self, port: int) -> Callable[[], None]:
        stranger = socket.create_server(("127.0.0.1", port))
        return stranger.close

    async def brake(self, name: str) -> None:
        assert await asyncio.to_thread(brake.stop_offline, self.home, "runs", name)

    async def release(self, name: str) -> None:
        assert brake.release(self.home, "runs", name)

    async def undefine(self, name: str) -> None:
        os.unlink(self.home / "scopes/runs/conf.d" / f"{name}.conf")

    def unit_path(self, name: str) -> Path:
        return self.home / "scopes/runs/units" / name

    async def close(self) -> None:
        try:
            for seen in await self.runtime.units():
                await self.runtime.stop(seen.name, grace_seconds=0, force=True)
            await self.runtime.shut_down_scope(True)
        finally:
            await self.runtime.close()
            if (supervisord := self.runtime._scope.holder()) is not None:
                proc.send(supervisord, signal.SIGKILL)
            shutil.rmtree(self.home, ignore_errors=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


NONE = Readiness.model_validate({"none": {}})
TCP = Readiness.model_validate({"tcp": {}})
