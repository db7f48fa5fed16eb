"""A run's whole life in stages, each of which ends where an undisturbed one would, however often the operator dies."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.integration.runs.judge import told
from tests.support.stage import Object, Plan, Stage, eventually, ready

from mainstay.shell.kube import LEASES

STAGES = ("create", "pause", "unpause", "stop", "resume", "stop again", "elsewhere", "delete")
DEATHS = 12
"""Operators that may die in one stage: recovery from more than that is none."""


@dataclass
class Life:
    """One run on a stage. `plans` says where operators die: by stage, one after the other."""

    stage: Stage
    name: str
    spec: Object
    plans: dict[str, list[Plan]] = field(default_factory=dict)
    effects: dict[str, list[str]] = field(default_factory=dict)
    finished: dict[str, set[int]] = field(default_factory=dict)
    ends: dict[str, Object] = field(default_factory=dict)
    deaths: int = 0
    uid: str = ""
    run_id: str = ""
    port: int = 0

    def live(self, *stages: str) -> None:
        """Through these stages, in order."""
        for name in stages:
            self._one(name)

    def _one(self, stage: str) -> None:
        plans = list(self.plans.get(stage, ()))
        self.stage.shell.expect(plans.pop(0) if plans else None)
        with ExitStack() as held:
            self._ask(stage, held)
            wish = self._wish(stage)
            found: list[Object | None] = []

            def there() -> bool:
                if self.stage.shell.died.is_set():
                    self.deaths += 1
                    self.stage.crash()
                    self.stage.restart(plans.pop(0) if plans else None)
                found[:] = [self.stage.get(self.name)]
                return wish(found[0])

            try:
                eventually(there, f"{self.name}: {stage}")
            except AssertionError as error:
                seen = (found[0] or {}).get("status")
                did = self.stage.shell.effects
                raise AssertionError(f"{error}: {seen}, died {self.died_at(stage)}, then did {did}") from None
            self.effects[stage] = list(self.stage.shell.effects)
            self.finished[stage] = set(self.stage.shell.finished)
            if self.stage.shell.died.is_set():  # with its last effect: its successor must find nothing to do
                self.deaths += 1
                self.stage.crash()
                self.stage.restart()
            self._check(stage, found[0])

    def died_at(self, stage: str) -> list[str]:
        """Where operators were to die in that stage, in words."""
        return [f"{plan.when} {plan.number}" for plan in self.plans.get(stage, ())]

    def _ask(self, stage: str, held: ExitStack) -> None:
        match stage:
            case "create":
                self.uid = self.stage.create(self.name, self.spec)["metadata"]["uid"]
            case "delete":
                self.stage.delete(self.name)
            case "elsewhere":
                held.enter_context(socket.create_server(("127.0.0.1", self.port)))
                self.stage.patch(self.name, state="Running")
            case _:
                goal = {"pause": "Paused", "stop": "Stopped", "stop again": "Stopped"}.get(stage, "Running")
                self.stage.patch(self.name, state=goal)

    def _wish(self, stage: str) -> Callable[[Object | None], bool]:
        if stage == "delete":
            return lambda obj: obj is None
        goal = {"pause": "Paused", "stop": "Stopped", "stop again": "Stopped"}.get(stage, "Running")
        return lambda obj: obj is not None and ready(goal)(obj)

    def _check(self, stage: str, obj: Object | None) -> None:
        if obj is None:
            files = [f for f in self.stage.files() if self.name in f and not f.endswith(".tmp")]
            left = (self.stage.pids(self.uid), files, self._ports())
            assert left == ([], [], []), f"{self.name} died {self.died_at(stage)} and left {left}"
            return
        self.ends[stage] = told(obj)
        status = obj["status"]
        self.run_id = self.run_id or status["runId"]
        assert status["runId"] == self.run_id
        pids = self.stage.pids(self.uid)
        if status["phase"] == "Stopped":
            assert pids == []
            assert self._ports() == []
            return
        assert pids == [status["process"]["pid"]], (pids, status)
        assert f"--control-api-port={status['port']}" in self.stage.argv(pids[0])
        assert self._ports() == [status["port"]]
        if stage == "elsewhere":
            assert status["port"] != self.port
        else:
            assert status["port"] == (self.port or status["port"])
        self.port = status["port"]

    def _ports(self) -> list[int]:
        leases = self.stage.client.items(LEASES)
        return [x["spec"]["port"] for x in leases if x["spec"]["holder"]["uid"] == self.uid]


def points(life: Life) -> dict[str, list[Plan]]:
    """Before and after each effect of each stage. One that failed, as there was no file to unlink, has no after."""
    return {
        stage: [
            Plan(number, when)
            for number in range(len(names))
            for when in ("before", "after")
            if when == "before" or number in life.finished[stage]
        ]
        for stage, names in life.effects.items()
    }


def spread(plans: dict[str, list[Plan]]) -> Iterator[dict[str, list[Plan]]]:
    """As few lives as there are points in the longest stage: each dies at most once in each stage."""
    for index in range(max(map(len, plans.values()))):
        yield {stage: some[index : index + 1] for stage, some in plans.items()}


RECOVERY = 8
"""Effects of a successor that may be its last one: what it does after that, others have done before."""


def twice(plans: dict[str, list[Plan]]) -> Iterator[dict[str, list[Plan]]]:
    """Each death again with a second one in its recovery, at each of the successor's first effects."""
    for number in range(RECOVERY):
        for first in spread(plans):
            yield {stage: [*some, Plan(number, "before")] for stage, some in first.items() if some}


def still(stage: Stage, seconds: float) -> None:
    """Nothing of ours is written for that long, but a count of the pool that was still due."""

    def changed() -> dict[str, Any]:
        before = stage.client.versions()
        time.sleep(seconds)
        after = stage.client.versions()
        return {k: (before.get(k), after.get(k)) for k in before | after if before.get(k) != after.get(k)}

    time.sleep(1.2)  # pools are counted once a second
    assert changed() == {}
