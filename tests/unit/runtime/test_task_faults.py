"""Tasks whose shim, fork server, supervisord or directory is taken away, and programs that leave children."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator

import pytest
from tests.contract.harness import eventually
from tests.contract.task_harness import TASK, ProcessTaskHarness, opened

from mainstay.runtime.base import RuntimeUnavailableError, UnitState
from mainstay.runtime.process import brake, proc
from mainstay.runtime.process.tasks import files as task_files


@pytest.fixture
async def place() -> AsyncIterator[ProcessTaskHarness]:
    async for harness in opened():
        yield harness


def sh(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


async def test_files_and_environment(place):
    script = (
        "cat $INPUTS_PATH; echo; stat -c %a $INPUTS_PATH; echo $ATTEMPT; echo $1; echo kept >> $DATA_DIR/x;"
        "wc -l < $DATA_DIR/x; cp $INPUTS_PATH $OUTPUTS_PATH"
    )
    for attempt in (1, 2):
        argv = (*sh(script), "sh", "$(OUTPUTS_PATH)")
        seen = await place.ended(argv=argv, inputs=b'{"a": 1}', attempt=attempt)
        assert seen.outcome.outputs == b'{"a": 1}'
        directory = place.path() / f"attempt-{attempt}"
        told = (directory / "stdout.log").read_text().splitlines()
        assert told == ['{"a": 1}', "600", str(attempt), str(directory / "outputs.json"), str(attempt)]
        for path in directory.iterdir():
            assert path.stat().st_mode & 0o077 == 0, path
    unit = place.runtime._dir.unit(TASK)
    assert task_files.log_directory(unit) == str(directory)
    assert task_files.log_directory(unit, back=1) == str(place.path() / "attempt-1")
    assert task_files.log_directory(unit, back=2) is None
    assert not list(place.path().glob("inputs-*"))


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("mkdir $OUTPUTS_PATH", "not a regular file"),
        ("mkfifo $OUTPUTS_PATH", "not a regular file"),
        ("ln -s /etc/passwd $OUTPUTS_PATH", "not a regular file"),
    ],
)
async def test_outputs_that_are_no_file(place, script, problem):
    seen = await place.ended(argv=sh(script))
    assert seen.outcome.succeeded
    assert seen.outcome.outputs is None
    assert problem in seen.outcome.outputs_problem


async def test_children_left_behind_are_ended_and_the_exit_is_kept(place):
    script = "(trap '' TERM; exec env -i setsid sleep 1000) & setsid sleep 1000 & sleep 0.1; exit 0"
    began = time.monotonic()
    await place.runtime.start(place.spec(argv=sh(script)))
    unit = place.runtime._dir.unit(TASK)
    record = await eventually(lambda: task_files.exit_record(unit, 1))
    assert (record.code, record.clean) == (0, False)
    assert (await place.runtime.observe(TASK)).state is UnitState.RUNNING
    seen = await place.until(TASK, UnitState.EXITED)
    assert seen.outcome.succeeded
    assert seen.outcome.ended_at == record.ended_at
    assert 1.5 < time.monotonic() - began < 6
    assert place.alive() == []


async def test_adopted_children_are_reaped(place):
    await place.runtime.start(place.spec(argv=sh("for i in 1 2 3; do (setsid sleep 0 &) ; done; sleep 1000")))
    await place.until(TASK, UnitState.RUNNING)
    await asyncio.sleep(0.3)
    parent = place.shim().pid
    stats = [seen for pid in proc.pids() if (seen := proc.stat(pid)) is not None]
    assert [seen.state for seen in stats if seen.parent == parent] == ["S"]


async def test_a_killed_shim_costs_the_outcome_only(place):
    first = await place.running()
    shim = place.shim()
    proc.send(shim, signal.SIGKILL)
    await eventually(lambda: proc.look(shim) is None)
    seen = await place.runtime.observe(TASK)
    assert (seen.state, seen.leader) == (UnitState.RUNNING, first.leader)
    with pytest.raises(RuntimeUnavailableError):
        await place.runtime.start(place.spec(attempt=2))
    await place.restart_operator()
    await place.runtime.stop(TASK, grace_seconds=10)
    gone = await place.until(TASK, UnitState.EXITED)
    assert (gone.outcome, gone.attempt) == (None, 1)
    assert gone.started_at == first.started_at


async def test_what_a_killed_shim_leaves_is_ended(place):
    await place.running(argv=sh("echo >> $RAN; setsid sleep 1000 & sleep 1000"))
    await eventually(lambda: len(place.alive()) == 3)
    await place.lose()
    await place.until(TASK, UnitState.EXITED)
    assert place.alive() == []


async def test_a_timeout_holds_without_a_shim(place):
    await place.running(kind="stubborn", timeout_seconds=0.5, grace_seconds=0.3)
    proc.send(place.shim(), signal.SIGKILL)
    assert (await place.until(TASK, UnitState.EXITED)).outcome is None


async def test_a_shim_killed_between_claim_and_program(place):
    await place.ended(kind="exit 3")
    (place.path() / "attempt-2").mkdir()
    seen = await place.until(TASK, UnitState.EXITED)  # the first shim may still be on its way out
    assert (seen.attempt, seen.started_at, seen.outcome) == (2, None, None)
    await place.runtime.start(place.spec(attempt=2))
    assert await place.executions() == 1
    assert (await place.ended(attempt=3)).outcome.succeeded


async def test_a_killed_fork_server_is_back_for_the_next_start(place):
    first = await place.running("default.a")
    server = await place.fork_server()
    proc.send(server, signal.SIGKILL)
    assert (await place.ended("default.b")).outcome.succeeded
    assert await place.fork_server() != server
    assert await place.runtime.observe("default.a") == first
    await place.kill_leader("default.a")
    assert (await place.until("default.a", UnitState.EXITED)).outcome.exit.signal == 9


async def test_a_stopped_fork_server_is_replaced(place):
    await place.ended("default.b")
    proc.send(await place.fork_server(), signal.SIGSTOP)
    assert (await place.ended()).outcome.succeeded
    assert await place.executions() == 2


async def test_a_killed_supervisord_takes_its_fork_server_along(place):
    first = await place.running("default.a")
    server = await place.fork_server()
    proc.send(place.runtime._scope.process, signal.SIGKILL)
    await eventually(lambda: proc.look(server) is None)
    assert await place.runtime.observe("default.a") == first
    assert (await place.ended("default.b")).outcome.succeeded
    await place.kill_leader("default.a")
    assert (await place.until("default.a", UnitState.EXITED)).outcome.exit.signal == 9


async def test_everything_killed(place):
    await place.running()
    ended = await place.ended("default.b")
    server, shim = await place.fork_server(), place.shim()
    await place.runtime.close()
    for one in (place.runtime._scope.process, server, shim):
        proc.send(one, signal.SIGKILL)
    for pid in place.alive():
        os.kill(pid, signal.SIGKILL)
    place.runtime = await place.another()
    seen = await place.runtime.observe(TASK)
    assert (seen.state, seen.attempt, seen.outcome) == (UnitState.EXITED, 1, None)
    assert await place.runtime.observe("default.b") == ended
    assert (await place.ended(attempt=2)).outcome.succeeded


async def test_an_end_with_the_operator_down(place):
    await place.runtime.start(place.spec(argv=sh("sleep 0.2; echo 1 > $OUTPUTS_PATH")))
    await place.runtime.start(place.spec("default.slow", timeout_seconds=0.2))
    await place.runtime.close()
    await asyncio.sleep(0.5)
    place.runtime = await place.another()
    assert (await place.runtime.observe(TASK)).outcome.outputs == b"1\n"
    assert (await place.runtime.observe("default.slow")).outcome.timed_out


async def test_a_stop_before_the_program(place):
    unit = place.runtime._dir.unit(TASK)
    place.runtime._dir.unit(TASK).create()
    unit.begin_stop(1, deleting=False)
    answer = await place.runtime._server.request(TASK, 1)
    assert (answer.word, answer.rest) == ("left", "spec")
    seen = await place.runtime.observe(TASK)
    assert (seen.state, seen.attempt) == (UnitState.EXITED, 0)
    assert (await place.ended()).stopping_seconds is None


async def test_a_stop_after_the_claim(place):
    """The marker comes between the shim's look and the program: nothing is executed, and it is written down."""
    unit = place.runtime._dir.unit(TASK)
    server = await place.fork_server()
    for attempt in range(1, 30):
        proc.send(server, signal.SIGSTOP)
        start = asyncio.ensure_future(place.runtime.start(place.spec(attempt=attempt)))
        await asyncio.sleep(0.02)
        proc.send(server, signal.SIGCONT)
        if attempt % 3:
            await asyncio.sleep(0.0005 * (attempt % 7))
        unit.begin_stop(5, deleting=False)
        await asyncio.gather(start, return_exceptions=True)
        await place.runtime.stop(TASK, grace_seconds=5)
        seen = await place.until(TASK, UnitState.EXITED, seconds=3)
        if seen.attempt == attempt:
            assert seen.outcome.exit.signal == 15
    assert place.alive() == []


