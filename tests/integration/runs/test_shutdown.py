"""The real operator is told to end in the middle of a burst: what it leaves is whole, and the next one goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.plane import RealPlane
from tests.support.stage import Object, Stage, eventually, listener, marked, ready, staged

from mainstay.api.phasedjob import PhasedJob
from mainstay.api.strategyrun import RunPhase, StrategyRun
from mainstay.controlplane.plane import KUBE_APISERVER
from mainstay.shell.kube import JOBS, LEASES, RUNS, path
from mainstay.shell.operator import SHUTDOWN_SECONDS

pytestmark = [pytest.mark.xdist_group("shutdown"), pytest.mark.timeout(240)]

RUNS_AT_ONCE, JOBS_AT_ONCE = 34, 20
PATIENCE = 60.0
NO_CLAIM = (None, RunPhase.PENDING, RunPhase.STOPPED, RunPhase.FAILED)


class Process:
    """An operator in a process of its own."""

    def __init__(self, stage: Stage, log: Path) -> None:
        self._stage = stage
        self._log = log
        command = [sys.executable, "-m", "mainstay.cli.main", "operator", "--health", "127.0.0.1:0"]
        command += ["--home", str(stage.home), "--kubeconfig", str(stage.plane.kubeconfig)]
        with log.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    @property
    def said(self) -> str:
        return self._log.read_text()

    def works(self) -> None:
        file = self._stage.home / "operator.ready"
        eventually(lambda: file.exists() and file.read_text().strip() == str(self.process.pid), self.said)

    def get(self, name: str) -> str:
        url = (self._stage.home / "operator.url").read_text().strip()
        with urllib.request.urlopen(url + name, timeout=10) as answer:
            return answer.read().decode()

    def metric(self, series: str) -> float:
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.get("/metrics"), re.MULTILINE)
        assert found, series
        return float(found[1])

    def term(self) -> int:
        """Tell it to end; its code. It has no more time than its limit."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SHUTDOWN_SECONDS)


@contextmanager
def operating(stage: Stage, name: str) -> Iterator[Process]:
    one = Process(stage, stage.home / f"{name}.log")
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def stage(plane: RealPlane) -> Iterator[Stage]:
    """A stage without the operator of this process."""
    with staged(plane, ports=RUNS_AT_ONCE) as one:
        one.crash()
        yield one


@contextmanager
def stopped(plane: RealPlane) -> Iterator[None]:
    """An API server that takes connections and answers nothing."""
    pid = plane.pid(KUBE_APISERVER)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        plane.wait_ready()


def a_job(stage: Stage, number: int) -> Object:
    """Six tasks in two phases, each of which says that it ran."""
    say = f'echo "j{number} $0" >> {stage.judge}/ran; sleep 0.1'
    phases = [
        {
            "name": f"p{p}",
            "tasks": [
                {"name": f"t{p}{t}", "program": {"command": ["/bin/sh", "-c", say, f"t{p}{t}"]}}
                for t in range(3)
            ],
        }
        for p in range(2)
    ]
    return {
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "PhasedJob",
        "metadata": {"name": f"j{number}", "namespace": stage.namespace},
        "spec": {"steps": [{"name": "only", "phases": phases}]},
    }


def burst(stage: Stage) -> None:
    for number in range(RUNS_AT_ONCE):
        stage.create(f"r{number}", listener(stage.judge))
        if number < JOBS_AT_ONCE:
            stage.client.ok("POST", path(JOBS, stage.namespace), a_job(stage, number))


def whole(stage: Stage) -> None:
    """Every status can be read, and nothing was done that it does not claim."""
    runs = [StrategyRun.model_validate(obj) for obj in stage.client.items(RUNS)]
    claims = {r.metadata.uid: r.status.port for r in runs if r.status.phase not in NO_CLAIM}
    for run in runs:
        if run.metadata.uid in claims:
            assert run.status.port in stage.ports, run.metadata.name
            assert run.status.attempt == 1
    leases = {lease["spec"]["holder"]["uid"]: lease["spec"]["port"] for lease in stage.client.items(LEASES)}
    assert leases.items() <= claims.items(), "a lease that no status claims"
    for _, _, uid, port in marked(stage.home_id):
        assert not port or leases.get(uid) == port, "a process without its lease"
    for obj in stage.client.items(JOBS):
        PhasedJob.model_validate(obj)


