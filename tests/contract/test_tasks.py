"""The contract of TaskRuntime, the same for every one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.contract.task_harness import TASK, FakeTaskHarness, TaskHarness, opened

from mainstay.runtime.base import RuntimeUnavailableError, UnitState


@pytest.fixture(params=["fake", "process"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[TaskHarness]:
    if request.param == "fake":
        yield FakeTaskHarness()
        return
    async for harness in opened():
        yield harness


class TestTaskRuntime:
    async def test_an_unknown_unit_is_absent(self, place):
        assert (await place.runtime.observe(TASK)).state is UnitState.ABSENT
        assert await place.runtime.units() == []
        await place.runtime.stop(TASK, grace_seconds=1)
        await place.runtime.remove(TASK, "uid-1")
        assert (await place.runtime.observe(TASK)).state is UnitState.ABSENT
        assert await place.runtime.names() == []

    async def test_start_is_told_back(self, place):
        seen = await place.running(port=18766)
        assert (seen.owner_uid, seen.attempt, seen.port, seen.inputs_hash) == (
            "uid-1",
            1,
            18766,
            "sha256:abc",
        )
        assert seen.leader is not None
        assert seen.started_at is not None
        assert (seen.exit, seen.outcome, seen.restarts) == (None, None, 0)
        assert seen.defined
        assert seen.stop_told
        assert [unit.name for unit in await place.runtime.units()] == [TASK]
        assert await place.runtime.names() == [TASK]

    async def test_start_twice_is_start_once(self, place):
        first = await place.running()
        await asyncio.gather(*(place.runtime.start(place.spec()) for _ in range(5)))
        assert (await place.runtime.observe(TASK)).leader == first.leader
        assert await place.executions() == 1

    @pytest.mark.parametrize("code", [0, 3])
    async def test_an_attempt_runs_once_ever(self, place, code):
        first = await place.ended(kind=f"exit {code}")
        assert first.leader is None
        assert first.outcome.attempt == 1
        assert (first.outcome.exit.code, first.outcome.exit.signal) == (code, None)
        assert first.outcome.succeeded == (code == 0)
        assert first.outcome.ended_at >= first.started_at - 0.01
        assert (first.outcome.outputs, first.outcome.outputs_problem) == (None, "")
        assert not first.outcome.timed_out
        assert first.exit == first.outcome.exit
        await place.runtime.start(place.spec(kind=f"exit {code}"))
        assert await place.runtime.observe(TASK) == first
        assert await place.executions() == 1

    async def test_outputs_are_bytes(self, place):
        seen = await place.ended(kind="outputs 5")
        assert seen.outcome.outputs == b"77777"

    async def test_outputs_at_the_limit(self, place):
        seen = await place.ended(kind="outputs 921600")
        assert len(seen.outcome.outputs) == 921600

    async def test_outputs_that_are_too_large(self, place):
        seen = await place.ended(kind="outputs 921601")
        assert seen.outcome.succeeded
        assert seen.outcome.outputs is None
        assert "larger than 900 KiB" in seen.outcome.outputs_problem

    async def test_the_last_lines_of_a_failure(self, place):
        seen = await place.ended(kind="stderr 7")
        assert seen.exit.last_lines == ("line 3", "line 4", "line 5", "line 6", "line 7")

    async def test_what_can_not_be_executed(self, place):
        seen = await place.ended(kind="missing")
        assert seen.outcome.exit.code == 127
        assert seen.outcome.exit.last_lines == ("mainstay: cannot start '/no/such/program': no such file",)

    async def test_a_killed_program(self, place):
        await place.running()
        await place.kill_leader()
        seen = await place.until(TASK, UnitState.EXITED)
        assert (seen.outcome.exit.code, seen.outcome.exit.signal) == (None, 9)

    async def test_a_second_attempt_after_a_failure(self, place):
        await place.ended(kind="exit 3")
        seen = await place.ended(kind="exit 0", attempt=2)
        assert (seen.attempt, seen.outcome.attempt, seen.outcome.exit.code) == (2, 2, 0)
        await place.runtime.start(place.spec(kind="exit 0", attempt=1))
        assert (await place.runtime.observe(TASK)).attempt == 2
        assert await place.executions() == 2

    async def test_another_attempt_waits_for_the_first_to_end(self, place):
        first = await place.running()
        with pytest.raises(RuntimeUnavailableError):
            await place.runtime.start(place.spec(attempt=2))
        assert (await place.runtime.observe(TASK)).leader == first.leader

    async def test_a_lost_attempt_has_no_outcome(self, place):
        await place.running()
        await place.lose()
        seen = await place.until(TASK, UnitState.EXITED)
        assert seen.outcome is None
        assert seen.attempt == 1
        assert seen.started_at is not None
        await place.runtime.start(place.spec())
        assert (await place.runtime.observe(TASK)).outcome is None
        assert (await place.ended(attempt=2)).outcome.succeeded

    async def test_stop_with_grace(self, place):
        await place.running()
        await place.runtime.stop(TASK, grace_seconds=10, deleting=True)
        seen = await place.until(TASK, UnitState.EXITED)
        assert (seen.outcome.exit.code, seen.outcome.exit.signal) == (None, 15)
        assert seen.stopping_seconds is not None
        assert seen.deletion_witnessed
        await place.running(attempt=2)
        assert (await place.runtime.observe(TASK)).stopping_seconds is None

    async def test_stop_waits_and_force_does_not(self, place):
        await place.running(kind="stubborn")
        for _ in range(2):
            await place.runtime.stop(TASK, grace_seconds=30)
        seen = await place.runtime.observe(TASK)
        assert seen.state is UnitState.STOPPING
        assert seen.stopping_seconds is not None
        with pytest.raises(RuntimeUnavailableError):
            await place.runtime.start(place.spec(kind="stubborn"))
        await place.runtime.stop(TASK, grace_seconds=30, force=True)
        gone = await place.until(TASK, UnitState.EXITED)
        assert gone.outcome.exit.signal == 9

    async def test_a_grace_ends(self, place):
        await place.running(kind="stubborn")
        await place.runtime.stop(TASK, grace_seconds=0.2)
        await place.pass_time(0.2)
        gone = await place.until(TASK, UnitState.EXITED)
        assert gone.outcome.exit.signal == 9

    async def test_a_timeout(self, place):
        await place.running(timeout_seconds=0.2)
        await place.pass_time(0.2)
        seen = await place.until(TASK, UnitState.EXITED)
        assert seen.outcome.timed_out
        assert seen.outcome.exit.signal == 15
        assert seen.stopping_seconds is None

    async def test_a_timeout_that_is_ignored(self, place):
        await place.running(kind="stubborn", timeout_seconds=0.2, grace_seconds=0.2)
        await place.pass_time(0.4)
        seen = await place.until(TASK, UnitState.EXITED)
        assert seen.outcome.timed_out
        assert seen.outcome.exit.signal == 9

    async def test_remove(self, place):
        await place.running()
        with pytest.raises(RuntimeUnavailableError):
            await place.runtime.remove(TASK, "uid-1")
        await place.runtime.stop(TASK, grace_seconds=10)
        await place.until(TASK, UnitState.EXITED)
        await place.runtime.remove(TASK, "uid-2")
        assert (await place.runtime.observe(TASK)).state is UnitState.EXITED
        for _ in range(2):
            await place.runtime.remove(TASK, "uid-1")
            assert (await place.runtime.observe(TASK)).state is UnitState.ABSENT
        assert await place.runtime.units() == []
        await place.running(owner_uid="uid-3")

    async def test_another_owner_s_unit_is_not_taken_over(self, place):
        first = await place.ended()
        with pytest.raises(RuntimeUnavailableError):
            await place.runtime.start(place.spec(owner_uid="uid-2"))
        assert await place.runtime.observe(TASK) == first

    async def test_changes_tell_of_an_end(self, place):
        changes = place.runtime.changes()
        task = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        await place.running()
        await place.kill_leader()
        async with asyncio.timeout(5):
            assert await task == TASK
            while (await place.runtime.observe(TASK)).state is not UnitState.EXITED:
                assert await anext(changes) == TASK
        await changes.aclose()

    async def test_the_next_operator_sees_the_same(self, place):
        running = await place.running("default.a")
        ended = await place.ended("default.b")
        await place.restart_operator()
        assert await place.runtime.observe("default.a") == running
        assert await place.runtime.observe("default.b") == ended
        for name, kind in (("default.a", "sleeper"), ("default.b", "exit 0")):
            await place.runtime.start(place.spec(name, kind))
        assert await place.runtime.observe("default.a") == running
        changes = place.runtime.changes()
        task = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        await place.kill_leader("default.a")
        assert await asyncio.wait_for(task, 5) == "default.a"
        await changes.aclose()
        assert (await place.until("default.a", UnitState.EXITED)).outcome.exit.signal == 9
