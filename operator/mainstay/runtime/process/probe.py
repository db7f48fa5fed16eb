"""Readiness: whether this unit serves. Another process that answers on its port doesn't count."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import aiohttp

from mainstay.api.program import ExecProbe, Readiness
from mainstay.runtime import commands
from mainstay.runtime.base import ProbeResult
from mainstay.runtime.process import members
from mainstay.runtime.process.ports import Listener
from mainstay.runtime.process.unitdir import UnitDir

OUTPUT = 400


def choose(found: Iterable[Listener]) -> Listener:
    """The one of a unit's listeners on a port to talk to: on the loopback where there is one."""
    return min(found, key=lambda one: (one.address != "127.0.0.1", one.address != "::1"))


async def tcp(listener: Listener, seconds: float) -> ProbeResult:
    """Ready when it accepts."""
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(listener.address, listener.port)
    except (TimeoutError, OSError) as error:
        return ProbeResult(False, f"no connection to port {listener.port}: {error or 'timeout'}")
    writer.transport.abort()
    return ProbeResult(True)


async def http(listener: Listener, path: str, seconds: float) -> ProbeResult:
    """Ready when GET answers 200-399."""
    host = f"[{listener.address}]" if ":" in listener.address else listener.address
    url = f"http://{host}:{listener.port}{path}"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds), trust_env=False) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            status = response.status
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        why = str(error) or f"no answer within {seconds:g} s"
        return ProbeResult(False, f"GET {path} on port {listener.port}: {why}")
    if 200 <= status < 400:
        return ProbeResult(True)
    return ProbeResult(False, f"GET {path} on port {listener.port} was answered with {status}")


async def command(unit: UnitDir, probe: ExecProbe, seconds: float) -> ProbeResult:
    """Ready when it exits 0. It runs like the program, but isn't a member of the unit."""
    spec = unit.spec()
    if spec is None:
        return ProbeResult(False, "the unit's files are missing")
    env = {name: value for name, value in spec.env.items() if name not in (members.UNIT, members.NAME)}
    try:
        ended = await commands.run(probe.command, env=env, cwd=spec.cwd, user=spec.user, seconds=seconds)
    except commands.CommandError as error:
        return ProbeResult(False, str(error))
    if ended.code == 0:
        return ProbeResult(True)
    said = ended.errors.decode(errors="replace").strip()[-OUTPUT:]
    return ProbeResult(
        False, f"{probe.command[0]!r} exited with {ended.code}" + (f": {said}" if said else "")
    )


def wanted_port(readiness: Readiness, port: int | None) -> int | None:
    """The port a tcp or http probe asks."""
    probe = readiness.tcp or readiness.http
    if probe is None:
        return None
    return port if isinstance(probe.port, str) else probe.port
