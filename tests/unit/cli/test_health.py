"""What commands say of an operator that does not work, and of definitions that are old."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.cli import cluster as talk
from mainstay.cli import health, machine, system
from mainstay.cli.app import app
from mainstay.cli.cluster import Target
from mainstay.cli.home import Home
from mainstay.cli.verifyparts import newer
from mainstay.shell.kube import RUNS

DEAD = "http://127.0.0.1:9"


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    with tempfile.TemporaryDirectory(prefix="ms-cli-") as directory:
        monkeypatch.setenv("MAINSTAY_HOME", directory)
        (Path(directory) / "home-id").write_text("test\n")
        yield Target(Home(Path(directory)))


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The parts of this machine, as a test has them."""
    seen = [{"name": "operator", "state": "Running", "pid": 1, "restarts": 0}]

    async def look(_: Target) -> list[dict[str, Any]]:
        return seen

    monkeypatch.setattr(machine, "parts_of", look)
    return seen


def trouble(target: Target) -> str:
    return asyncio.run(health.operator_trouble(target, 1))


@pytest.mark.usefixtures("parts")
def test_nobody_answers(target: Target):
    target.home.operator_url.write_text(DEAD)
    words = trouble(target)
    assert f"{DEAD} does not answer; `mainstay logs operator` says why" in words
    assert f"{target.home.root}/scopes/system/units/operator/log/stderr.log" in words


def test_it_is_paused(target: Target, parts: list[dict[str, Any]]):
    parts[0]["state"] = "Paused"
    assert trouble(target) == "operator: paused by a signal (SIGSTOP); `mainstay up` lets it go on"


def test_it_does_not_run(target: Target, parts: list[dict[str, Any]]):
    parts[0]["state"] = machine.NOT_RUNNING
    assert trouble(target) == "the operator does not run; `mainstay up` starts it"
    target.home.operator_ready.write_text(str(os.getpid()))
    assert trouble(target) == "", "one that `up` did not start works"


def test_nothing_is_said_of_another_cluster(target: Target, parts: list[dict[str, Any]]):
    parts[0]["state"] = "Paused"
    assert trouble(Target(target.home, kubeconfig="/x")) == ""
    assert trouble(Target(Home(target.home.root / "none"))) == ""


def test_a_process_that_was_stopped_by_a_signal_is_halted():
    program = subprocess.Popen(["sleep", "60"])
    try:
        assert not system.halted(program.pid)
        program.send_signal(signal.SIGSTOP)
        os.waitpid(program.pid, os.WUNTRACED)
        assert system.halted(program.pid)
    finally:
        program.kill()
        program.wait()
    assert not system.halted(program.pid)


@pytest.mark.usefixtures("target")
def test_a_verb_that_waits_in_vain_says_so(monkeypatch: pytest.MonkeyPatch, parts: list[dict[str, Any]]):
    parts[0]["state"] = "Paused"
    cluster = Cluster()
    cluster.add(RUNS, "bot", {"program": {"command": ["x"]}})
    monkeypatch.setattr(talk.Kube, "connect", cluster.connect)
    result = CliRunner().invoke(app, ["pause", "bot", "--timeout", "0"])
    assert result.exit_code == 1
    assert "`mainstay up` lets it go on" in result.output


@pytest.mark.usefixtures("target")
def test_status_says_what_to_do_with_a_paused_operator(
    monkeypatch: pytest.MonkeyPatch, parts: list[dict[str, Any]]
):
    monkeypatch.setattr(talk.Kube, "connect", Cluster().connect)
    assert "`mainstay up`" not in CliRunner().invoke(app, ["status"]).output
    parts[0]["state"] = "Paused"
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 1
    assert "operator: paused by a signal (SIGSTOP); `mainstay up` lets it go on." in result.output


def test_definitions_are_brought_up_to_date_by_up_or_against_its_field_manager(target: Target):
    assert "--server-side --force-conflicts -f -" in newer(target)
    (target.home.root / "etcd").mkdir()
    assert newer(target).startswith("`mainstay up`")
    assert "--force-conflicts" in newer(Target(target.home, context="other"))
