"""Whether a content can be run: of Python, whether it compiles.

Compiling happens in a process of its own: it holds the interpreter for as long as it takes, and a nasty source can
exhaust the stack of whoever compiles it. The process is ended when it has nothing to do for a while.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import hashlib
import json
import struct
import sys
from collections import OrderedDict
from pathlib import Path

from mainstay.core.strategy.names import split

LIMIT_SECONDS = 10.0
IDLE_SECONDS = 3600.0
"""To start it takes longer than to check a file; at rest it costs a few megabytes."""
REMEMBERED = 4096
_PROGRAM = Path(__file__).with_name("compiling.py")


class _NoAnswerError(Exception):
    """The compiling process did not say; the message does."""


class _CrashedError(Exception):
    """It ended in the middle, twice."""


class Checker:
    """One compiling process, started when it is needed. Remembers what it found by hash."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._known: OrderedDict[str, str | None] = OrderedDict()
        self._turn = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    async def problem(self, file: str, data: bytes) -> str | None:
        """Why it can't be run, in words; None if it can."""
        if not data.removeprefix(codecs.BOM_UTF8).strip():
            return "the file is empty"
        if split(file)[1] != ".py":
            return None
        key = hashlib.sha256(data).hexdigest()
        if key not in self._known:
            async with self._turn:
                if key not in self._known:
                    # neither of these is remembered: the host may have been busy, or somebody ended the process
                    try:
                        self._known[key] = await self._ask(file, data)
                    except TimeoutError:
                        return f"it takes longer than {LIMIT_SECONDS:g} s to compile"
                    except _CrashedError:
                        return "the compiler crashes on it"
        self._known.move_to_end(key)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return self._known[key]

    async def close(self) -> None:
        """End the process."""
        async with self._turn:
            await self._end()

    async def _ask(self, file: str, data: bytes) -> str | None:
        """Raises TimeoutError and _CrashedError."""
        if self._idle is not None:
            self._idle.cancel()
        for _ in range(2):
            try:
                async with asyncio.timeout(LIMIT_SECONDS):
                    answer = await self._exchange(file, data)
            except TimeoutError:
                await self._end()
                raise
            except (OSError, EOFError, ValueError):
                await self._end()  # perhaps somebody else ended it: once more
            except asyncio.CancelledError:
                await self._end()  # else its answer would be taken for the next one
                raise
            else:
                self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._doze)
                return answer
        raise _CrashedError

    def _doze(self) -> None:
        if not self._turn.locked():
            self._ending = asyncio.create_task(self.close())

    async def _exchange(self, file: str, data: bytes) -> str | None:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-B", str(_PROGRAM),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True, cwd="/",
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        name = file.encode(errors="replace")
        process.stdin.write(struct.pack(">II", len(name), len(data)) + name + data)
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer: str | None = json.loads(line)
        return answer

    async def _end(self) -> None:
        process, self._process = self._process, None
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()
