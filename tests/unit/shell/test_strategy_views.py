"""Whose turn it is, from our copies of runs, strategies and libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mainstay.core.snapshot import Inputs
from mainstay.core.unit import Unit, UnitState
from mainstay.runtime.fake_strategies import FakeShelf
from mainstay.shell.store import Object, Store
from mainstay.shell.strategies.index import StrategyIndex
from mainstay.shell.strategies.sources import Sources
from mainstay.shell.strategies.views import Views

NOW = "2030-01-02T03:04:05Z"
OLD, NEW = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def condition(kind: str, *, true: bool) -> Object:
    return {"type": kind, "status": str(true), "reason": "R", "lastTransitionTime": NOW}


class House:
    """A library with a limit of one, its strategy after an edit, and users that run what was before."""

    def __init__(self) -> None:
        self.store, self.index, self.shelf = Store(), StrategyIndex(), FakeShelf()
        self.store.run_changed = self.index.saw_run
        sources = Sources(Path("/"), self.store, self.index, self.shelf)
        self.views = Views(self.store, self.index, sources, self.shelf)
        self.version = 0
        library = {"source": {"configMaps": {"matchLabels": {"a": "b"}}}, "rollout": {"maxUnavailable": 1}}
        self.index.libraries.put(self.made("main", library, {}))
        said = {"hash": NEW, "revision": NEW, "file": "Ema.py", "valid": True}
        self.index.put_strategy(self.made("ema", {"name": "Ema", "source": {"inline": "x = 2"}}, said))

    def made(self, name: str, spec: Object, status: Object) -> Object:
        self.version += 1
        meta = {"name": name, "namespace": "d", "uid": f"uid-{name}", "resourceVersion": str(self.version)}
        return {"metadata": meta, "spec": spec, "status": status}

    def run(self, name: str, *, stuck: bool = False, serving: bool = True) -> None:
        status: dict[str, Any] = {
            "phase": "Running",
            "attempt": 1,
            "strategy": {"name": "Ema", "hash": OLD, "file": "Ema.py"},
            "conditions": [condition("Serving", true=serving), condition("Stalled", true=stuck)],
        }
        spec = {"strategy": {"name": "Ema"}, "program": {"command": ["bot"]}}
        self.store.put_run(self.made(name, spec, status))

    def turn(self, name: str) -> bool:
        run = self.store.run(("d", name))
        assert run is not None
        unit = Unit(f"d.{name}", UnitState.RUNNING, attempt=1)
        found = self.views.resolution(("d", name), run, unit, Inputs(problem=("R", "words")))
        assert found.use is not None
        return found.use.hash == NEW


@pytest.fixture
def house() -> House:
    return House()


def test_the_first_by_name(house: House) -> None:
    for name in ("a", "b", "c"):
        house.run(name)
    assert [house.turn(name) for name in ("a", "b", "c")] == [True, False, False]


def test_one_that_does_not_serve_uses_the_limit_up_and_may_go_itself(house: House) -> None:
    house.run("a")
    house.run("b", serving=False)
    assert (house.turn("a"), house.turn("b")) == (False, True)


def test_one_that_cannot_be_restarted_holds_up_nobody(house: House) -> None:
    house.run("a", stuck=True)
    house.run("b")
    assert house.turn("b")


def test_who_waits_is_called_when_the_first_leaves(house: House) -> None:
    called: list[Any] = []
    house.index.turn_came = called.append
    house.run("a")
    house.run("b")
    assert not house.turn("b")
    assert house.index.waiting[("d", "main", "Ema")] == {("d", "b")}
    house.run("a", stuck=True)
    assert called == [("d", "main", "Ema")]
