"""Waiting until the API server answers, and saying what was wrong when it never does."""

from __future__ import annotations

import asyncio
import collections
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import aiohttp

from mainstay.controlplane.plane import HttpsProbe

INTERVAL = 0.03
"""Seconds between questions: a refused connection on the loopback costs nothing."""

LAST_LINES = 8


class NotReadyError(Exception):
    """The part didn't become ready in time; the message holds its last answer and the ends of the logs."""


async def wait_ready(
    probe: HttpsProbe,
    *,
    timeout: float = 60,
    progress: Callable[[str], None] | None = None,
    logs: Mapping[str, Iterable[Path]] | None = None,
    died: Callable[[], str | None] | None = None,
) -> float:
    """Ask `probe` until it says 200; return how many seconds it took.

    `progress` is told each time the answer changes. `logs` names the log files to quote on failure. `died`
    may tell early that waiting is in vain ("etcd exited with 1"). Raises NotReadyError after `timeout` seconds.
    """
    began = time.monotonic()
    answer = ""
    async with _session(probe) as session:
        while True:
            latest = await _ask(session, f"{probe.url}?verbose")
            if latest is None:
                return time.monotonic() - began
            if latest != answer and progress is not None:
                progress(latest)
            answer = latest
            if reason := died() if died else None:
                raise NotReadyError(_story(probe, reason, answer, logs or {}))
            if time.monotonic() - began > timeout:
                raise NotReadyError(_story(probe, f"not ready after {timeout:g} s", answer, logs or {}))
            await asyncio.sleep(INTERVAL)


async def is_ready(probe: HttpsProbe) -> bool:
    """Ask once."""
    async with _session(probe) as session:
        return await _ask(session, probe.url) is None


def tls(probe: HttpsProbe) -> ssl.SSLContext:
    """Return a context that trusts the probe's authority alone and shows its certificate."""
    context = ssl.create_default_context(cafile=str(probe.ca))
    context.load_cert_chain(probe.certificate, probe.key)
    return context


def _session(probe: HttpsProbe) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls(probe)), timeout=aiohttp.ClientTimeout(total=5)
    )


async def _ask(session: aiohttp.ClientSession, url: str) -> str | None:
    """Return None if ready, else what a person would want to know."""
    try:
        async with session.get(url) as response:
            body = await response.text(errors="replace")
            if response.status == 200:
                return None
            failed = [line.split()[0].removeprefix("[-]") for line in body.splitlines() if line[:3] == "[-]"]
            return f"waiting for {', '.join(failed[:4])}" if failed else f"answers {response.status}"
    except aiohttp.ClientConnectorCertificateError:
        return "another program's certificate on this port"
    except aiohttp.ClientConnectorError:
        return "not listening yet"
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"not answering yet ({type(error).__name__})"


def _story(probe: HttpsProbe, reason: str, answer: str, logs: Mapping[str, Iterable[Path]]) -> str:
    lines = [f"{probe.url}: {reason}; last answer: {answer}"]
    for name, paths in logs.items():
        for path in paths:
            if tail := last_lines(path):
                lines += [f"last lines of {name} ({path}):", *(f"  {line}" for line in tail)]
    return "\n".join(lines)


def last_lines(path: Path, count: int = LAST_LINES) -> list[str]:
    """Return the end of a log file, reading at most its last 16 KiB; nothing if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            return list(collections.deque(file.read().decode(errors="replace").splitlines(), maxlen=count))
    except OSError:
        return []
