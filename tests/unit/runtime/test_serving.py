"""Probes, ports and HTTP pauses: only what belongs to the unit counts."""

from __future__ import annotations

import os
import socket
import sys
import textwrap

import pytest
from tests.contract.harness import TCP, eventually, free_port

from mainstay.api.program import Readiness
from mainstay.runtime.base import PauseCall, RuntimeUnavailableError, UnitState
from mainstay.runtime.process import ports

BOT = "default.bot"
PYTHON = os.path.realpath(sys.executable)
HTTP = Readiness.model_validate({"http": {"path": "/health"}})

SERVER = textwrap.dedent("""
    import http.server, os, sys
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(503 if os.path.exists("sick") else 200)
        def do_POST(self):
            with open("posts", "a") as file:
                file.write(self.path + "\\n")
            self.answer(500 if os.path.exists("sick") else 204)
        def answer(self, code):
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()
        def log_message(self, *args):
            pass
    port = int(os.environ["CONTROL_API_PORT"])
    if "--child" in sys.argv and os.fork():
        os.wait()
    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
""")


def server(*more: str) -> tuple[str, ...]:
    return (PYTHON, "-c", SERVER, *more)


async def ready(place, port, readiness=TCP):
    async def now():
        return (await place.runtime.probe(BOT, readiness, port)).ready

    await eventually(now)


async def test_http_probe(place):
    port = free_port()
    await place.running(argv=server(), port=port)
    await ready(place, port, HTTP)
    sick = place.unit_path(BOT) / "data/sick"
    sick.touch()
    answer = await place.runtime.probe(BOT, HTTP, port)
    assert not answer.ready
    assert "503" in answer.message


async def test_a_childs_listener_counts(place):
    port = free_port()
    await place.running(argv=server("--child"), port=port)
    await ready(place, port)
    assert await place.runtime.foreign_ports([port], BOT) == {}


async def test_a_strangers_listener_does_not_count(place):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        await place.running(port=port)
        answer = await place.runtime.probe(BOT, TCP, port)
        assert not answer.ready
        assert "outside this unit" in answer.message


@pytest.mark.parametrize(
    ("command", "ready_", "words"),
    [
        (["true"], True, ""),
        (["sh", "-c", "echo broken >&2; exit 3"], False, "exited with 3: broken"),
        (["sleep", "10"], False, "longer than 1 s"),
        (["no-such-probe-x"], False, "No such file"),
        (["sh", "-c", '[ "$API_KEY" = k ] && [ -z "$MAINSTAY_UNIT" ] && [ "$PWD" = "$DATA_DIR" ]'], True, ""),
    ],
)
async def test_exec_probe(place, command, ready_, words):
    await place.running(env={"API_KEY": "k"})
    answer = await place.runtime.probe(BOT, Readiness.model_validate({"exec": {"command": command}}), None)
    assert answer.ready is ready_, answer
    assert words in answer.message


async def test_pause_by_http(place):
    port = free_port()
    first = await place.running(argv=server(), port=port)
    await ready(place, port)
    data = place.unit_path(BOT) / "data"
    pause, resume = PauseCall("/pause", 2), PauseCall("/resume", 2)
    (data / "sick").touch()
    with pytest.raises(RuntimeUnavailableError, match="500"):
        await place.runtime.pause(BOT, pause)
    assert (await place.runtime.observe(BOT)).state is UnitState.RUNNING
    (data / "sick").unlink()
    for _ in range(2):
        await place.runtime.pause(BOT, pause)
        assert (await place.runtime.observe(BOT)).state is UnitState.PAUSED
    await place.kill_leader(BOT)
    held = await place.until(BOT, UnitState.HELD)
    assert held.leader != first.leader
    await place.runtime.resume(BOT, resume)
    await place.until(BOT, UnitState.RUNNING)
    await ready(place, port)
    await place.runtime.pause(BOT, pause)
    await place.runtime.resume(BOT, resume)
    assert (await place.runtime.observe(BOT)).state is UnitState.RUNNING
    posts = (data / "posts").read_text().split()
    assert posts == ["/pause", "/pause", "/pause", "/resume"]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"])
async def test_a_listener_on_any_address_is_foreign(place, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as stranger:
        port = stranger.getsockname()[1]
        found = await place.runtime.foreign_ports([port], BOT)
        assert found == {port: f"pid {os.getpid()} ({ports._command(os.getpid())})"}


async def test_a_shared_listener_is_foreign(place):
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        assert port in await place.runtime.foreign_ports([port], BOT)


async def test_bound_without_listening_is_foreign(place):
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        port = stranger.getsockname()[1]
        assert port in await place.runtime.foreign_ports([port], BOT)


async def test_time_wait_is_not_foreign(place):
    server_ = socket.create_server(("127.0.0.1", 0))
    port = server_.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    accepted, _ = server_.accept()
    accepted.close()  # the side that closes first keeps the port in TIME_WAIT
    client.close()
    server_.close()
    with socket.socket() as strict, pytest.raises(OSError, match="in use"):
        strict.bind(("127.0.0.1", port))
    assert await place.runtime.foreign_ports([port], BOT) == {}
