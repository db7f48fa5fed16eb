"""Probes that are commands: what they find, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.harness import eventually
from tests.contract.probe_harness import SECRET, HostPlace, processes_with, refused

from mainstay.core.asset.observation import Question
from mainstay.runtime import commands
from mainstay.runtime.probes import COMMANDS, QUOTED, HostProbes


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[HostPlace]:
    made = HostPlace(tmp_path)
    await made.open()
    yield made
    await made.close()


def family(tmp_path: Path, mark: str, last: str, **more: object) -> Question:
    """A command with a child in its group and a grandchild in a session of its own, that then does this."""
    script = tmp_path / "family.sh"
    script.write_text(
        f"sleep 1000 & (setsid sh -c 'sleep 1000 & sleep 1000' &) ; touch {tmp_path}/up; {last}\n"
    )
    return Question(argv=("sh", str(script)), env={"MARK": mark}, **more)  # type: ignore[arg-type]


async def has_a_family(tmp_path: Path, mark: str) -> None:
    """Guard, shell, child, and three of the session of its own."""
    await eventually(lambda: (tmp_path / "up").exists() and len(processes_with(mark)) >= 6)


class TestCommand:
    async def test_the_environment_is_clean(self, host, monkeypatch):
        monkeypatch.setenv("TZ", "UTC")
        monkeypatch.setenv("OPERATOR_ONLY", SECRET)
        program = (
            "import json,os; print(json.dumps([dict(os.environ), os.getcwd(), os.getsid(0) == os.getpid()]))"
        )
        (host.home / "sub").mkdir()
        asked = Question(argv=(sys.executable, "-c", program), env={"KEY": "1"}, working_dir="sub")
        env, cwd, leads = await host.probes.ask(asked)
        assert sorted(set(env) - {"LC_CTYPE"}) == ["HOME", "KEY", "LANG", "PATH", "TZ", "USER"]
        assert cwd == str(host.home / "sub")
        assert leads

    @pytest.mark.parametrize(("asked", "words"), [("none", "No such file"), ("../..", "leads out of")])
    async def test_a_directory_that_is_none(self, host, asked, words):
        assert words in await refused(host, Question(argv=("true",), working_dir=asked))

    async def test_the_last_line_of_stderr_is_told(self, host):
        said = await refused(host, host.command(code=2, errors="first\n\x1b[31mno ship\n\n"))
        assert said.endswith("exited with 2:  [31mno ship")
        said = await refused(host, host.command(code=2, errors="x" * 5000))
        assert said.count("x") < QUOTED + 5

    async def test_a_signal_and_a_program_that_is_none(self, host):
        assert "exited with 143" in await refused(host, Question(argv=("sh", "-c", "kill -TERM $$")))
        said = await refused(host, host.no_program())
        assert "exited with 127: cannot run 'no-such-probe-x': No such file" in said
        assert "Permission denied" in await refused(host, Question(argv=(str(host.home),)))
        assert "cannot run" in await refused(host, Question(argv=("a\0b",)))

    @pytest.mark.parametrize(
        ("last", "words"),
        [("echo '[1]'", None), ("exit 3", "exited with 3"), ("kill -9 $$", "exited with 137")],
    )
    async def test_an_end_ends_everything(self, host, tmp_path, last, words):
        mark = uuid.uuid4().hex
        question = family(tmp_path, mark, last, timeout_seconds=30)
        if words is None:
            assert await host.probes.ask(question) == [1]
        else:
            assert words in await refused(host, question)
        assert (tmp_path / "up").exists()
        assert processes_with(mark) == []

    @pytest.mark.parametrize(
        ("last", "seconds"), [("wait", 2.0), ("yes", 30.0), ("trap '' TERM INT HUP; wait", 2.0)]
    )
    async def test_too_long_ends_everything(self, host, tmp_path, last, seconds):
        mark = uuid.uuid4().hex
        said = await refused(host, family(tmp_path, mark, last, timeout_seconds=seconds))
        assert ("wrote more than" if last == "yes" else "took longer") in said
        assert (tmp_path / "up").exists()
        assert processes_with(mark) == []

    @pytest.mark.parametrize("times", [1, 2])
    async def test_cancelling_ends_everything(self, host, tmp_path, times):
        mark = uuid.uuid4().hex
        asking = asyncio.create_task(host.probes.ask(family(tmp_path, mark, "wait", timeout_seconds=60)))
        await has_a_family(tmp_path, mark)
        for _ in range(times):
            asking.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await asking
        if times == 2:  # who cancels once more doesn't wait; it comes to its end all the same
            await asyncio.gather(*commands._ending)
        assert processes_with(mark) == []

    async def test_a_killed_operator_leaves_nothing(self, tmp_path):
        mark = uuid.uuid4().hex
        question = family(tmp_path, mark, "wait")
        program = (
            "import asyncio\n"
            "from mainstay.core.asset.observation import Question\n"
            "from mainstay.runtime.probes import HostProbes\n"
            f"asked = Question(argv={question.argv!r}, env={dict(question.env)!r}, timeout_seconds=60)\n"
            f"asyncio.run(HostProbes({str(tmp_path)!r}).ask(asked))\n"
        )
        path = os.pathsep.join(sys.path)
        operator = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path})
        try:
            await has_a_family(tmp_path, mark)
        finally:
            operator.send_signal(signal.SIGKILL)
            operator.wait()
        await eventually(lambda: [pid for pid in processes_with(mark) if pid != operator.pid] == [])

    async def test_only_so_many_run_at_once_and_waiting_takes_no_time_of_theirs(self, tmp_path):
        probes = HostProbes(str(tmp_path))
        pipe = tmp_path / "go"
        os.mkfifo(pipe)
        mark = uuid.uuid4().hex
        waits = Question(
            argv=("sh", "-c", f"read line < {pipe}; echo 1"), env={"MARK": mark}, timeout_seconds=60
        )
        asked = [asyncio.create_task(probes.ask(waits)) for _ in range(COMMANDS)]
        await eventually(lambda: len(processes_with(mark)) == 2 * COMMANDS, 30)
        last = asyncio.create_task(probes.ask(Question(argv=("echo", "2"), timeout_seconds=2)))
        done, _ = await asyncio.wait([last], timeout=2.5)
        assert not done
        asked[0].cancel()
        assert await last == 2
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        assert processes_with(mark) == []

    async def test_no_descriptor_is_left(self, host):
        await host.probes.ask(host.command("[]"))
        before = sorted(os.listdir("/proc/self/fd"))
        for question in (host.command("[]"), host.command(slow=True, timeout_seconds=0.2), host.no_program()):
            await asyncio.gather(host.probes.ask(question), return_exceptions=True)
        assert sorted(os.listdir("/proc/self/fd")) == before


class TestUnguarded:
    """What readiness commands are: cheaper, and ended as a group."""

    @pytest.mark.parametrize(("last", "seconds"), [("exit 3", 60.0), ("wait", 0.5)])
    async def test_its_group_is_gone(self, tmp_path, last, seconds):
        mark = uuid.uuid4().hex
        argv = ["sh", "-c", f"sleep 1000 & echo why >&2; {last}"]
        running = commands.run(argv, env={**os.environ, "MARK": mark}, cwd="/", seconds=seconds)
        if last == "wait":
            with pytest.raises(commands.CommandError, match="'sh' took longer"):
                await running
        else:
            assert await running == commands.Ended(3, b"", b"why\n")
        await eventually(lambda: processes_with(mark) == [])

    async def test_a_directory_that_is_none(self):
        with pytest.raises(commands.CommandError, match="cannot run 'true' in /none: No such file"):
            await commands.run(["true"], env={}, cwd="/none", seconds=5)
