"""Workers: what they do to the fleet happens at one moment, their end at a later one, and either may be cut off."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.sim.assets.fleet import Fleet
from tests.sim.clock import CLOCK
from tests.sim.jobs.tasks import Act, SimTasks

from mainstay.core.names import task_key
from mainstay.runtime.base import UnitSpec

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Fate:
    """What becomes of one execution, decided when it begins."""

    code: int = 0  # other than 0: it ends so, and has done nothing
    lost: str = ""  # BEFORE or AFTER its effect, and before its end is written down
    effect_seconds: float = 1.0
    end_seconds: float = 2.0  # from its beginning; not before its effect


GOOD = Fate()


class FleetTasks(SimTasks):
    """Programs named after what they do: collect, acquire, sell, deliver, liquidate; any other does nothing.

    `fates`: task → what becomes of its next executions, one after the other; then what `luck` draws.
    """

    def __init__(self, seed: int, fleet: Fleet) -> None:
        super().__init__(seed)
        self.fleet = fleet
        self.fates: dict[str, list[Fate]] = {}
        self.bad_luck = 0.0  # share of executions that fail or are lost
        self.stubborn = 0.0  # share of executions that ignore TERM
        self.effects: dict[str, tuple[float, UnitSpec]] = {}  # unit → when it does what it does
        self._rng = random.Random(f"fates {seed}")

    def next_due(self) -> float | None:
        times = [at for name, (at, _) in self.effects.items() if self._lives(name)]
        if (end := super().next_due()) is not None:
            times.append(end)
        return min(times, default=None)

    def advance(self, seconds: float) -> None:
        target = self.now + seconds
        while True:
            self.effects = {n: e for n, e in self.effects.items() if self._lives(n)}
            due = min(((at, name) for name, (at, _) in self.effects.items() if at <= target), default=None)
            if due is None:
                break
            super().advance(max(0.0, due[0] - self.now))
            if self._lives(due[1]) and due[1] in self.effects:  # nothing ended it on the way
                _, spec = self.effects.pop(due[1])
                CLOCK.seconds = self.now
                self._have_effect(spec)
        super().advance(max(0.0, target - self.now))

    def _schedule(self, spec: UnitSpec) -> None:
        self.on_execute(spec)
        task = task_key(spec.name)[2]
        waiting = self.fates.get(task) or self.fates.get(spec.name)
        fate = waiting.pop(0) if waiting else self._luck()
        self.effects.pop(spec.name, None)
        self.ignore_term(spec.name, self._rng.random() < self.stubborn)
        end = self.now + max(fate.end_seconds, fate.effect_seconds + 0.001)  # never at once
        if fate.lost == BEFORE:
            self.due[spec.name] = (self.now + fate.effect_seconds, Act(lost=True))
        elif fate.code:
            self.due[spec.name] = (end, Act(fate.code, stderr="boom"))
        else:
            self.effects[spec.name] = (self.now + fate.effect_seconds, spec)
            self.due[spec.name] = (end, Act(lost=True) if fate.lost else self._report(spec))

    def _luck(self) -> Fate:
        rng = self._rng
        at = round(rng.uniform(0.05, 3.0), 3)
        times = {"effect_seconds": at, "end_seconds": round(at + rng.choice([0.0, 0.3, 2.0]), 3)}
        if rng.random() >= self.bad_luck:
            return Fate(**times)
        code, lost = rng.choice([(1, ""), (1, ""), (0, BEFORE), (0, AFTER)])
        return Fate(code, lost, **times)

    # --- what they do

    def _have_effect(self, spec: UnitSpec) -> None:
        task, given = task_key(spec.name)[2], json.loads(spec.inputs or b"{}")
        inputs, uid = given["inputs"], spec.owner_uid
        if task not in ("collect", "acquire", "sell", "deliver", "liquidate"):
            return
        ship, symbol = _ship(given), inputs["symbol"]
        there = self.fleet.cargo(ship).get(symbol, 0)
        match task:
            case "collect" | "acquire":
                self.fleet.buy(ship, symbol, inputs["units"], by=uid, task=task)
            case "sell" | "liquidate":
                if there:
                    self.fleet.sell(ship, symbol, there, by=uid, task=task)
            case "deliver":
                factory = given["assets"]["factory"]["ref"]
                self.fleet.deliver(ship, factory, symbol, by=uid, task=task)

    def _report(self, spec: UnitSpec) -> Act:
        if task_key(spec.name)[2] != "deliver":
            return Act()
        return Told(outputs_then=lambda: self._delivered(spec))

    def _delivered(self, spec: UnitSpec) -> Any:
        given = json.loads(spec.inputs or b"{}")
        factory, symbol = given["assets"]["factory"]["ref"], given["inputs"]["symbol"]
        units = self.fleet.deliver(_ship(given), factory, symbol, by=spec.owner_uid, task="deliver")
        return {"assets": {"factory": {"deliveries": [{"symbol": symbol, "units": units}]}}}


@dataclass(frozen=True)
class Told(Act):
    """An end whose outputs are known only then."""

    outputs_then: Callable[[], Any] = dict

    def written(self) -> bytes:
        return json.dumps(self.outputs_then()).encode()


def _ship(given: Any) -> str:
    assets = given["assets"]
    ref: str = (assets.get("ship") or assets["asset"])["ref"]
    return ref
