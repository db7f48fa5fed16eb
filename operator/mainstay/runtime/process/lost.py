"""supervisords that lost their scope: its directory was deleted under them, and the lock that tells of them with it."""

from __future__ import annotations

import asyncio
import os
import signal

from mainstay.runtime.base import ProcessId, RuntimeUnavailableError
from mainstay.runtime.process import members, proc

KILL_SECONDS = 10.0  # for the kernel to end what was killed


async def end_lost(mark: str, lock: str) -> None:
    """KILL them: TERM would make them stop their programs. Who holds the scope's present lock is none of them.

    Call it with that lock held, or its directory gone. Raises RuntimeUnavailableError if one doesn't end.
    """
    found = await asyncio.to_thread(_find, mark, lock)
    for one in found:
        proc.send(one, signal.SIGKILL)
    deadline = proc.boottime() + KILL_SECONDS
    for one in found:
        while proc.look(one) is not None:
            if proc.boottime() > deadline:
                raise RuntimeUnavailableError(f"supervisord (pid {one.pid}) was killed, and hasn't ended yet")
            await asyncio.sleep(0.005)


def _find(mark: str, lock: str) -> list[ProcessId]:
    found = [process for pid in proc.pids() if (process := _supervisord(pid, mark)) is not None]
    if not found:
        return []
    try:
        file = os.stat(lock)
    except OSError:
        return found
    return [one for one in found if not proc.holds_file(one.pid, file.st_dev, file.st_ino)]


def _supervisord(pid: int, mark: str) -> ProcessId | None:
    """The process if it is one of this scope: a fence has a program's name, and a child before exec no session."""
    process = proc.identify(pid)
    env = proc.environ(pid)
    if process is None or env.get(members.SCOPE) != mark or "SUPERVISOR_PROCESS_NAME" in env:
        return None
    try:
        leads = os.getsid(pid) == pid
    except OSError:
        return None
    return process if leads and proc.look(process) is not None else None
