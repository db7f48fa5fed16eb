"""What tasks say of an asset counts once, whoever crashes between the task and here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.asset.worlds import IRON, JOB, NOW, World, a_spec, an_asset, holdings, job_holder, report

from mainstay.api.asset import DELIVERIES_SHOWN, REPORTS_MAX, TOTALS_MAX, AssetStatus
from mainstay.core import plan as p
from mainstay.core import reasons
from mainstay.core.asset.decide import decide
from mainstay.core.asset.reports import OTHERS
from mainstay.core.asset.snapshot import HolderState, HolderView, LookedUp, ReportView

ACTIVE = HolderView(HolderState.ACTIVE)


def a_world(*reports: ReportView, probe: bool = False, accepts: bool = False, **status: Any) -> World:
    asset = an_asset(a_spec(probe=probe, accepts=accepts), holder=job_holder(), **status)
    return World(asset, {JOB: ACTIVE}, reports=reports, next_look=30.0)


def iron(number: int, units: int = 5, *, at: float = 0.0) -> ReportView:
    return report(number, at=at, deliveries=[{"symbol": "IRON_ORE", "units": units}])


def totals(status: AssetStatus) -> dict[str, tuple[int, int]]:
    return {one.symbol: (one.units, one.count) for one in status.delivered}


def test_a_report_counts_once_for_as_long_as_its_job_carries_it() -> None:
    world = a_world(iron(1), iron(2, 7))
    world.settle()
    for _ in range(3):
        assert totals(world.status) == {"IRON_ORE": (12, 2)}
        world.settle()
    assert set(world.status.taken) == {"u/t1/1", "u/t2/1"}
    world.reports = (iron(2, 7), iron(3, 1))
    world.settle()
    assert totals(world.status) == {"IRON_ORE": (13, 3)}
    assert set(world.status.taken) == {"u/t2/1", "u/t3/1"}
    world.reports = ()
    world.settle()
    assert (totals(world.status), world.status.taken) == ({"IRON_ORE": (13, 3)}, ())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whoever_crashes(data: st.DataObject) -> None:
    """A write is lost, the status is read late, a job forgets when it is told: every delivery counts exactly once."""
    world, carried, made, delivered = a_world(), dict[str, ReportView](), 0, 0
    for _ in range(data.draw(st.integers(1, 15))):
        match data.draw(st.sampled_from(["report", "pass", "lost write", "forget"])):
            case "report":
                made += 1
                one = iron(made, made, at=float(-made))
                carried[one.id] = one
                delivered += made
            case "pass":
                world.settle()
            case "lost write":
                decide(world.snapshot())
            case "forget":  # the job drops what the status that it sees names
                carried = {k: v for k, v in carried.items() if k not in world.status.taken}
        world.reports = tuple(carried.values())
    world.settle()
    assert totals(world.status) == ({"IRON_ORE": (delivered, made)} if made else {})


def test_in_the_order_in_which_the_tasks_ended() -> None:
    one, two = (report(n, at=at, holdings=[{"symbol": "X", "units": n}]) for n, at in ((1, 5.0), (2, 1.0)))
    for reports in ((one, two), (two, one)):
        world = a_world(*reports)
        world.settle()
        assert world.status.holdings == holdings(X=1)
        assert world.status.taken == (two.id, one.id)


def test_holdings_are_what_is_told_last_without_zeros_by_symbol() -> None:
    told = [{"symbol": "B", "units": 1}, {"symbol": "A", "units": 2}, {"symbol": "C", "units": 0}]
    world = a_world(report(1, holdings=told), holdings=IRON)
    world.settle()
    assert (world.status.holdings, world.status.summary) == (holdings(A=2, B=1), "A 2, B 1")
    assert world.status.holdings_changed_at == NOW
    world.reports = (*world.reports, report(2, at=1, deliveries=[{"symbol": "A", "units": 2}]))
    world.now += timedelta(hours=1)
    world.settle()
    assert (world.status.holdings, world.status.holdings_changed_at) == (holdings(A=2, B=1), NOW)


def test_a_symbol_that_is_told_twice_is_told_once() -> None:
    """The API server takes a list by symbol: two of one would be refused, for ever."""
    told = [{"symbol": "A", "units": 1}, {"symbol": "B", "units": 0}, {"symbol": "A", "units": 2}]
    world = a_world(report(1, holdings=told))
    world.settle()
    assert world.status.holdings == holdings(A=3)


def test_more_than_can_be_counted_is_the_most_that_can() -> None:
    """Whatever a task says, the asset goes on."""
    most = [{"symbol": "A", "units": 2**53}] * 2
    world = a_world(report(1, holdings=most, deliveries=most))
    world.settle()
    assert world.status.holdings == holdings(A=2**53)
    assert totals(world.status) == {"A": (2**53, 2)}


def test_a_probe_knows_better_than_what_tasks_say_is_in_it() -> None:
    world = a_world(
        report(1, holdings=[{"symbol": "X", "units": 9}], deliveries=[{"symbol": "X", "units": 1}]),
        probe=True,
    )
    world.cargo = IRON
    world.look("periodic")
    world.settle()
    assert (world.status.holdings, totals(world.status)) == (IRON, {"X": (1, 1)})


def test_the_latest_are_shown_one_by_one_and_the_totals_have_them_all() -> None:
    world = a_world(*(iron(n, n, at=float(n)) for n in range(1, DELIVERIES_SHOWN + 6)))
    world.settle()
    assert [one.units for one in world.status.deliveries] == list(range(6, DELIVERIES_SHOWN + 6))
    assert world.status.deliveries[-1].task == f"t{DELIVERIES_SHOWN + 5}"
    count = DELIVERIES_SHOWN + 5
    assert totals(world.status) == {"IRON_ORE": (sum(range(1, count + 1)), count)}


def test_symbols_beyond_what_status_has_room_for_are_counted_together() -> None:
    names = [f"S{n:04}" for n in range(TOTALS_MAX + 50)]
    batches = [names[n : n + 16] for n in range(0, len(names), 16)]
    world = a_world(
        *(
            report(n, at=n, deliveries=[{"symbol": s, "units": 2} for s in group])
            for n, group in enumerate(batches)
        )
    )
    world.settle()
    told = totals(world.status)
    assert len(told) == TOTALS_MAX
    assert told[OTHERS] == (2 * 51, 51)
    world.reports = (
        report(99, deliveries=[{"symbol": names[0], "units": 1}, {"symbol": names[-1], "units": 1}]),
    )
    world.settle()
    told = totals(world.status)
    assert (told[names[0]], told[OTHERS]) == ((3, 2), (2 * 51 + 1, 52))
    assert sum(units for units, _ in told.values()) == 2 * len(names) + 2


def test_more_reports_than_status_has_room_for_wait_and_are_counted() -> None:
    reports = [iron(n, 1, at=float(n)) for n in range(REPORTS_MAX + 30)]
    world = a_world(*reports)
    world.settle()
    assert len(world.status.taken) == REPORTS_MAX
    assert totals(world.status) == {"IRON_ORE": (REPORTS_MAX, REPORTS_MAX)}
    world.reports = tuple(one for one in reports if one.id not in world.status.taken)
    world.settle()
    assert totals(world.status) == {"IRON_ORE": (REPORTS_MAX + 30, REPORTS_MAX + 30)}


# --- what it accepts


def test_what_is_not_accepted_is_told_until_it_is() -> None:
    world = a_world(iron(1), report(2, deliveries=[{"symbol": "FUEL", "units": 1}]), accepts=True)
    world.settle()
    assert [(one.symbol, one.accepted) for one in world.status.deliveries] == [
        ("IRON_ORE", False),
        ("FUEL", True),
    ]
    assert world.reason("UnexpectedInput") == reasons.UNEXPECTED_INPUT
    plan = decide(world.snapshot(looked_up=LookedUp(accepts=("FUEL", "IRON_ORE"))))
    assert isinstance(plan, p.Write)
    world.write(plan.status)
    assert world.reason("UnexpectedInput") == reasons.INPUTS_ACCEPTED
    assert not world.status.deliveries[0].accepted  # as it was when it was delivered


def test_a_delivery_waits_until_it_is_known_what_is_accepted() -> None:
    world = a_world(iron(1), accepts=True)
    plan = decide(world.snapshot(looked_up=None))
    assert isinstance(plan, p.Write)
    assert (plan.status.taken, plan.status.delivered) == ((), ())
    told = decide(world.snapshot(looked_up=LookedUp(error="no answer")))
    assert isinstance(told, p.Write)
    assert [one.accepted for one in told.status.deliveries] == [True]


def test_everything_is_accepted_where_no_probe_tells() -> None:
    world = a_world(iron(1))
    world.settle()
    assert [one.accepted for one in world.status.deliveries] == [True]
    assert world.reason("UnexpectedInput") == ""
