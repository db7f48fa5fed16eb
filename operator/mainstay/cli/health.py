"""Whether the parts of this home work, for commands that wait for them in vain."""

from __future__ import annotations

import os
from http import HTTPStatus
from typing import Any

import aiohttp

from mainstay.cli import system
from mainstay.cli.cluster import Target
from mainstay.core.unit import UnitState

ANSWER_SECONDS = 5.0
LOGS = f"`mainstay logs {system.OPERATOR}` says why"


class SilentError(Exception):
    """The operator does not work; the message says what was seen, and what to do."""


def log_of(target: Target, name: str = system.OPERATOR) -> str:
    """Where a part writes."""
    return str(system.logs(target.home, name)[0])


def paused(parts: list[dict[str, Any]]) -> str:
    """Which of the parts somebody stopped with a signal, and the way out; empty where none is."""
    names = [part["name"] for part in parts if part["state"] == UnitState.PAUSED]
    if not names:
        return ""
    return f"{', '.join(names)}: paused by a signal (SIGSTOP); `mainstay up` lets {'it' if len(names) == 1 else 'them'} go on"


async def readyz(target: Target, seconds: float = ANSWER_SECONDS) -> str | None:
    """Where this home's operator says that it is ready; None where it serves no /readyz. SilentError if it isn't."""
    try:
        url = target.home.operator_url.read_text().strip()
    except OSError:
        return None
    limit = aiohttp.ClientTimeout(total=seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, trust_env=False) as session,
            session.get(url + "/readyz") as answer,
        ):
            words = " ".join((await answer.text()).split())
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise SilentError(f"{url} does not answer; {LOGS} ({log_of(target)})") from error
    if answer.status != HTTPStatus.OK:
        raise SilentError(f"it says: {words}")
    return url


async def operator_trouble(target: Target, seconds: float = 2.0) -> str:
    """Why this home's operator does nothing; empty where it works, or where that can't be told from here."""
    if not target.here:
        return ""
    from mainstay.cli import machine

    parts = [part for part in await machine.parts_of(target) if part["name"] == system.OPERATOR]
    if words := paused(parts):
        return words
    if any(part["state"] == machine.NOT_RUNNING for part in parts) and not _another(target):
        return "the operator does not run; `mainstay up` starts it"
    try:
        await readyz(target, seconds)
    except SilentError as error:
        return f"the operator is not ready: {error}"
    return ""


def _another(target: Target) -> bool:
    """Whether an operator that `mainstay up` did not start works from this home."""
    try:
        os.kill(int(target.home.operator_ready.read_text()), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True
