"""Closing the operator: begun writes count and our copy knows, what hangs is cut off within the limit and counted."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

from mainstay.api.meta import FINALIZER
from mainstay.cli import operator as command
from mainstay.cli import system
from mainstay.runtime.fake import FakeRuntime
from mainstay.runtime.fake_probes import FakeProbes
from mainstay.runtime.fake_stacks import FakeStacks
from mainstay.runtime.fake_strategies import FakeShelf
from mainstay.shell import operator as operators
from mainstay.shell import queue as queues
from mainstay.shell import writes
from mainstay.shell.copies import WATCHED
from mainstay.shell.endpoints import CLOSE_SECONDS
from mainstay.shell.kube import LEASES, POOLS, RUNS, Kube
from mainstay.shell.operator import Operator
from mainstay.shell.shutdowns import OPERATIONS, WRITES, Shutdowns
from mainstay.shell.writes import Writes

Object = dict[str, Any]
KEY = ("d", "bot")
PLURALS = WATCHED


class Api:
    """An API server with one run. A write whose method and path's end are in `held` waits at the gate."""

    def __init__(self) -> None:
        self.run: Object = {
            "apiVersion": "mainstay.dev/v1alpha1",
            "kind": "StrategyRun",
            "metadata": {
                "namespace": "d",
                "name": "bot",
                "uid": "u1",
                "generation": 1,
                "resourceVersion": "100",
                "creationTimestamp": "2030-01-01T00:00:00Z",
            },
            "spec": {"program": {"command": ["bot"]}},
        }
        self.held = ""
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.writes: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        name = request.path.rsplit("/", 1)[-1]
        if request.method == "GET":
            if name in PLURALS:
                items = [self.run] if name == RUNS else []
                return web.json_response({"metadata": {"resourceVersion": "100"}, "items": items})
            return web.json_response(self.run if name == "bot" else {}, status=200 if name == "bot" else 404)
        body = await request.json()
        if f"{request.method} {name}" == self.held:
            self.begun.set()
            await self.gate.wait()
        self.writes.append(f"{request.method} {name}")
        if name == "status":
            self.run = {**self.run, "status": body["status"]}
        elif request.method == "PATCH":
            self.run = {**self.run, "metadata": {**self.run["metadata"], **body["metadata"]}}
        self.run = copy.deepcopy(self.run)
        self.run["metadata"]["resourceVersion"] = str(100 + len(self.writes))
        return web.json_response(self.run)


