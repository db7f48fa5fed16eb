"""What the contract tests of Stacks need beyond Stacks: a supervisor that is killed or hung, strangers on ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.contract.harness import Harness, eventually, free_port

from mainstay.runtime.base import StackRuntime, Stacks, Unit, UnitState
from mainstay.runtime.fake_stacks import FakeStacks
from mainstay.runtime.process import ProcessStacks, StackScope, known_scopes, proc

LISTENER = """
import os, signal, socket, sys
address, port, *flags = sys.argv[1:]
server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if "reuseport" in flags:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
if "stubborn" in flags:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server.bind((address, int(port)))
server.listen()
for _ in range("fork" in flags):
    os.fork()
print(os.getpid(), flush=True)
while True:
    signal.pause()
"""


class Stranger:
    """A program of nobody's that listens on a port."""

    def __init__(self, port: int, *flags: str, address: str = "127.0.0.1") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LISTENER, address, str(port), *flags],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.pids = {int(self._process.stdout.readline()) for _ in range(2 if "fork" in flags else 1)}

    def lives(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        if self.lives() or len(self.pids) > 1:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.communicate()


class StackHarness(Harness):
    """All stacks of one host, and the levers of one of them."""

    stacks: Stacks
    runtime: StackRuntime
    KEY = ("default", "web")

    async def open(self, key: tuple[str, str] = KEY) -> StackRuntime:
        raise NotImplementedError

    async def serving(self, name: str, port: int) -> Unit:
        raise NotImplementedError


class FakeStackHarness(StackHarness):
    def __init__(self) -> None:
        self.stacks: FakeStacks = FakeStacks()

    def argv(self, kind: str, port: int | None) -> tuple[str, ...]:
        return (kind,)

    def spec(self, name: str = "app", kind: str = "sleeper", **more: Any) -> Any:
        self.runtime.ignore_term(name, kind == "stubborn")
        return super().spec(name, kind, **more)

    async def open(self, key=StackHarness.KEY):
        return await self.stacks.open(key)

    async def start(self) -> None:
        self.runtime = await self.open()

    async def serving(self, name: str, port: int) -> Unit:
        return await self.running(name, "server", port=port)

    async def kill_supervisor(self) -> None:
        self.runtime.kill_supervisor()

    async def hang_supervisor(self) -> None:
        self.runtime.hang_supervisor()

    async def by_itself(self) -> None:
        self.runtime.advance(1)

    async def occupy(self, port: int, *flags: str) -> None:
        ends_on = "KILL" if "stubborn" in flags else "TERM"
        self.runtime.occupy(port, "pid 7 (python3)", ends_on=ends_on)

    async def restart(self) -> None:
        self.runtime = await self.open()

    async def close(self) -> None:
        pass


class ProcessStackHarness(StackHarness):
    """The real ones, in a home of their own."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ms"))
        self.home_id = "h" + self.home.name
        self.stacks: ProcessStacks = self.new()
        self.strangers: list[Stranger] = []

    def new(self) -> ProcessStacks:
        return ProcessStacks(self.home, home_id=self.home_id)

    async def open(self, key=StackHarness.KEY) -> StackScope:
        return await self.stacks.open(key)

    async def start(self) -> None:
        await self.stacks.start_up()
        self.runtime: StackScope = await self.open()

    async def serving(self, name: str, port: int) -> Unit:
        await self.running(name, "server", port=port)
        await eventually(lambda: _listens(port))
        return await self.runtime.observe(name)

    def spec(self, name: str = "app", kind: str = "sleeper", **more: Any) -> Any:
        return super().spec(name, kind, **more)

    async def supervisord(self, scope: StackScope | None = None) -> Any:
        found = await (scope or self.runtime).supervisor()
        assert found is not None
        return found

    async def kill_leader(self, name: str) -> None:
        proc.send((await self.runtime.observe(name)).leader, signal.SIGKILL)

    async def kill_supervisor(self) -> None:
        proc.send(await self.supervisord(), signal.SIGKILL)

    async def hang_supervisor(self) -> None:
        process = await self.supervisord()
        proc.send(process, signal.SIGSTOP)
        await eventually(lambda: proc.look(process).state in "Tt")

    async def by_itself(self) -> None:
        await eventually(self.runtime.supervisor, 20)

    async def occupy(self, port: int, *flags: str, address: str = "127.0.0.1") -> Stranger:
        stranger = await asyncio.to_thread(Stranger, port, *flags, address=address)
        self.strangers.append(stranger)
        return stranger

    async def restart(self) -> None:
        """The operator ends, and the next one comes."""
        await self.stacks.close()
        self.stacks = self.new()
        await self.start()

    async def close(self) -> None:
        for stranger in self.strangers:
            stranger.end()
        await self.stacks.close()
        self.stacks = self.new()
        try:
            for key, _ in known_scopes(self.home):
                scope = await self.stacks.open(key)
                for name in await scope.names():
                    await scope.stop(name, grace_seconds=0, force=True)
                await scope.shut_down_scope(True)
        finally:
            await self.stacks.close()
            shutil.rmtree(self.home, ignore_errors=True)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


__all__ = ["FakeStackHarness", "ProcessStackHarness", "StackHarness", "Stranger", "UnitState", "free_port"]
