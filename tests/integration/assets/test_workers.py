"""The worker dies right before and right after each purchase, sale and delivery, alone or with everything else.

The world stops it there, "before" or "after" the line in its ledger is written; then the worker is killed, and then
the request goes on its way, or is lost: a request of the dead may still arrive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.assets.fleet import Fleet, Trade, bought_and, status_of
from tests.integration.assets.yard import Yard, yard
from tests.integration.jobs.workshop import completed, phase_is, tasks_of
from tests.support.plane import RealPlane
from tests.support.stage import eventually

POINTS = ["before", "after"]
SHAPES: dict[str, tuple[str, str, list[Trade]]] = {
    "collect": ("collect", "purchase", bought_and("sale")),
    "sell": ("sell", "sell", bought_and("sale")),
    "acquire": ("acquire", "purchase", bought_and("delivery", "QUARTZ_SAND")),
    "deliver": ("deliver", "deliver", bought_and("delivery", "QUARTZ_SAND")),
    "liquidate": ("liquidate", "sell", bought_and("sale")),
}
"""Of each task: its name, the operation that it is stopped in, and what the ledger must have in the end."""


@pytest.fixture(scope="module")
def one(plane: RealPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with yard(plane, tmp_path_factory.mktemp("workers")) as built:
        yield built


@pytest.fixture
def here(one: Yard) -> Iterator[Yard]:
    yield one
    if one.stage.shell.dead:
        one.stage.restart()
    one.fleet.delete_all()


def begun(fleet: Fleet, shape: str, ship: str) -> str:
    """Start what leads to that task; the name of the job that has it."""
    match shape:
        case "collect" | "sell":
            fleet.collect_sell(f"{shape}-{ship}", ship)
        case "acquire" | "deliver":
            fleet.new_factory()
            fleet.acquire_deliver(f"{shape}-{ship}", ship)
        case "liquidate":
            name = f"{shape}-{ship}"
            fleet.loaded(name, ship)
            fleet.patch(name, state="Cancelled")
            return f"{eventually(lambda: status_of(fleet.asset(ship)).get('compensation'), 'it')['batch']}-h0"
    return f"{shape}-{ship}"


def comes_to_its_end(fleet: Fleet, shape: str, ship: str, job: str) -> Any:
    """The job is completed, the ship free, and the ledger as if nobody had ever died."""
    obj = fleet.until(job, completed)
    fleet.until_free(ship)
    fleet.sold_once(ship, SHAPES[shape][2])
    if shape in ("acquire", "deliver"):
        delivered_once(fleet, job)
    return obj


def delivered_once(fleet: Fleet, job: str) -> None:
    """The factory's asset has counted what the world has, once."""

    def told() -> bool:
        return not any(task.get("reports") for task in tasks_of(fleet.get(job) or {}).values())

    eventually(told, "the job has forgotten its report, as it is taken in")
    status = status_of(fleet.asset("factory-1"))
    assert status["delivered"] == [{"symbol": "QUARTZ_SAND", "units": 40, "count": 1}]
    assert [(d["job"], d["units"], d["accepted"]) for d in status["deliveries"]] == [(job, 40, True)]


@pytest.mark.parametrize("when", ["before, and it is lost", "before, and it arrives late", "after"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_worker_is_killed(here: Yard, shape: str, when: str):
    fleet = here.fleet
    task, operation, _ = SHAPES[shape]
    ship, late = fleet.new_ship(), when.endswith("late")
    with fleet.held(operation, when.partition(",")[0], ship, late=late):
        job = begun(fleet, shape, ship)
        fleet.waits(ship)
        here.kill_worker(job, task)
        if late:  # beside that of the next attempt, which knows nothing of it
            fleet.waits(ship, 2)
    obj = comes_to_its_end(fleet, shape, ship, job)
    seen = tasks_of(obj)[task]
    if when == "after" and shape != "deliver":
        assert (seen["attempt"], seen["reason"]) == (1, "AlreadyDone"), "what is aboard was proof enough"
    else:
        assert (seen["attempt"], seen["state"]) == (2, "Completed")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(
    "shape",
    [pytest.param(one, marks=pytest.mark.soak) if one == "acquire" else one for one in SHAPES],  # as collect
)
def test_everything_is_killed(here: Yard, shape: str, point: str):
    """Operator, supervisord, fork server, shims and workers, all of them by kill -9, with a request under way."""
    fleet = here.fleet
    task, operation, _ = SHAPES[shape]
    ship = fleet.new_ship()
    with fleet.held(operation, point, ship, late=True):
        job = begun(fleet, shape, ship)
        fleet.waits(ship)
        here.kill_everything()
        here.stage.restart()
        if point == "before":  # it still may arrive, now beside that of the next attempt
            fleet.waits(ship, 2)
    obj = comes_to_its_end(fleet, shape, ship, job)
    assert tasks_of(obj)[task]["state"] in ("Completed", "Skipped")
    assert phase_is("Completed")(obj)
