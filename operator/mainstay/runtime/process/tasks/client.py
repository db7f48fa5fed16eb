"""Asking the fork server to start an attempt, and bringing it back when it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from dataclasses import dataclass

from mainstay.runtime import effects
from mainstay.runtime.base import RuntimeUnavailableError
from mainstay.runtime.process import proc, rpc
from mainstay.runtime.process.scope import Scope
from mainstay.runtime.process.stopping import wait_gone
from mainstay.runtime.process.tasks.install import PROGRAM, SOCKET

START_SECONDS = 8.0  # supervisord starts a dead fork server within a second
ANSWER_SECONDS = 2.0  # a claim takes a millisecond; asking again is safe
AT_ONCE = 64  # requests under way: more would wait for the same processors


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request."""

    word: str  # claimed | left | failed
    rest: str  # the shim's pid, why it left, or what failed

    @property
    def pid(self) -> int:
        """The shim's, 0 if there is none."""
        return int(self.rest) if self.word == "claimed" and self.rest.isdigit() else 0


class ForkServer:
    """The fork server of one scope, from outside."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._path = f"{scope.dir.path}/{SOCKET}"
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._nudging = asyncio.Lock()
        self._nudged = 0.0

    async def request(self, name: str, attempt: int) -> Answer:
        """Have a shim try to claim this attempt of this unit. Safe to repeat: one claims it, once.

        Raises RuntimeUnavailableError if there is no answer, or a failed one.
        """
        deadline = proc.boottime() + START_SECONDS
        async with self._slots:
            while True:
                asked = proc.boottime()
                answer = await self._ask(name, attempt)
                if answer is not None:
                    break
                if proc.boottime() > deadline:
                    raise RuntimeUnavailableError("the fork server of tasks does not answer")
                await self._nudge(asked)
        if answer.word not in ("claimed", "left"):
            raise RuntimeUnavailableError(f"attempt {attempt} of {name} can't be claimed: {answer.rest}")
        return answer

    async def _ask(self, name: str, attempt: int) -> Answer | None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            try:
                with effects.effect("request fork"):
                    connection.connect(self._path)
                    connection.send(f"start {attempt} {name}\n".encode())
                    async with asyncio.timeout(ANSWER_SECONDS):
                        raw = await loop.sock_recv(connection, 4096)
            except (OSError, TimeoutError):
                return None
        word, _, rest = raw.decode(errors="replace").rstrip("\n").partition(" ")
        return Answer(word, rest) if word else None

    async def _nudge(self, asked: float) -> None:
        """Have supervisord notice that it must start it again: a call makes it look. Once for all who wait."""
        async with self._nudging:
            if self._nudged > asked:
                return
            await asyncio.sleep(0.02)
            with contextlib.suppress(RuntimeUnavailableError):
                await self._call_supervisord()
            self._nudged = proc.boottime()

    async def _call_supervisord(self) -> None:
        try:
            info = await self._scope.supervisor.info(PROGRAM)
        except rpc.FaultError:
            raise
        except RuntimeUnavailableError:
            await self._scope.ensure()
            return
        if info is None:  # it was started by a version of ours without tasks
            await self._scope.supervisor.call("supervisor.reloadConfig")
            await self._scope.supervisor.call("supervisor.addProcessGroup", PROGRAM)
        elif info["state"] in (rpc.STOPPED, rpc.FATAL):
            await self._scope.supervisor.call("supervisor.startProcess", f"{PROGRAM}:{PROGRAM}", False)
        elif (process := proc.identify(int(info["pid"]))) is not None:
            seen = proc.look(process)
            if seen is not None and seen.stopped:
                proc.send(process, signal.SIGKILL)

    async def shut_down(self) -> None:
        """End the fork server, and have supervisord see it: else it would wait a second for it."""
        with contextlib.suppress(RuntimeUnavailableError):
            info = await self._scope.supervisor.info(PROGRAM)
            await self._scope.supervisor.call("supervisor.stopProcess", f"{PROGRAM}:{PROGRAM}", False)
            process = proc.identify(int(info["pid"])) if info is not None else None
            if process is not None:
                await wait_gone(process, 2.0)
            await self._scope.supervisor.info(PROGRAM)

    async def renew(self, code: str) -> None:
        """End a fork server of another version than `code`; its successor reads the new one."""
        try:
            info = await self._scope.supervisor.info(PROGRAM)
        except RuntimeUnavailableError:
            return
        process = proc.identify(int(info["pid"])) if info is not None else None
        if process is None:
            await self._nudge(proc.boottime())
            return
        with contextlib.suppress(OSError):
            words = proc.read_bytes(f"/proc/{process.pid}/cmdline").split(b"\0")
            if len(words) > 6 and words[1] == b"-I" and code.encode() not in words:
                proc.send(process, signal.SIGTERM)
