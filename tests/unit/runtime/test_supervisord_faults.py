"""supervisord dead, hung, without a socket, without its files; a unit's directory gone; records that lie."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys

import pytest
from tests.contract.harness import eventually

from mainstay.api.program import RestartPolicyType
from mainstay.runtime.base import UnitState
from mainstay.runtime.process import ProcessRuntime, proc, records

BOT = "default.bot"


async def replaced(place, old):
    def new():
        now = place.runtime._scope.process
        return now is not None and now != old and proc.look(now) is not None

    await eventually(new, 20)


async def test_a_stopped_supervisord_is_replaced(place):
    first = await place.running()
    old = place.supervisord()
    proc.send(old, signal.SIGSTOP)
    await replaced(place, old)
    seen = await place.runtime.observe(BOT)
    assert (seen.state, seen.leader) == (UnitState.RUNNING, first.leader)
    await place.runtime.stop(BOT, grace_seconds=5)
    await place.until(BOT, UnitState.EXITED)
    await place.running(attempt=2)


async def test_a_deleted_socket_is_replaced(place):
    first = await place.running()
    old = place.supervisord()
    os.unlink(place.home / "scopes/runs/supervisor.sock")
    await replaced(place, old)
    assert proc.look(old) is None
    assert (await place.runtime.observe(BOT)).leader == first.leader
    await place.running("default.second")


async def test_start_right_after_supervisord_died(place):
    await place.running()
    proc.send(place.supervisord(), signal.SIGKILL)
    await place.running("default.second")
    assert (await place.runtime.observe(BOT)).state is UnitState.RUNNING


async def test_two_operators_start_one_supervisord(place):
    others = await asyncio.gather(*(place.another() for _ in range(3)))
    try:
        assert {other._scope.process for other in others} == {place.supervisord()}
        runtimes = [place.runtime, *others]
        await asyncio.gather(*(runtime.start(place.spec()) for runtime in runtimes))
        first = await place.until(BOT, UnitState.RUNNING)
        for runtime in runtimes:
            assert (await runtime.observe(BOT)).leader == first.leader
    finally:
        for other in others:
            await other.close()


async def test_an_operator_that_comes_back_adopts(place):
    first = await place.running()
    await place.runtime.close()
    place.runtime = await place.another()
    seen = await place.runtime.observe(BOT)
    assert (seen.state, seen.leader) == (UnitState.RUNNING, first.leader)


async def test_emptied_configuration_directory(place):
    first = await place.running()
    conf = place.home / "scopes/runs/conf.d"
    for entry in conf.iterdir():
        entry.unlink()
    lost = await place.runtime.observe(BOT)
    assert (lost.defined, lost.leader) == (False, first.leader)
    await place.running("default.second")
    assert (await place.runtime.observe(BOT)).leader == first.leader
    await place.runtime.define(place.spec())
    assert (await place.runtime.observe(BOT)).defined


async def test_a_poisoned_configuration_directory_is_cleaned(place):
    await place.running()
    conf = place.home / "scopes/runs/conf.d"
    (conf / "evil.conf").write_text("[program:evil]\ncommand=%(nothing)s\n")
    await place.running("default.second")
    assert not (conf / "evil.conf").exists()


async def test_a_deleted_unit_directory(place):
    first = await place.running(port=18790)
    shutil.rmtree(place.unit_path(BOT))
    seen = await place.runtime.observe(BOT)
    assert (seen.state, seen.leader, seen.defined) == (UnitState.RUNNING, first.leader, False)
    assert (seen.attempt, seen.owner_uid, seen.port) == (1, "uid-1", 18790)
    assert seen.inputs_hash == "sha256:abc"
    await place.runtime.define(place.spec(port=18790))
    again = await place.runtime.observe(BOT)
    assert (again.state, again.leader, again.defined) == (UnitState.RUNNING, first.leader, True)
    await place.runtime.stop(BOT, grace_seconds=5)
    await place.until(BOT, UnitState.EXITED)


async def test_a_deleted_unit_directory_and_a_new_supervisord(place):
    first = await place.running()
    shutil.rmtree(place.unit_path(BOT))
    await place.lose_supervisor()
    seen = await place.runtime.observe(BOT)
    assert (seen.state, seen.leader) == (UnitState.RUNNING, first.leader)
    assert BOT in [unit.name for unit in await place.runtime.units()]
    await place.runtime.stop(BOT, grace_seconds=5)
    await place.until(BOT, UnitState.EXITED, UnitState.ABSENT)


async def test_an_orphan_that_ends_is_seen_at_once_and_can_start_again(place):
    first = await place.running(policy=RestartPolicyType.ON_FAILURE)
    await place.lose_supervisor()
    await place.runtime.observe(BOT)
    await place.kill_leader(BOT)
    gone = await place.until(BOT, UnitState.EXITED)
    assert gone.exit is not None
    assert (gone.exit.code, gone.exit.signal) == (None, None)
    again = await place.running(policy=RestartPolicyType.ON_FAILURE)
    assert again.leader != first.leader


async def test_a_leader_record_with_a_reused_pid_hits_no_stranger(place):
    await place.running()
    await place.runtime.stop(BOT, grace_seconds=5)
    await place.until(BOT, UnitState.EXITED)
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        unit = place.runtime._dir.unit(BOT)
        raw = dict(records.decode(records.read(unit.file("leader")), "\n"))
        for changed in ({"pid": str(stranger.pid)}, {"pid": str(stranger.pid), "boot": "another-boot"}):
            records.write(unit.file("leader"), records.encode({**raw, **changed}.items(), "\n"))
            assert (await place.runtime.observe(BOT)).state is UnitState.EXITED
            await place.runtime.stop(BOT, grace_seconds=0, force=True)
            await place.brake(BOT)
            await place.release(BOT)
            assert stranger.poll() is None
        await place.running(attempt=2)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_torn_leader_record(place):
    first = await place.running()
    (place.unit_path(BOT) / "leader").write_bytes(b"pid=1\nti")
    seen = await place.runtime.observe(BOT)
    assert (seen.state, seen.leader) == (UnitState.RUNNING, first.leader)


async def test_a_hung_supervisord_that_goes_on_cannot_undo_a_stop(place):
    await place.running()
    old = place.supervisord()
    proc.send(old, signal.SIGSTOP)
    await place.runtime.stop(BOT, grace_seconds=1)
    proc.send(old, signal.SIGCONT)
    leader = place.runtime._dir.unit(BOT).leader()
    await eventually(lambda: proc.look(leader.process) is None)

    async def nothing_of_the_user_runs():
        now = place.runtime._dir.unit(BOT).leader()
        return now.stage != "Exec" or proc.look(now.process) is None

    for _ in range(50):
        assert await nothing_of_the_user_runs()
        await asyncio.sleep(0.02)


async def test_two_fences_at_once(place):
    """The loser waits for the winner's program to end; it never runs beside it."""
    first = await place.running()
    run = place.unit_path(BOT) / "run"
    second = subprocess.Popen(["/bin/sh", run])
    try:
        await asyncio.sleep(0.3)
        assert second.poll() is None
        assert (await place.runtime.observe(BOT)).leader == first.leader
        assert not proc.environ(second.pid).get("MAINSTAY_NAME")
    finally:
        second.kill()
        second.wait()


