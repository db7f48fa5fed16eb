"""The operator dies before and after the writes and effects of a restart; the next one goes on, and ends it.

What an undisturbed restart does is learned first. `make test` dies at some of its points, `make soak` at every one, and
at every third with a second death in the recovery.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.stacks.desk import Desk, completed, free
from tests.integration.stacks.desk import desk as make_desk
from tests.integration.stacks.programs import DAEMON, service, stranger
from tests.support.plane import RealPlane
from tests.support.stage import Object, Plan, eventually, ready

pytestmark = [pytest.mark.xdist_group("stacks"), pytest.mark.timeout(300)]

SERVICES = 4
SAMPLE = {"Full": 10, "Emergency": 6}
SOAK_CHUNKS = 8
RECOVERY = 6
"""Effects of a successor at which it dies as well."""


@pytest.fixture(scope="module")
def desk(plane: RealPlane) -> Iterator[Desk]:
    with make_desk(plane, runs=2, stacks=False) as one:
        ports = free(one, 4)
        one.create(
            "swept",
            [
                service(one.judge, "watch", "Background", ports[0]),
                service(one.judge, "poller", "Background", ports[1], program=DAEMON, grace=1),
                service(one.judge, "trade", "Http", ports[2], after=("watch", "poller"), http=True),
                service(one.judge, "app", "Http", ports[3], after=("trade",)),
            ],
        )
        one.create("other", [service(one.judge, "web", "Background")])
        one.running("swept")
        one.running("other")
        yield one


@pytest.fixture(scope="module")
def undisturbed(desk: Desk) -> dict[str, list[Plan]]:
    """Every point of each mode: before each effect, and after each that was finished."""
    found = {}
    for mode in SAMPLE:
        through(desk, mode, [])
        effects, finished = list(desk.stage.shell.effects), set(desk.stage.shell.finished)
        assert "launch supervisord" in effects
        found[mode] = [
            Plan(number, when)
            for number in range(len(effects))
            for when in ("before", "after")
            if when == "before" or number in finished
        ]
    return found


def through(desk: Desk, mode: str, plans: list[Plan]) -> int:
    """One restart, in which one operator after the other dies as planned; how many did."""
    desk.running("swept")
    around, before, starts = desk.around("swept"), desk.processes("swept"), desk.starts("swept")
    supervisor, deaths, plans = desk.supervised("swept"), 0, list(plans)
    with stranger(desk.ports("swept")["watch"]) as foreign, stranger(desk.reserved) as reserved:
        desk.stage.shell.expect(plans.pop(0) if plans else None)
        name = desk.ask("swept", mode)
        found: list[Object] = []

        def over() -> bool:
            nonlocal deaths
            if desk.stage.shell.died.is_set():
                deaths += 1
                desk.stage.crash()
                desk.stage.restart(plans.pop(0) if plans else None)
            found[:] = [desk.restart_of(name)]
            if (found[0].get("status") or {}).get("phase") not in {"Completed", "Failed"}:
                return False
            stack = desk.get("swept")  # its last write comes after that
            return "restart" not in stack["status"] and ready("Running")(stack)

        try:
            eventually(over, name, 60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {found[0].get('status')}") from None
        completed(found[0], mode, SERVICES)
        assert foreign.ended_by() == 0
        assert reserved.lives
    if desk.stage.shell.died.is_set():  # with its last effect: its successor must find nothing to do
        deaths += 1
        desk.stage.crash()
        desk.stage.restart()
    desk.running("swept")
    desk.looks_up("swept")
    assert desk.around("swept") == around
    again = {one: count - starts[one] for one, count in desk.starts("swept").items()}
    assert all(1 <= count <= (2 if plans or deaths else 1) for count in again.values()), again
    assert not set(desk.processes("swept").values()) & set(before.values())
    assert desk.supervised("swept") != supervisor
    return deaths


def sweep(desk: Desk, mode: str, all_plans: list[list[Plan]], reached: float) -> None:
    deaths = 0
    for plans in all_plans:
        words = [f"{plan.when} {plan.number}" for plan in plans]
        try:
            deaths += through(desk, mode, plans)
        except AssertionError as error:
            did = list(desk.stage.shell.effects)
            raise AssertionError(f"{mode}, died {words}: {error}\nthen it did {did}") from error
    assert deaths >= reached * sum(map(len, all_plans)), f"only {deaths} deaths were reached"


@pytest.mark.parametrize("mode", SAMPLE)
def test_a_death_in_a_restart(desk: Desk, undisturbed: dict[str, list[Plan]], mode: str):
    points = undisturbed[mode]
    step = len(points) / SAMPLE[mode]
    sample = [points[int((number + 0.5) * step)] for number in range(SAMPLE[mode])]
    sweep(desk, mode, [[plan] for plan in sample], 0.6)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chunk", range(SOAK_CHUNKS))
@pytest.mark.parametrize("mode", SAMPLE)
def test_a_death_at_every_effect(desk: Desk, undisturbed: dict[str, list[Plan]], mode: str, chunk: int):
    sweep(desk, mode, [[plan] for plan in undisturbed[mode][chunk::SOAK_CHUNKS]], 0.8)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(RECOVERY))
@pytest.mark.parametrize("mode", SAMPLE)
def test_a_second_death_in_the_recovery(
    desk: Desk, undisturbed: dict[str, list[Plan]], mode: str, number: int
):
    some = undisturbed[mode][number::RECOVERY]
    sweep(desk, mode, [[plan, Plan(number, "before")] for plan in some], 0.4)
