"""Assets, jobs and the world of one namespace: what tests ask for, wait for and judge by."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.integration.assets import goods
from tests.integration.jobs.workshop import Desk, phase_is
from tests.support.stage import PATIENCE, Object, Stage, condition, eventually
from tests.support.world import World

from mainstay.api.meta import API_VERSION
from mainstay.shell.kube import ASSETS, BATCHES, JOBS, path

KINDS = {JOBS: "PhasedJob", BATCHES: "JobBatch", ASSETS: "Asset"}
SHIPS = 2000
"""Of a world that a module of tests shares: each test takes new ones."""

Trade = tuple[str, str, int]


def bought_and(end: str, good: str = "IRON_ORE", units: int = 40) -> list[Trade]:
    """What the ledger has of one round: bought once, and sold, delivered or jettisoned once."""
    return [("purchase", good, units), (end, good, units)]


# --- what an asset says


def status_of(obj: Object | None) -> Object:
    return (obj or {}).get("status") or {}


def is_free(obj: Object) -> bool:
    """Nobody's, empty, looked at, and nothing is under way."""
    status = status_of(obj)
    c = status.get("compensation")
    return (
        status.get("state") == "Free"
        and "holder" not in status
        and not status.get("holdings")
        and condition(obj).get("status") == "True"
        and (c is None or "endedAt" in c)
    )


def says(state: str, reason: str = "") -> Callable[[Object], bool]:
    """Its state, and the reason of Ready."""

    def is_so(obj: Object) -> bool:
        return status_of(obj).get("state") == state and reason in ("", condition(obj).get("reason"))

    return is_so


def held_by(name: str) -> Callable[[Object], bool]:
    return lambda obj: (status_of(obj).get("holder") or {}).get("name") == name


