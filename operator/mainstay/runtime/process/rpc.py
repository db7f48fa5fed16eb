"""Calls to one supervisord over its socket, and their batching.

supervisord answers one request at a time and rereads all its configuration for one new program, so starts
that come while a request is under way are collected and sent as one. So are questions and stops.

Each request has a connection of its own, on purpose: supervisord reaps when it accepts one, so what it then answers
tells of every exit before the question.
"""

from __future__ import annotations

import asyncio
import xmlrpc.client
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from mainstay.runtime import effects
from mainstay.runtime.base import RuntimeUnavailableError

CALL_SECONDS = 10.0
BATCH = 100  # calls in one request: the longest that others wait is a fraction of a second

# supervisor.xmlrpc.Faults
BAD_NAME = 10
FAILED = 30
NOT_RUNNING = 70
ALREADY_STARTED = 60
ALREADY_ADDED = 90
CANT_REREAD = 92

# supervisor.states.ProcessStates
STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL = 0, 10, 20, 30, 40, 100, 200


@dataclass(frozen=True, slots=True)
class Fault:
    """supervisord understood the call and refused it."""

    code: int
    text: str


class FaultError(RuntimeUnavailableError):
    """A refusal that the caller did not expect."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"supervisord: {fault.text}")
        self.fault = fault


class NonsenseError(RuntimeUnavailableError):
    """An answer that can't be read, or that doesn't fit what was asked."""


Call = tuple[str, Sequence[Any]]


@dataclass(slots=True)
class _Asked:
    """Calls that belong together, and whoever waits for their results."""

    calls: Sequence[Call]
    until: float  # of the loop's clock
    answer: asyncio.Future[list[Any]]


class Supervisor:
    """One supervisord's XML-RPC interface."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._asked: list[_Asked] = []
        self._sender: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Close connections, for good. Who waits for an answer is told that there will be none."""
        self._closed = True
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, method: str, *params: Any, timeout: float = CALL_SECONDS) -> Any:
        """One call. Raises FaultError, or RuntimeUnavailableError when there is no answer."""
        if self._closed:
            raise RuntimeUnavailableError("this runtime was closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(self._socket, force_close=True, limit=8),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        body = xmlrpc.client.dumps(params, method, allow_none=True).encode()
        try:
            async with self._session.post(
                "http://supervisord/RPC2",
                data=body,
                headers={"Content-Type": "text/xml"},
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as response:
                answer = await response.read()
            (result,), _ = xmlrpc.client.loads(answer.decode(), use_builtin_types=True)
        except xmlrpc.client.Fault as fault:
            raise FaultError(Fault(fault.faultCode, fault.faultString)) from None
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise RuntimeUnavailableError(f"supervisord does not answer: {error or 'timeout'}") from error
        except Exception as error:  # what expat and the unmarshaller raise on garbage
            raise NonsenseError(f"supervisord answered nonsense: {error}") from error
        return result

    async def ask(self, *calls: Call, timeout: float = CALL_SECONDS) -> list[Any]:
        """A few quick calls, one after the other, in a request that others share. A refusal is a Fault in the result.

        For calls that are harmless when repeated: if an answer can't be read, each caller's are sent again alone.
        Raises RuntimeUnavailableError when there is no answer.
        """
        if self._closed:
            raise RuntimeUnavailableError("this runtime was closed")
        loop = asyncio.get_running_loop()
        asked = _Asked(calls, loop.time() + timeout, loop.create_future())
        self._asked.append(asked)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send(), name="supervisord calls")
        try:
            async with asyncio.timeout_at(asked.until):
                return await asked.answer
        except TimeoutError:
            raise RuntimeUnavailableError("supervisord does not answer: timeout") from None

    async def _send(self) -> None:
        """Send what was asked, one request at a time: what is asked meanwhile goes into the next."""
        taken: list[_Asked] = []
        try:
            while self._asked:
                await asyncio.sleep(0)  # whoever is ready now comes along
                taken = self._take()
                if taken:
                    await self._request(taken)
        finally:
            if self._asked or any(not asked.answer.done() for asked in taken):  # we were cancelled
                for asked in [*taken, *self._asked]:
                    _fail(asked, RuntimeUnavailableError("this runtime was closed"))
                self._asked.clear()

    def _take(self) -> list[_Asked]:
        """The next of those who still wait, as many as fit into one request."""
        waiting = [asked for asked in self._asked if not asked.answer.done()]
        taken: list[_Asked] = []
        size = 0
        while waiting and (not taken or size + len(waiting[0].calls) <= BATCH):
            size += len(waiting[0].calls)
            taken.append(waiting.pop(0))
        self._asked = waiting
        return taken

    async def _request(self, taken: list[_Asked]) -> None:
        """One request, given up when nobody waits for it any more."""
        calls = [call for asked in taken for call in asked.calls]
        left = max(asked.until for asked in taken) - asyncio.get_running_loop().time()
        request = asyncio.create_task(self._results(calls, max(0.001, left)), name="supervisord call")

        def given_up(_: object) -> None:
            if all(asked.answer.done() for asked in taken):
                request.cancel()

        for asked in taken:
            asked.answer.add_done_callback(given_up)
        try:
            await asyncio.wait([request])
        finally:
            request.cancel()
        if request.cancelled():
            return
        error = request.exception()
        if isinstance(error, NonsenseError) and len(taken) > 1:
            for asked in taken:  # whose it was isn't known; the others are not to suffer
                if not asked.answer.done():
                    await self._request([asked])
            return
        results = iter(request.result() if error is None else ())
        for asked in taken:
            if error is not None:
                _fail(asked, error)
                continue
            own = [next(results) for _ in asked.calls]
            if not asked.answer.done():
                asked.answer.set_result(own)

    async def _results(self, calls: Sequence[Call], timeout: float) -> list[Any]:
        if len(calls) > 1:
            results = await self.multicall(calls, timeout=timeout)
            if len(results) != len(calls):
                raise NonsenseError(f"supervisord gave {len(results)} answers to {len(calls)} calls")
            return results
        method, params = calls[0]
        try:
            return [await self.call(method, *params, timeout=timeout)]
        except FaultError as error:
            return [error.fault]

    async def multicall(self, calls: Sequence[Call], timeout: float = CALL_SECONDS) -> list[Any]:
        """Many calls in as few requests as is fair to others. A refusal is a Fault in the result."""
        results: list[Any] = []
        for start in range(0, len(calls), BATCH):
            structs = [
                {"methodName": name, "params": list(params)} for name, params in calls[start : start + BATCH]
            ]
            results += await self.call("system.multicall", structs, timeout=timeout)
        return [
            Fault(result["faultCode"], result["faultString"])
            if isinstance(result, dict) and "faultCode" in result
            else result
            for result in results
        ]

    async def info(self, name: str) -> dict[str, Any] | None:
        """getProcessInfo; None for a program it doesn't have."""
        (info,) = await self.ask(info_call(name))
        return read_info(info)


