"""Each mode of a restart, with everything that may be in its way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.stacks.desk import BACKEND, Desk, completed, failed
from tests.integration.stacks.desk import desk as make_desk
from tests.integration.stacks.programs import stranger
from tests.integration.stacks.troubles import TOGETHER, TROUBLES, Trouble, in_the_way
from tests.support.plane import RealPlane

MODES = ("Full", "Quick", "Emergency", "Flush")

pytestmark = [pytest.mark.xdist_group("stacks"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def desk(plane: RealPlane) -> Iterator[Desk]:
    with make_desk(plane) as one:
        yield one


def restarted(desk: Desk, mode: str, kinds: tuple[type[Trouble], ...]) -> None:
    """One restart with these troubles ends as it should, and touches nothing else."""
    desk.running("backend")
    around, before = desk.around("backend"), desk.processes("backend")
    supervisor, starts = desk.supervised("backend"), desk.starts("backend")
    troubles = [kind(desk, mode) for kind in kinds if mode not in kind.not_in]
    with in_the_way(troubles):
        name = desk.ask("backend", mode)
        for one in troubles:
            one.during(name)
        restart = desk.over(name)
        completed(restart, mode, len(BACKEND))
        for one in troubles:
            one.check(restart)
    desk.running("backend")
    desk.looks_up("backend")
    assert desk.around("backend") == around
    after, again = desk.processes("backend"), 0 if mode == "Flush" else 1
    assert {one: count - starts[one] for one, count in desk.starts("backend").items()} == dict.fromkeys(
        BACKEND, again
    )
    if mode == "Flush":
        assert after == before
    else:
        assert not set(after.values()) & set(before.values())
        assert desk.supervised("backend") != supervisor


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("together", TOGETHER)
def test_all_at_once(desk: Desk, together: str, mode: str):
    restarted(desk, mode, TOGETHER[together])


@pytest.mark.soak
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", TROUBLES, ids=lambda kind: kind.__name__)
def test_each_by_itself(desk: Desk, kind: type[Trouble], mode: str):
    if mode not in kind.not_in:
        restarted(desk, mode, (kind,))


def test_a_quick_one_ends_no_stranger(desk: Desk):
    around, before = desk.around("backend"), desk.processes("backend")
    supervisor, journal = desk.supervised("backend"), desk.journal("backend")
    port = desk.ports("backend")["btc_price_watchdog"]
    with stranger(port) as one:
        words = failed(desk.over(desk.ask("backend", "Quick")), "Quick", "CheckPorts")
        assert f"port {port} is held by pid {one.pid} (python" in words
        assert "Nothing was touched; `kubectl mainstay restart backend` ends strangers and restarts" in words
        assert one.lives
        assert desk.processes("backend") == before
        assert desk.supervised("backend") == supervisor
        assert desk.journal("backend") == journal
        desk.until("backend", lambda o: "restart" not in o["status"])
    assert desk.around("backend") == around
    desk.running("backend")
    desk.looks_up("backend")


def test_a_flush_leaves_the_supervisor(desk: Desk):
    supervisor = desk.supervised("backend")
    restarted(desk, "Flush", TROUBLES[:4])
    assert desk.supervised("backend") == supervisor