@dataclass
class Fleet(Desk):
    """A desk with assets, beside a world."""

    world: World = field(kw_only=True)
    numbers: Iterator[int] = field(default_factory=lambda: count(1), kw_only=True)
    ships: list[str] = field(default_factory=list, kw_only=True)

    # --- to declare

    def create(
        self, name: str, spec: Object, plural: str = JOBS, labels: dict[str, str] | None = None
    ) -> Object:
        meta = {"name": name, "namespace": self.namespace, "labels": labels or {}}
        body = {"apiVersion": API_VERSION, "kind": KINDS[plural], "metadata": meta, "spec": spec}
        with self.connect() as client:
            return client.ok("POST", path(plural, self.namespace), body)

    def new_ship(self, **changes: Any) -> str:
        """A ship that nobody had before, and its asset; its name."""
        name = f"ship-{next(self.numbers)}"
        self.ships.append(name)
        self.create(name, goods.ship(self.world.url, name, **changes), ASSETS)
        return name

    def new_factory(self, name: str = "factory-1") -> str:
        self.create(name, goods.factory(self.world.url, name), ASSETS)
        return name

    def collect_sell(self, name: str, ship: str, **more: Any) -> Object:
        return self.create(name, goods.collect_sell(self.world.url, ship, **more))

    def acquire_deliver(self, name: str, ship: str, **more: Any) -> Object:
        return self.create(name, goods.acquire_deliver(self.world.url, ship, **more))

    def loaded(self, name: str, ship: str, **more: Any) -> Object:
        """A job that waits for a person, with its cargo aboard."""
        self.collect_sell(name, ship, ask=True, **more)
        obj = self.until(name, phase_is("ActionRequired", "ActionRequired"))
        assert self.cargo(ship)
        return obj

    def cargo(self, ship: str) -> dict[str, int]:
        """What is aboard, asked where workers ask: that answers while probes fail."""
        inventory = self.world.get(f"/my/ships/{ship}/cargo")["inventory"]
        return {one["symbol"]: one["units"] for one in inventory}

    # --- to watch

    def asset(self, name: str) -> Object:
        found = self.get(name, ASSETS)
        assert found is not None, f"there is no asset {name}"
        return found

    def until_asset(
        self, name: str, is_so: Callable[[Object], bool], seconds: float = PATIENCE, *, never: str = ""
    ) -> Object:
        """The asset, once it is so; it must not be in the state `never` before."""
        until = time.monotonic() + seconds
        while True:
            obj = self.try_get(name, ASSETS)
            if obj is not None and is_so(obj):
                return obj
            assert obj is None or not never or status_of(obj).get("state") != never, status_of(obj)
            assert time.monotonic() < until, f"{name}: {status_of(obj)}\n{self.explain()}"
            time.sleep(0.01)

    def until_free(self, *names: str, seconds: float = PATIENCE) -> None:
        for name in names:
            self.until_asset(name, is_free, seconds)

    def stays(self, name: str, is_so: Callable[[Object], bool], looks: int = 3) -> None:
        """It is so, and still is after its probe was asked that often."""
        for _ in range(looks):
            self.look(name)
            assert is_so(self.asset(name)), status_of(self.asset(name))

    def stays_so(self, name: str, is_so: Callable[[Object], bool], seconds: float = 0.5) -> None:
        """It is so all the time, for that long: where no look can tell that the operator has seen all there is."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert is_so(self.asset(name)), status_of(self.asset(name))

    def look(self, name: str) -> None:
        """Have the probe asked, by declaring it anew: whatever the asset says then was seen after this."""
        spec = self.asset(name)["spec"]["holdings"]
        every = spec["everySeconds"]
        seconds = spec["probe"].get("timeoutSeconds", 5)
        changed = {
            **spec,
            "everySeconds": every + 1,
            "probe": {**spec["probe"], "timeoutSeconds": seconds % 9 + 2},
        }
        self.patch(name, ASSETS, holdings=changed)

        def seen(obj: Object) -> bool:
            observed = condition(obj, "HoldingsObserved")
            return (
                status_of(obj).get("observedGeneration") == obj["metadata"]["generation"]
                and observed.get("observedGeneration") == obj["metadata"]["generation"]
            )

        self.until_asset(name, seen)

    def batches(self) -> list[Object]:
        with self.connect() as client:
            return client.ok("GET", path(BATCHES, self.namespace))["items"]

    def events(self, name: str) -> list[tuple[str, str]]:
        """(reason, message) of what was told of an object, oldest first."""
        with self.connect() as client:
            items = client.ok("GET", f"/api/v1/namespaces/{self.namespace}/events?limit=500")["items"]
        ours = [i for i in items if i["involvedObject"]["name"] == name]
        return [(i["reason"], i["message"]) for i in ours]

    def until_event(self, name: str, reason: str) -> str:
        """Its message, once it was told."""

        def look() -> str:
            return next((words for one, words in self.events(name) if one == reason), "")

        return str(eventually(look, f"event {reason} of {name}"))

    def versions(self) -> dict[str, str]:
        """The resourceVersion of everything here: what differs later was written."""
        with self.connect() as client:
            return {
                f"{plural}/{i['metadata']['name']}": i["metadata"]["resourceVersion"]
                for plural in KINDS
                for i in client.ok("GET", path(plural, self.namespace))["items"]
            }

    # --- to stop the world

    @contextmanager
    def held(self, operation: str, point: str, ship: str, *, late: bool = False) -> Iterator[None]:
        """The ship's requests of that sort wait before their line in the ledger, or after it."""
        self.world.set("hold", operation=operation, point=point, ship=ship, late=late)
        try:
            yield
        finally:
            self.world.forget("hold")

    def waits(self, ship: str, number: int = 1) -> list[Object]:
        """The requests of this ship that are held, once there are so many."""

        def look() -> list[Object]:
            found = [one for one in self.world.get("/admin/held") if one["ship"] == ship]
            return found if len(found) >= number else []

        return list(eventually(look, f"{number} requests of {ship} wait; {self.explain()}"))

    # --- to judge

    def sold_once(self, ship: str, *expected: list[Trade]) -> None:
        """The ledger has exactly these of the ship, nothing is aboard, and the whole world is sound."""
        trades = self.world.trades(ship)
        assert trades == [one for some in expected for one in some], f"{ship}: {trades}"
        assert self.cargo(ship) == {}
        found = self.world.get("/audit")
        assert found["ok"], found["violations"]

    def still(self, seconds: float = 1.2, tries: int = 3) -> None:
        """Nothing of ours is written for that long; a look of the operator's own at everything may end once more."""
        for _ in range(tries):
            before = self.versions()
            time.sleep(seconds)
            after = self.versions()
            changed = {k for k in before | after if before.get(k) != after.get(k)}
            if not changed:
                return
        raise AssertionError(f"still written: {changed}")

    def delete_all(self) -> None:
        """Every object goes, as it should when the world is well."""
        with suppress(AssertionError):
            self.world.forget("hold")
        self.world.forget("failures")
        for ship in self.ships:
            for good, units in self.cargo(ship).items():
                self.world.act(ship, "jettison", symbol=good, units=units)
        with self.connect() as client:
            for plural in (BATCHES, JOBS, ASSETS):
                for item in client.ok("GET", path(plural, self.namespace))["items"]:
                    url = path(plural, self.namespace, item["metadata"]["name"])
                    client.ask("DELETE", url)
                    if (
                        condition(item, "HoldingsObserved").get("status") == "False"
                    ):  # it can't be seen to be empty
                        client.merge(url, {"metadata": {"finalizers": None}})
        try:
            eventually(lambda: not self.versions(), "no object is left")
        except AssertionError as error:
            raise AssertionError(f"{error}: {sorted(self.versions())}; {self.explain()}") from None
        self.ships.clear()
        found = self.world.get("/audit")
        assert found["ok"], found["violations"]


def fleet_of(stage: Stage, world: World) -> Fleet:
    """The fleet of a stage."""
    return Fleet(
        stage.namespace,
        stage.judge,
        lambda: nullcontext(stage.client),
        lambda: f"effects: {stage.shell.effects[-20:]}",
        world=world,
    )
