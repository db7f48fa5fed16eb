"""What the shell's parts of assets are put together from: our copies, an API server of one dict, and a clock."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from mainstay.api.asset import Asset
from mainstay.runtime.fake_probes import FakeProbes
from mainstay.shell.assets.index import AssetIndex
from mainstay.shell.assets.observer import Observer, WorkKey
from mainstay.shell.kube import core_path
from mainstay.shell.store import Key, Object, Store

KEY: Key = ("d", "ship-1")
WHO: WorkKey = ("asset", *KEY)
JOB: WorkKey = ("job", "d", "haul")
URL = "http://127.0.0.1:1/ships/ship-1"
NOW = "2030-01-02T03:04:05Z"
CARGO = [{"symbol": "IRON_ORE", "units": 40}]
STEPS = [{"name": "s", "phases": [{"name": "p", "tasks": [{"name": "t", "program": {"command": ["t"]}}]}]}]


class Server:
    """An API server that is asked for single objects."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.before: Callable[[str], None] = lambda _: None
        """Called with every path before it is answered."""

    async def get(self, url: str) -> Object | None:
        self.asked.append(url)
        await asyncio.sleep(0)
        self.before(url)
        if self.error is not None:
            raise self.error
        return self.objects.get(url)

    def keep_secret(self, name: str, **data: str) -> None:
        encoded = {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}
        self.objects[core_path("secrets", "d", name)] = {"metadata": {"name": name}, "data": encoded}


@dataclass
class Clock:
    now: float = 1000.0

    @classmethod
    def of(cls, monkeypatch: pytest.MonkeyPatch, *modules: str) -> Clock:
        clock = cls()
        for module in modules:
            monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: clock.now))
        return clock


@dataclass
class House:
    """An observer, and all that it looks at."""

    clock: Clock
    index: AssetIndex = field(default_factory=AssetIndex)
    store: Store = field(default_factory=Store)
    server: Server = field(default_factory=Server)
    probes: FakeProbes = field(default_factory=FakeProbes)
    woken: list[WorkKey] = field(default_factory=list)
    answers: list[bool] = field(default_factory=list)
    version: int = 0

    def __post_init__(self) -> None:
        self.observer = Observer(self.index, self.store, self.server, self.probes)  # type: ignore[arg-type]
        self.observer.woken = self.woken.append
        self.observer.looked = lambda answered, _: self.answers.append(answered)
        self.probes.answers[URL] = CARGO

    def declare(self, *, uid: str = "u1", url: str = URL, name: str = "ship-1", **spec: Any) -> Asset:
        """The asset as it is now."""
        self.version += 1
        meta = {"name": name, "namespace": "d", "uid": uid, "resourceVersion": str(self.version)}
        said = {"holdings": {"probe": {"http": {"url": url}}, "everySeconds": 30}, **spec}
        self.index.put({"metadata": meta, "spec": {k: v for k, v in said.items() if v is not None}})
        asset = self.index.get(("d", name))
        assert asset is not None
        return asset

    def asset(self) -> Asset:
        asset = self.index.get(KEY)
        assert asset is not None
        return asset

    def good_for(self) -> frozenset[str]:
        return self.observer.good_for(self.observer.sight(KEY, self.asset()))

    def asking(self) -> frozenset[str]:
        return self.observer.asking(self.observer.sight(KEY, self.asset()))

    def looked(self) -> Any:
        looked = self.observer.sight(KEY, self.asset()).looked
        if looked is None:
            return None
        return looked.error or [(one.symbol, one.units) for one in looked.holdings or ()]


async def until(true: Callable[[], bool], turns: int = 500) -> None:
    """Let the loop turn until it is so."""
    for _ in range(turns):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def turns(count: int = 20) -> None:
    """Let everything happen that can."""
    for _ in range(count):
        await asyncio.sleep(0)
