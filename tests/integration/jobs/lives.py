"""The whole life of a job, and of a batch, in stages, however often the operator dies."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.integration.jobs.judge import Journal, needed, programs
from tests.integration.jobs.workshop import Works, directories, phase_is, told
from tests.integration.runs.lives import Life
from tests.support.stage import Object

from mainstay.shell.kube import JOBS

STAGES = ("create", "answer", "resume", "delete")
BATCH_STAGES = ("batch", "delete")
SKIPPED = frozenset({"c", "g", "h"})
"""Tasks of the whole job that put out nothing."""


@dataclass
class JobLife(Life):
    """One job: until it asks, until it fails, until it is completed, until it is gone."""

    works: Works = field(kw_only=True)
    last: Object = field(default_factory=dict)

    def _ask(self, stage: str, held: ExitStack) -> None:
        desk = self.works.desk
        match stage:
            case "create":
                self.uid = desk.create(self.name, self.spec)["metadata"]["uid"]
            case "answer":
                desk.patch(self.name, inputs={"choose": {"number": 5}})
            case "resume":
                desk.fix(self.uid)
                desk.patch(self.name, resumeNonce=1)
            case "delete":
                desk.delete(self.name)

    def _wish(self, stage: str) -> Callable[[Object | None], bool]:
        match stage:
            case "create":
                return phase_is("ActionRequired", "ActionRequired")
            case "answer":
                return phase_is("ActionRequired", "TaskFailed")
            case "resume":
                return phase_is("Completed")
        return lambda obj: obj is None

    def _check(self, stage: str, obj: Object | None) -> None:
        if obj is not None:
            self.last = obj
            self.ends[stage] = told(obj)
            if stage == "answer":  # whether h was skipped yet depends on who ended first, f or g
                del self.ends[stage]["tasks"]["h"], self.ends[stage]["progress"]
            return
        left = left_of(self.works, self.name)
        assert left == ([], [], []), f"{self.name} died {self.died_at(stage)} and left {left}"

    def wrong(self) -> list[str]:
        """What the journal has against this job."""
        return Journal(self.works.stage.judge).verdict(self.last, needed(self.spec, SKIPPED))


@dataclass
class BatchLife(JobLife):
    """A batch of three jobs: until all are completed, until it and they are gone."""

    children: tuple[str, ...] = ("x", "y", "z")
    ended: dict[str, Object] = field(default_factory=dict)

    def _ask(self, stage: str, held: ExitStack) -> None:
        if stage == "batch":
            jobs = [{"name": name, "inputs": {"n": n}} for n, name in enumerate(self.children)]
            spec = {"template": self.spec, "jobs": jobs, "parallelism": 2}
            self.uid = self.works.desk.create(self.name, spec, self.works.plural)["metadata"]["uid"]
        else:
            self.works.desk.delete(self.name, self.works.plural)

    def _wish(self, stage: str) -> Callable[[Object | None], bool]:
        return phase_is("Completed") if stage == "batch" else lambda obj: obj is None

    def _check(self, stage: str, obj: Object | None) -> None:
        if obj is None:
            super()._check(stage, obj)
            gone = [name for name in self.children if self.works.desk.get(f"{self.name}-{name}") is not None]
            assert gone == []
            return
        self.ends[stage] = told(obj)
        for name in self.children:
            child = self.works.desk.get(f"{self.name}-{name}", JOBS)
            assert child is not None
            self.ended[name] = child
        assert len({child["metadata"]["uid"] for child in self.ended.values()}) == len(self.children)

    def wrong(self) -> list[str]:
        journal = Journal(self.works.stage.judge)
        return [w for child in self.ended.values() for w in journal.verdict(child, needed(self.spec))]


def left_of(works: Works, name: str) -> tuple[list[str], list[str], list[Any]]:
    """Directories, ConfigMaps and processes of a job, or of a batch's jobs, that is gone."""
    stage = works.stage
    prefix = f"{stage.namespace}.{name}"

    def of_it(unit: str) -> bool:
        return unit.removeprefix(".gone-").startswith((f"{prefix}_", f"{prefix}-"))

    kept = [c for c in works.desk.config_maps() if c.startswith(f"{name}-")]
    return (
        [d for d in directories(stage.home) if of_it(d)],
        kept,
        [p for p in programs(stage.home_id) if of_it(p[2])],
    )
