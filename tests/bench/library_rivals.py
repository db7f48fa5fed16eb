"""Who else notices an edit and restarts programs: watchfiles alone, and kill and spawn without supervision."""

from __future__ import annotations

import asyncio
import http.client
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from tests.bench.peers import connected
from watchfiles import awatch

DEBOUNCE = 0.5
"""Seconds; the default of a library."""


class Sight:
    """When a bare awatch told of a change, by time.perf_counter."""

    def __init__(self) -> None:
        self._times: list[float] = []

    async def follow(self, directory: Path, *, debounce: int, step: int, quiet: float) -> None:
        """`debounce` and `step` in milliseconds, as awatch has them; then that many quiet seconds of our own."""
        loop, due = asyncio.get_running_loop(), None
        async for _ in awatch(directory, debounce=debounce, step=step, recursive=False):
            if due is not None:
                due.cancel()
            due = loop.call_later(quiet, lambda: self._times.append(time.perf_counter()))

    async def after(self, began: float) -> float:
        """Seconds after that moment when it told of something."""
        async with asyncio.timeout(20):
            while True:
                for at in self._times:
                    if at > began:
                        return at - began
                await asyncio.sleep(0.02)


@asynccontextmanager
async def sights(directory: Path) -> AsyncIterator[tuple[Sight, Sight, Sight]]:
    """awatch as quick as it can; the same with our debounce after it; awatch with a debounce of its own."""
    first, quiet, own = Sight(), Sight(), Sight()
    milliseconds = int(1000 * DEBOUNCE)
    tasks = [
        asyncio.create_task(first.follow(directory, debounce=40, step=20, quiet=0)),
        asyncio.create_task(quiet.follow(directory, debounce=40, step=20, quiet=DEBOUNCE)),
        asyncio.create_task(own.follow(directory, debounce=milliseconds, step=milliseconds, quiet=0)),
    ]
    await asyncio.sleep(0.5)
    try:
        yield first, quiet, own
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def healthy(port: int, timeout: float = 30) -> None:
    """Return once GET /health is answered with 200."""
    deadline = time.perf_counter() + timeout
    while True:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                connection.close()
                return
        if time.perf_counter() > deadline:
            raise RuntimeError(f"nothing healthy on port {port}")
        time.sleep(0.002)


class Flock:
    """Programs that somebody restarts by hand: TERM to all, wait, spawn all, ask each."""

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        ports: Sequence[int],
        env: Callable[[int], Mapping[str, str]] | None = None,
        ask: Callable[[int], None] = connected,
    ) -> None:
        self._command = command
        self._ports = ports
        self._env = env
        self._ask = ask
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self) -> float:
        """Seconds until each answers."""
        began = time.perf_counter()
        for port in self._ports:
            env = self._env(port) if self._env else None
            child = subprocess.Popen(
                self._command(port), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            self._children.append(child)
        for port in self._ports:
            self._ask(port)
        return time.perf_counter() - began

    def end(self) -> None:
        for child in self._children:
            child.terminate()
        for child in self._children:
            child.wait(30)
        self._children.clear()

    def restart(self) -> float:
        """Seconds from the first TERM to the last answer."""
        began = time.perf_counter()
        self.end()
        self.start()
        return time.perf_counter() - began


@contextmanager
def flock(*args: object, **options: object) -> Iterator[Flock]:
    """Yield one that runs; nothing of it is left afterwards."""
    one = Flock(*args, **options)  # type: ignore[arg-type]
    try:
        one.start()
        yield one
    finally:
        one.end()
