"""Each mode of a restart, with everything that may be in its way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.stacks.desk import BACKEND, Desk, completed
from tests.integration.stacks.desk import desk as make_desk
from tests.support.plane import RealPlane


@pytest.fixture(scope="module")
def desk(plane: RealPlane) -> Iterator[Desk]:
    with make_desk(plane) as one:
        yield one


@pytest.mark.parametrize("mode", ["Full", "Quick", "Emergency", "Flush"])
def test_nothing_is_in_its_way(desk: Desk, mode: str):
    around, before = desk.around("backend"), desk.processes("backend")
    supervisor = desk.supervised("backend")
    restart = desk.over(desk.ask("backend", mode))
    completed(restart, mode, len(BACKEND))
    desk.running("backend")
    desk.looks_up("backend")
    assert desk.around("backend") == around
    after = desk.processes("backend")
    if mode == "Flush":
        assert after == before
        assert desk.supervised("backend") == supervisor
    else:
        assert not set(after.values()) & set(before.values())
        assert desk.supervised("backend") != supervisor
