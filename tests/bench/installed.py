"""A whole `mainstay up` in a home of its own, and its end."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
from tests.bench.figures import say
from tests.bench.stack_rivals import end_by_hand

LEFTOVERS = Path(".bench") / "homes"
"""Homes in use, one per line: what a killed bench left is taken down by the next one."""


def free_ports(count: int, within: range = range(20000, 30000)) -> int:
    """The first of `count` ports in a row that nobody has."""
    while True:
        first = random.randrange(within.start, within.stop - count)
        if all(map(_bindable, range(first, first + count))):
            return first


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def mainstay(home: Path, *args: str, timeout: float = 180) -> str:
    """Run a command of ours; what it said. A Ctrl-C of ours doesn't reach it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mainstay.cli.main", args[0], "--home", str(home), *args[1:]),
        env={k: v for k, v in os.environ.items() if k != "KUBECONFIG"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout):
            said, _ = await process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        raise
    if process.returncode:
        raise RuntimeError(f"mainstay {' '.join(args)} ended with {process.returncode}:\n{said.decode()}")
    return said.decode()


def _note(home: Path, *, used: bool) -> None:
    LEFTOVERS.parent.mkdir(exist_ok=True)
    others = LEFTOVERS.read_text().split() if LEFTOVERS.exists() else []
    homes = [one for one in others if one != str(home)] + ([str(home)] if used else [])
    LEFTOVERS.write_text("".join(f"{one}\n" for one in homes))


async def take_down_leftovers() -> None:
    """End what an earlier bench could not."""
    for line in LEFTOVERS.read_text().split() if LEFTOVERS.exists() else []:
        home = Path(line)
        if (home / "bench-pid").exists() and psutil.pid_exists(int((home / "bench-pid").read_text())):
            continue
        say(f"taking down {home}, left by an earlier bench")
        await _end(home)


async def _end(home: Path) -> None:
    if home.exists():
        end_by_hand(home / "by-hand")
        await mainstay(home, "down")
        shutil.rmtree(home, ignore_errors=True)
    _note(home, used=False)


@asynccontextmanager
async def installation(ports: int = 64) -> AsyncIterator[Path]:
    """Yield the home of a running installation without the sample; nothing of it is left afterwards."""
    home = Path(tempfile.mkdtemp(prefix="mainstay-bench-"))
    (home / "bench-pid").write_text(str(os.getpid()))
    _note(home, used=True)
    first = free_ports(ports)
    try:
        say("mainstay up")
        await mainstay(home, "up", "--no-quickstart", "--ports", f"{first}-{first + ports - 1}")
        yield home
    finally:
        say("mainstay down")
        held = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            await asyncio.shield(_end(home))
        finally:
            signal.signal(signal.SIGINT, held)


def operator_of(home: Path) -> psutil.Process:
    return psutil.Process(int((home / "operator.ready").read_text()))


def cpu(process: psutil.Process) -> float:
    """CPU seconds a process has used itself."""
    times = process.cpu_times()
    return times.user + times.system
