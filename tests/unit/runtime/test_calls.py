"""Calls that share a request: each has its own answer, refusal, timeout and end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import xmlrpc.client
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mainstay.runtime.base import RuntimeUnavailableError
from mainstay.runtime.process import proc, rpc
from mainstay.runtime.process.rpc import FaultError, Supervisor, info_call


class Fake:
    """Answers as supervisord would, from `programs`; notes every request and when one was given up."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.programs: dict[str, Any] = {}
        self.requests: list[list[str]] = []
        self.given_up = 0
        self.go = asyncio.Event()
        self.go.set()
        self.raw: bytes | None = None  # what every multicall is answered with

    async def serve(self, request: web.BaseRequest) -> web.Response:
        params, method = xmlrpc.client.loads(await request.text())
        calls = params[0] if method == "system.multicall" else [{"methodName": method, "params": params}]
        self.requests.append([call["params"][0].partition(":")[0] for call in calls])
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        results = [self.answer(call["params"][0].partition(":")[0]) for call in calls]
        if method == "system.multicall":
            if self.raw is not None:
                return web.Response(body=self.raw)
            return web.Response(text=xmlrpc.client.dumps((results,), methodresponse=True))
        (result,) = results
        if "faultCode" in result:
            result = xmlrpc.client.Fault(result["faultCode"], result["faultString"])
            return web.Response(text=xmlrpc.client.dumps(result, methodresponse=True))
        return web.Response(text=xmlrpc.client.dumps((result,), methodresponse=True))

    def answer(self, name: str) -> Any:
        found = self.programs.get(name, (rpc.BAD_NAME, f"BAD_NAME: {name}"))
        return {"faultCode": found[0], "faultString": found[1]} if isinstance(found, tuple) else found


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[Fake]:
    fake = Fake(tmp_path / "socket")
    runner = web.ServerRunner(web.Server(fake.serve, handler_cancellation=True))
    await runner.setup()
    await web.UnixSite(runner, str(fake.socket)).start()
    fake.programs = {f"bot-{number}": {"pid": number} for number in range(300)}
    yield fake
    fake.go.set()
    await runner.cleanup()


@pytest.fixture
async def supervisor(fake: Fake) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(str(fake.socket))
    yield supervisor
    await supervisor.close()


async def busy(fake: Fake, supervisor: Supervisor) -> asyncio.Task[Any]:
    """A request that is under way and not answered."""
    fake.go.clear()
    count = len(fake.requests)
    task = asyncio.create_task(supervisor.info("bot-0"))
    while len(fake.requests) == count:
        await asyncio.sleep(0.001)
    return task


async def test_calls_of_one_moment_share_a_request(fake, supervisor):
    infos = await asyncio.gather(*(supervisor.info(f"bot-{number}") for number in range(34)))
    assert [info["pid"] for info in infos] == list(range(34))
    assert [len(names) for names in fake.requests] == [34]


async def test_what_is_asked_meanwhile_goes_into_the_next_request(fake, supervisor):
    first = await busy(fake, supervisor)
    later = []
    for number in range(1, 6):
        later.append(asyncio.create_task(supervisor.info(f"bot-{number}")))
        await asyncio.sleep(0.002)
    fake.go.set()
    assert [info["pid"] for info in await asyncio.gather(first, *later)] == list(range(6))
    assert [len(names) for names in fake.requests] == [1, 5]


async def test_no_request_is_longer_than_is_fair(fake, supervisor):
    pairs = await asyncio.gather(
        *(supervisor.ask(info_call(f"bot-{n}"), info_call(f"bot-{n + 1}")) for n in range(0, 250, 2))
    )
    assert [[info["pid"] for info in pair] for pair in pairs] == [[n, n + 1] for n in range(0, 250, 2)]
    assert [len(names) for names in fake.requests] == [100, 100, 50]


async def test_a_refusal_is_its_callers_alone(fake, supervisor):
    fake.programs["evil"] = (rpc.CANT_REREAD, "CANT_REREAD: evil")
    fake.programs["worse"] = (rpc.FAILED, "FAILED: <class 'KeyError'>:'worse'")
    asked = ("bot-1", "unknown", "evil", "worse", "bot-2")
    first, unknown, evil, worse, last = await asyncio.gather(
        *(supervisor.info(name) for name in asked), return_exceptions=True
    )
    assert len(fake.requests) == 1
    assert (first, unknown, last) == ({"pid": 1}, None, {"pid": 2})
    assert isinstance(evil, FaultError)
    assert evil.fault.code == rpc.CANT_REREAD
    assert isinstance(worse, RuntimeUnavailableError)
    assert not isinstance(worse, FaultError)


