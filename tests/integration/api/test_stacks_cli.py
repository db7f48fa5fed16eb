"""The command line of stacks against a real API server, under our policies, and a real operator."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from tests.integration.api.client import Api
from tests.support.plane import RealPlane
from tests.support.stage import Stage, eventually, staged
from typer.testing import CliRunner

from mainstay.api.meta import API_VERSION
from mainstay.cli.app import app
from mainstay.shell.kube import RESTARTS, STACKS, path

NAME = "desk"
SERVER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(1000)
"""


class Counter:
    """A stack on a stage, and the command line of a user of it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        with ExitStack() as held:
            taken = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
            self.ports = [one.getsockname()[1] for one in taken]

    def __call__(self, *words: str, code: int = 0) -> str:
        """What the command printed, on both outputs, in one line for each run of white space."""
        where = ["--home", str(self.stage.home), "-n", self.stage.namespace]
        where += ["--kubeconfig", str(self.stage.plane.kubeconfig)]
        done = CliRunner().invoke(app, [words[0], *where, *words[1:]])
        assert "Traceback" not in done.output
        assert "\x1b" not in done.output
        assert done.exit_code == code, f"{words}: {done.exit_code}\n{done.output}\n{done.exception!r}"
        return " ".join(done.output.replace(f" -n {self.stage.namespace}", "").split())

    def url(self, plural: str = STACKS, name: str = "") -> str:
        return path(plural, self.stage.namespace, name)

    def service(self, name: str, port: int, **more: Any) -> dict[str, Any]:
        program = {
            "command": [sys.executable, "-S", "-c", SERVER, str(port)],
            "terminationGracePeriodSeconds": 2,
        }
        return {"name": name, "kind": "Http", "port": port, "program": program, **more}

    def open(self) -> None:
        first, second = self.ports
        services = [self.service("web", first), self.service("poller", second, dependsOn=["web"])]
        self.stage.client.ok(
            "POST",
            self.url(),
            {
                "apiVersion": API_VERSION,
                "kind": "ServiceStack",
                "metadata": {"name": NAME, "namespace": self.stage.namespace},
                "spec": {"owner": {"userId": "u-7"}, "services": services, "timeouts": {"startSeconds": 20}},
            },
        )
        eventually(lambda: self.stack()["status"].get("ready") == "2/2", "both are up")

    def stack(self) -> dict[str, Any]:
        return {"status": {}, **(self.stage.client.get(self.url(STACKS, NAME)) or {})}

    def restarts(self) -> list[dict[str, Any]]:
        return list(self.stage.client.ok("GET", self.url(RESTARTS))["items"])

    def close(self) -> None:
        self.stage.client.ask("DELETE", self.url(STACKS, NAME))
        for one in self.restarts():
            self.stage.client.ask("DELETE", self.url(RESTARTS, one["metadata"]["name"]))
        eventually(lambda: self.stage.client.get(self.url(STACKS, NAME)) is None, "the stack is gone")

    @contextmanager
    def stranger(self, port: int) -> Iterator[subprocess.Popen[bytes]]:
        """Somebody else's process on a port."""
        with subprocess.Popen([sys.executable, "-S", "-c", SERVER, str(port)]) as one:
            try:
                eventually(lambda: _listens(port), "the stranger listens")
                yield one
            finally:
                one.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def stage(plane: RealPlane, api: Api) -> Iterator[Stage]:  # noqa: ARG001 - its policies are in force here too
    with staged(plane) as one:
        yield one


@pytest.fixture
def cli(stage: Stage) -> Iterator[Counter]:
    counter = Counter(stage)
    counter.open()
    yield counter
    counter.close()


def test_a_restart_from_its_beginning_to_its_end(cli: Counter) -> None:
    told = cli("restart", NAME, "-v")
    assert "✓ StopServices" in told
    assert "✓ Verify" in told
    assert "✓ web up" in told
    assert "✓ poller up" in told
    (made,) = cli.restarts()
    name = made["metadata"]["name"]
    assert told.split(" completed in ")[0].endswith(f"stackrestart/{name}")
    assert made["spec"]["owner"] == {"userId": "u-7"}
    told = cli("status", f"srestart/{name}")
    assert f"srestart/{name} Completed took" in told
    assert "Full restart of stack/desk" in told
    assert "owner u-7" in told
    told = cli("status", NAME)
    assert "stack/desk Running 2/2 up supervisor pid" in told
    assert name in told
    assert "next:" not in told
    assert json.loads(cli("status", f"stack/{NAME}", "-o", "json"))["kind"] == "ServiceStack"


def test_the_older_words(cli: Counter) -> None:
    for word, mode in (("master", "Full"), ("quick", "Quick"), ("force", "Emergency"), ("flush", "Flush")):
        assert "completed in" in cli(word)
        assert sum(one["spec"]["mode"] == mode for one in cli.restarts()) == 1


def test_two_in_one_second(cli: Counter) -> None:
    for _ in range(3):
        cli("flush", "--no-wait")
    names = {one["metadata"]["name"] for one in cli.restarts()}
    assert len(names) == 3


def test_one_service(cli: Counter) -> None:
    before = {one["name"]: one for one in cli.stack()["status"]["services"]}
    assert "poller of stack/desk is Running" in cli("restart", f"stack/{NAME}/poller")
    after = {one["name"]: one for one in cli.stack()["status"]["services"]}
    assert before["web"]["process"] == after["web"]["process"]
    assert before["poller"]["process"] != after["poller"]["process"]


def test_stop_and_start(cli: Counter) -> None:
    assert "servicestack/desk is Stopped" in cli("stop", NAME)
    assert not any(map(_listens, cli.ports))
    assert "stack/desk is stopped, there is nothing to restart" in cli("restart", NAME, code=1)
    assert "servicestack/desk is Running, 2/2 up" in cli("start", f"stack/{NAME}")
    assert all(map(_listens, cli.ports))


def test_a_stranger_is_named_and_ended(cli: Counter) -> None:
    cli("stop", NAME)
    with cli.stranger(cli.ports[0]) as stranger:
        told = cli("start", NAME, code=1)
        assert f"port {cli.ports[0]} is held by pid {stranger.pid}" in told
        told = cli("status", NAME)
        assert f"web Pending: PortForeign: port {cli.ports[0]} is held by pid {stranger.pid}" in told
        assert "poller Pending: DependencyNotReady" in told
        assert "mainstay flush desk ends the strangers" in told
        told = cli("quick", code=1)
        assert "Quick restart of stack/desk failed at step CheckPorts" in told
        assert "completed" in cli("flush")
        assert stranger.wait(5) != 0
    assert "is Running, 2/2 up" in cli("start", NAME)
