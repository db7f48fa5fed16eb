"""What watches tell of a fleet: every version of every object, when it came, and what is new in it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.bench.api import Api, Object, Watch


@dataclass(slots=True)
class Told:
    """One version of an object."""

    at: float  # time.perf_counter
    name: str
    obj: Object | None  # None: deleted


class Story(Watch):
    """A watch that keeps all it was told of; `clear` forgets it."""

    def __init__(self, api: Api, plural: str) -> None:
        super().__init__(api, plural)
        self.told: list[Told] = []
        self._before: dict[str, Object] = {}

    def _take(self, deleted: bool, obj: Object) -> None:
        name = obj["metadata"]["name"]
        self.told.append(Told(time.perf_counter(), name, None if deleted else obj))
        super()._take(deleted, obj)

    def clear(self) -> None:
        """Forget what was told so far."""
        self.told.clear()
        self._before = dict(self.objects)

    def writes(self) -> Counter[str]:
        """How often each of its fields was written anew, and with what: `holder, state Held` 400."""
        found: Counter[str] = Counter()
        before = dict(self._before)
        for one in self.told:
            if one.obj is None:
                continue
            last = before.get(one.name)
            before[one.name] = one.obj
            found["created" if last is None else _news(last, one.obj)] += 1
        return found


@dataclass(slots=True)
class Handovers:
    """Between the end of a ship's job and the next one of the same ship. Seconds, by when a watch told of it."""

    given: list[float] = field(default_factory=list)  # until the ship is the next one's
    begun: list[float] = field(default_factory=list)  # until that one has claimed its first task


def handovers(jobs: Story, assets: Story) -> Handovers:
    """The handovers of a turn. A job that began with a free ship has none."""
    ended: dict[str, float] = {}
    begun: dict[str, float] = {}
    for one in jobs.told:
        status = (one.obj or {}).get("status") or {}
        if status.get("phase") == "Completed":
            ended.setdefault(one.name, one.at)
        if status.get("startedAt"):
            begun.setdefault(one.name, one.at)
    found = Handovers()
    holders: dict[str, str] = {}
    for one in assets.told:
        holder = (((one.obj or {}).get("status") or {}).get("holder") or {}).get("name")
        before = holders.get(one.name)
        if not holder or holder == before:
            continue
        holders[one.name] = holder
        if before in ended and holder in begun:
            found.given.append(one.at - ended[before])
            found.begun.append(begun[holder] - ended[before])
    return found


def _news(old: Object, new: Object) -> str:
    """What a version changed, in words."""
    if old["metadata"].get("finalizers") != new["metadata"].get("finalizers"):
        return "finalizer"
    before, after = old.get("status") or {}, new.get("status") or {}
    words = []
    for key in sorted({*before, *after} - {"steps", "conditions", "currentPhase", "currentStep"}):
        if before.get(key) != after.get(key):
            value = after.get(key)
            shown = value if isinstance(value, str) and len(value) < 20 and not key.endswith("At") else ""
            words.append(f"{key} {shown}".strip())
    tasks = dict(_tasks(before))
    words += [f"{name} {state}" for name, state in _tasks(after) if tasks.get(name) != state]
    if not words:
        reasons = [
            f"{c['type']} {c['reason']}"
            for c in after.get("conditions") or ()
            if c not in (before.get("conditions") or ())
        ]
        words = reasons or ["nothing"]
    return ", ".join(words)


def _tasks(status: Any) -> Iterator[tuple[str, str]]:
    for step in status.get("steps") or ():
        for phase in step.get("phases") or ():
            for task in phase.get("tasks") or ():
                yield task["name"], task["state"]
