"""Who listens on the ports of a stack, and whom a flush ends: real sockets, shared, hidden and disguised."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.contract.harness import eventually, free_port
from tests.contract.stack_harness import LISTENER, ProcessStackHarness

from mainstay.api.program import RestartPolicy, RestartPolicyType
from mainstay.runtime import effects
from mainstay.runtime.base import UnitSpec, UnitState
from mainstay.runtime.process import ProcessRuntime, ports, proc
from mainstay.runtime.process import holders as module

KEY, OTHER = ("default", "web"), ("default", "worker")
PYTHON = os.path.realpath(sys.executable)
DAEMON = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        if len(sys.argv) > 2:  # nothing tells any more whose it is, but who its ancestors are
            server.set_inheritable(True)
            code = "import os, signal; os.closerange(0, 3); signal.pause()"
            if sys.argv[2] == "closed":  # nor its unit's lock
                kept = server.fileno()
                code = f"import os, signal; os.closerange(0, {kept}); os.closerange({kept + 1}, 999); signal.pause()"
            os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", code], {})
    else:
        os._exit(0)
else:
    server.close()
import signal
while True:
    signal.pause()
"""

OPERATOR = """
import asyncio, pathlib, sys
from mainstay.runtime.process import ProcessStacks
async def main(home, home_id):
    stacks = ProcessStacks(pathlib.Path(home), home_id=home_id)
    await stacks.open(("default", "worker"))
    await stacks.close()
asyncio.run(main(*sys.argv[1:]))
"""
NEVER = RestartPolicy(policy=RestartPolicyType.NEVER)


@pytest.fixture
async def place() -> AsyncIterator[ProcessStackHarness]:
    harness = ProcessStackHarness()
    try:
        await harness.start()
        yield harness
    finally:
        await harness.close()


@pytest.fixture
async def bots(place) -> AsyncIterator[ProcessRuntime]:
    """The scope of runs in the same home."""
    runtime = ProcessRuntime(place.home, "runs", home_id=place.home_id)
    await runtime.start_up()
    try:
        yield runtime
    finally:
        for name in await runtime.names():
            await runtime.stop(name, grace_seconds=0, force=True)
        await runtime.shut_down_scope(True)
        await runtime.close()


async def listening(port, *, amount=1):
    await eventually(lambda: len(ports.listeners(frozenset({port}))) >= amount)


def bot(port, code=LISTENER, *more, name="default.bot"):
    args = ("127.0.0.1", str(port)) if code is LISTENER else (str(port), *more)
    return UnitSpec(name, "uid-1", 1, (PYTHON, "-I", "-S", "-c", code, *args))


async def leader_of(runtime, name):
    async def leader():
        return (await runtime.observe(name)).leader

    return await eventually(leader)


@contextlib.asynccontextmanager
async def left_behind(runtime, port):
    """A daemon without any mark, whose leader has ended: its scope's supervisord has adopted it."""
    await runtime.start(replace(bot(port, DAEMON, "closed"), restart=NEVER))
    await listening(port)
    leader = await leader_of(runtime, "default.bot")
    await eventually(lambda: adopted(port, leader))
    proc.send(leader, signal.SIGKILL)
    await eventually(lambda: adopted(port, runtime._scope.process))
    inodes = {one.inode for one in ports.listeners(frozenset({port}))}
    ((daemon,),) = module._openers(inodes).values()
    try:
        yield
    finally:
        proc.send(daemon, signal.SIGKILL)


def adopted(port, leader):
    """Whether the daemon alone has the socket, and was handed to its leader."""
    inodes = {one.inode for one in ports.listeners(frozenset({port}))}
    who = {one for found in module._openers(inodes).values() for one in found}
    return len(who) == 1 and (seen := proc.look(*who)) is not None and seen.parent == leader.pid


