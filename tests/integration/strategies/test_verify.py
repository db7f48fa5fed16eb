"""`mainstay verify` on a real operator with real programs: it is right, and it leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.strategies.shop import Shop
from tests.support.stage import Object, Stage, eventually, listener, ready

from mainstay.api.meta import API_VERSION
from mainstay.cli.verification import LABEL
from mainstay.shell.kube import LEASES, POOLS, RUNS, STRATEGIES, path

NAME = "mainstay-verify-"
CHECKS = 16


@pytest.fixture
def stage(shop: Shop) -> Stage:
    return shop.stage


_begun: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _no_verification_outlives_its_test() -> Iterator[None]:
    yield
    while _begun:
        work = _begun.pop()
        if work.returncode is None:
            work.kill()
            work.communicate()


def begun(stage: Stage, *options: str) -> subprocess.Popen[str]:
    """A verification of its own, whose operator is not a part of this machine's Mainstay as far as it knows."""
    command = [sys.executable, "-m", "mainstay.cli.main", "verify", "-o", "json", "-n", stage.namespace]
    command += ["--kubeconfig", str(stage.plane.kubeconfig), "--pool", "stage", *options]
    environment = {**os.environ, "MAINSTAY_HOME": str(stage.home / "none")}
    work = subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    _begun.append(work)
    return work


def ended(work: subprocess.Popen[str]) -> tuple[int, Any]:
    """Exit code, and what it says."""
    told, errors = work.communicate(timeout=120)
    assert "Traceback" not in errors
    return work.returncode, json.loads(told)


def left(stage: Stage) -> list[str]:
    """What there is of any verification."""
    found = [i["metadata"]["name"] for plural in (RUNS, STRATEGIES) for i in stage.client.items(plural)]
    held = [i["spec"]["holder"]["name"] for i in stage.client.items(LEASES)]
    files = [file for file in stage.files() if NAME in file]
    return [name for name in (*found, *held) if name.startswith(NAME)] + files


RUNNING = ready("Running")


def run_of(stage: Stage, is_so: Any = RUNNING) -> Object:
    """The run of the verification that goes on, once it is so."""

    def look() -> Object | None:
        runs = [run for run in stage.client.items(RUNS) if LABEL in (run["metadata"].get("labels") or {})]
        return next((run for run in runs if is_so(run)), None)

    return eventually(look, "the run of a verification")


def test_all_is_well(stage: Stage):
    code, told = ended(begun(stage))
    bad = [check for check in told["checks"] if check["outcome"] != "passed"]
    assert [check["check"] for check in bad] == ["the parts of this machine run", "the operator is ready"], (
        told
    )
    assert (code, told["ok"], len(told["checks"])) == (0, True, CHECKS)
    assert left(stage) == []


def test_two_at_once_leave_each_other_alone(stage: Stage):
    both = [begun(stage), begun(stage)]
    for work in both:
        code, told = ended(work)
        assert code == 0, told
    assert left(stage) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["Ready", "edited"])
def test_interrupted_it_takes_everything_away(stage: Stage, number: signal.Signals, moment: str):
    work = begun(stage)
    run_of(stage, RUNNING if moment == "Ready" else lambda run: (run.get("status") or {}).get("attempt") == 2)
    work.send_signal(number)
    code, told = ended(work)
    assert (code, told["interrupted"], told["ok"], told["left"]) == (130, True, False, [])
    assert told["checks"][-1]["check"] == "everything of it is gone"
    assert left(stage) == []


def test_interrupted_before_it_has_made_anything(stage: Stage):
    work = begun(stage)
    eventually(lambda: signal.SIGTERM in caught(work.pid), "a handler of SIGTERM")
    work.send_signal(signal.SIGINT)
    work.communicate(timeout=60)
    assert work.returncode == 130
    assert left(stage) == []


def caught(pid: int) -> list[int]:
    """Signals that a process has handlers for."""
    with open(f"/proc/{pid}/status") as file:
        mask = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt"))
    return [number for number in range(1, 32) if mask >> (number - 1) & 1]


def test_what_a_killed_one_left_is_removed_by_the_next(stage: Stage):
    work = begun(stage)
    run = run_of(stage)
    work.kill()
    work.communicate()
    assert left(stage) != []
    code, told = ended(begun(stage))
    assert code == 0, told
    found = next(check for check in told["checks"] if check["check"].startswith("nothing of an earlier"))
    assert run["metadata"]["name"] in found["message"]
    assert left(stage) == []


def test_no_port_is_free(stage: Stage):
    body = {"apiVersion": API_VERSION, "kind": "PortPool", "metadata": {"name": "tiny"},
            "spec": {"ranges": [{"first": stage.ports.start + 1000 * 5, "last": stage.ports.start + 1000 * 5}]}}  # fmt: skip
    stage.client.ok("POST", path(POOLS), body)
    spec = listener(stage.judge)
    spec["controlApi"] = {"pool": "tiny"}
    stage.create("holder", spec)
    stage.until("holder", RUNNING)
    code, told = ended(begun(stage, "--pool", "tiny"))
    failed = next(check for check in told["checks"] if check["outcome"] == "failed")
    assert code == 1
    assert failed["check"].startswith("a run of it is Ready")
    assert "kubectl get pl" in failed["message"]
    assert left(stage) == []
    stage.delete("holder")
    stage.until_gone("holder")
    stage.client.ok("DELETE", path(POOLS, name="tiny"))


def test_nobody_operates(stage: Stage):
    stage.crash()
    try:
        code, told = ended(begun(stage, "--timeout", "3"))
        failed = next(check for check in told["checks"] if check["outcome"] == "failed")
        assert code == 1
        assert "no operator has looked at it" in failed["message"]
        assert told["left"] == []
    finally:
        stage.restart()
    assert left(stage) == []


def test_a_user_in_the_way(stage: Stage):
    """Somebody stops the run in the middle: a failed check, and everything is gone all the same."""
    work = begun(stage, "--timeout", "6")
    run = run_of(stage)
    stage.patch(run["metadata"]["name"], state="Stopped")
    code, told = ended(work)
    assert code == 1, told
    assert told["left"] == []
    assert left(stage) == []
