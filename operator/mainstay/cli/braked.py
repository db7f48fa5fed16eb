"""Which units the brake is for, found with nothing but files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mainstay.cli.console import fail, misuse
from mainstay.cli.home import Home
from mainstay.cli.names import WORK, Kind, ref
from mainstay.cli.stacklogs import split
from mainstay.core.names import object_key, task_key, unit_name
from mainstay.runtime.process import brake, known_scopes

RUNS, JOBS = "runs", "jobs"


@dataclass(frozen=True, slots=True)
class Braked:
    """One unit, and how it is called."""

    scope: str
    unit: str
    told: str
    name: str
    """What `release` takes for it."""


def units(
    home: Home, names: list[str] | None, everything: bool, namespace: str, *, stop: bool
) -> list[Braked]:
    """What is named: runs, services of stacks, and tasks of jobs that live, or are held."""
    if everything:
        stacks = [
            one for (owner, stack), _ in known_scopes(home.root) for one in _services(home, owner, stack)
        ]
        tasks = [_task(unit) for unit in _tasks(home.root, stop=stop)]
        return [*map(_run, _runs(home.root)), *stacks, *tasks]
    if not names:
        misuse("name at least one run or stack, or say --all")
    return list(dict.fromkeys(one for name in names for one in _named(home, name, namespace, stop=stop)))


def _run(unit: str) -> Braked:
    namespace, name = object_key(unit)
    return Braked(RUNS, unit, name + _in(namespace), name + _option(namespace))


def _task(unit: str) -> Braked:
    namespace, job, task = task_key(unit)
    return Braked(JOBS, unit, f"{task} of job/{job}{_in(namespace)}", f"job/{job}{_option(namespace)}")


def _in(namespace: str) -> str:
    return f" in namespace {namespace}" if namespace != "default" else ""


def _option(namespace: str) -> str:
    return f" -n {namespace}" if namespace != "default" else ""


def _runs(root: Path) -> list[str]:
    return [unit.name for unit in brake.list_units(root, RUNS)]


def _tasks(root: Path, *, stop: bool) -> list[str]:
    return [
        unit.name
        for unit in brake.list_units(root, JOBS)
        if unit.held is not stop and (unit.state != "Exited" or not stop)
    ]


def _services(home: Home, namespace: str, stack: str) -> list[Braked]:
    scope = dict(known_scopes(home.root)).get((namespace, stack))
    if scope is None:
        return []
    return [
        Braked(
            scope,
            unit.name,
            f"{unit.name} of stack/{stack}{_in(namespace)}",
            f"stack/{stack}/{unit.name}{_option(namespace)}",
        )
        for unit in brake.list_units(home.root, scope)
    ]


def _named(home: Home, name: str, namespace: str, *, stop: bool) -> Iterator[Braked]:
    stack, service = split(name)
    one = ref(stack, (*WORK, Kind.STACK))
    unit = unit_name(namespace, one.name)
    match one.kind:
        case Kind.BATCH:
            fail(f"{one}: name its jobs, as job/{one.name}-JOB")
        case Kind.JOB:
            of_job = [
                task for task in _tasks(home.root, stop=stop) if task_key(task)[:2] == (namespace, one.name)
            ]
            if not of_job:
                fail(f"no task of {one} {'runs' if stop else 'is held'} on this machine")
            yield from map(_task, of_job)
            return
    services = _services(home, namespace, one.name)
    is_run = one.kind is Kind.RUN and unit in _runs(home.root)
    if is_run and services and "/" not in name:
        fail(f"{name} is a run and a stack; write run/{name} or stack/{name}")
    if is_run:
        yield _run(unit)
    elif one.kind is Kind.RUN and (not services or "/" in name):
        there = ", ".join(_run(one).told for one in _runs(home.root)) or "none"
        fail(f"no run {_run(unit).told} on this machine (in {home.root} there are: {there})")
    else:
        yield from _of_stack(home, one.name, services, service, namespace)


def _of_stack(
    home: Home, stack: str, services: list[Braked], service: str | None, namespace: str
) -> Iterator[Braked]:
    if not services:
        known = ", ".join("/".join(key) for key, _ in known_scopes(home.root)) or "none"
        fail(
            f"no service of stack/{stack} in namespace {namespace} on this machine (there are stacks: {known})"
        )
    wanted = [one for one in services if service in (None, one.unit)]
    if not wanted:
        fail(
            f"stack/{stack} has no {service} on this machine; it has: {', '.join(one.unit for one in services)}"
        )
    yield from wanted