@asynccontextmanager
async def served(api: Api) -> AsyncIterator[Kube]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kube = Kube(client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")))
    try:
        yield kube
    finally:
        api.gate.set()
        await kube.close()
        await runner.cleanup()


@asynccontextmanager
async def operating(api: Api, runtime: FakeRuntime | None = None) -> AsyncIterator[Operator]:
    async with served(api) as kube:
        operator = Operator(
            kube, runtime or FakeRuntime(), FakeRuntime(), FakeShelf(), FakeStacks(), FakeProbes()
        )
        await operator.start()
        try:
            yield operator
        finally:
            await operator.close()


def value(operator: Operator, name: str, **labels: str) -> float:
    found = operator.metrics.registry.get_sample_value(name, labels)
    assert found is not None, (name, labels)
    return found


def cut(operator: Operator) -> dict[str, float]:
    name = "mainstay_context_cancellation_total"
    return {o: n for o in OPERATIONS if (n := value(operator, name, operation=o))}


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limits as they are, in hundredths of a second."""
    monkeypatch.setattr(operators, "PASS_SECONDS", 0.3)
    monkeypatch.setattr(writes, "WRITE_SECONDS", 0.1)
    return


# --- state writes


@pytest.mark.parametrize("write", ["PATCH bot", "PUT status"])
async def test_a_write_under_way_counts_and_our_copy_knows(write: str):
    api = Api()
    api.held = write
    async with operating(api) as operator:
        await api.begun.wait()
        closing = asyncio.create_task(operator.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        api.gate.set()
        await closing
        assert api.writes[-1] == write, "nothing comes after it"
        assert operator.store.runs.objects[KEY] == api.run
        assert (FINALIZER in api.run["metadata"]["finalizers"]) is True
        assert cut(operator) == {}


async def test_a_write_outlives_the_visit_that_began_it():
    """Whoever cancels it: it is done in a context of its own."""
    api = Api()
    api.held = "PUT status"
    async with operating(api) as operator:
        await api.begun.wait()
        visit = operator.queue._running["run", *KEY]
        visit.cancel()
        await asyncio.wait([visit])
        api.gate.set()
        await operator.close()
        assert "status" in api.run
        assert operator.store.runs.objects[KEY] == api.run


@pytest.mark.parametrize(
    ("write", "operation"), [("PATCH bot", "set_finalizer"), ("PUT status", "put_status")]
)
@pytest.mark.usefixtures("hurried")
async def test_a_write_that_hangs_is_cut_off_and_counted(
    write: str, operation: str, caplog: pytest.LogCaptureFixture
):
    api = Api()
    api.held = write
    async with operating(api) as operator:
        await api.begun.wait()
        await operator.close()
        assert cut(operator) == {operation: 1}
        assert f"{operation} was cut off" in caplog.text
        assert operator.queue.depth == 0
        assert value(operator, "mainstay_graceful_shutdown_duration_seconds_count") == 1


@pytest.mark.parametrize(
    ("begin", "operation"),
    [
        (lambda k: k.create(LEASES, "PortLease", "", {"metadata": {"name": "port-1"}}), "create"),
        (lambda k: k.delete(LEASES, "port-1", uid="u", resource_version="1"), "delete"),
        (lambda k: k.keep_config_map("d", {"metadata": {"name": "c"}}), "keep_config_map"),
        (lambda k: k.delete_object("/api/v1/namespaces/d/configmaps/c", uid="u"), "delete_object"),
        (lambda k: k.patch_state("phasedjobs", "d", "j", "u", {}), "patch_state"),
        (
            lambda k: k.put_status(
                POOLS,
                {"apiVersion": "", "kind": "", "metadata": {"name": "p", "uid": "", "resourceVersion": ""}},
                {},
            ),
            "put_status",
        ),
    ],
    ids=["lease", "lease back", "outputs", "outputs gone", "batch", "pool"],
)
@pytest.mark.usefixtures("hurried")
async def test_every_write_of_the_shell_is_finished_or_counted(begin: Any, operation: str):
    assert operation in WRITES
    async with served(Api()) as kube:
        for hangs in (False, True):
            counted: list[str] = []
            under_way = Writes(counted.append)
            kube.finish = under_way.finish
            asked, gate = asyncio.Event(), asyncio.Event()

            async def ask(*_: Any, asked: asyncio.Event = asked, gate: asyncio.Event = gate) -> Object:
                asked.set()
                await gate.wait()
                return {}

            kube._request = ask  # type: ignore[method-assign]
            caller = asyncio.create_task(begin(kube))
            await asked.wait()
            caller.cancel()
            under_way.close()
            if not hangs:
                gate.set()
            await under_way.drain()
            assert counted == ([operation] if hangs else [])


async def test_a_write_begun_within_a_write_is_part_of_it():
    under_way = Writes(lambda _: None)

    async def inner() -> asyncio.Task[Any] | None:
        return asyncio.current_task()

    async def outer() -> bool:
        return await under_way.finish("create", inner()) is asyncio.current_task()

    assert await under_way.finish("put_status", outer())
    await under_way.drain()


# --- visits


class HangingRuntime(FakeRuntime):
    """One that answers no question about a unit, and minds no cancellation."""

    def __init__(self, *, stubborn: bool = False) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self._stubborn = stubborn
        self.free = asyncio.Event()

    async def observe(self, name: str) -> Any:
        self.asked.set()
        while not self.free.is_set():
            try:
                await self.free.wait()
            except asyncio.CancelledError:
                if not self._stubborn:
                    raise
        return await super().observe(name)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_visit_that_hangs_is_cancelled(stubborn: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queues, "CANCEL_SECONDS", 0.1)
    runtime = HangingRuntime(stubborn=stubborn)
    async with operating(Api(), runtime) as operator:
        await runtime.asked.wait()
        await operator.close()
        assert cut(operator) == {"reconcile": 1}
        assert operator.queue.depth == (1 if stubborn else 0)
        runtime.free.set()


async def test_a_visit_ends_with_the_pass_it_is_in():
    runtime = HangingRuntime()
    api = Api()
    async with operating(api, runtime) as operator:
        await runtime.asked.wait()
        closing = asyncio.create_task(operator.close())
        await asyncio.sleep(0.01)
        runtime.free.set()
        await closing
        assert len(api.writes) == 1, "that pass acts or writes, and none follows"
        assert cut(operator) == {}


async def test_nothing_is_taken_up_after_the_close():
    api = Api()
    async with operating(api) as operator:
        await operator.close()
        done = list(api.writes)
        operator.queue.add(("run", *KEY))
        operator.queue.add_after(("run", *KEY), 0.0)
        await asyncio.sleep(0.01)
        assert operator.queue.depth == 0
        assert api.writes == done
        await operator.close()
        assert value(operator, "mainstay_graceful_shutdown_duration_seconds_count") == 1, "once is enough"


async def test_keys_that_wait_for_a_worker_are_not_begun_and_not_counted():
    begun: list[int] = []

    async def work(key: int) -> None:
        begun.append(key)
        await asyncio.sleep(0.01)

    queue = queues.Queue(work, workers=2)
    for key in range(10):
        queue.add(key)
    await asyncio.sleep(0)
    assert await queue.close(5) == []
    assert begun == [0, 1]


# --- the limit


def test_all_parts_of_a_shutdown_fit_into_its_limit():
    loops = visits = recorder = queues.CANCEL_SECONDS
    operator = loops + operators.PASS_SECONDS + visits + writes.WRITE_SECONDS + recorder
    around = (
        2 * command.END_SECONDS * 3
    )  # what began it, kopf, and our connections; each once more when cancelled
    assert CLOSE_SECONDS <= command.END_SECONDS
    assert operator + around <= operators.SHUTDOWN_SECONDS - 2, "before the watchdog does it"
    assert operators.SHUTDOWN_SECONDS <= 30
    assert operators.SHUTDOWN_SECONDS < system.GRACE_SECONDS, (
        "else `mainstay down` kills what is still ending"
    )


# --- what the next operator tells of it


def seconds_told(shutdowns: Shutdowns) -> tuple[int, float]:
    return sum(shutdowns.counts), shutdowns.seconds


async def test_the_next_operator_tells_of_shutdowns_before_it(tmp_path: Path):
    for lives in (1, 2):
        async with operating(Api()) as operator:
            operator.metrics.shutdowns.keep(tmp_path / "shutdowns.json")
            operator._cut_off("put_status")
            await operator.close()
        async with operating(Api()) as after:
            after.metrics.shutdowns.keep(tmp_path / "shutdowns.json")
            assert cut(after) == {"put_status": lives}
            assert value(after, "mainstay_graceful_shutdown_duration_seconds_count") == lives
            assert value(after, "mainstay_graceful_shutdown_duration_seconds_bucket", le="+Inf") == lives
            after.metrics.shutdowns = Shutdowns()  # this one's own end is not told
    assert (tmp_path / "shutdowns.json").stat().st_mode & 0o777 == 0o600


def test_a_shutdown_that_never_ended_is_told_once(tmp_path: Path):
    file = tmp_path / "shutdowns.json"
    first = Shutdowns()
    first.keep(file)
    first.began()
    for _ in range(2):
        after = Shutdowns()
        after.keep(file)
        assert after.cut["shutdown"] == 1
        assert seconds_told(after) == (0, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"counts": [1], "seconds": 1, "begun": false, "cut": {}}',
        '{"counts": "x"}',
    ],
)
def test_a_file_that_makes_no_sense_counts_as_none(tmp_path: Path, text: str):
    file = tmp_path / "shutdowns.json"
    file.write_text(text)
    shutdowns = Shutdowns()
    shutdowns.keep(file)
    shutdowns.ended(0.2)
    assert seconds_told(shutdowns) == (1, 0.2)
    assert json.loads(file.read_text())["seconds"] == 0.2


def test_a_home_that_can_not_be_written_stops_no_shutdown(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    shutdowns = Shutdowns()
    shutdowns.keep(tmp_path / "gone" / "shutdowns.json")
    shutdowns.began()
    shutdowns.ended(1.0)
    assert "can't be written" in caplog.text