async def test_shut_down_with_units(place):
    first = await place.running(kind="stubborn", grace_seconds=0.2)
    second = await place.running("default.second")
    supervisord = place.supervisord()
    await place.runtime.shut_down_scope(False)
    assert proc.look(first.leader) is not None
    await place.runtime.shut_down_scope(True)
    assert [proc.look(one) for one in (first.leader, second.leader, supervisord)] == [None] * 3
    await place.runtime.close()
    place.runtime = await place.another()
    assert (await place.runtime.observe(BOT)).state is UnitState.EXITED


async def test_an_orphan_is_restarted_with_nobody_watching(place):
    """A replaced supervisord stands behind each orphan with a fence that waits."""
    first = await place.running()
    await place.lose_supervisor()

    async def attached():
        info = await place.runtime._scope.supervisor.info(BOT)
        return info is not None and info["pid"] != 0

    await eventually(attached)
    assert (await place.runtime.observe(BOT)).leader == first.leader
    await place.runtime.close()
    proc.send(first.leader, signal.SIGKILL)
    unit = place.runtime._dir.unit(BOT)
    await eventually(lambda: unit.leader().process != first.leader and unit.leader().stage == "Exec")
    place.runtime = await place.another()
    seen = await place.until(BOT, UnitState.RUNNING)
    assert seen.restarts == 1
    await place.runtime.stop(BOT, grace_seconds=5)
    await place.until(BOT, UnitState.EXITED)


