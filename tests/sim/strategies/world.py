"""A world with libraries, strategies and their files: who writes what, and a log of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

from tests.sim.api import NAMESPACE, Ref
from tests.sim.clock import CLOCK, EPOCH
from tests.sim.jobs.clock import ORDER
from tests.sim.operators import Instance
from tests.sim.strategies.oracle import StrategyOracle
from tests.sim.strategies.shelf import SimShelf
from tests.sim.world import World, no_fault

from mainstay.api.conditions import find
from mainstay.core import plan as p
from mainstay.core.strategy import library as library_core
from mainstay.core.strategy import strategy as strategy_core
from mainstay.core.strategy.resolve import short
from mainstay.runtime.fake_strategies import FakeShelf
from mainstay.shell.kube import CONFIG_MAPS, LIBRARIES, STRATEGIES
from mainstay.shell.operator import WorkKey
from mainstay.shell.store import Object
from mainstay.shell.strategies import libraries, strategies

DIRECTORY = "/strategies"
Fault = Callable[[str], BaseException | None]


class StrategyInstance(Instance):
    """Users of a strategy are a set: in which order they are woken differs from one process to the next."""

    def pick(self, rng: random.Random) -> WorkKey | None:
        self.queue.wake()
        return rng.choice(sorted(self.queue.ready)) if self.queue.ready else None


class StrategyWorld(World):
    """`crash_at`: the operator dies after that many steps of its passes, and a new one is started at once."""

    def __init__(self, seed: int = 0, *, crash_at: frozenset[int] = frozenset()) -> None:
        super().__init__(seed)
        ORDER.seed(seed)
        self.disk = FakeShelf({DIRECTORY: {}})
        self.oracle: StrategyOracle = StrategyOracle(self)
        self.runtime._on_start, self.runtime._on_execute = self.oracle.starting, self.oracle.executed
        self.steps = 0
        self.crash_at = crash_at

    # --- what tests say

    def library(self, name: str = "main", **spec: Any) -> None:
        """A library of the directory, with a default and a budget as they are given."""
        self.api.create(LIBRARIES, NAMESPACE, name, {"spec": {"source": {"directory": DIRECTORY}, **spec}})

    def edit_library(self, name: str = "main", **spec: Any) -> None:
        self.api.edit(LIBRARIES, NAMESPACE, name, **spec)

    def files(self, files: Mapping[str, str | None] | None, directory: str = DIRECTORY) -> None:
        """Write files, or delete those that are None; None for all takes the directory away."""
        data = None if files is None else {k: None if v is None else v.encode() for k, v in files.items()}
        self.disk.change(directory, data)
        self.oracle.wrote(files or {})
        for instance in self.operators:
            for key, source in list(instance.shelf._watched.items()):
                if source.path == directory:
                    instance.seen.append(key)

    def config_map(self, name: str, data: Mapping[str, str], **labels: str) -> None:
        self.oracle.wrote(data)
        ref: Ref = (CONFIG_MAPS, NAMESPACE, name)
        known = self.api.get(*ref)
        if known is None:
            self.api.create(*ref, {"metadata": {"labels": labels}, "data": dict(data)})
        else:
            self.api._store(
                ref, {**known, "metadata": {**known["metadata"], "labels": labels}, "data": dict(data)}
            )

    def inline(self, name: str, text: str) -> None:
        self.oracle.wrote({f"{name}.py": text})
        source = {"inline": text}
        if self.api.get(STRATEGIES, NAMESPACE, name.lower()) is None:
            self.api.create(STRATEGIES, NAMESPACE, name.lower(), {"spec": {"name": name, "source": source}})
        else:
            self.api.edit(STRATEGIES, NAMESPACE, name.lower(), source=source)

    def bot(self, name: str, strategy: str = "Ema", revision: str | None = None, **spec: Any) -> None:
        ref = {"name": strategy} | ({"revision": revision} if revision else {})
        self.run(name, strategy=ref, **spec)

    def strategy(self, name: str) -> Object:
        """The object of that strategy, by the name of the object."""
        obj = self.api.get(STRATEGIES, NAMESPACE, name)
        assert obj is not None, name
        return obj

    def runs_what(self, name: str) -> str:
        """Name and text of what a run runs, and whether in another's place."""
        use = self.status(name)["strategy"]
        text = self.disk.snapshots[use["hash"]][use["file"]].decode()
        return f"{use['name']} {text.strip()}" + (" as a fallback" if use["fallback"] else "")

    def resolved(self, name: str) -> str:
        """In one word, whether it runs what it asks for."""
        said = self.status(name)["conditions"]
        reason: str = next(c["reason"] for c in said if c["type"] == "StrategyResolved")
        return reason

    # --- what happens

    def _instance(self, name: str) -> Instance:
        return StrategyInstance(name, self.api, self.kube, self.runtime, SimShelf(self.disk))

    def one_step(
        self, instance: Instance, key: WorkKey, fault: Fault = no_fault, error: BaseException | None = None
    ) -> BaseException | None:
        with (
            patch.object(libraries, "decide", self._told_of(library_core.decide, "library")),
            patch.object(strategies, "decide", self._told_of(strategy_core.decide, "strategy")),
        ):
            error = super().one_step(instance, key, fault, error)
        self.steps += 1
        if self.steps in self.crash_at:
            self.log.append(f"-- the operator dies, after step {self.steps}")
            if instance in self.operators:
                self.restart_operator(instance)
        return error

    def _everything(self) -> list[WorkKey]:
        return super()._everything() + [
            (what, obj["metadata"]["namespace"], obj["metadata"]["name"])
            for what, plural in (("library", LIBRARIES), ("strategy", STRATEGIES))
            for obj in self.api.all(plural)
        ]

    def _told_of(self, decide: Callable[[Any], Any], what: str) -> Callable[[Any], Any]:
        def logged(s: Any) -> Any:
            plan = decide(s)
            obj = s.library if what == "library" else s.strategy
            if not isinstance(plan, p.Wait):
                self.moved_at = CLOCK.seconds
                words = strategy_words(plan)
                self.log.append(f"{CLOCK.seconds - EPOCH:6.1f}s {what} {obj.metadata.name:<10} {words}")
                self._said.clear()
            return plan

        return logged


def strategy_words(plan: Any) -> str:
    """A plan for a library or a strategy, in a few words."""
    match plan:
        case p.Write(status=status):
            told = find(status.conditions, "Ready")
            words = [f"write Ready={told.status} {told.reason}" if told else "write"]
            if hasattr(status, "revision"):
                words.append(f"offers {short(status.revision) if status.revision else 'nothing'}")
                words.append(f"used by {status.used_by.count}")
            else:
                words.append(f"strategies={status.strategies} invalid={status.invalid}")
                words += [f"{problem.file}: {problem.reason}" for problem in status.problems]
            return ", ".join(words)
        case p.Act(action=action):
            return _words(action)
        case p.ActAll(actions=actions):
            return "; ".join(_words(action) for action in actions)
        case _:
            raise AssertionError(plan)


def _words(action: p.Action) -> str:
    match action:
        case p.KeepSnapshot(file=file, hash=content):
            return f"keep {file} {short(content)}"
        case p.CreateStrategy(name=name, called=called, file=file):
            return f"create {name} of {called} in {file}"
        case p.SetSource(name=name, file=file):
            return f"set {name} to {file}"
        case p.DeleteStrategy(name=name):
            return f"delete {name}"
        case _:
            raise AssertionError(action)
