"""The work queue: one key once, one worker at a time, and what is added comes round."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from mainstay.shell import queue as queues
from mainstay.shell.queue import Queue

Work = Callable[[str], Awaitable[float | None]]


class Worker:
    """Work that ends when it is told to, and says how often it ran and how many at once."""

    def __init__(self, *answers: float | Exception | None) -> None:
        self.answers = list(answers)
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.gate = asyncio.Semaphore(0)
        self.now: dict[str, int] = {}
        self.most = 0
        self.done: list[str] = []

    async def __call__(self, key: str) -> float | None:
        self.now[key] = self.now.get(key, 0) + 1
        assert self.now[key] == 1, "two workers on one key"
        self.most = max(self.most, sum(self.now.values()))
        self.begun.put_nowait(key)
        await self.gate.acquire()
        self.now[key] -= 1
        self.done.append(key)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def begins(self) -> str:
        async with asyncio.timeout(5):
            return await self.begun.get()

    def end(self, times: int = 1) -> None:
        for _ in range(times):
            self.gate.release()


async def idle(queue: Queue[str]) -> None:
    """Until nothing is being worked on."""
    while queue.depth:
        await asyncio.sleep(0)


async def test_a_key_added_twice_is_worked_on_once() -> None:
    work = Worker()
    queue = Queue(work)
    queue.add("a")
    queue.add("a")
    assert queue.depth == 1
    work.end(9)
    await idle(queue)
    assert work.done == ["a"]
    assert queue.depth == 0


async def test_a_key_added_while_it_is_worked_on_comes_round_once_more() -> None:
    work = Worker()
    queue = Queue(work)
    queue.add("a")
    await work.begins()
    for _ in range(5):
        queue.add("a")
    work.end()
    assert await work.begins() == "a"
    work.end()
    await idle(queue)
    assert work.done == ["a", "a"]


async def test_keys_are_worked_on_side_by_side_as_far_as_there_are_workers() -> None:
    work = Worker()
    queue = Queue(work, workers=2)
    for key in "abcd":
        queue.add(key)
    await work.begins()
    await work.begins()
    assert queue.depth == 4
    assert work.begun.empty()
    work.end(4)
    await idle(queue)
    assert work.most == 2
    assert sorted(work.done) == ["a", "b", "c", "d"]


async def test_an_answer_in_seconds_brings_the_key_back() -> None:
    work = Worker(0.0, None)
    queue = Queue(work)
    work.end(2)
    queue.add("a")
    await work.begins()
    await work.begins()
    await idle(queue)
    assert work.done == ["a", "a"]


async def test_failures_wait_longer_each_time_and_are_forgotten_after_a_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queues, "INITIAL_BACKOFF_SECONDS", 0.0)
    asked: list[int] = []

    def no_delay(failures: int, **limits: float) -> float:
        asked.append(failures)
        return limits["initial"]

    monkeypatch.setattr(queues, "delay", no_delay)
    work = Worker(ValueError("1"), ValueError("2"), 0.0, ValueError("3"), None)
    queue = Queue(work)
    work.end(5)
    queue.add("a")
    for _ in range(5):
        await work.begins()
    await idle(queue)
    assert asked == [1, 2, 1]


async def test_a_failure_is_no_reason_to_wait_where_something_changed() -> None:
    work = Worker(ValueError("once"))
    queue = Queue(work)
    queue.add("a")
    await work.begins()
    queue.add("a")
    work.end(2)
    assert await work.begins() == "a"
    await idle(queue)
    await queue.close()


async def test_a_failing_key_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    work = Worker(ValueError("a fails"), None)
    queue = Queue(work, workers=1)
    work.end(2)
    queue.add("a")
    queue.add("b")
    assert [await work.begins(), await work.begins()] == ["a", "b"]
    await idle(queue)
    assert "Traceback" not in caplog.text
    await queue.close()


WHEN: dict[str, tuple[list[float], float]] = {
    "the earlier stays": ([10.0, 60.0], 10.0),
    "an earlier one replaces": ([60.0, 10.0], 10.0),
    "of many the earliest": ([60.0, 10.0, 30.0, 5.0, 40.0], 5.0),
}


@pytest.mark.parametrize(("delays", "kept"), WHEN.values(), ids=WHEN)
async def test_add_after_keeps_the_earlier(delays: list[float], kept: float) -> None:
    queue = Queue(Worker())
    for seconds in delays:
        queue.add_after("a", seconds)
    now = asyncio.get_running_loop().time()
    assert queue.depth == 0
    assert queue._timers["a"].when() - now == pytest.approx(kept, abs=1.0)
    await queue.close()


async def test_add_replaces_a_timer() -> None:
    work = Worker()
    queue = Queue(work)
    queue.add_after("a", 0.0)
    queue.add("a")
    work.end(5)
    await work.begins()
    await idle(queue)
    await asyncio.sleep(0)
    assert work.done == ["a"]
    assert not queue._timers


async def test_add_after_while_it_is_worked_on_loses_nothing() -> None:
    work = Worker()
    queue = Queue(work)
    queue.add("a")
    await work.begins()
    queue.add_after("a", 3600.0)
    work.end(2)
    assert await work.begins() == "a", "what was asked for later is looked at now rather than never"
    await idle(queue)


async def test_close_lets_begun_work_end_and_takes_no_more() -> None:
    work = Worker(0.0)
    queue = Queue(work)
    queue.add("a")
    queue.add_after("later", 60.0)
    await work.begins()
    queue.add("a")
    closing = asyncio.create_task(queue.close())
    await asyncio.sleep(0)
    queue.add("b")
    queue.add_after("c", 0.0)
    assert not closing.done()
    work.end()
    await closing
    assert work.done == ["a"]
    assert queue.depth == 0
    assert not queue._timers


async def test_what_does_not_end_is_cancelled_by_whoever_closes() -> None:
    work = Worker()
    queue = Queue(work)
    queue.add("a")
    await work.begins()
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            await queue.close()
    assert work.done == []
