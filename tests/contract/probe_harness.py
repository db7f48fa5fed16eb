"""What the contract tests of Probes need: servers and commands that answer badly, and a fake that is told the same."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.contract.harness import free_port

from mainstay.core.asset.observation import ObservationError, Question
from mainstay.runtime.base import ANSWER_BYTES, Probes
from mainstay.runtime.fake_probes import FakeProbes, key_of
from mainstay.runtime.probes import HostProbes

CARGO = {"cargo": [{"symbol": "IRON_ORE", "units": 40}]}
SECRET = "hunter2-of-the-fleet"
NO_JSON = (
    "{",
    "",
    "NaN",
    '{"units": Infinity}',
    "1e999",
    '{"A": 1, "A": 2}',
    '"\\u0000"',
    '"\\ud800"',
    "[" * 65 + "]" * 65,
)
LONGEST = json.dumps("x" * (ANSWER_BYTES - 2))


class HostPlace:
    """Real ones: a server on the loopback, and Python as the command."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.probes: Probes = HostProbes(str(home))
        self.requests: list[web.BaseRequest] = []
        self.running = asyncio.Event()
        self.left = asyncio.Event()

    async def open(self) -> None:
        self._runner = web.ServerRunner(
            web.Server(self._serve, handler_cancellation=True), shutdown_timeout=1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        await self.probes.close()
        await self._runner.cleanup()

    def http(self, text: str = "", *, status: int = 200, **more: Any) -> Question:
        """A question that is answered with this; `url` may be given to ask elsewhere."""
        self._answer = status, text, more.pop("answer_headers", {}), more.pop("slow", False)
        tail = more.pop("tail", "")
        url = more.pop("url", None) or f"http://{more.pop('user', '')}127.0.0.1:{self.port}/ship{tail}"
        return Question(url=url, **more)

    def command(
        self, text: str = "", *, code: int = 0, errors: str = "", slow: bool = False, **more: Any
    ) -> Question:
        """A command that writes this, then exits or waits."""
        (self.home / "answer").write_text(text)
        program = f"import sys,time; sys.stdout.write(open({str(self.home / 'answer')!r}).read()); sys.stdout.flush()"
        program += f"; sys.stderr.write({errors!r}); {'time.sleep(1000); ' if slow else ''}sys.exit({code})"
        return Question(argv=(sys.executable, "-S", "-c", program), **more)

    def nobody(self) -> Question:
        return Question(url=f"http://127.0.0.1:{free_port()}/ship")

    def no_program(self) -> Question:
        return Question(argv=("no-such-probe-x",))

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        status, text, headers, slow = self._answer
        if not slow:
            return web.Response(status=status, text=text, headers=headers)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"[")
        self.running.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        return response


class FakePlace:
    """The fake, told what the real ones would find."""

    def __init__(self, home: Path) -> None:
        self.fake = FakeProbes()
        self.probes: Probes = self.fake

    async def open(self) -> None:
        """It is there."""

    async def close(self) -> None:
        await self.probes.close()

    def http(self, text: str = "", *, status: int = 200, **more: Any) -> Question:
        more.pop("answer_headers", None)
        url = more.pop("url", None) or f"http://{more.pop('user', '')}127.0.0.1:80/ship{more.pop('tail', '')}"
        return self._told(
            Question, text, None if status == 200 else f"was answered with {status}", url=url, **more
        )

    def command(self, text: str = "", *, code: int = 0, errors: str = "", **more: Any) -> Question:
        return self._told(
            Question, text, f"exited with {code}" if code else None, argv=("python", "-c"), **more
        )

    def nobody(self) -> Question:
        return Question(url="http://127.0.0.1:81/nobody")

    def no_program(self) -> Question:
        return Question(argv=("no-such-probe-x",))

    def _told(self, make: Any, text: str, error: str | None, *, slow: bool = False, **more: Any) -> Question:
        question: Question = make(**more)
        if slow:
            error = f"took longer than {question.timeout_seconds:g} s"
        elif error is None and (text in NO_JSON or len(text) > ANSWER_BYTES):
            error = "the answer is no JSON"
        self.fake.answers[key_of(question)] = (
            ObservationError(f"{question.shown} {error}") if error else json.loads(text)
        )
        return question


async def refused(place: FakePlace | HostPlace, question: Question) -> str:
    """Why there is no answer."""
    with pytest.raises(ObservationError) as error:
        await place.probes.ask(question)
    return str(error.value)


def processes_with(mark: str) -> list[int]:
    """Processes that have this in their environment or arguments; not ours, nor ended ones."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            told = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark.encode() in told and state not in "ZX" and int(pid) != os.getpid():
            found.append(int(pid))
    return found
