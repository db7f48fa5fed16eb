"""A job's declaration in one shape: every step is phases of tasks, or an action; with what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from mainstay.api.phasedjob import JobTemplate, Phase, Step, Task, UserAction


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task stands."""

    step: str
    phase: str


@dataclass(frozen=True)
class Graph:
    """Steps in order; a step with one task is one phase of one blocking task, all of its name."""

    steps: tuple[Step, ...]

    @classmethod
    def of(cls, spec: JobTemplate) -> Graph:
        """Normalise what was declared."""
        return cls(tuple(spec.steps))

    @cached_property
    def phases(self) -> Mapping[str, tuple[Phase, ...]]:
        """Step → its phases; none for an action."""
        return {step.name: tuple(_phases(step)) for step in self.steps}

    @cached_property
    def tasks(self) -> Mapping[str, Task]:
        """Every task by name, in order."""
        return {
            task.name: task for phases in self.phases.values() for phase in phases for task in phase.tasks
        }

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """Task → its step and phase."""
        return {
            task.name: Place(step, phase.name)
            for step, phases in self.phases.items()
            for phase in phases
            for task in phase.tasks
        }

    @cached_property
    def actions(self) -> Mapping[str, UserAction]:
        """Steps that are user actions."""
        return {step.name: step.action for step in self.steps if step.action is not None}

    def dependents(self, names: frozenset[str]) -> frozenset[str]:
        """Tasks that depend on these, directly or not."""
        found: set[str] = set()
        while more := {
            name
            for name, task in self.tasks.items()
            if name not in found and not {*task.depends_on}.isdisjoint(names | found)
        }:
            found |= more
        return frozenset(found)


def _phases(step: Step) -> Iterator[Phase]:
    if step.task is not None:
        only = Task.model_construct(name=step.name, blocking=True, depends_on=[], **dict(step.task))
        yield Phase.model_construct(name=step.name, complete_when=None, tasks=[only])
    yield from step.phases or ()
