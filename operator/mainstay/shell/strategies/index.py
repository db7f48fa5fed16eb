"""Our copy of libraries and strategies, and which run uses which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from mainstay.api.strategy import Strategy
from mainstay.api.strategylibrary import StrategyLibrary
from mainstay.api.strategyrun import RunGoal, RunPhase, StrategyInUse, StrategyRun
from mainstay.core.snapshot import over
from mainstay.shell.store import Key, Object, Parsed, key_of

Name = tuple[str, str, str]
"""(namespace, library, strategy as runs write it)"""


@dataclass(frozen=True, slots=True)
class User:
    """What a run has to do with strategies."""

    asked: Name | None
    using: Name | None  # another one only for a fallback
    running: bool  # it should run, and is not over
    available: bool  # it runs and serves
    stuck: bool = False  # nothing can be started as it is declared

    @property
    def group(self) -> Name | None:
        """The strategy with whose users it takes turns."""
        return self.using or self.asked


class StrategyIndex:
    """Libraries, strategies by the names that runs write, and their users."""

    def __init__(self) -> None:
        self.libraries: Parsed[StrategyLibrary] = Parsed(StrategyLibrary)
        self.strategies: Parsed[Strategy] = Parsed(Strategy)
        self.users: dict[Name, set[Key]] = defaultdict(set)
        """Runs that name a strategy, or run it as their fallback."""
        self.waiting: dict[Name, set[Key]] = defaultdict(set)
        """Runs that wait for their turn to be restarted, by the strategy they use."""
        self.users_changed: Callable[[Name], None] = lambda _: None
        """Called with a strategy that has another user, or one less."""
        self.turn_came: Callable[[Name], None] = lambda _: None
        """Called with a strategy one of whose users became available, or is gone."""
        self._known: dict[Key, User] = {}
        self._waits_in: dict[Key, Name] = {}
        self._rolling: set[Key] = set()  # claimed to be restarted, and not written yet
        self._by_name: dict[Name, set[Key]] = defaultdict(set)
        self._names: dict[Key, Name] = {}
        self._of_library: dict[Key, set[Key]] = defaultdict(set)

    # -- strategies

    def put_strategy(self, obj: Object) -> bool:
        """Take a strategy in; False if a newer version is known."""
        if not self.strategies.put(obj):
            return False
        key = key_of(obj)
        self._unname(key)
        try:
            strategy = self.strategies.get(key)
        except ValidationError:
            return True
        if strategy is not None:
            name = self._names[key] = (key[0], strategy.spec.library, strategy.called)
            self._by_name[name].add(key)
            self._of_library[name[:2]].add(key)
        return True

    def drop_strategy(self, obj: Object) -> bool:
        """A strategy is gone."""
        if not self.strategies.drop(obj):
            return False
        self._unname(key_of(obj))
        return True

    def _unname(self, key: Key) -> None:
        name = self._names.pop(key, None)
        if name is not None:
            self._of_library[name[:2]].discard(key)
            self._by_name[name].discard(key)
            if not self._by_name[name]:
                del self._by_name[name]

    def named(self, name: Name) -> Strategy | None:
        """The strategy of that name; of several the oldest."""
        keys = self._by_name.get(name)
        if not keys:
            return None
        found = [strategy for key in keys if (strategy := self.strategies.get(key)) is not None]
        return min(found, key=_age) if found else None

    def namesakes(self, name: Name) -> list[Key]:
        """Every object of that name."""
        return sorted(self._by_name.get(name, ()))

    def offered(self, name: Name) -> StrategyInUse | None:
        """What runs of that strategy get."""
        strategy = self.named(name)
        if strategy is None or strategy.status.revision is None or strategy.status.file is None:
            return None
        status = strategy.status
        return StrategyInUse(name=name[2], hash=status.revision, file=status.file, library=name[1])

    def library(self, namespace: str, library: str) -> StrategyLibrary | None:
        """The library; None as well for one that does not parse, which is said of it elsewhere."""
        try:
            return self.libraries.get((namespace, library))
        except ValidationError:
            return None

    def of_library(self, namespace: str, library: str) -> list[Strategy]:
        """Every strategy of that library."""
        keys = sorted(self._of_library.get((namespace, library), ()))
        return [strategy for key in keys if (strategy := self.strategies.get(key)) is not None]

    # -- users

    def saw_run(self, key: Key, run: StrategyRun | None) -> None:
        """Note what a run asks for and has."""
        before, after = self._known.get(key), _user(run) if run is not None else None
        self._rolling.discard(key)
        if after == before:
            return
        if after is None:
            self._known.pop(key, None)
            self.waits(key, None)
        else:
            self._known[key] = after
        old, new = _names(before), _names(after)
        for name in old - new:
            self.users[name].discard(key)
            self.users_changed(name)
        for name in new - old:
            self.users[name].add(key)
            self.users_changed(name)
        if before is None or before.group is None:
            return
        left = after is None or after.group != before.group or after.stuck or not after.running
        if before.running and (left or (after is not None and after.available and not before.available)):
            self.turn_came(before.group)

    def waits(self, key: Key, group: Name | None) -> None:
        """Note that a run waits for its turn among the users of a strategy, or for none."""
        before = self._waits_in.pop(key, None)
        if before is not None:
            self.waiting[before].discard(key)
        if group is not None:
            self.waiting[group].add(key)
            self._waits_in[key] = group

    def user(self, key: Key) -> User | None:
        """What is known of a run."""
        return self._known.get(key)

    def available(self, key: Key) -> bool:
        """It runs and serves, and nobody is about to restart it."""
        user = self._known.get(key)
        return user is not None and user.available and key not in self._rolling

    def rolls(self, key: Key) -> None:
        """Note a restart before it is written, so that two decisions never take the same turn."""
        self._rolling.add(key)


def _user(run: StrategyRun) -> User | None:
    ref, use = run.spec.strategy, run.status.strategy
    if ref is None:
        return None
    namespace, status = run.metadata.namespace, run.status
    running = (
        run.spec.state is RunGoal.RUNNING and run.metadata.deletion_timestamp is None and not over(status)
    )
    serving = any(c.type == "Serving" and c.status == "True" for c in status.conditions)
    return User(
        asked=(namespace, ref.library, ref.name),
        using=(namespace, ref.library, use.name) if use is not None and use.fallback else None,
        running=running,
        available=running and status.phase is RunPhase.RUNNING and serving,
        stuck=any(c.type == "Stalled" and c.status == "True" for c in status.conditions),
    )


def _names(user: User | None) -> set[Name]:
    return {name for name in (user.asked, user.using) if name is not None} if user is not None else set()


def _age(strategy: Strategy) -> tuple[str, str]:
    created = strategy.metadata.creation_timestamp
    return (created.isoformat() if created else "", strategy.metadata.name)
