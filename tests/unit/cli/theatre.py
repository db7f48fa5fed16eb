"""Stacks and restarts on a cluster of a few objects, for commands: restarts go on by a script."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.cli import stackrestart, stacks, stackservice
from mainstay.cli.app import app
from mainstay.shell.kube import RESTARTS, STACKS, Kube, path

run = CliRunner()

SERVICES = [{"name": "web", "kind": "Http", "port": 3000}, {"name": "poller", "kind": "Background"}]
OWNER = {"userId": "u-7"}


class Theatre(Cluster):
    """A cluster whose restarts go on by a script: one status for each look."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[Any] = []

    async def get(self, url: str) -> dict[str, Any] | None:
        if f"/{RESTARTS}/" in url and url in self.objects and self.script:
            scene = self.script.pop(0)
            if isinstance(scene, BaseException):
                raise scene
            if scene is None:
                del self.objects[url]
            else:
                self.objects[url]["status"] = scene
        return await super().get(url)

    def stack(self, name: str = "backend", namespace: str = "default", **spec: Any) -> None:
        self.add(STACKS, name, {"services": SERVICES, **spec}, namespace)

    @property
    def restarts(self) -> list[dict[str, Any]]:
        return [obj for at, obj in self.objects.items() if f"/{RESTARTS}/" in at]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    made = Theatre()
    monkeypatch.setattr("mainstay.cli.home.LONGEST", 500)
    monkeypatch.setenv("MAINSTAY_HOME", str(tmp_path))
    monkeypatch.setattr(Kube, "connect", made.connect)
    monkeypatch.setattr(stackrestart, "POLL_SECONDS", 0)
    monkeypatch.setattr(stacks, "POLL_SECONDS", 0)
    monkeypatch.setattr(stackservice, "POLL_SECONDS", 0)
    return made


def say(*words: str, code: int = 0) -> str:
    """What a command printed on both outputs, never with colours."""
    result = run.invoke(app, list(words))
    assert "Traceback" not in result.output
    assert "\x1b" not in result.output
    assert result.exit_code == code, f"{result.exit_code}: {result.output} {result.exception!r}"
    return str(result.output)


def step(name: str, state: str = "Completed", message: str = "", **more: Any) -> dict[str, Any]:
    times = {"startedAt": "2026-11-21T10:00:00.000Z"}
    if state != "Running":
        times["completedAt"] = "2026-11-21T10:00:00.400Z"
    return {"name": name, "state": state, "message": message, **times, **more}


def scene(phase: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    times = {"startedAt": "2026-11-21T10:00:00.000Z"}
    if phase in ("Completed", "Failed"):
        times["completedAt"] = "2026-11-21T10:00:03.400Z"
    return {"observedGeneration": 1, "phase": phase, "steps": list(steps), **times, **more}


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


STOPPING = step("StopServices", "Running")
STOPPED = step("StopServices", message="8 services stopped", details=["web: pid 7 ended by TERM"])
UP = {"name": "web", "up": True, "message": "up, port 3000 is held by pid 8"}
DOWN = {"name": "poller", "up": False, "message": "exit code 1"}


def state(cluster: Theatre, phase: str, *conditions: dict[str, Any], **more: Any) -> None:
    seen = cluster.objects[path(STACKS, "default", "backend")]["status"]
    seen |= {"phase": phase, "conditions": list(conditions), **more}
