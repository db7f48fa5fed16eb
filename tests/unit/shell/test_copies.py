"""Lists and what comes in beside them."""

from __future__ import annotations

from typing import Any

import pytest

from mainstay.shell.copies import Copies
from mainstay.shell.jobs.index import JobIndex
from mainstay.shell.kube import POOLS
from mainstay.shell.stacks.index import StackIndex
from mainstay.shell.store import HistoryLostError, Store
from mainstay.shell.strategies.index import StrategyIndex


def pool(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}, "spec": {"ranges": []}}


class Pages:
    """An API server that answers with these versions, page after page; between them something is written."""

    def __init__(self, *versions: int) -> None:
        self.versions = versions
        self.copies: Copies | None = None

    async def pages(self, _: str) -> Any:
        for version in self.versions:
            if self.copies is not None:  # while the answer is on its way
                self.copies.take(POOLS, False, pool("hot", version + 1))
            yield {"metadata": {"resourceVersion": str(version)}, "items": [pool("cold", 3)]}


def made(kube: Pages) -> Copies:
    return Copies(Store(), JobIndex(), StrategyIndex(), StackIndex(), kube)  # type: ignore[arg-type]


async def test_what_was_written_while_a_list_was_on_its_way_is_no_older_server():
    kube = Pages(10, 10)
    copies = kube.copies = made(kube)
    await copies.list(POOLS)
    assert copies.kind(POOLS).newest == 11
    assert set(copies.kind(POOLS).objects) == {("", "cold"), ("", "hot")}


async def test_a_list_that_is_older_than_what_was_seen_before_it_is_asked_for():
    kube = Pages(10)
    copies = made(kube)
    copies.take(POOLS, False, pool("hot", 11))
    with pytest.raises(HistoryLostError):
        await copies.list(POOLS)
