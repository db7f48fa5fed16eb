"""A stack's scope with real processes: its supervisord ended in every state, scopes removed in every moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest
from tests.contract.harness import eventually
from tests.contract.stack_harness import ProcessStackHarness

from mainstay.core.names import stack_scope
from mainstay.runtime import effects
from mainstay.runtime.base import LogPolicy, RuntimeUnavailableError, UnitState
from mainstay.runtime.process import StackScope, ending, known_scopes, lost, proc, records
from mainstay.runtime.process import scope as scope_module
from mainstay.runtime.process.members import Scan
from mainstay.runtime.process.stopping import wait_gone

KEY, OTHER = ("default", "web"), ("default", "worker")


class Crash(BaseException):
    """The operator is gone."""


@pytest.fixture
async def place() -> AsyncIterator[ProcessStackHarness]:
    harness = ProcessStackHarness()
    try:
        await harness.start()
        yield harness
    finally:
        await harness.close()


def directory(place, key=KEY):
    return place.home / "scopes" / stack_scope(*key)


def unattended(place) -> StackScope:
    """The scope as a command sees it: no task of ours looks after it."""
    return StackScope(place.home, KEY, home_id=place.home_id)


async def left_alone(place) -> StackScope:
    """The same, with the operator away."""
    await place.stacks.close()
    place.stacks = place.new()
    return unattended(place)


def stale(place) -> list[str]:
    return [name for name in ("supervisor.sock", "supervisord.pid") if (directory(place) / name).exists()]


class TestSideBySide:
    async def test_nothing_done_to_one_touches_the_other(self, place):
        other = await place.open(OTHER)
        await other.start(place.spec("app"))

        async def running():
            return (await other.observe("app")).state is UnitState.RUNNING

        await eventually(running)
        pids = [await other.supervisor(), (await other.observe("app")).leader]
        await place.running("app")
        await place.runtime.end_supervisor(seconds=5)
        await place.runtime.ensure_supervisor()
        await place.hang_supervisor()
        await place.runtime.end_supervisor(seconds=5, force=True)
        await place.kill_supervisor() if await place.runtime.supervisor() else None
        await place.runtime.ensure_supervisor()
        await place.runtime.stop("app", grace_seconds=0, force=True)
        await place.until("app", UnitState.EXITED)
        await place.stacks.remove(KEY)
        assert [await other.supervisor(), (await other.observe("app")).leader] == pids
        assert place.stacks.known() == [OTHER]


class TestEnd:
    async def test_cleanly(self, place):
        old = await place.supervisord()
        names: list[str] = []
        with effects.hooked(names.append):
            await place.runtime.end_supervisor(seconds=10)
        assert "supervisord shutdown" in names
        assert "signal SIGKILL" not in names
        assert proc.look(old) is None

    async def test_a_new_one_comes_only_after_the_files_are_gone(self, place):
        names: list[str] = []
        with effects.hooked(names.append):
            await place.runtime.end_supervisor(seconds=10, force=True)
            await eventually(lambda: "launch supervisord" in names)
        launched = names.index("launch supervisord")
        assert names[:launched][-2:] == ["unlink supervisor.sock", "unlink supervisord.pid"]
        await place.by_itself()

    async def test_a_stopped_one_costs_no_patience(self, place):
        await place.hang_supervisor()
        old = place.runtime._scope.process
        began = time.monotonic()
        await place.runtime.end_supervisor(seconds=60)
        assert time.monotonic() - began < 3
        assert proc.look(old) is None

    async def test_who_waits_for_a_hung_one_does_not_delay_it(self, place, monkeypatch):
        """A look whose answer never comes has begun just before it hung."""
        scope = place.runtime._scope
        old = await place.supervisord()
        asked = asyncio.Event()
        answers = scope.answers

        async def hung(timeout=5.0):
            if proc.look(old) is None:
                return await answers(timeout)
            asked.set()
            return not await wait_gone(old)

        monkeypatch.setattr(scope, "answers", hung)
        waits = asyncio.create_task(scope.ensure())
        await asked.wait()
        proc.send(old, signal.SIGSTOP)
        await eventually(lambda: proc.look(old).stopped)
        async with asyncio.timeout(5):
            await place.runtime.end_supervisor(seconds=60)
        with pytest.raises(RuntimeUnavailableError, match="being ended"):
            await waits
        await place.by_itself()

    @pytest.mark.parametrize("seconds", [0, 0.01])
    async def test_without_time_it_is_killed(self, place, seconds):
        old = await place.supervisord()
        await place.runtime.end_supervisor(seconds=seconds)
        assert proc.look(old) is None

    async def test_stale_files_of_one_that_was_killed(self, place):
        scope = await left_alone(place)
        holder = scope._scope.holder()
        proc.send(holder, signal.SIGKILL)
        await eventually(lambda: proc.look(holder) is None)
        assert len(stale(place)) == 2
        await scope.end_supervisor(seconds=10)
        assert stale(place) == []
        await scope.end_supervisor(seconds=10)
        await scope.close()
        await place.start()

    async def test_one_without_a_socket(self, place):
        scope = await left_alone(place)
        holder = scope._scope.holder()
        os.unlink(scope._dir.socket)
        await scope.end_supervisor(seconds=10)
        assert proc.look(holder) is None
        assert stale(place) == []
        await scope.close()
        await place.start()

    async def test_who_only_has_the_lock_open_is_no_supervisor(self, place, monkeypatch):
        monkeypatch.setattr(ending, "LOCK_SECONDS", 0.3)
        monkeypatch.setattr(scope_module, "START_SECONDS", 0.3)
        scope = await left_alone(place)
        await scope.end_supervisor(seconds=10)
        code = (
            "import fcntl, signal, sys; file = open(sys.argv[1], 'r+'); fcntl.flock(file, fcntl.LOCK_EX); "
            "print(1, flush=True); signal.pause()"
        )
        argv = [sys.executable, "-I", "-S", "-c", code, scope._dir.lock]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as stranger:
            try:
                stranger.stdout.readline()
                for act in (
                    lambda: scope.end_supervisor(seconds=10, force=True),
                    scope.ensure_supervisor,  # another operator may be launching one just now
                ):
                    with pytest.raises(RuntimeUnavailableError, match="unknown process"):
                        await act()
                    assert stranger.poll() is None
            finally:
                stranger.kill()
        monkeypatch.undo()
        await scope.close()
        await place.start()

    async def test_units_get_no_signal_and_are_kept(self, place):
        told = "trap 'touch told' TERM; while :; do sleep 0.05; done"
        unit = await place.running("app", argv=("/bin/sh", "-c", told))
        names: list[str] = []
        with effects.hooked(names.append):
            await place.runtime.end_supervisor(seconds=10)
        assert "supervisord shutdown" not in names
        await place.runtime.ensure_supervisor()

        async def attached():
            info = await place.runtime._scope.supervisor.info("app")
            return info is not None and info["pid"] != 0

        await eventually(attached)
        assert (await place.runtime.observe("app")).leader == unit.leader
        assert not (directory(place) / "units/app/data/told").exists()
        await place.kill_leader("app")

        async def another():
            seen = await place.runtime.observe("app")
            return seen.state is UnitState.RUNNING and seen.leader != unit.leader

        await eventually(another)

    async def test_the_last_words_of_one_that_does_not_start(self, place):
        scope = await left_alone(place)
        await scope.end_supervisor(seconds=10)
        evil = directory(place) / "conf.d/evil.conf"
        evil.write_text("[program:evil]\ncommand=%(nothing)s\n")
        with pytest.raises(RuntimeUnavailableError, match="ended at once: "):
            await scope.ensure_supervisor()
        assert await scope.supervisor() is None
        evil.unlink()
        await scope.ensure_supervisor()
        assert await scope.supervisor() is not None
        await scope.close()
        await place.start()


def supervisords(place, key=KEY) -> set[int]:
    mark = f"{place.home_id}/{stack_scope(*key)}"
    found = {pid: proc.environ(pid) for pid in proc.pids()}
    return {
        pid
        for pid, env in found.items()
        if env.get("MAINSTAY_SCOPE") == mark and "SUPERVISOR_PROCESS_NAME" not in env and proc.identify(pid)
    }


class TestDirectoryDeleted:
    """By somebody, under a running operator."""

    async def healed(self, place, old):
        async def another():
            return await place.runtime.supervisor() not in (None, old)

        await eventually(another, 20)
        assert supervisords(place) == {(await place.runtime.supervisor()).pid}

    async def test_it_is_made_anew_and_the_old_supervisor_does_not_outlive_it(self, place):
        told = "trap 'touch /proc/self/cwd/told' TERM; while :; do sleep 0.05; done"
        unit = await place.running("app", argv=("/bin/sh", "-c", told), working_dir=str(place.home))
        old = await place.supervisord()
        names: list[str] = []
        with effects.hooked(names.append):
            shutil.rmtree(directory(place))
            await self.healed(place, old)
        assert "supervisord shutdown" not in names
        assert proc.look(old) is None
        assert place.stacks.known() == [KEY]
        assert known_scopes(place.home) == [(KEY, stack_scope(*KEY))]
        (seen,) = await place.runtime.units()
        assert (seen.name, seen.leader) == ("app", unit.leader)
        assert not (place.home / "told").exists()
        await place.running("second")
        await place.runtime.stop("app", grace_seconds=0, force=True)

    async def test_again_and_again(self, place):
        for _ in range(3):
            old = await place.supervisord()
            shutil.rmtree(directory(place))
            await self.healed(place, old)
        await place.running("app")

    async def test_its_supervisor_is_ended(self, place):
        scope = await left_alone(place)
        (old,) = supervisords(place)
        for again in (False, True):
            if again:
                directory(place).mkdir()
            else:
                shutil.rmtree(directory(place))
            await scope.end_supervisor(seconds=10)
            assert supervisords(place) == set()
            await scope.ensure_supervisor()
            assert supervisords(place) not in (set(), {old})
            shutil.rmtree(directory(place))
        await scope.dissolve()
        assert supervisords(place) == set()
        await scope.close()
        await place.start()

    async def test_its_supervisor_does_not_survive_down(self, place):
        scope = await left_alone(place)
        shutil.rmtree(directory(place))
        await scope._scope.shut_down()
        assert supervisords(place) == set()
        await scope.close()
        await place.start()

    async def test_who_holds_the_lock_or_is_a_fence_is_not_lost(self, place):
        await place.running("app")
        before = supervisords(place)
        await place.runtime.pause("app")
        scope = place.runtime._scope
        await lost.end_lost(scope.mark, scope.dir.lock)
        assert supervisords(place) == before
        other = await place.open(OTHER)
        assert lost._find(other._scope.mark, scope.dir.lock) == [await other.supervisor()]

    async def test_opened_it_is_another_one(self, place):
        shutil.rmtree(directory(place))
        first, place.runtime = place.runtime, await place.open()
        assert place.runtime is not first
        assert await place.open() is place.runtime
        await place.running("app")
        assert len(supervisords(place)) == 1

    async def test_removed_by_another_process(self, place):
        others = place.new()
        await others.remove(KEY)
        await others.close()
        place.runtime = await place.open()
        await place.running("app")
        assert known_scopes(place.home) == [(KEY, stack_scope(*KEY))]
        assert len(supervisords(place)) == 1

    @pytest.mark.parametrize("opened", [True, False])
    async def test_removed_it_is_gone(self, place, opened):
        if not opened:
            await left_alone(place)
        shutil.rmtree(directory(place))
        await place.stacks.remove(KEY)
        assert (place.stacks.known(), supervisords(place)) == ([], set())
        await asyncio.sleep(1.5)
        assert not directory(place).exists()
        await place.start()

    async def test_not_removed_while_a_unit_lives(self, place):
        unit = await place.running("app")
        shutil.rmtree(directory(place))
        with pytest.raises(RuntimeUnavailableError, match="app"):
            await place.stacks.remove(KEY)
        await eventually((directory(place) / "conf.d").exists)
        assert [one.leader for one in await place.runtime.units()] == [unit.leader]

    async def test_deleted_while_it_is_removed(self, place, monkeypatch):
        refuse, looks = place.runtime._refuse_living, []

        async def second():
            await refuse()
            looks.append(1)
            if len(looks) == 2:
                shutil.rmtree(directory(place))

        monkeypatch.setattr(place.runtime, "_refuse_living", second)
        await place.stacks.remove(KEY)
        assert place.stacks.known() == []
        await place.start()

    async def test_whose_scope_it_is_is_written_again(self, place):
        record = directory(place) / "stack"
        for _ in range(2):
            record.unlink()
            assert place.stacks.known() == [KEY]
            assert await place.open() is place.runtime
            assert record.exists()
        record.unlink()
        await place.restart()
        assert record.exists()

    async def test_it_is_said_once(self, place, caplog):
        logs = place.runtime._logs
        logs._policy = LogPolicy(directory=str(place.home / "logs"))
        await place.runtime._watch.close()
        shutil.rmtree(directory(place))
        for _ in range(3):
            with contextlib.suppress(OSError):
                logs.once()
        said = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
        assert said == [f"links to logs can't be kept in {place.home}/logs: No such file or directory"]
        await place.open()


class TestRemove:
    async def ended(self, place):
        await place.running("app")
        await place.runtime.stop("app", grace_seconds=5)
        await place.until("app", UnitState.EXITED)

    async def test_a_scope_that_is_not_open(self, place):
        await self.ended(place)
        old = await place.supervisord()
        await place.stacks.close()
        place.stacks = place.new()
        await place.stacks.remove(KEY)
        assert os.listdir(place.home / "scopes") == []
        assert proc.look(old) is None
        await place.start()

    async def test_refused_for_one_that_is_not_open(self, place):
        unit = await place.running("app")
        await place.stacks.close()
        place.stacks = place.new()
        with pytest.raises(RuntimeUnavailableError, match="app"):
            await place.stacks.remove(KEY)
        await place.start()
        assert (await place.runtime.observe("app")).leader == unit.leader

    async def test_refused_for_a_unit_that_was_started_since_the_first_look(self, place, monkeypatch):
        unit = await place.running("app")
        refuse, looks = place.runtime._refuse_living, []

        async def second():
            looks.append(1)
            if len(looks) > 1:
                await refuse()

        monkeypatch.setattr(place.runtime, "_refuse_living", second)
        with pytest.raises(RuntimeUnavailableError, match="app"):
            await place.stacks.remove(KEY)
        await place.by_itself()
        assert (await place.runtime.observe("app")).leader == unit.leader
        assert place.stacks.known() == [KEY]

    async def test_refused_for_a_unit_that_supervisord_starts_again_and_again(self, place):
        await place.runtime.start(place.spec("app", argv=("false",), backoff=0.0))
        """Between two of its processes it looks ended. Removed then, nothing of it may come after."""
        for _ in range(10):
            try:
                await place.stacks.remove(KEY)
            except RuntimeUnavailableError:
                await place.by_itself()
                continue
            assert known_scopes(place.home) == []
            assert f"{stack_scope(*KEY)}/app" not in Scan.take(place.home_id).by_name
            place.runtime = await place.open()
            await place.runtime.start(place.spec("app", argv=("false",), backoff=0.0))

    async def test_a_crash_around_any_effect(self, place):
        names: list[str] = []
        await self.ended(place)
        with effects.hooked(names.append):
            await place.stacks.remove(KEY)
        assert len(names) >= 4
        for when in ("before", "after"):
            for number in range(len(names)):
                await place.start()
                await self.ended(place)
                old = await place.supervisord()
                seen: list[str] = []

                def hook(name, seen=seen, number=number):
                    seen.append(name)
                    if len(seen) == number + 1:
                        raise Crash(name)

                with effects.hooked(**{f"on_{when}": hook}):
                    try:  # noqa: SIM105 - the order of effects of the background differs
                        await place.stacks.remove(KEY)
                    except Crash:
                        pass
                await place.stacks.close()
                place.stacks = place.new()
                await place.stacks.start_up()
                assert place.stacks.known() in ([], [KEY])
                await place.stacks.remove(KEY)
                assert os.listdir(place.home / "scopes") == []
                assert proc.look(old) is None
        await place.start()


class TestKnown:
    async def test_a_crash_around_any_effect_of_open(self, place):
        names: list[str] = []
        with effects.hooked(names.append):
            await place.open(OTHER)
        await place.stacks.remove(OTHER)
        for when in ("before", "after"):
            for number in range(len(names)):
                seen: list[str] = []

                def hook(name, seen=seen, number=number):
                    seen.append(name)
                    if len(seen) == number + 1:
                        raise Crash(name)

                with effects.hooked(**{f"on_{when}": hook}), pytest.raises(Crash):
                    await place.open(OTHER)
                made = (directory(place, OTHER) / "supervisord.conf").exists()
                assert (OTHER in place.stacks.known()) or not made
                await place.open(OTHER)
                assert place.stacks.known() == [KEY, OTHER]
                await place.stacks.remove(OTHER)

    async def test_only_what_says_its_own_name(self, place):
        scopes = place.home / "scopes"
        for name, said in {"stack-0": "default/other", "stack-1": "default", "runs": "default/web"}.items():
            (scopes / name).mkdir()
            records.write(str(scopes / name / "stack"), records.encode([("stack", said)], "\n"))
        (scopes / "stack-2").mkdir()
        (scopes / "stack-3").write_text("a file")
        torn = scopes / stack_scope("default", "torn")
        torn.mkdir()
        (torn / "stack").write_bytes(b"stack=default/torn\n")
        assert known_scopes(place.home) == [(KEY, stack_scope(*KEY))]
        assert known_scopes(place.home / "nowhere") == []

    async def test_what_an_interrupted_removal_left_is_deleted_later(self, place):
        trash = place.home / "scopes" / f".gone-{stack_scope(*OTHER)}-1"
        (trash / "units").mkdir(parents=True)
        await place.new().start_up()
        assert not trash.exists()


class TestLinks:
    def policy(self, place, **more):
        from mainstay.runtime.base import LogPolicy

        return LogPolicy(directory=str(place.home / "a/b"), **more)

    def links(self, place, path="a/b"):
        return {entry.name for entry in (place.home / path).iterdir()}

    async def test_each_log_has_one(self, place):
        await place.running("app", argv=("/bin/sh", "-c", "echo hello; echo oh >&2; sleep 1000"))
        place.runtime.keep_logs(self.policy(place))
        names = {"app.out.log", "app.err.log", "supervisord.log"}
        await eventually(lambda: (place.home / "a/b").is_dir() and self.links(place) == names)
        base = place.home / "a/b"
        await eventually(lambda: (base / "app.out.log").read_text() == "hello\n")
        await eventually(lambda: (base / "app.err.log").read_text() == "oh\n")
        assert (base / "supervisord.log").read_text()
        assert base.stat().st_mode & 0o777 == 0o755
        await place.running("second.one")
        await eventually(lambda: "second.one.out.log" in self.links(place))
        await place.runtime.stop("app", grace_seconds=5)
        await place.until("app", UnitState.EXITED)
        await place.runtime.remove("app", "uid-1")
        await eventually(lambda: "app.out.log" not in self.links(place))
        assert "second.one.out.log" in self.links(place)

    async def test_a_file_of_somebody_else_stays(self, place, caplog):
        base = place.home / "a/b"
        base.mkdir(parents=True)
        (base / "app.out.log").write_text("precious")
        os.symlink("/etc/hostname", base / "app.err.log")
        os.symlink("/etc/hostname", base / "other.err.log")
        old = place.home / "scopes/stack-of-old/units/x/log/stdout.log"
        os.symlink(old, base / "supervisord.log")
        await place.running("app")
        logs = place.runtime._logs
        for _ in range(3):
            logs.link(str(base))
        assert (base / "app.out.log").read_text() == "precious"
        assert os.readlink(base / "app.err.log") == os.readlink(base / "other.err.log") == "/etc/hostname"
        assert os.readlink(base / "supervisord.log") == place.runtime._dir.log
        said = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
        assert len(said) == 2
        assert all("none of ours" in message for message in said)

    async def test_another_directory_while_we_were_away(self, place):
        await place.running("app")
        place.runtime._logs.link(str(place.home / "one"))
        assert len(self.links(place, "one")) == 3
        await place.restart()
        place.runtime._logs.link(str(place.home / "two"))
        assert self.links(place, "one") == set()
        assert len(self.links(place, "two")) == 3
        place.runtime._logs.link(None)
        assert self.links(place, "two") == set()

    async def test_a_removed_stack_leaves_none(self, place):
        place.runtime._logs.link(str(place.home / "one"))
        await place.stacks.remove(KEY)
        assert self.links(place, "one") == set()
        await place.start()

    async def test_a_directory_that_cannot_be_made(self, place, caplog):
        for _ in range(2):
            place.runtime._logs.link("/proc/nowhere/logs")
        place.runtime._logs.link(place.runtime._dir.units)  # they would pass for units
        assert os.listdir(place.runtime._dir.units) == []
        assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 2

    async def test_sizes(self, place):
        await place.running("app")
        place.runtime.keep_logs(self.policy(place, max_bytes=100, backups=2))
        log = directory(place) / "units/app/log"
        for number in range(4):
            (log / "stdout.log").write_text(f"{number}" * 200)
            place.runtime._logs.once()
        kept = {path.name: path.read_text()[:1] for path in log.glob("stdout.log.*")}
        assert kept == {"stdout.log.1": "3", "stdout.log.2": "2"}
        place.runtime.keep_logs(self.policy(place, max_bytes=100, backups=1))
        (log / "stdout.log").write_text("4" * 200)
        place.runtime._logs.once()
        assert {path.name for path in log.glob("stdout.log.*")} == {"stdout.log.1"}


async def test_a_stack_whose_path_is_too_long(place):
    home = place.home / ("x" * 80)
    stacks = type(place.stacks)(home, home_id=place.home_id)
    with pytest.raises(RuntimeUnavailableError, match="shorter path"):
        await stacks.open(KEY)
    await stacks.close()
    shutil.rmtree(home)
