"""The outside world: ships with cargo, factories, and a ledger of everything that ever happened to a good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.sim.clock import CLOCK
from tests.sim.steps import step

from mainstay.core.asset.observation import ObservationError, Question
from mainstay.runtime.fake_probes import FakeProbes


@dataclass(frozen=True)
class Entry:
    """One line of the ledger; nothing is ever struck out."""

    at: float
    verb: str  # buys, sells, delivers, loads (a person), unloads (a person)
    ship: str
    symbol: str
    units: int
    by: str = ""  # uid of the job
    task: str = ""
    factory: str = ""


@dataclass
class Fleet:
    """What really is."""

    ledger: list[Entry] = field(default_factory=list)
    ships: dict[str, Counter[str]] = field(default_factory=dict)
    accepts: dict[str, list[str]] = field(default_factory=dict)  # of factories
    failing: set[str] = field(default_factory=set)  # whose probe gives no answer
    told: Callable[[Entry], None] = lambda _: None

    def cargo(self, ship: str) -> dict[str, int]:
        return {symbol: units for symbol, units in self.ships[ship].items() if units}

    def buy(self, ship: str, symbol: str, units: int, *, by: str, task: str) -> None:
        self._note("buys", ship, symbol, units, by=by, task=task)

    def sell(self, ship: str, symbol: str, units: int, *, by: str, task: str) -> None:
        self._note("sells", ship, symbol, units, by=by, task=task)

    def deliver(self, ship: str, factory: str, symbol: str, *, by: str, task: str) -> int:
        """All that the ship has of it; whoever asks again is told of the first time."""
        before = [e for e in self.ledger if e.verb == "delivers" and (e.by, e.task) == (by, task)]
        if before:
            return before[0].units
        units = self.cargo(ship).get(symbol, 0)
        self._note("delivers", ship, symbol, units, by=by, task=task, factory=factory)
        return units

    def load(self, ship: str, symbol: str, units: int) -> None:
        """A person puts cargo into a ship, or takes it out."""
        self._note("loads" if units > 0 else "unloads", ship, symbol, abs(units))

    def _note(self, verb: str, ship: str, symbol: str, units: int, **whose: Any) -> None:
        sign = 1 if verb in ("buys", "loads") else -1
        self.ships[ship][symbol] += sign * units
        assert self.ships[ship][symbol] >= 0, f"{ship} has less than nothing of {symbol}"
        entry = Entry(CLOCK.seconds, verb, ship, symbol, units, **whose)
        self.ledger.append(entry)
        self.told(entry)

    def balance(self, ship: str) -> Counter[str]:
        """What must be in a ship by the ledger alone."""
        total: Counter[str] = Counter()
        for entry in self.ledger:
            if entry.ship == ship:
                total[entry.symbol] += entry.units if entry.verb in ("buys", "loads") else -entry.units
        return +total

    def bought(self, job: str) -> Iterator[Entry]:
        return (e for e in self.ledger if e.verb == "buys" and e.by == job)


class FleetProbes(FakeProbes):
    """Answers from a fleet what was true when it was asked: the answer may come much later, and be told as news then.

    A ship whose probe fails says so at the end of the question; one that is `slow` is answered only when it is let.
    """

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self._fleet = fleet
        self.slow: set[str] = set()

    async def ask(self, question: Question) -> Any:
        """See Probes."""
        name = question.url.rsplit("/", 1)[-1]
        self.asked.append(question)
        await step("ask")
        if name in self._fleet.ships:
            seen: Any = {"cargo": [{"symbol": s, "units": n} for s, n in self._fleet.cargo(name).items()]}
        else:
            seen = list(self._fleet.accepts.get(name, ()))
        await step("asked")
        while name in self.slow:
            await step("slow")
        self.answered.append(question)
        if name in self._fleet.failing:
            raise ObservationError(f"{question.shown}: nothing answers")
        return seen
