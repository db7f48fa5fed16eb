"""The contract of Stacks and StackRuntime, the same for the real ones and the fake."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.contract.harness import NONE, eventually, free_port
from tests.contract.stack_harness import FakeStackHarness, ProcessStackHarness, StackHarness

from mainstay.runtime.base import LogPolicy, RuntimeUnavailableError, UnitState

KEY, OTHER = ("default", "web"), ("default", "worker")


@pytest.fixture(params=["fake", "process"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[StackHarness]:
    harness = FakeStackHarness() if request.param == "fake" else ProcessStackHarness()
    try:
        await harness.start()
        yield harness
    finally:
        await harness.close()


@contextlib.asynccontextmanager
async def told(stacks) -> AsyncIterator[list[tuple[str, str]]]:
    """What `changes` tells meanwhile."""
    heard: list[tuple[str, str]] = []

    async def listen():
        async for key in stacks.changes():
            heard.append(key)  # noqa: PERF401 - as they come

    task = asyncio.create_task(listen())
    await asyncio.sleep(0)
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def gone(place, name="app", scope=None):
    async def exited():
        return (await (scope or place.runtime).observe(name)).state is UnitState.EXITED

    await eventually(exited)


class TestStacks:
    async def test_a_stack_is_opened_once(self, place):
        again = await asyncio.gather(*(place.open() for _ in range(4)))
        assert {id(one) for one in again} == {id(place.runtime)}
        others = await asyncio.gather(*(place.open(OTHER) for _ in range(4)))
        assert len({id(one) for one in others}) == 1
        await place.stacks.remove(OTHER)
        assert place.stacks.known() == [KEY]
        assert await place.runtime.supervisor() is not None

    async def test_stacks_have_nothing_in_common(self, place):
        other = await place.open(OTHER)
        assert place.stacks.known() == [KEY, OTHER]
        first, second = await place.runtime.supervisor(), await other.supervisor()
        mine = await place.running("app")
        await other.start(place.spec("app"))
        theirs = await other.observe("app")
        await place.runtime.end_supervisor(seconds=5)
        await place.runtime.stop("app", grace_seconds=5, force=True)
        await gone(place)
        assert await other.supervisor() == second != first
        seen = await other.observe("app")
        assert theirs.leader is None or seen.leader is not None
        assert seen.leader != mine.leader

    async def test_known_by_the_next_operator(self, place):
        await place.open(OTHER)
        unit = await place.running("app")
        await place.restart()
        assert place.stacks.known() == [KEY, OTHER]
        assert (await place.runtime.observe("app")).leader == unit.leader

    async def test_not_removed_while_a_unit_lives(self, place):
        await place.running("app")
        with pytest.raises(RuntimeUnavailableError, match="app"):
            await place.stacks.remove(KEY)
        assert place.stacks.known() == [KEY]
        assert (await place.runtime.observe("app")).state is UnitState.RUNNING
        assert await place.runtime.supervisor() is not None

    async def test_removed_when_its_units_have_ended(self, place):
        await place.running("app")
        await place.runtime.stop("app", grace_seconds=5)
        await gone(place)
        await place.stacks.remove(KEY)
        assert place.stacks.known() == []
        await place.stacks.remove(KEY)
        new = await place.open()
        assert place.stacks.known() == [KEY]
        assert await new.units() == []
        place.runtime = new

    async def test_changes_of_all_stacks_are_told(self, place):
        async with told(place.stacks) as heard:
            other = await place.open(OTHER)  # after the listener
            await eventually(lambda: OTHER in heard)
            heard.clear()
            await place.runtime.start(place.spec("app"))
            await eventually(lambda: KEY in heard)
            await place.until("app", UnitState.RUNNING)
            heard.clear()
            await other.start(place.spec("app"))
            await eventually(lambda: OTHER in heard)
            await other.stop("app", grace_seconds=0, force=True)
            await gone(place, scope=other)

    async def test_a_supervisor_that_dies_is_told_without_any_unit(self, place):
        before = await place.runtime.supervisor()
        async with told(place.stacks) as heard:
            await place.kill_supervisor()
            await eventually(lambda: KEY in heard)
            await place.by_itself()
            assert await place.runtime.supervisor() != before


class TestSupervisor:
    async def test_it_is_ended_and_had_anew(self, place):
        before = await place.runtime.supervisor()
        await place.runtime.end_supervisor(seconds=10)
        await place.runtime.ensure_supervisor()
        after = await place.runtime.supervisor()
        assert after is not None
        assert after != before
        await place.runtime.ensure_supervisor()
        assert await place.runtime.supervisor() == after

    @pytest.mark.parametrize("force", [False, True])
    async def test_units_survive_its_end(self, place, force):
        unit = await place.running("app")
        await place.runtime.end_supervisor(seconds=10, force=force)
        await place.runtime.ensure_supervisor()
        seen = await place.runtime.observe("app")
        assert (seen.state, seen.leader) == (UnitState.RUNNING, unit.leader)

    async def test_a_hung_one_is_no_supervisor_and_is_ended(self, place):
        before = await place.runtime.supervisor()
        await place.hang_supervisor()
        assert await place.runtime.supervisor() != before
        await place.runtime.end_supervisor(seconds=10)
        await place.runtime.ensure_supervisor()
        assert await place.runtime.supervisor() not in (None, before)

    async def test_a_dead_one_is_ended_without_effect(self, place):
        await place.kill_supervisor()
        await place.runtime.end_supervisor(seconds=10)
        await place.by_itself()
        assert await place.runtime.supervisor() is not None

    async def test_a_start_after_its_end(self, place):
        await place.runtime.end_supervisor(seconds=10)
        await place.running("app")
        assert await place.runtime.supervisor() is not None


class TestPorts:
    async def test_nobody(self, place):
        assert await place.runtime.holders([free_port()]) == []

    async def test_its_own_service(self, place):
        port = free_port()
        unit = await place.serving("app", port)
        for _ in range(2):
            (holder,) = await place.runtime.holders([port, free_port()])
            assert (holder.port, holder.unit, holder.process) == (port, "app", unit.leader)
            assert not holder.stranger
            assert not holder.endable
        await place.runtime.end_holders([port], force=True)
        assert (await place.runtime.observe("app")).leader == unit.leader
        assert (await place.runtime.probe("app", NONE, None)).ready

    async def test_a_stranger_is_told_and_ended(self, place):
        port = free_port()
        await place.occupy(port)
        (holder,) = await place.runtime.holders([port])
        assert holder.endable
        assert holder.words.startswith("pid ")
        assert await place.runtime.holders([free_port()]) == []
        await place.runtime.end_holders([free_port()])
        assert len(await place.runtime.holders([port])) == 1
        await place.runtime.end_holders([port])

        async def free():
            return not await place.runtime.holders([port])

        await eventually(free)

    async def test_a_stubborn_stranger_needs_force(self, place):
        port = free_port()
        await place.occupy(port, "stubborn")
        await place.runtime.end_holders([port])
        (holder,) = await place.runtime.holders([port])
        assert holder.endable
        await place.runtime.end_holders([port], force=True)

        async def free():
            return not await place.runtime.holders([port])

        await eventually(free)


class TestLogs:
    async def test_a_policy_disturbs_nothing(self, place):
        unit = await place.running("app")
        for policy in (LogPolicy(1024, 1), LogPolicy(directory="/proc/nowhere"), LogPolicy()):
            place.runtime.keep_logs(policy)
        assert (await place.runtime.observe("app")).leader == unit.leader