def served_once(*, reuse=False):
    """A port on which nobody listens any more, and whose one connection the kernel still keeps."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()) as client:
            server.accept()[0].close()
            client.recv(1)
        return server.getsockname()[1]


async def dead(*strangers):
    await eventually(lambda: not any(one.lives() for one in strangers))


class TestWho:
    async def test_a_forked_listener_shares_its_socket(self, place):
        port = free_port()
        stranger = await place.occupy(port, "fork")
        found = await place.runtime.holders([port])
        assert {one.process.pid for one in found} == stranger.pids
        assert len(stranger.pids) == 2
        await place.runtime.end_holders([port])
        await eventually(lambda: not ports.listeners(frozenset({port})))
        await dead(stranger)

    async def test_twins_by_reuseport_and_another_address(self, place):
        port = free_port()
        strangers = [await place.occupy(port, "reuseport") for _ in range(2)]
        strangers.append(await place.occupy(port, address="::1"))
        found = await place.runtime.holders([port])
        assert {one.process.pid for one in found} == {one.pid for one in strangers}
        assert all(one.endable for one in found)
        await place.runtime.end_holders([port])
        await dead(*strangers)
        assert await place.runtime.holders([port]) == []

    async def test_many_ports_at_once(self, place):
        asked = [free_port() for _ in range(3)]
        strangers = [await place.occupy(port) for port in asked]
        found = await place.runtime.holders(asked)
        assert {one.port: one.process.pid for one in found} == {
            port: one.pid for port, one in zip(asked, strangers, strict=True)
        }
        await place.runtime.end_holders(asked[:1])
        await dead(strangers[0])
        assert all(one.lives() for one in strangers[1:])

    async def test_bound_without_listening(self, place):
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
            (holder,) = await place.runtime.holders([port, free_port()])
            assert (holder.port, holder.process) == (port, None)
            assert holder.words == "a socket that is bound but does not listen"
            assert not holder.endable
            await place.runtime.end_holders([port], force=True)

    async def test_closed_connections_that_the_kernel_keeps(self, place):
        """Of a server that listened without SO_REUSEADDR, and closed first."""
        port, other = served_once(), free_port()
        (holder,) = await place.runtime.holders([port, other])
        assert (holder.port, holder.process, holder.passing) == (port, None, True)
        assert holder.words == "closed connections, which the kernel keeps for up to a minute (TIME_WAIT)"
        assert holder.stranger
        assert not holder.endable
        await place.runtime.end_holders([port], force=True)

    async def test_closed_connections_that_are_in_nobodys_way(self, place):
        port = served_once(reuse=True)
        assert ports.closed([port]) == {port}
        assert await place.runtime.holders([port]) == []

    async def test_who_listens_hides_closed_connections(self, place):
        port = served_once(reuse=True)
        stranger = await place.occupy(port)
        (holder,) = await place.runtime.holders([port])
        assert (holder.process.pid, holder.passing) == (stranger.pid, False)

    async def test_a_program_that_is_about_to_listen_is_not_disturbed(self, place, monkeypatch):
        port = free_port()
        await place.running("app", port=port)
        monkeypatch.setattr(ports, "bindable", lambda *_, **__: pytest.fail("tried"))
        assert await place.runtime.holders([port]) == []

    async def test_a_socket_whose_process_cannot_be_seen(self, place, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            monkeypatch.setattr(ports, "sockets_of", lambda _: set())
            (holder,) = await place.runtime.holders([port])
            assert (holder.words, holder.process) == (f"uid {os.getuid()}, pid unknown", None)
            assert not holder.endable
            await place.runtime.end_holders([port], force=True)


class TestOwn:
    async def test_a_child_of_a_service_is_the_service(self, place):
        port = free_port()
        argv = ("/bin/sh", "-c", f"{PYTHON} -I -S -c '{LISTENER}' 127.0.0.1 {port}; true")
        await place.running("app", argv=argv, port=port)
        await listening(port)
        (holder,) = await place.runtime.holders([port])
        assert holder.unit == "app"

    @pytest.mark.parametrize("erased", [False, True])
    async def test_a_daemon_of_a_service_is_the_service(self, place, erased):
        port = free_port()
        more = ("erased",) if erased else ()
        await place.running("app", argv=bot(port, DAEMON, *more).argv, port=port)
        await listening(port)
        leader = await leader_of(place.runtime, "app")
        await eventually(lambda: adopted(port, leader))
        (holder,) = await place.runtime.holders([port])
        assert holder.unit == "app"
        assert holder.process != leader
        await place.runtime.end_holders([port], force=True)
        assert proc.look(holder.process) is not None

    async def test_a_service_on_the_port_of_another(self, place):
        port = free_port()
        await place.serving("app", port)
        (holder,) = await place.runtime.holders([port])
        assert (holder.unit, holder.protected) == ("app", "")

    async def test_what_was_proven_is_looked_at_again(self, place):
        port = free_port()
        argv = ("/bin/sh", "-c", f"{PYTHON} -I -S -c '{LISTENER}' 127.0.0.1 {port}; true")
        await place.running("app", argv=argv, port=port)
        await listening(port)
        (before,) = await place.runtime.holders([port])
        calls = []
        scans = place.runtime._scans
        fresh = scans.fresh

        async def counted(age=0.0):
            calls.append(age)
            return await fresh(age)

        scans.fresh = counted
        assert await place.runtime.holders([port]) == [before]
        assert calls == []
        proc.send(before.process, signal.SIGKILL)
        await eventually(lambda: not ports.listeners(frozenset({port})))
        await place.runtime.stop("app", grace_seconds=0, force=True)
        stranger = await place.occupy(port)
        (after,) = await place.runtime.holders([port])
        assert (after.process.pid, after.unit) == (stranger.pid, "")


class TestProtected:
    async def refused(self, place, port):
        """Told as protected, and not ended."""
        (holder,) = await place.runtime.holders([port])
        assert not holder.unit
        assert not holder.endable
        names: list[str] = []
        with effects.hooked(names.append):
            await place.runtime.end_holders([port])
            await place.runtime.end_holders([port], force=True)
        assert names == []
        assert proc.look(holder.process) is not None
        return holder.protected

    async def test_ourselves(self, place):
        with socket.create_server(("127.0.0.1", 0)) as server:
            words = await self.refused(place, server.getsockname()[1])
            assert words == "it is Mainstay itself, or what started it"

    async def test_a_bot(self, place, bots):
        port = free_port()
        await bots.start(bot(port))
        await listening(port)
        assert await self.refused(place, port) == "it is the process of run default.bot"

    async def test_a_bot_that_erased_its_marks(self, place, bots):
        port = free_port()
        spec = bot(port)
        await bots.start(UnitSpec("default.bot", "uid-1", 1, ("/usr/bin/env", "-i", *spec.argv)))
        await listening(port)
        assert await self.refused(place, port) == "it is the process of run default.bot"

    async def test_a_daemon_of_a_bot_that_erased_its_marks(self, place, bots):
        """Of which nothing tells but who adopted it."""
        port = free_port()
        await bots.start(bot(port, DAEMON, "erased"))
        await listening(port)

        leader = await leader_of(bots, "default.bot")
        await eventually(lambda: adopted(port, leader))
        words = await self.refused(place, port)
        assert words == "it descends from the process of run default.bot"

    async def test_a_service_of_another_stack(self, place):
        port = free_port()
        other = await place.open(OTHER)
        await other.start(bot(port, name="app"))
        await listening(port)
        words = await self.refused(place, port)
        assert words == "it is the process of service app of stack default/worker"

    async def test_a_service_of_another_stack_whose_record_was_lost(self, place):
        port = free_port()
        other = await place.open(OTHER)
        await other.start(bot(port, name="app"))
        await listening(port)
        os.unlink(f"{other._dir.path}/stack")
        assert await self.refused(place, port) == "it is the process of service app of a stack"
        await place.open(OTHER)  # has it written again

    async def test_what_another_stack_left(self, place):
        port = free_port()
        other = await place.open(OTHER)
        async with left_behind(other, port):
            words = await self.refused(place, port)
        assert words == "it descends from the supervisor of stack default/worker"

    async def test_what_a_bot_left(self, place, bots):
        port = free_port()
        async with left_behind(bots, port):
            assert await self.refused(place, port) == "it descends from the supervisor of runs"

    async def test_a_bot_of_another_home(self, place):
        there = ProcessStackHarness()
        try:
            await there.start()
            port = free_port()
            env = {"STACK_NAME": "backend", "SERVICE_NAME": "db_poller"}
            spec = replace(bot(port, name="db_poller"), env=env)
            await there.runtime.start(spec)
            await listening(port)
            words = "it is the process of service db_poller of stack backend, of another home of Mainstay"
            assert await self.refused(place, port) == words
            await there.runtime.start(bot(other := free_port(), name="app"))
            await listening(other)
            words = "it is the process of service app of a stack, of another home of Mainstay"
            assert await self.refused(place, other) == words
        finally:
            await there.close()

    async def test_who_carries_the_mark_of_a_supervisor(self, place):
        port = free_port()
        env = {"MAINSTAY_SCOPE": f"{place.home_id}/runs"}
        argv = bot(port).argv
        with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL) as process:
            try:
                await listening(port)
                assert await self.refused(place, port) == "it is part of Mainstay"
            finally:
                process.kill()


class TestUnderTheSystem:
    """As in a Mainstay that is up: the operator is a unit of the system, so its supervisord is above all others."""

    @pytest.fixture
    async def system(self, place) -> AsyncIterator[ProcessRuntime]:
        runtime = ProcessRuntime(place.home, "system", home_id=place.home_id)
        await runtime.start_up()
        try:
            yield runtime
        finally:
            for name in await runtime.names():
                await runtime.stop(name, grace_seconds=0, force=True)
            await runtime.shut_down_scope(True)
            await runtime.close()

    async def test_what_a_service_left_to_it_is_a_stranger(self, place, system):
        argv = (sys.executable, "-c", OPERATOR, str(place.home), place.home_id)
        await system.start(UnitSpec("operator", "uid-1", 1, argv, restart=NEVER))

        async def ended():
            return (await system.observe("operator")).state is UnitState.EXITED

        await eventually(ended)
        scope = await place.open(OTHER)
        old = await scope.supervisor()
        assert proc.look(old).parent == system._scope.process.pid
        port = free_port()
        await scope.start(replace(bot(port, DAEMON, "closed", name="app"), restart=NEVER))
        await listening(port)
        leader = await leader_of(scope, "app")
        await eventually(lambda: adopted(port, leader))
        (daemon,) = [one.process for one in await scope.holders([port])]
        proc.send(old, signal.SIGKILL)
        await eventually(lambda: proc.look(old) is None)
        proc.send(leader, signal.SIGKILL)
        await eventually(lambda: proc.look(daemon).parent == system._scope.process.pid)
        (holder,) = await scope.holders([port])
        assert (holder.process, holder.unit, holder.protected) == (daemon, "", "")
        await scope.end_holders([port])
        await eventually(lambda: proc.look(daemon) is None)

    async def test_its_own_programs_are_none(self, place, system):
        first, second = free_port(), free_port()
        await system.start(bot(first, name="etcd"))
        await system.start(bot(second, DAEMON, "erased", name="operator"))
        await listening(first)
        await listening(second)
        leader = await leader_of(system, "operator")
        await eventually(lambda: adopted(second, leader))
        refused = TestProtected().refused
        assert await refused(place, first) == "it is the process of etcd of Mainstay itself"
        assert await refused(place, second) == "it descends from the process of operator of Mainstay itself"


class TestFlush:
    async def test_a_client_is_not_touched(self, place):
        port = free_port()
        stranger = await place.occupy(port)
        code = (
            "import socket, sys; one = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); "
            "print(1, flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [PYTHON, "-I", "-S", "-c", code, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as client:
            await asyncio.to_thread(client.stdout.readline)
            assert [one.process.pid for one in await place.runtime.holders([port])] == [stranger.pid]
            await place.runtime.end_holders([port], force=True)
            await dead(stranger)
            assert client.poll() is None
            client.stdin.close()
            assert client.wait() == 0

    async def test_one_that_ends_on_kill_only(self, place):
        port = free_port()
        stranger = await place.occupy(port, "stubborn")
        names: list[str] = []
        with effects.hooked(names.append):
            await place.runtime.end_holders([port])
            assert stranger.lives()
            await place.runtime.end_holders([port], force=True)
        await dead(stranger)
        assert names == [f"flush TERM port {port}", f"flush KILL port {port}"]

    async def test_a_stopped_one_gets_a_cont(self, place):
        port = free_port()
        stranger = await place.occupy(port)
        os.kill(stranger.pid, signal.SIGSTOP)
        await eventually(lambda: proc.stat(stranger.pid).stopped)
        await place.runtime.end_holders([port])
        await dead(stranger)

    async def test_one_signal_for_two_ports(self, place):
        first, second = free_port(), free_port()
        code = (
            "import signal, socket, sys; kept = [socket.create_server(('127.0.0.1', int(p))) for p in sys.argv[1:]];"
            "print(1, flush=True); signal.pause()"
        )
        argv = [PYTHON, "-I", "-S", "-c", code, str(first), str(second)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            await asyncio.to_thread(process.stdout.readline)
            assert len(await place.runtime.holders([first, second])) == 2
            names: list[str] = []
            with effects.hooked(names.append):
                await place.runtime.end_holders([second, first])
            assert names == [f"flush TERM port {min(first, second)}"]
            assert process.wait() == -signal.SIGTERM

    async def test_who_has_closed_it_since_is_spared(self, place, monkeypatch):
        """Between the look that holds it and the one before the signal."""
        port = free_port()
        code = (
            "import signal, socket, sys; server = socket.create_server(('127.0.0.1', int(sys.argv[1])));"
            "print(1, flush=True); sys.stdin.readline(); server.close(); print(2, flush=True); signal.pause()"
        )
        with subprocess.Popen(
            [PYTHON, "-I", "-S", "-c", code, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()
            open_pidfd = proc.open_pidfd

            def opened(one):
                process.stdin.write(b"\n")
                process.stdin.flush()
                process.stdout.readline()
                return open_pidfd(one)

            monkeypatch.setattr(proc, "open_pidfd", opened)
            await place.runtime.end_holders([port], force=True)
            assert process.poll() is None
            process.kill()

    async def test_a_reused_pid_is_spared(self, place, monkeypatch):
        """What was seen first ended, and its pid is another's: the identity differs, so nothing is held."""
        port = free_port()
        stranger = await place.occupy(port)
        identify = proc.identify
        monkeypatch.setattr(
            proc,
            "identify",
            lambda pid: (
                (found := identify(pid)) and type(found)(found.pid, found.start_ticks - 1, found.boot_id)
            ),
        )
        await place.runtime.end_holders([port], force=True)
        assert stranger.lives()

    async def test_one_that_may_not_be_signalled_is_left(self, place, monkeypatch):
        port = free_port()
        stranger = await place.occupy(port)

        def refused(*_):
            raise PermissionError

        monkeypatch.setattr(signal, "pidfd_send_signal", refused)
        await place.runtime.end_holders([port], force=True)
        monkeypatch.undo()
        assert stranger.lives()
        assert len(await place.runtime.holders([port])) == 1

    async def test_no_descriptor_is_left(self, place):
        port = free_port()
        await place.occupy(port, "stubborn", "fork")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            await place.runtime.end_holders([port])
        assert len(os.listdir("/proc/self/fd")) == before


async def test_what_a_look_costs(place, capsys):
    """Eight services, nothing moves: no look at all processes."""
    asked = [free_port() for _ in range(8)]
    for number, port in enumerate(asked):
        await place.running(f"app-{number}", "server", port=port)
    for port in asked:
        await listening(port)
    fresh = module.Holders._judge
    assert {one.unit for one in await place.runtime.holders(asked)} == {f"app-{n}" for n in range(8)}
    took = []
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, module.Holders, "_judge", fresh)
        module.Holders._judge = lambda *_: pytest.fail("a look at all processes")
        for _ in range(50):
            began = time.perf_counter()
            assert len(await place.runtime.holders(asked)) == 8
            took.append(time.perf_counter() - began)
    took.sort()
    with capsys.disabled():
        print(f"\nholders of 8 ports, idle: {took[25] * 1000:.2f} ms")
    assert took[25] < 0.05