async def test_alone_or_in_company_a_refusal_is_the_same(supervisor):
    assert await supervisor.info("unknown") is None
    alone = await supervisor.ask(info_call("unknown"))
    (together, _) = await asyncio.gather(supervisor.ask(info_call("unknown")), supervisor.info("bot-1"))
    assert alone == together == [rpc.Fault(rpc.BAD_NAME, "BAD_NAME: unknown")]


async def test_a_timeout_is_its_callers_alone(fake, supervisor):
    fake.go.clear()
    began = time.monotonic()
    hasty = asyncio.create_task(supervisor.ask(info_call("bot-1"), timeout=0.1))
    patient = asyncio.create_task(supervisor.info("bot-2"))
    with pytest.raises(RuntimeUnavailableError, match="timeout"):
        await hasty
    assert 0.09 < time.monotonic() - began < 2
    assert not patient.done()
    fake.go.set()
    assert await patient == {"pid": 2}
    assert fake.requests == [["bot-1", "bot-2"]]


async def test_a_timeout_counts_while_waiting_for_another_request(fake, supervisor):
    first = await busy(fake, supervisor)
    with pytest.raises(RuntimeUnavailableError, match="timeout"):
        await supervisor.ask(info_call("bot-1"), timeout=0.1)
    fake.go.set()
    assert await first == {"pid": 0}
    assert await supervisor.info("bot-2") == {"pid": 2}
    assert fake.requests == [["bot-0"], ["bot-2"]]  # who gave up is not asked for any more


async def test_cancelled_alone(fake, supervisor):
    fake.go.clear()
    tasks = [asyncio.create_task(supervisor.info(f"bot-{number}")) for number in range(3)]
    while not fake.requests:
        await asyncio.sleep(0.001)
    tasks[1].cancel()
    await asyncio.sleep(0.02)
    assert tasks[1].cancelled()
    fake.go.set()
    assert [await tasks[0], await tasks[2]] == [{"pid": 0}, {"pid": 2}]
    assert (len(fake.requests), fake.given_up) == (1, 0)


async def test_all_cancelled_gives_the_request_up_and_frees_the_way(fake, supervisor):
    first = await busy(fake, supervisor)
    first.cancel()
    fake.go.set()
    async with asyncio.timeout(2):
        assert await supervisor.info("bot-1") == {"pid": 1}
    fake.go.clear()
    second = await busy(fake, supervisor)
    second.cancel()
    async with asyncio.timeout(2):
        while not fake.given_up:
            await asyncio.sleep(0.001)


async def test_an_unreadable_answer_harms_only_whose_it_is(fake, supervisor):
    fake.raw = b"<methodResponse>\x01"
    infos = await asyncio.gather(*(supervisor.info(f"bot-{number}") for number in range(3)))
    assert infos == [{"pid": 0}, {"pid": 1}, {"pid": 2}]
    assert fake.requests == [["bot-0", "bot-1", "bot-2"], ["bot-0"], ["bot-1"], ["bot-2"]]
    with pytest.raises(RuntimeUnavailableError, match="nonsense"):
        await supervisor.ask(info_call("bot-1"), info_call("bot-2"))


async def test_too_few_answers(fake, supervisor):
    fake.raw = xmlrpc.client.dumps(([{"pid": 7}],), methodresponse=True).encode()
    infos = await asyncio.gather(supervisor.info("bot-1"), supervisor.info("bot-2"))
    assert infos == [{"pid": 1}, {"pid": 2}]


async def test_nobody_there(tmp_path):
    supervisor = Supervisor(str(tmp_path / "none"))
    results = await asyncio.gather(*(supervisor.info(f"bot-{n}") for n in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeUnavailableError] * 3
    assert len({id(result) for result in results}) == 3
    await supervisor.close()


async def test_closing_tells_all_who_wait(fake, supervisor):
    first = await busy(fake, supervisor)
    second = asyncio.create_task(supervisor.info("bot-1"))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(2):
        await supervisor.close()
        results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeUnavailableError] * 2
    with pytest.raises(RuntimeUnavailableError):
        await supervisor.info("bot-2")


async def test_a_hung_supervisord_gives_each_its_own_timeout(place):
    await place.running()
    old = place.supervisord()
    proc.send(old, signal.SIGSTOP)
    supervisor = Supervisor(str(place.home / "scopes/runs/supervisor.sock"))
    took = {}

    async def ask(seconds: float) -> None:
        began = time.monotonic()
        with contextlib.suppress(RuntimeUnavailableError):
            await supervisor.ask(info_call("default.bot"), timeout=seconds)
        took[seconds] = time.monotonic() - began

    try:
        await asyncio.gather(ask(0.1), ask(0.2), ask(0.3))
    finally:
        await supervisor.close()
    assert all(took[seconds] < seconds + 1 for seconds in took)
    assert took[0.1] < took[0.2] < took[0.3]