async def test_a_stop_comes_through_while_a_dead_shim_s_program_is_watched(place):
    await place.running(kind="stubborn")
    proc.send(place.shim(), signal.SIGKILL)
    await asyncio.sleep(0.1)
    await place.runtime.stop(TASK, grace_seconds=0.3)
    assert (await place.until(TASK, UnitState.EXITED, seconds=3)).outcome is None


async def test_a_second_operator_is_told_too(place):
    other = await place.another()
    try:
        changes = other.changes()
        task = asyncio.ensure_future(anext(changes))
        await asyncio.gather(place.runtime.start(place.spec()), other.start(place.spec()))
        await asyncio.sleep(0.1)
        await place.until(TASK, UnitState.RUNNING)
        await place.kill_leader()
        assert await asyncio.wait_for(task, 5) == TASK
        await changes.aclose()
    finally:
        await other.close()


async def test_the_offline_brake_holds(place):
    await place.running()
    assert await asyncio.to_thread(brake.stop_offline, place.home, "jobs", TASK)
    seen = await place.until(TASK, UnitState.EXITED)
    assert seen.held_locally
    assert seen.outcome.exit.signal == 15
    with pytest.raises(RuntimeUnavailableError):
        await place.runtime.start(place.spec(attempt=2))
    assert brake.release(place.home, "jobs", TASK)
    assert (await place.ended(attempt=2)).outcome.succeeded