async def test_stop_of_an_orphan_with_a_waiting_fence(place):
    first = await place.running()
    await place.lose_supervisor()

    async def attached():
        info = await place.runtime._scope.supervisor.info(BOT)
        return info is not None and info["pid"] != 0

    await eventually(attached)
    await place.runtime.stop(BOT, grace_seconds=5)
    await place.until(BOT, UnitState.EXITED)
    assert proc.look(first.leader) is None
    await place.running(attempt=2)


@pytest.mark.parametrize("adopted", [False, True])
async def test_scopes_do_not_own_each_other(place, adopted):
    """An operator is itself a unit of the system scope: stopping it stops none of the bots it started.

    Not even one that erased its environment, and that it adopted when the bot's supervisord died.
    """
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from mainstay.runtime.process import ProcessRuntime\n"
        "from mainstay.runtime.base import UnitSpec\n"
        "async def main():\n"
        "    inner = ProcessRuntime(Path(sys.argv[1]), 'inner', home_id=sys.argv[2])\n"
        "    await inner.start_up()\n"
        "    await inner.start(UnitSpec('default.inner', 'uid-9', 1, ('env', '-i', '/bin/sleep', '1000')))\n"
        "    await asyncio.sleep(1000)\n"
        "asyncio.run(main())\n"
    )
    home_id = "h" + place.home.name
    env = {"PYTHONPATH": "operator"}
    argv = (sys.executable, "-c", code, str(place.home), home_id)
    await place.running("operator", argv=argv, env=env, working_dir=os.getcwd())
    inner = ProcessRuntime(place.home, "inner", home_id=home_id)
    unit = inner._dir.unit("default.inner")
    await eventually(lambda: unit.leader() is not None and unit.leader().stage == "Exec")
    bot = unit.leader().process
    await eventually(lambda: not proc.environ(bot.pid))
    if adopted:
        operator = (await place.runtime.observe("operator")).leader
        proc.send(operator, signal.SIGSTOP)  # else it would have a new supervisord at once
        keeper = proc.identify(int((place.home / "scopes/inner/supervisord.pid").read_text()))
        proc.send(keeper, signal.SIGKILL)
        await eventually(lambda: proc.look(bot).parent == operator.pid)
    for force in (False, True):
        await place.runtime.stop("operator", grace_seconds=0, force=force)
    await place.until("operator", UnitState.EXITED)
    assert proc.look(bot) is not None
    await inner.start_up()
    assert (await inner.observe("default.inner")).leader == bot
    await inner.shut_down_scope(True)
    await inner.close()
    assert proc.look(bot) is None


async def test_what_finishes_a_stop_spares_what_was_started_since(place, monkeypatch):
    """The rest of a stop is looked for in the background; a start may come before it is ended."""
    await place.running()
    stopper, unit = place.runtime._stopper, place.runtime._dir.unit(BOT)
    with monkeypatch.context() as later:
        later.setattr(stopper, "finish", lambda *_: None)
        await place.runtime.stop(BOT, grace_seconds=5)
        await place.until(BOT, UnitState.EXITED)
    look = stopper.members

    async def too_late(unit):
        monkeypatch.setattr(stopper, "members", look)
        await place.runtime.start(place.spec(attempt=2, paused=True))
        await place.until(BOT, UnitState.HELD, UnitState.RUNNING)  # as soon as it is held, it is resumed
        return await look(unit)

    monkeypatch.setattr(stopper, "members", too_late)
    finishing = asyncio.create_task(stopper._finish(unit, 5.0))
    held = await place.until(BOT, UnitState.HELD)
    await place.runtime.resume(BOT)
    running = await place.until(BOT, UnitState.RUNNING)
    assert running.leader == held.leader
    await asyncio.wait_for(finishing, 5)


async def test_a_forced_stop_leaves_no_time_to_end_by_itself(place):
    await place.running()
    await place.runtime.stop(BOT, grace_seconds=5, force=True)
    assert (await place.until(BOT, UnitState.EXITED)).exit.signal == signal.SIGKILL
