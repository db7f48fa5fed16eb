"""Names that are derived, never stored."""

from __future__ import annotations

import hashlib


def unit_name(namespace: str, name: str) -> str:
    """The unit of an object: `namespace.name`. Namespaces have no dots, so it can be split again.

    It carries no uid: an object deleted and created again under its name meets its predecessor's
    process here, and must end it before its own can start.
    """
    return f"{namespace}.{name}"


def object_key(unit: str) -> tuple[str, str]:
    """(namespace, name) of a unit's owner."""
    namespace, _, name = unit.partition(".")
    return namespace, name


def task_unit(namespace: str, job: str, task: str) -> str:
    """The unit of a task: `namespace.job_task`. Neither namespaces nor jobs have an underscore."""
    return f"{namespace}.{job}_{task}"


def task_key(unit: str) -> tuple[str, str, str]:
    """(namespace, job, task) of a task's unit."""
    owner, _, task = unit.partition("_")
    return (*object_key(owner), task)


def outputs_name(job: str, uid: str, task: str) -> str:
    """The ConfigMap that keeps a task's large outputs: never another object's, whatever that is called."""
    return f"{job}-outputs-{hashlib.sha256(f'{uid}/{task}'.encode()).hexdigest()[:10]}"


COMPENSATION_MAX = 48
"""Longest name of a compensation: its jobs add theirs to it."""


def compensation_name(asset: str, uid: str, attempt: int) -> str:
    """The batch that empties an asset for the n-th time: the same whoever makes it, and never another asset's."""
    mark = hashlib.sha256(f"{uid}/{attempt}".encode()).hexdigest()[:8]
    tail = f"-c{attempt}-{mark}"
    return f"{asset.replace('.', '-')[: COMPENSATION_MAX - len(tail)].rstrip('-')}{tail}"


def compensation_job(index: int) -> str:
    """A job of it, within the batch: holdings have names that no object may have."""
    return f"h{index}"


def stack_scope(namespace: str, name: str) -> str:
    """The scope of a stack: short, for the path of a socket has few characters."""
    return f"stack-{hashlib.sha256(f'{namespace}/{name}'.encode()).hexdigest()[:10]}"
