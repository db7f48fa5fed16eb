"""Who looks again when an asset changed hands: who has it now at once, those that only tell of it later."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.shell.assets.houses import KEY, NOW
from tests.unit.shell.assets.places import NAME, a_job

from mainstay.shell.jobs.index import JobIndex
from mainstay.shell.stacks.index import StackIndex
from mainstay.shell.store import Key, Store
from mainstay.shell.strategies.index import StrategyIndex
from mainstay.shell.wakes import TOLD_SECONDS, Wakes, WorkKey


class Heard:
    """A queue that only notes what it is given."""

    def __init__(self) -> None:
        self.now: list[WorkKey] = []
        self.later: dict[WorkKey, float] = {}

    def add(self, key: WorkKey) -> None:
        self.now.append(key)

    def add_after(self, key: WorkKey, seconds: float) -> None:
        self.later[key] = seconds


def given_to(kind: str, name: str, uid: str) -> Heard:
    """What is woken as the asset goes to that one, with a job of a compensation and three others that claim it."""
    heard, index = Heard(), JobIndex()
    batch = [{"kind": "JobBatch", "name": NAME, "uid": "b1", "controller": True}]
    index.put_job(a_job("Pending", name=f"{NAME}-h0", uid="h0", ownerReferences=batch))
    for number in range(3):
        index.put_job(a_job("Pending", name=f"other-{number}", uid=f"o{number}"))
    wakes = Wakes(heard, Store(), index, StrategyIndex(), StackIndex())  # type: ignore[arg-type]
    wakes.awake = True
    index.assets.moved = wakes.users_of_asset
    put(index, KEY, 1)
    heard.now.clear()
    put(index, KEY, 2, holder={"kind": kind, "name": name, "uid": uid, "since": NOW})
    return heard


def put(index: JobIndex, key: Key, version: int, **status: Any) -> None:
    meta = {"namespace": key[0], "name": key[1], "uid": "u1", "resourceVersion": str(version)}
    index.assets.put({"metadata": meta, "spec": {}, "status": status})


@pytest.mark.parametrize(
    ("holder", "woken"),
    [(("PhasedJob", "other-1", "o1"), "other-1"), (("JobBatch", NAME, "b1"), f"{NAME}-h0")],
    ids=["a job", "a compensation"],
)
def test_who_has_it_now_begins_at_once(holder: tuple[str, str, str], woken: str) -> None:
    heard = given_to(*holder)
    assert heard.now == [("job", KEY[0], woken)]
    assert len(heard.later) == 3
    assert set(heard.later.values()) == {3 * TOLD_SECONDS}
