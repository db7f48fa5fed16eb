"""The contract of Runtime, the same for every one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.contract.harness import NONE, TCP, FakeHarness, Harness, ProcessHarness, free_port

from mainstay.api.program import RestartPolicyType
from mainstay.runtime.base import GONE, RuntimeUnavailableError, UnitState

BOT = "default.bot"


@pytest.fixture(params=["fake", "process"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    if request.param == "fake":
        yield FakeHarness()
        return
    harness = ProcessHarness()
    await harness.open()
    try:
        yield harness
    finally:
        await harness.close()


class TestRuntime:
    async def test_an_unknown_unit_is_absent(self, place):
        seen = await place.runtime.observe(BOT)
        assert seen.state is UnitState.ABSENT
        assert await place.runtime.units() == []

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
        assert seen.restarts == 0
        assert seen.exit is None
        assert seen.defined

    async def test_its_own_grace_is_told_for_as_long_as_it_is_there(self, place):
        assert (await place.runtime.observe(BOT)).grace_seconds is None
        await place.running(grace_seconds=0.5)
        assert (await place.runtime.observe(BOT)).grace_seconds == 0.5
        await place.runtime.stop(BOT, grace_seconds=5)
        assert (await place.until(BOT, UnitState.EXITED)).grace_seconds == 0.5
        assert [one.grace_seconds for one in await place.runtime.units()] == [0.5]

    async def test_start_twice_is_start_once(self, place):
        first = await place.running()
        await asyncio.gather(*(place.runtime.start(place.spec()) for _ in range(5)))
        assert (await place.runtime.observe(BOT)).leader == first.leader

    async def test_another_attempt_waits_for_the_first_to_end(self, place):
        first = await place.running()
        with pytest.raises(RuntimeUnavailableError):
            await place.runtime.start(place.spec(attempt=2))
        assert (await place.runtime.observe(BOT)).leader == first.leader

    async def test_stop_then_next_attempt(self, place):
        first = await place.running()
        await place.runtime.stop(BOT, grace_seconds=10)
        gone = await place.until(BOT, UnitState.EXITED)
        assert gone.leader is None
        assert gone.exit is not None
        assert gone.exit.signal == 15
        await place.runtime.start(place.spec(attempt=2))
        second = await place.until(BOT, UnitState.RUNNING)
        assert second.leader != first.leader
        assert (second.attempt, second.restarts) == (2, 0)

    async def test_stop_of_what_is_not_there(self, place):
        await place.runtime.stop(BOT, grace_seconds=1)
        assert (await place.runtime.observe(BOT)).state is UnitState.ABSENT

    async def test_stop_waits_and_force_does_not(self, place):
        await place.running(kind="stubborn")
        await place.runtime.stop(BOT, grace_seconds=30)
        await place.runtime.stop(BOT, grace_seconds=30)
        seen = await place.runtime.observe(BOT)
        assert seen.state is UnitState.STOPPING
        assert seen.stopping_seconds is not None
        with pytest.raises(RuntimeUnavailableError):
            await place.runtime.start(place.spec(kind="stubborn"))
        await place.runtime.stop(BOT, grace_seconds=30, force=True)
        gone = await place.until(BOT, UnitState.EXITED)
        assert gone.exit is not None
        assert gone.exit.signal == 9

    async def test_the_clock_of_a_stop_is_not_reset(self, place):
        await place.running(kind="stubborn")
        await place.runtime.stop(BOT, grace_seconds=30)
        before = (await place.runtime.observe(BOT)).stopping_seconds
        await place.pass_backoff(1)
        await place.runtime.stop(BOT, grace_seconds=30, deleting=True)
        seen = await place.runtime.observe(BOT)
        assert seen.stopping_seconds >= before
        assert seen.deletion_witnessed

    async def test_pause_and_resume(self, place):
        first = await place.running()
        for _ in range(2):
            await place.runtime.pause(BOT)
            assert (await place.runtime.observe(BOT)).state is UnitState.PAUSED
        assert not (await place.runtime.probe(BOT, NONE, None)).ready
        for _ in range(2):
            await place.runtime.resume(BOT)
            seen = await place.until(BOT, UnitState.RUNNING)
        assert seen.leader == first.leader

    async def test_killed_while_paused_comes_back_held(self, place):
        first = await place.running()
        await place.runtime.pause(BOT)
        await place.kill_leader(BOT)
        held = await place.until(BOT, UnitState.HELD)
        assert held.leader != first.leader
        await place.runtime.resume(BOT)
        await place.until(BOT, UnitState.RUNNING)

    async def test_a_paused_unit_stops(self, place):
        await place.running()
        await place.runtime.pause(BOT)
        await place.runtime.stop(BOT, grace_seconds=10)
        await place.until(BOT, UnitState.EXITED)

    async def test_start_paused_is_held(self, place):
        await place.runtime.start(place.spec(paused=True))
        held = await place.until(BOT, UnitState.HELD)
        assert held.attempt == 1
        await place.runtime.resume(BOT)
        await place.until(BOT, UnitState.RUNNING)

    async def test_held_stops_at_once(self, place):
        await place.runtime.start(place.spec(kind="stubborn", paused=True))
        await place.until(BOT, UnitState.HELD)
        await place.runtime.stop(BOT, grace_seconds=30, force=True)
        await place.until(BOT, UnitState.EXITED)

    async def test_a_crash_is_restarted_with_backoff(self, place):
        first = await place.running(backoff=0.2)
        await place.kill_leader(BOT)
        waiting = await place.until(BOT, UnitState.BACKOFF)
        assert waiting.attempt == 1
        await place.pass_backoff(0.2)
        seen = await place.until(BOT, UnitState.RUNNING)
        assert seen.leader != first.leader
        assert seen.restarts == 1
        assert seen.exit is not None
        assert seen.exit.signal == 9

    async def test_a_new_attempt_does_not_wait_out_the_old_backoff(self, place):
        await place.running(backoff=60)
        await place.kill_leader(BOT)
        await place.until(BOT, UnitState.BACKOFF)
        await place.runtime.stop(BOT, grace_seconds=5, force=True)
        await place.until(BOT, UnitState.EXITED)
        await place.running(attempt=2, backoff=60)

    @pytest.mark.parametrize(
        ("policy", "code", "after"),
        [
            (RestartPolicyType.ALWAYS, 0, UnitState.RUNNING),
            (RestartPolicyType.ALWAYS, 3, UnitState.RUNNING),
            (RestartPolicyType.ON_FAILURE, 0, UnitState.EXITED),
            (RestartPolicyType.ON_FAILURE, 3, UnitState.RUNNING),
            (RestartPolicyType.NEVER, 0, UnitState.EXITED),
            (RestartPolicyType.NEVER, 3, UnitState.EXITED),
        ],
    )
    async def test_exit_policies(self, place, policy, code, after):
        first = await place.running(policy=policy)
        await place.end_program(BOT, code)
        for _ in range(2000):
            seen = await place.runtime.observe(BOT)
            if seen.leader != first.leader and seen.state in (UnitState.RUNNING, UnitState.EXITED):
                break
            await asyncio.sleep(0.005)
        assert seen.state is after
        assert seen.exit is not None
        assert seen.exit.code == code
        assert seen.exit.signal is None

    async def test_define_touches_no_process(self, place):
        first = await place.running()
        await place.undefine(BOT)
        lost = await place.runtime.observe(BOT)
        assert not lost.defined
        assert lost.leader == first.leader
        await place.runtime.define(place.spec())
        seen = await place.runtime.observe(BOT)
        assert seen.defined
        assert seen.leader == first.leader
        assert seen.state is UnitState.RUNNING

    async def test_remove_only_what_is_gone_and_ours(self, place):
        await place.running()
        with pytest.raises(RuntimeUnavailableError):
            await place.runtime.remove(BOT, "uid-1")
        await place.runtime.stop(BOT, grace_seconds=10)
        await place.until(BOT, *GONE)
        await place.runtime.remove(BOT, "uid-2")
        assert (await place.runtime.observe(BOT)).state is UnitState.EXITED
        for _ in range(2):
            await place.runtime.remove(BOT, "uid-1")
            assert (await place.runtime.observe(BOT)).state is UnitState.ABSENT
        assert await place.runtime.units() == []
        await place.running(owner_uid="uid-3")

    async def test_foreign_ports(self, place):
        port = free_port()
        assert await place.runtime.foreign_ports([port], BOT) == {}
        leave = await place.occupy(port)
        try:
            found = await place.runtime.foreign_ports([port, free_port()], BOT)
            assert list(found) == [port]
            assert found[port].startswith("pid ")
        finally:
            leave()
        assert await place.runtime.foreign_ports([port], BOT) == {}

    async def test_its_own_port_is_not_foreign(self, place):
        port = free_port()
        await place.running(kind="server", port=port)
        await self._ready(place, port)
        assert await place.runtime.foreign_ports([port], BOT) == {}
        assert list(await place.runtime.foreign_ports([port], "default.other")) == [port]

    async def _ready(self, place, port):
        for _ in range(2000):
            if (await place.runtime.probe(BOT, TCP, port)).ready:
                return
            await asyncio.sleep(0.005)
        raise AssertionError(await place.runtime.probe(BOT, TCP, port))

    async def test_probe(self, place):
        port = free_port()
        assert not (await place.runtime.probe(BOT, TCP, port)).ready
        await place.running(kind="server", port=port)
        await self._ready(place, port)
        assert (await place.runtime.probe(BOT, NONE, None)).ready
        await place.runtime.pause(BOT)
        paused = await place.runtime.probe(BOT, TCP, port)
        assert not paused.ready
        assert "Paused" in paused.message

    async def test_units_lists_everything(self, place):
        for name in ("default.b", "default.a", "other.a"):
            await place.running(name)
        assert [unit.name for unit in await place.runtime.units()] == ["default.a", "default.b", "other.a"]

    async def test_the_brake_holds_until_released(self, place):
        await place.running()
        await place.brake(BOT)
        held = await place.until(BOT, UnitState.HELD)
        assert held.held_locally
        await place.runtime.start(place.spec())
        assert (await place.runtime.observe(BOT)).state is UnitState.HELD
        await place.release(BOT)
        seen = await place.until(BOT, UnitState.RUNNING)
        assert not seen.held_locally

    async def test_a_lost_supervisor_changes_no_process(self, place):
        first = await place.running()
        await place.lose_supervisor()
        seen = await place.runtime.observe(BOT)
        assert (seen.state, seen.leader, seen.attempt) == (UnitState.RUNNING, first.leader, 1)
        await place.runtime.start(place.spec())
        assert (await place.runtime.observe(BOT)).leader == first.leader
        await place.runtime.stop(BOT, grace_seconds=10)
        await place.until(BOT, UnitState.EXITED)
        await place.running(attempt=2)

    async def test_changes_tell_of_an_exit(self, place):
        changes = place.runtime.changes()
        task = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        await place.running(policy=RestartPolicyType.NEVER)
        await place.kill_leader(BOT)
        async with asyncio.timeout(5):
            assert await task == BOT
            while (await place.runtime.observe(BOT)).state is not UnitState.EXITED:
                assert await anext(changes) == BOT
        await changes.aclose()

    async def test_a_changed_spec_is_used_by_the_next_start(self, place):
        await place.running()
        await place.runtime.define(replace(place.spec(), inputs_hash="sha256:new"))
        assert (await place.runtime.observe(BOT)).inputs_hash == "sha256:abc"
        await place.kill_leader(BOT)
        for _ in range(2000):
            seen = await place.runtime.observe(BOT)
            if seen.restarts == 1 and seen.state is UnitState.RUNNING:
                break
            await asyncio.sleep(0.005)
        assert seen.inputs_hash == "sha256:new"
