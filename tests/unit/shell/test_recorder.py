"""Events are posted in order, and never in the way."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, cast

import pytest

from mainstay.core.run.story import Event
from mainstay.shell import recorder as recorders
from mainstay.shell.kube import ApiError, ApiUnavailableError, Kube
from mainstay.shell.recorder import Recorder

RUN = {
    "metadata": {"name": "b" * 60, "namespace": "d", "uid": "u", "resourceVersion": "7"},
    "kind": "StrategyRun",
}


class Server:
    """Takes events; refuses the first where told to."""

    def __init__(self, *errors: ApiError) -> None:
        self.errors = list(errors)
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self.seen = asyncio.Event()
        self.expected = 1
        self.wrote_at = float("-inf")

    async def post_event(self, namespace: str, event: dict[str, Any]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.posted.append((namespace, event))
        if len(self.posted) >= self.expected:
            self.seen.set()


async def posted(server: Server, recorder: Recorder, expected: int) -> list[dict[str, Any]]:
    """Run the recorder until that many are posted."""
    server.expected = expected
    task = asyncio.create_task(recorder.run())
    async with asyncio.timeout(5):
        await server.seen.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return [event for _, event in server.posted]


def a_recorder(server: Server) -> Recorder:
    return Recorder(cast("Kube", server))


async def test_what_is_posted() -> None:
    server = Server()
    recorder = a_recorder(server)
    recorder.record(RUN, Event("Warning", "PoolExhausted", "x" * 5000))
    (event,) = await posted(server, recorder, 1)
    assert server.posted[0][0] == "d"
    assert (event["type"], event["reason"], len(event["message"])) == ("Warning", "PoolExhausted", 1024)
    assert event["involvedObject"]["uid"] == "u"
    assert event["involvedObject"]["resourceVersion"] == "7"
    assert event["metadata"] == {"generateName": "b" * 40 + ".", "namespace": "d"}
    assert event["firstTimestamp"] == event["lastTimestamp"]


async def test_in_the_order_they_were_recorded() -> None:
    server = Server()
    recorder = a_recorder(server)
    for number in range(20):
        recorder.record(RUN, Event("Normal", f"R{number}", ""))
    assert [e["reason"] for e in await posted(server, recorder, 20)] == [f"R{n}" for n in range(20)]


ERRORS = {
    "refused": ApiError(403, "Forbidden", "no"),
    "namespace going": ApiError(404, "NotFound", "no"),
    "away": ApiUnavailableError(0, "Unavailable", "refused"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
async def test_one_that_fails_holds_up_no_other(error: ApiError) -> None:
    server = Server(error)
    recorder = a_recorder(server)
    recorder.record(RUN, Event("Normal", "Lost", ""))
    recorder.record(RUN, Event("Normal", "Kept", ""))
    assert [e["reason"] for e in await posted(server, recorder, 1)] == ["Kept"]


async def test_a_full_backlog_drops_the_newest_and_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "BACKLOG", 2)
    server = Server()
    recorder = a_recorder(server)
    for number in range(5):
        recorder.record(RUN, Event("Normal", f"R{number}", ""))
    assert [e["reason"] for e in await posted(server, recorder, 2)] == ["R0", "R1"]


async def test_events_wait_while_statuses_are_written_and_are_not_lost_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorders, "LULL_SECONDS", 60.0)
    monkeypatch.setattr(recorders, "PATIENCE_SECONDS", 60.0)
    server = Server()
    server.wrote_at = time.monotonic()
    recorder = a_recorder(server)
    for number in range(3):
        recorder.record(RUN, Event("Normal", f"R{number}", ""))
    task = asyncio.create_task(recorder.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert server.posted == []
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert [event["reason"] for _, event in server.posted] == ["R0", "R1", "R2"]


async def test_an_old_event_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "LULL_SECONDS", 60.0)
    monkeypatch.setattr(recorders, "PATIENCE_SECONDS", 0.02)
    server = Server()
    server.wrote_at = time.monotonic()
    recorder = a_recorder(server)
    recorder.record(RUN, Event("Normal", "Late", ""))
    assert [event["reason"] for event in await posted(server, recorder, 1)] == ["Late"]
