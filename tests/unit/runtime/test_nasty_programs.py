"""Programs that hide: a unit is a tree, and the whole tree stops, pauses and is never doubled."""

from __future__ import annotations

import os
import sys
import textwrap

import pytest
from tests.contract.harness import eventually

from mainstay.api.program import RestartPolicyType
from mainstay.runtime.base import UnitState
from mainstay.runtime.process import proc

BOT = "default.bot"
PYTHON = os.path.realpath(sys.executable)

HELPER = """
import os, sys, time, signal
def helper(setsid, double, erase, close, ignore):
    if os.fork():
        return
    if setsid:
        os.setsid()
    if double and os.fork():
        os._exit(0)
    if ignore:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if close:
        os.closerange(0, 256)
    with open("helper.tmp", "w") as file:
        file.write(str(os.getpid()))
    os.rename("helper.tmp", "helper")
    if erase:
        os.execve("/bin/sleep", ["innocent", "1000"], {})
    while True:
        time.sleep(1000)
"""

KINDS = {
    "fork": "helper(False, False, False, False, False)",
    "setsid": "helper(True, False, False, False, False)",
    "double-fork": "helper(True, True, False, False, False)",
    "ignores-term": "helper(True, True, False, False, True)",
    "erased": "helper(True, True, True, False, False)",
    "erased-and-closed": "helper(True, True, True, True, False)",
    "everything": "helper(True, True, True, True, True)",
}


def program(kind: str, then: str = "time.sleep(1000)") -> tuple[str, ...]:
    code = textwrap.dedent(HELPER) + KINDS[kind] + "\n" + then + "\n"
    return (PYTHON, "-c", code)


async def helper_of(place, erased=False):
    path = place.unit_path(BOT) / "data/helper"
    await eventually(path.exists)
    process = proc.identify(int(path.read_text()))
    assert process is not None
    if erased:
        await eventually(lambda: not proc.environ(process.pid))
    return process


@pytest.mark.parametrize("kind", KINDS)
async def test_stop_ends_the_whole_tree(place, kind):
    await place.running(argv=program(kind))
    helper = await helper_of(place, "erase" in kind)
    await place.runtime.stop(BOT, grace_seconds=0.3)
    await place.until(BOT, UnitState.EXITED)
    assert proc.look(helper) is None


@pytest.mark.parametrize("kind", KINDS)
async def test_force_ends_the_whole_tree(place, kind):
    await place.running(argv=program(kind))
    helper = await helper_of(place, "erase" in kind)
    await place.runtime.stop(BOT, grace_seconds=30, force=True)
    assert (await place.runtime.observe(BOT)).state is UnitState.EXITED
    assert proc.look(helper) is None


@pytest.mark.parametrize("kind", KINDS)
async def test_pause_stops_the_whole_tree(place, kind):
    await place.running(argv=program(kind))
    helper = await helper_of(place, "erase" in kind)
    await place.runtime.pause(BOT)
    assert (await place.runtime.observe(BOT)).state is UnitState.PAUSED
    assert proc.look(helper).stopped
    await place.runtime.resume(BOT)
    await eventually(lambda: not proc.look(helper).stopped)


@pytest.mark.parametrize("kind", ["fork", "double-fork", "ignores-term", "erased"])
async def test_a_restart_never_doubles(place, kind):
    first = await place.running(argv=program(kind))
    helper = await helper_of(place, "erase" in kind)
    (place.unit_path(BOT) / "data/helper").unlink()
    await place.kill_leader(BOT)
    again = await helper_of(place, "erase" in kind)
    assert proc.look(helper) is None
    seen = await place.until(BOT, UnitState.RUNNING)
    assert seen.leader != first.leader
    assert proc.look(again) is not None


async def test_what_only_descent_proves_is_remembered(place):
    await place.running(argv=program("erased-and-closed"))
    helper = await helper_of(place, erased=True)
    await place.runtime._strays.once()
    (place.unit_path(BOT) / "data/helper").unlink()
    await place.kill_leader(BOT)
    await helper_of(place, erased=True)
    assert proc.look(helper) is None


async def test_the_brake_ends_the_whole_tree(place):
    await place.running(argv=program("erased-and-closed"))
    helper = await helper_of(place, erased=True)
    await place.brake(BOT)
    await place.until(BOT, UnitState.HELD)
    assert proc.look(helper) is None


async def test_what_a_program_leaves_behind_is_ended(place):
    """No stop, no restart: the leader exits and a helper stays. The unit is gone only without it."""
    argv = program("ignores-term", "while not os.path.exists('helper'): time.sleep(0.01)\nos._exit(0)")
    await place.runtime.start(place.spec(argv=argv, policy=RestartPolicyType.NEVER, grace_seconds=0.3))
    helper = await helper_of(place)
    seen = await place.runtime.observe(BOT)
    assert proc.look(helper) is None or seen.state is not UnitState.EXITED
    await place.until(BOT, UnitState.EXITED)
    assert proc.look(helper) is None
