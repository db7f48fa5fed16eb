"""The whole life of jobs with assets, in stages, however often the operator dies."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.integration.assets import goods
from tests.integration.assets.fleet import Fleet, bought_and, is_free, status_of
from tests.integration.assets.yard import Yard
from tests.integration.jobs.workshop import phase_is, tasks_of
from tests.integration.runs.lives import Life
from tests.support.stage import Object

from mainstay.shell.kube import ASSETS, BATCHES, JOBS, path

STAGES = ("work", "load", "cancel", "delete")
DONE = phase_is("Completed")
IRON, COPPER, SAND = ("IRON_ORE", 40), ("COPPER_ORE", 30), ("QUARTZ_SAND", 20)

Objects = dict[str, Object]


@dataclass
class Works:
    """What a life is lived on: everything whose name begins with the life's, by name within it."""

    yard: Yard

    @property
    def shell(self) -> Any:
        return self.yard.stage.shell

    def crash(self) -> None:
        self.yard.stage.crash()

    def restart(self, plan: Any = None) -> None:
        self.yard.stage.restart(plan)

    def get(self, name: str) -> Objects | None:
        """The life's jobs, and its ships by role; None when nothing of it is left."""
        found: Objects = {}
        fleet = self.yard.fleet
        with fleet.connect() as client:
            for plural in (ASSETS, BATCHES, JOBS):  # owners first
                for item in client.ok("GET", path(plural, fleet.namespace))["items"]:
                    meta = item["metadata"]
                    labels = meta.get("labels") or {}
                    uids = {one["metadata"]["uid"] for one in found.values()}
                    if labels.get("life") == name:
                        found[labels["role"]] = item
                    elif any(owner["uid"] in uids for owner in meta.get("ownerReferences") or ()):
                        found[f"{plural}/{meta['name']}"] = item
        return found or None


@dataclass
class FleetLife(Life):
    """Two jobs for one ship and one for another and a factory; then one that is cancelled with its cargo."""

    works: Works = field(kw_only=True)
    first: str = ""
    second: str = ""

    @property
    def fleet(self) -> Fleet:
        return self.works.yard.fleet

    def _ask(self, stage: str, held: ExitStack) -> None:
        world = self.fleet.world.url
        match stage:
            case "work":
                self.first, self.second = (f"ship-{next(self.fleet.numbers)}" for _ in range(2))
                for role, name in (("first", self.first), ("second", self.second)):
                    self._create(role, name, goods.ship(world, name), ASSETS)
                self._create("iron", f"{self.name}-iron", goods.collect_sell(world, self.first, *IRON))
                self._create("copper", f"{self.name}-copper", goods.collect_sell(world, self.first, *COPPER))
                self._create("sand", f"{self.name}-sand", goods.acquire_deliver(world, self.second, *SAND))
            case "load":
                self._create(
                    "cut", f"{self.name}-cut", goods.collect_sell(world, self.second, *IRON, ask=True)
                )
            case "cancel":
                self.fleet.patch(f"{self.name}-cut", state="Cancelled")
            case "delete":
                for role in ("iron", "copper", "sand", "cut"):
                    self.fleet.delete(f"{self.name}-{role}")
                for name in (self.first, self.second):
                    self.fleet.delete(name, ASSETS)

    def _create(self, role: str, name: str, spec: Object, plural: str = JOBS) -> None:
        labels = {"life": self.name, "role": role}
        self.fleet.create(name, spec, plural, labels=labels)

    def _wish(self, stage: str) -> Callable[[Any], bool]:
        match stage:
            case "work":
                return self._worked
            case "load":
                return lambda seen: phase_is("ActionRequired", "ActionRequired")(seen.get("cut"))
            case "cancel":
                return lambda seen: phase_is("Cancelled")(seen["cut"]) and is_free(seen["second"])
        return lambda seen: seen is None

    def _worked(self, seen: Objects) -> bool:
        jobs = [seen[role] for role in ("iron", "copper", "sand")]
        told = not any(task.get("reports") for task in tasks_of(seen["sand"]).values())
        return all(DONE(job) for job in jobs) and told and all(is_free(seen[r]) for r in ("first", "second"))

    def _check(self, stage: str, obj: Any) -> None:
        died = f"{self.name} died {[(s, self.died_at(s)) for s in STAGES]}"
        trades = self.fleet.world.trades
        if stage == "work":
            iron, copper = bought_and("sale", *IRON), bought_and("sale", *COPPER)
            assert trades(self.first) in ([*iron, *copper], [*copper, *iron]), died
            assert trades(self.second) == bought_and("delivery", *SAND), died
            self._delivered(died)
            attempts = {
                name: t["attempt"]
                for role in ("iron", "copper", "sand")
                for name, t in tasks_of(obj[role]).items()
            }
            assert set(attempts.values()) == {1}, f"{died}: {attempts}"  # workers and shims lived on
        elif stage == "cancel":
            assert trades(self.second)[2:] == bought_and("sale", *IRON), died
            c = status_of(obj["second"])["compensation"]
            assert (c["attempt"], c["failures"], c["cause"]) == (1, 0, "HolderCancelled"), f"{died}: {c}"
            assert {t["attempt"] for job in self._liquidations(obj) for t in tasks_of(job).values()} == {1}, (
                died
            )
        if stage != "load":
            assert self.fleet.cargo(self.first) == self.fleet.cargo(self.second) == {}, died

    @staticmethod
    def _liquidations(seen: Objects) -> list[Object]:
        found = [obj for name, obj in seen.items() if name.startswith(f"{JOBS}/")]
        assert len(found) == 1
        return found

    def _delivered(self, died: str) -> None:
        """The factory has counted this life's delivery, once."""
        status = status_of(self.fleet.asset("factory-1"))
        mine = [d for d in status["deliveries"] if d["job"] == f"{self.name}-sand"]
        assert [(d["symbol"], d["units"], d["accepted"]) for d in mine] == [(*SAND, True)], f"{died}: {mine}"
