"""Calls to one supervisord over its socket, and their batching.

supervisord answers one request at a time and rereads all its configuration for one new program, so starts
that come while a request is under way are collected and sent as one.
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


class Supervisor:
    """One supervisord's XML-RPC interface."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def close(self) -> None:
        """Close connections, for good."""
        self._closed = True
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
            raise RuntimeUnavailableError(f"supervisord answered nonsense: {error}") from error
        return result

    async def multicall(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Many calls in as few requests as is fair to others. A refusal is a Fault in the result."""
        results: list[Any] = []
        for start in range(0, len(calls), BATCH):
            structs = [
                {"methodName": name, "params": list(params)} for name, params in calls[start : start + BATCH]
            ]
            results += await self.call("system.multicall", structs)
        return [
            Fault(result["faultCode"], result["faultString"])
            if isinstance(result, dict) and "faultCode" in result
            else result
            for result in results
        ]

    async def info(self, name: str) -> dict[str, Any] | None:
        """getProcessInfo; None for a program it doesn't have."""
        try:
            info = await self.call("supervisor.getProcessInfo", f"{name}:{name}")
        except FaultError as error:
            if error.fault.code == BAD_NAME:
                return None
            raise
        return dict(info)


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
        calls: list[tuple[str, Sequence[Any]]] = []
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