def goes_on(stage: Stage) -> None:
    """Everything comes to its end, once."""
    for number in range(RUNS_AT_ONCE):
        stage.until(f"r{number}", ready("Running"), PATIENCE)

    def left() -> list[str]:
        jobs = stage.client.items(JOBS)
        return [j["metadata"]["name"] for j in jobs if (j.get("status") or {}).get("phase") != "Completed"]

    eventually(lambda: not left(), "jobs that are not completed", PATIENCE)
    ran = Counter((stage.judge / "ran").read_text().splitlines())
    assert len(ran) == JOBS_AT_ONCE * 6
    assert set(ran.values()) == {1}, "a task was executed twice"
    assert stage.violations() == []


@pytest.mark.parametrize("seconds", [0.0, 0.4, 1.2])
def test_a_term_in_a_burst(stage: Stage, seconds: float):
    with operating(stage, "first") as first:
        first.works()
        assert first.get("/readyz") == "ok\n"
        burst(stage)
        time.sleep(seconds)
        assert first.term() == 0, first.said
        assert "stopped in" in first.said
        assert "cut off" not in first.said
        assert "Traceback" not in first.said
    whole(stage)
    bots = {(pid, ticks) for pid, ticks, _, port in marked(stage.home_id) if port}
    with operating(stage, "second") as second:
        second.works()
        goes_on(stage)
        assert bots <= {(pid, ticks) for pid, ticks, _, port in marked(stage.home_id) if port}
        assert second.metric("mainstay_graceful_shutdown_duration_seconds_count") == 1
        assert second.metric('mainstay_context_cancellation_total{operation="put_status"}') == 0
        assert second.metric('mainstay_runs{phase="Running"}') == RUNS_AT_ONCE
        assert second.metric('mainstay_units{scope="runs",state="Running"}') == RUNS_AT_ONCE
        assert second.metric('mainstay_ports{pool="stage",state="leased"}') == RUNS_AT_ONCE
        assert second.metric('mainstay_jobs{phase="Completed"}') == JOBS_AT_ONCE
        assert second.term() == 0, second.said
    assert not (stage.home / "operator.url").exists()


def test_a_term_while_the_api_server_hangs(stage: Stage):
    """It ends by itself within its limit, and the next one tells what was cut off."""
    with operating(stage, "first") as first:
        first.works()
        burst(stage)
        with stopped(stage.plane):
            assert first.term() == 0, first.said
        assert "stopped in" in first.said
        assert "cut off" in first.said
    with operating(stage, "second") as second:
        second.works()
        counted = re.findall(
            r"^mainstay_context_cancellation_total\S+ (\S+)$", second.get("/metrics"), re.MULTILINE
        )
        assert sum(map(float, counted)) == first.said.count("cut off")
        goes_on(stage)
        whole(stage)


def test_a_second_term_ends_it_at_once(stage: Stage):
    with operating(stage, "first") as first:
        first.works()
        burst(stage)
        with stopped(stage.plane):
            first.process.send_signal(signal.SIGTERM)
            file = stage.home / "shutdowns.json"
            eventually(lambda: file.exists() and '"begun": true' in file.read_text(), "the shutdown")
            assert first.term() == -signal.SIGTERM
        assert "stopped in" not in first.said
    with operating(stage, "second") as second:
        second.works()
        assert second.metric('mainstay_context_cancellation_total{operation="shutdown"}') == 1
        goes_on(stage)


def test_a_term_before_the_api_server_answers(stage: Stage):
    with stopped(stage.plane), operating(stage, "first") as first:
        eventually(lambda: "health and metrics at" in first.said)
        assert first.get("/healthz") == "ok\n"
        assert first.term() == 0, first.said
