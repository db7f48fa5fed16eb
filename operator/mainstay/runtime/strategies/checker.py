"""Whether a strategy can be run at all, asked of a process of its own.

compile() holds the GIL for seconds on nasty files, and may crash: neither may happen to the operator.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections import OrderedDict
from contextlib import suppress

from mainstay.core.strategy.names import split
from mainstay.runtime.strategies import compiling

MOST_RESULTS = 4096


class _DiedError(Exception):
    """The compiling process ended in the middle."""


class Checker:
    """Checks one file at a time. Bound to the event loop that first uses it."""

    def __init__(self, *, limit: float = 10.0, idle: float = 30.0) -> None:
        """`limit`: seconds that one file may take; `idle`: after so many the process is ended."""
        self._limit = limit
        self._idle = idle
        self._lock = asyncio.Lock()
        self._worker: asyncio.subprocess.Process | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._results: OrderedDict[tuple[str, bytes], str | None] = OrderedDict()

    async def problem(self, file: str, data: bytes) -> str | None:
        """Why it can't be run, with the line; None if it can. Nothing of it is executed."""
        if not data.removeprefix(b"\xef\xbb\xbf").strip():
            return "the file is empty"
        _, suffix = split(file)
        if suffix != ".py":
            return None
        key = (suffix, hashlib.sha256(data).digest())
        async with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
            try:
                answer = await self._ask(data)
            except TimeoutError:  # not remembered: the host may have been too busy
                return f"takes longer than {self._limit:g} s to compile"
            except _DiedError:
                return "the compiler crashed on it"
            self._results[key] = answer
            if len(self._results) > MOST_RESULTS:
                self._results.popitem(last=False)
            return answer

    async def close(self) -> None:
        """End the process, and wait for it."""
        async with self._lock:
            self._end(kill=True)
        await asyncio.gather(*self._ending)

    async def _ask(self, data: bytes) -> str | None:
        """Raises TimeoutError, and _DiedError if the process died of it twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            return await self._exchange(data)
        except _DiedError:
            return await self._exchange(data)
        finally:
            if self._worker is not None:
                self._timer = asyncio.get_running_loop().call_later(self._idle, self._end)

    async def _exchange(self, data: bytes) -> str | None:
        try:
            worker = self._worker or await self._start()
            assert worker.stdin is not None
            assert worker.stdout is not None
            async with asyncio.timeout(self._limit):
                worker.stdin.write(len(data).to_bytes(4, "big") + data)
                with suppress(ConnectionError):
                    await worker.stdin.drain()
                line = await worker.stdout.readline()
            if not line.endswith(b"\n"):
                raise _DiedError
            answer: str | None = json.loads(line)
        except BaseException:  # cancelled, too: an answer that nobody waits for would be taken for the next one's
            self._end(kill=True)
            raise
        return answer

    async def _start(self) -> asyncio.subprocess.Process:
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        self._worker = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", "-B"),
            os.path.abspath(compiling.__file__),
            stdin=pipe,
            stdout=pipe,
            stderr=null,
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )
        return self._worker

    def _end(self, *, kill: bool = False) -> None:
        """End the process by closing its stdin, or at once; it is waited for apart."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if kill:
            with suppress(ProcessLookupError):
                worker.kill()
        assert worker.stdin is not None
        worker.stdin.close()
        task = asyncio.create_task(_reap(worker))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _reap(worker: asyncio.subprocess.Process) -> None:
    await worker.wait()
    assert worker.stdin is not None
    with suppress(ConnectionError):
        await worker.stdin.wait_closed()