async def test_a_fork_server_of_another_version_is_renewed(place):
    first = await place.running("default.a")
    server = await place.fork_server()
    await eventually((place.home / "scopes/jobs/tasks.sock").exists)
    await place.runtime._server.renew("/elsewhere/code-0")
    await eventually(lambda: proc.look(server) is None)
    assert (await place.ended("default.b")).outcome.succeeded
    assert await place.runtime.observe("default.a") == first


async def test_a_deleted_directory_starts_no_second_tree(place):
    first = await place.running()
    shutil.rmtree(place.path())
    seen = await place.runtime.observe(TASK)
    assert (seen.state, seen.leader, seen.attempt) == (UnitState.RUNNING, first.leader, 1)
    await place.runtime.start(place.spec())
    await place.restart_operator()
    assert (await place.runtime.observe(TASK)).leader == first.leader
    await place.runtime.stop(TASK, grace_seconds=10, force=True)
    assert (await place.until(TASK, UnitState.EXITED)).outcome is None
    assert await place.executions() == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be others")
async def test_another_user(place):
    for path in (place.home, *place.home.rglob("*")):
        if path.is_dir():
            path.chmod(0o711)
    (place.home / "ran").touch(0o666)
    script = "id -un; cat $INPUTS_PATH > $OUTPUTS_PATH; echo forged > $(dirname $OUTPUTS_PATH)/../exit"
    seen = await place.ended(argv=sh(script), user="nobody", inputs=b"[1]")
    assert seen.outcome.outputs == b"[1]"
    assert seen.outcome.exit.code == 2
    assert (place.path() / "attempt-1/stdout.log").read_text() == "nobody\n"
