"""Defects that were found, each by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.task_harness import TASK, ProcessTaskHarness
from tests.integration.jobs.judge import Journal
from tests.integration.jobs.workshop import Works, completed, ladder, phase_is
from tests.support.plane import RealPlane
from tests.support.stage import Stage, eventually, marked, staged

from mainstay.core.unit import UnitState
from mainstay.shell.kube import BATCHES


@pytest.fixture(scope="module")
def stage(plane: RealPlane) -> Iterator[Stage]:
    with staged(plane, ports=4) as one:
        yield one


def test_a_batch_goes_with_the_last_of_its_jobs(stage: Stage):
    """The operator removes a job's finalizer itself: no event tells the batch that this was the last."""
    desk = Works(stage, BATCHES).desk
    jobs = [{"name": name} for name in ("x", "y", "z")]
    template = ladder(stage.judge, phases=1, tasks=1)
    for number in range(5):
        name = f"batch-{number}"
        desk.create(name, {"template": template, "jobs": jobs}, BATCHES)
        desk.until(name, completed, plural=BATCHES)
        desk.delete(name, BATCHES)
        desk.until_gone(name, 10, BATCHES)


def fork_servers_and_shims(stage: Stage) -> list[int]:
    found = [pid for pid, *_ in marked(stage.home_id, "MAINSTAY_SCOPE")]
    return [p for p in found if b"import forkserver" in Path(f"/proc/{p}/cmdline").read_bytes()]


def test_a_request_that_outlived_its_operator_starts_nothing_of_a_cancelled_job(stage: Stage):
    """The fork server is slow, the operator that asked it dies, and its successor is told to cancel."""
    desk = Works(stage).desk
    desk.create("warm", ladder(stage.judge, phases=1, tasks=1))
    desk.until("warm", completed)
    eventually(lambda: len(fork_servers_and_shims(stage)) == 1, "only the fork server")
    [server] = fork_servers_and_shims(stage)
    stage.shell.expect(None)
    os.kill(server, signal.SIGSTOP)
    try:
        uid = desk.create("late", ladder(stage.judge, phases=1, tasks=1))["metadata"]["uid"]
        eventually(lambda: "request fork" in stage.shell.effects, "a request")
        stage.crash()
        desk.patch("late", state="Cancelled")
        stage.restart()
        desk.until("late", phase_is("Cancelled"))
    finally:
        os.kill(server, signal.SIGCONT)
    desk.create("next", ladder(stage.judge, phases=1, tasks=1))  # the fork server answers one after the other
    desk.until("next", completed)
    eventually(lambda: len(fork_servers_and_shims(stage)) == 1, "no shim any more")
    assert Journal(stage.judge).begun(uid, "t00") == []
    for name in ("warm", "late", "next"):
        desk.delete(name)
        desk.until_gone(name)


async def test_a_removal_that_comes_late_spares_the_next_owner(monkeypatch: pytest.MonkeyPatch):
    """Of two operators one looks, sleeps, and removes; the other has removed, and run the next job meanwhile."""
    place = ProcessTaskHarness()
    await place.open()
    try:
        old = await place.ended(owner_uid="old")
        other = place.new()
        await other.start_up()
        try:
            await other.remove(TASK, "old")
            await other.start(place.spec(kind="exit 0", owner_uid="new"))
            await place.until(TASK, UnitState.EXITED)

            async def look(*_: object, **__: object) -> object:
                return old

            monkeypatch.setattr(place.runtime._observer, "observe", look)
            await place.runtime.remove(TASK, "old")
            seen = await other.observe(TASK)
            assert (seen.owner_uid, seen.attempt, seen.outcome is not None) == ("new", 1, True)
        finally:
            await other.close()
    finally:
        monkeypatch.undo()
        await place.close()
