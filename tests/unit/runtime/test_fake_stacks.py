"""What the stacks in memory can be told, beyond what they share with the real ones."""

from __future__ import annotations

import pytest

from mainstay.runtime import effects
from mainstay.runtime.base import RuntimeUnavailableError, UnitSpec, UnitState
from mainstay.runtime.fake_stacks import FakeStacks

KEY, OTHER = ("default", "web"), ("default", "worker")


@pytest.fixture
async def stacks() -> FakeStacks:
    return FakeStacks()


@pytest.fixture
async def runtime(stacks):
    return await stacks.open(KEY)


def spec(name: str = "app", port: int | None = 3000) -> UnitSpec:
    return UnitSpec(name, "uid-1", 1, ("server",), port=port)


@pytest.mark.parametrize(
    ("told", "endable", "ends"),
    [
        ({}, True, (True, True)),
        ({"ends_on": "KILL"}, True, (False, True)),
        ({"ends_on": None}, True, (False, False)),
        ({"protected": "it is pid 1"}, False, (False, False)),
        ({"hidden": True}, False, (False, False)),
        ({"passing": True}, False, (False, False)),
    ],
)
async def test_strangers(runtime, told, endable, ends):
    runtime.occupy(3000, "pid 7 (nginx)", **told)
    (holder,) = await runtime.holders([3000, 3001])
    assert (holder.words, holder.endable) == ("pid 7 (nginx)", endable)
    for force, ended in zip((False, True), ends, strict=True):
        await runtime.end_holders([3000, 3001], force=force)
        assert (await runtime.holders([3000]) == []) is ended
        assert (await runtime.foreign_ports([3000], "app") == {}) is ended


async def test_several_on_one_port_and_nobody_any_more(runtime):
    runtime.occupy(3000, "pid 7 (nginx)")
    runtime.occupy(3000, "pid 8 (nginx)", ends_on=None)
    assert len(await runtime.holders([3000])) == 2
    await runtime.end_holders([3000])
    assert [one.words for one in await runtime.holders([3000])] == ["pid 8 (nginx)"]
    runtime.occupy(3000, None)
    assert await runtime.holders([3000]) == []


async def test_a_service_listens_where_it_is_told(runtime):
    await runtime.start(spec())
    assert [one.unit for one in await runtime.holders([3000])] == ["app"]
    runtime.listens_on("app", 3001)
    assert [one.port for one in await runtime.holders([3000, 3001])] == [3001]
    runtime.listens_on("app", None)
    assert await runtime.holders([3000, 3001]) == []
    runtime.listens_on("app", 3000)
    await runtime.stop("app", grace_seconds=1)
    assert await runtime.holders([3000]) == []


async def test_a_supervisor_that_cannot_be_started(stacks):
    stacks.at(KEY).refuse_supervisor("no space left on device")
    with pytest.raises(RuntimeUnavailableError, match="no space"):
        await stacks.open(KEY)
    assert stacks.known() == []
    stacks.at(KEY).refuse_supervisor(None)
    runtime = await stacks.open(KEY)
    runtime.kill_supervisor()
    runtime.refuse_supervisor("no space left on device")
    stacks.advance(10)
    assert await runtime.supervisor() is None
    with pytest.raises(RuntimeUnavailableError, match="no space"):
        await runtime.start(spec())
    runtime.refuse_supervisor(None)
    stacks.advance(1)
    assert await runtime.supervisor() is not None


async def test_each_supervisor_is_another(stacks, runtime):
    seen = [await runtime.supervisor(), await (await stacks.open(OTHER)).supervisor()]
    for way in (runtime.kill_supervisor, runtime.hang_supervisor):
        way()
        assert await runtime.supervisor() is None
        runtime.advance(1)
        seen.append(await runtime.supervisor())
    assert len(set(seen)) == 4


async def test_with_living_units_it_is_killed(runtime):
    await runtime.start(spec())
    await runtime.end_supervisor(seconds=10)
    assert ("end supervisor", "KILL") in runtime.acts
    assert (await runtime.observe("app")).state is UnitState.RUNNING
    await runtime.stop("app", grace_seconds=1)
    with pytest.raises(RuntimeUnavailableError):
        await runtime.remove("app", "uid-1")
    await runtime.ensure_supervisor()
    await runtime.end_supervisor(seconds=10)
    assert runtime.acts[-2:] == [("start supervisor", ""), ("end supervisor", "shutdown")]


async def test_crashes_reach_every_act(stacks, runtime):
    runtime.occupy(3000, "pid 7 (nginx)")
    names: list[str] = []
    with effects.hooked(names.append):
        await runtime.end_holders([3000])
        await runtime.end_supervisor(seconds=10)
        await runtime.ensure_supervisor()
        await stacks.remove(KEY)
    assert names == [
        "fake flush TERM port 3000",
        "fake end supervisor",
        "fake start supervisor",
        "fake remove stack",
    ]
    assert await stacks.open(KEY) is not runtime
