"""The package's fake runtime of tasks: a step at every call, and programs that end by a script at their own time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.sim.clock import CLOCK
from tests.sim.steps import step

from mainstay.core.names import task_key
from mainstay.core.unit import GONE
from mainstay.runtime.base import Unit, UnitSpec, UnitState
from mainstay.runtime.fake_tasks import Ending, FakeTaskRuntime

Ears = Callable[[str], None]


@dataclass(frozen=True)
class Act:
    """What one execution of a program comes to; `seconds` None: it never ends by itself."""

    code: int = 0
    outputs: Any = None  # bytes as they are, anything else as JSON
    stderr: str = ""
    seconds: float | None = -1.0  # below 0: as the seed says
    lost: bool = False
    executed: bool = True  # False: lost before the program was executed

    def written(self) -> bytes | None:
        if self.outputs is None or isinstance(self.outputs, bytes):
            return self.outputs
        return json.dumps(self.outputs).encode()


HANGS = Act(seconds=None)


class SimTasks(FakeTaskRuntime):
    """Programs of tasks. `script`: task → what its executions come to, one after the other, the last for ever.

    How long each takes depends on the seed, the task and the number of the execution only, so that a disturbed
    history ends its tasks in the same order as an undisturbed one.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.now = CLOCK.seconds
        self.seed = seed
        self.script: dict[str, list[Act]] = {}
        self.listeners: list[Ears] = []
        self.on_start: Callable[[UnitSpec], None] = lambda _: None
        self.on_execute: Callable[[UnitSpec], None] = lambda _: None
        self.on_end: Callable[[UnitSpec, Ending], None] = lambda *_: None
        self.on_remove: Callable[[Unit], None] = lambda _: None
        self.due: dict[str, tuple[float, Act]] = {}
        self.fail_once: set[tuple[str, int]] = set()  # (unit, attempt) that end with exit code 1
        self.executions: dict[
            tuple[str, str], int
        ] = {}  # (owner, unit) → programs that ran and were not lost

    # --- the script

    def play(self, task: str, *acts: Act) -> None:
        self.script[task] = list(acts)

    def next_due(self) -> float | None:
        """When something will happen by itself."""
        times = [at for name, (at, _) in self.due.items() if self._lives(name)]
        for task in self._tasks.values():
            if task.state in GONE:
                continue
            if task.kill_at is not None:
                times.append(task.kill_at)
            if task.spec.timeout_seconds is not None and not task.timed_out:
                times.append((task.started_at or self.now) + task.spec.timeout_seconds)
        return min(times, default=None)

    def advance(self, seconds: float) -> None:
        target = self.now + seconds
        while True:
            ends = [(at, name) for name, (at, _) in self.due.items() if self._lives(name) and at <= target]
            if not ends:
                break
            at, name = min(ends)
            super().advance(max(0.0, at - self.now))
            if self._lives(name):
                _, act = self.due.pop(name)
                if act.lost:
                    self.lose(name)
                else:
                    self.finish(name, act.code, outputs=act.written(), stderr=act.stderr)
        super().advance(max(0.0, target - self.now))

    def _lives(self, name: str) -> bool:
        task = self._tasks.get(name)
        return task is not None and task.state not in GONE

    # --- what really is

    def peek(self, name: str) -> Unit:
        """What is true of a unit now, without a step and though the runtime is away."""
        available, self.available = self.available, True
        refused, self._refused = self._refused, {}
        try:
            super().observe(name).send(None)
        except StopIteration as end:
            answer: Unit = end.value
            return answer
        finally:
            self.available, self._refused = available, refused
        raise AssertionError("it waits")

    def peek_all(self) -> list[Unit]:
        return [self.peek(name) for name in sorted(self._tasks)]

    def forget_records(self) -> None:
        """The state directory is gone."""
        for name in list(self._tasks):
            del self._tasks[name]
            self._tell(name)

    # --- hooks

    def _tell(self, name: str) -> None:
        super()._tell(name)
        for listener in self.listeners:
            listener(name)

    def _end(self, name: str, task: Any, ending: Ending) -> None:
        super()._end(name, task, ending)
        self.due.pop(name, None)
        key = (task.spec.owner_uid, name)
        if not ending.lost and ending.signal is None:
            self.executions[key] = self.executions.get(key, 0) + 1
        self.on_end(task.spec, ending)

    def _schedule(self, spec: UnitSpec) -> None:
        done = self.executions.get((spec.owner_uid, spec.name), 0)
        acts = self.script.get(task_key(spec.name)[2]) or [Act()]
        act = acts[min(done, len(acts) - 1)]
        if act.lost:  # the next execution is another
            key = (spec.owner_uid, spec.name)
            self.executions[key] = done + 1
        if not act.executed:
            self.started.pop()
            self._tasks[spec.name].started_at = None
            self.lose(spec.name)
            return
        self.on_execute(spec)
        if (spec.name, spec.attempt) in self.fail_once:
            act = Act(1, stderr="boom")
        if act.seconds is None:
            return
        rng = random.Random(f"{self.seed}/{spec.name}/{done}")
        seconds = act.seconds if act.seconds >= 0 else round(rng.uniform(0.05, 6.0), 3)
        self.due[spec.name] = (self.now + seconds, act)

    # --- TaskRuntime, with steps

    async def observe(self, name: str) -> Unit:
        await step("observe")
        return await super().observe(name)

    async def units(self) -> Sequence[Unit]:
        await step("units")
        return self.peek_all()

    async def names(self) -> Sequence[str]:
        await step("names")
        return await super().names()

    async def start(self, spec: UnitSpec) -> None:
        await step("start")
        self.on_start(spec)
        before = len(self.started)
        await super().start(spec)
        if len(self.started) > before:
            self._schedule(spec)
        await step("done start")

    async def stop(
        self, name: str, *, grace_seconds: float, force: bool = False, deleting: bool = False
    ) -> None:
        await step("stop")
        await super().stop(name, grace_seconds=grace_seconds, force=force, deleting=deleting)
        await step("done stop")

    async def remove(self, name: str, owner_uid: str) -> None:
        await step("remove")
        unit = self.peek(name)
        if unit.state is not UnitState.ABSENT and unit.owner_uid == owner_uid:
            self.on_remove(unit)
        await super().remove(name, owner_uid)
        await step("done remove")