def info_call(name: str) -> Call:
    """The question for a program's state."""
    return "supervisor.getProcessInfo", [f"{name}:{name}"]


def read_info(info: Any) -> dict[str, Any] | None:
    """The answer to `info_call`; None for a program it doesn't have. Raises for another refusal."""
    check(info, BAD_NAME)
    return None if isinstance(info, Fault) else dict(info)


def check(result: Any, *expected: int) -> None:
    """Raise a refusal that isn't one of those expected."""
    if not isinstance(result, Fault) or result.code in expected:
        return
    if result.code == FAILED and result.text.startswith("FAILED: <class "):  # an exception of its own
        raise RuntimeUnavailableError(f"supervisord failed: {result.text}")
    raise FaultError(result)


def _fail(asked: _Asked, error: BaseException) -> None:
    """An error of its own for each: they are raised in different tasks."""
    if asked.answer.done():
        return
    if isinstance(error, FaultError):
        asked.answer.set_exception(FaultError(error.fault))
    elif isinstance(error, RuntimeUnavailableError):
        asked.answer.set_exception(RuntimeUnavailableError(str(error)))
    else:
        asked.answer.set_exception(error)


@dataclass(slots=True)
class _Job:
    name: str
    reread: bool
    start: bool
    done: asyncio.Future[int]


class Batcher:
    """Adds and starts programs, many in one reread and one request."""

    def __init__(self, supervisor: Supervisor, repair: Callable[[], Awaitable[None]]) -> None:
        self._supervisor = supervisor
        self._repair = repair
        self._waiting: list[_Job] = []
        self._task: asyncio.Task[None] | None = None

    async def add(self, name: str, *, reread: bool, start: bool) -> int:
        """Make the program known (`reread`: its section is new) and start it; its pid, 0 if not running.

        Raises RuntimeUnavailableError.
        """
        job = _Job(name, reread, start, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="supervisord batches")
        return await job.done

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # whoever is ready now comes along
            jobs, self._waiting = self._waiting, []
            try:
                pids = await self._batch(jobs)
            except BaseException as error:
                for job in jobs:
                    if not job.done.done():
                        job.done.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                for job, outcome in zip(jobs, pids, strict=True):
                    if job.done.done():
                        continue
                    if isinstance(outcome, Exception):
                        job.done.set_exception(outcome)
                    else:
                        job.done.set_result(outcome)

    async def _batch(self, jobs: Sequence[_Job]) -> list[int | Exception]:
        changed: set[str] = set()
        if any(job.reread for job in jobs):
            changed = await self._reread()
        calls: list[Call] = []
        with effects.effect("supervisord add and start"):
            for job in jobs:
                full = f"{job.name}:{job.name}"
                if job.name in changed:  # only if it isn't running: supervisord refuses otherwise
                    calls.append(("supervisor.removeProcessGroup", [job.name]))
                calls.append(("supervisor.addProcessGroup", [job.name]))
                if job.start:
                    calls.append(("supervisor.startProcess", [full, False]))
                calls.append(("supervisor.getProcessInfo", [full]))
            results = iter(await self._supervisor.multicall(calls))
        outcomes: list[int | Exception] = []
        for job in jobs:
            if job.name in changed:
                next(results)
            added, started, info = next(results), next(results) if job.start else True, next(results)
            outcomes.append(_outcome(added, started, info))
        return outcomes

    async def _reread(self) -> set[str]:
        for last in (False, True):
            try:
                with effects.effect("supervisord reread"):
                    result = await self._supervisor.call("supervisor.reloadConfig")
                return set(result[0][1])
            except FaultError as error:
                if last or error.fault.code != CANT_REREAD:
                    raise
                await self._repair()
        raise AssertionError


def _outcome(added: Any, started: Any, info: Any) -> int | Exception:
    if isinstance(added, Fault) and added.code != ALREADY_ADDED:
        return FaultError(added)
    if isinstance(started, Fault) and started.code != ALREADY_STARTED:
        return FaultError(started)
    if isinstance(info, Fault):
        return FaultError(info)
    return int(info["pid"])
