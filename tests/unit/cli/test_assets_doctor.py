"""What `mainstay doctor` finds of assets: each fault with a way out, and nothing of what goes on by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.fleet import COMPENSATED, IRON, SINCE, Fleet, claim, condition, holder, iron

from mainstay.cli import assetchecks
from mainstay.cli.checks import Finding, Mark
from mainstay.cli.cluster import Target, everything
from mainstay.cli.home import Home
from mainstay.shell.kube import JOBS, path

TARGET = Target(Home(Path("/nowhere")))
ORPHANED = condition("Ready", "False", "HeldOrphaned", "job/gone left IRON_ORE 40")
STALLED = condition("Stalled", "True", "HoldingsLeft", "job/gone completed, and left IRON_ORE 40")
BLIND = condition("HoldingsObserved", "False", "ProbeFailed", "GET http://127.0.0.1:8090/my/ships/1: 503")
LATER = "2099-01-01T00:00:00Z"


@pytest.fixture
def fleet() -> Fleet:
    made = Fleet()
    made.objects.pop(path(JOBS, "default", "early"))  # it waits for an asset that is not there
    made.objects.pop(path(JOBS, "other", "elsewhere"))
    return made


def found(fleet: Fleet) -> list[Finding]:
    async def look() -> list[Finding]:
        kube: Any = fleet
        known = {JOBS: await everything(kube, JOBS), **await assetchecks.gather(kube)}
        return list(assetchecks.of_assets(TARGET, known))

    return asyncio.run(look())


def the_one(fleet: Fleet, mark: Mark = Mark.WRONG) -> Finding:
    (one,) = found(fleet)
    assert one.mark is mark
    assert one.way
    return one


def comp(**told: Any) -> dict[str, Any]:
    return {
        "batch": "s-c2", "attempt": 2, "failures": 0, "cause": "JobCancelled", "holdings": IRON, "startedAt": SINCE,
        **told,
    }  # fmt: skip


def test_a_fleet_at_work_is_fine(fleet):
    fleet.ship("s", "HeldOrphaned", holder("s-c2", "JobBatch"), None, ORPHANED, compensation=comp(), **iron())
    fleet.batch("s-c2", "InProgress")
    fleet.ship("t", "HeldOrphaned", holder("gone"), None, ORPHANED, **iron())  # claimed in the next moment
    (one,) = found(fleet)
    assert one.mark is Mark.FINE
    assert one.words == "5 assets: all are seen, none is stranded, no job waits in vain"


def test_no_assets_no_words(fleet):
    fleet.objects = {}
    assert found(fleet) == []


def test_a_probe_that_fails_is_told_in_its_own_words(fleet):
    fleet.ship("s", "Unknown", None, None, BLIND, STALLED)
    one = the_one(fleet)
    assert one.words == "what is in 1 asset is not known: the probe fails, and nothing is released"
    assert one.details == (
        "asset/s in namespace default: ProbeFailed: GET http://127.0.0.1:8090/my/ships/1: 503",
    )
    assert "kubectl edit asset s" in one.way


def test_what_is_accepted_is_not_known(fleet):
    fleet.ship("s", "Free", None, None, condition("AcceptsObserved", "False", "ProbeFailed", "timed out"))
    assert the_one(fleet, Mark.ATTENTION).details == ("asset/s in namespace default: timed out",)


def test_stranded_without_a_template(fleet):
    told = condition("Stalled", "True", "NoCompensation", "spec.compensation does not say how to empty it")
    fleet.ship("s", "HeldOrphaned", None, {"type": "Ship"}, ORPHANED, told, **iron())
    one = the_one(fleet)
    assert one.words.startswith("1 asset stranded")
    assert one.details == ("asset/s in namespace default has IRON_ORE 40, and no compensation template",)
    assert one.way.startswith(
        "mainstay status asset/s tells how: spec.compensation empties it, or a job takes it"
    )


def test_unexpected_deliveries_are_worth_a_look(fleet):
    odd = condition("UnexpectedInput", "True", "UnexpectedInput", "delivered, and not accepted: GOLD")
    fleet.ship("f", "Free", None, None, odd)
    one = the_one(fleet, Mark.ATTENTION)
    assert one.words == "1 asset got what it does not accept"
    assert one.details == (
        "asset/f in namespace default: UnexpectedInput: delivered, and not accepted: GOLD",
    )


def test_a_compensation_that_can_not_be_made(fleet):
    told = condition("Stalled", "True", "CompensationBlocked", "s-c2 can't be made: denied")
    fleet.ship("s", "HeldOrphaned", holder("gone"), None, ORPHANED, told, compensation=comp(), **iron())
    assert the_one(fleet).details == (
        "asset/s in namespace default: CompensationBlocked: s-c2 can't be made: denied",
    )


def test_left_by_a_completed_job(fleet):
    fleet.ship("s", "HeldOrphaned", None, COMPENSATED, ORPHANED, STALLED, **iron())
    one = the_one(fleet)
    assert one.details == (
        "asset/s in namespace default has IRON_ORE 40: HoldingsLeft: job/gone completed, and left IRON_ORE 40",
    )


def test_a_compensation_that_fails_says_why_and_when(fleet):
    told = comp(failures=3, endedAt=SINCE, retryAt=LATER)
    fleet.ship("s", "HeldOrphaned", holder("s-c2", "JobBatch"), None, ORPHANED, compensation=told, **iron())
    one = the_one(fleet)
    assert one.words == "the compensation of 1 asset fails; it is tried again until the asset is empty"
    (line,) = one.details
    assert (
        "asset/s in namespace default (IRON_ORE 40): batch/s-c2, 3 times in a row, because of JobCancelled"
        in line
    )
    assert "tried again in " in line
    assert one.way == "mainstay status batch/s-c2"


@pytest.mark.parametrize("phase", ["ActionRequired", "Suspended"])
def test_a_compensation_that_waits_for_a_person(fleet, phase):
    fleet.ship("s", "HeldOrphaned", holder("s-c2", "JobBatch"), None, ORPHANED, compensation=comp(), **iron())
    fleet.batch("s-c2", phase, condition("Ready", "False", "JobsNeedAction", "iron-ore needs somebody"))
    one = the_one(fleet)
    assert "waits for a person" in one.words
    assert f"batch/s-c2 is {phase}: JobsNeedAction: iron-ore needs somebody" in one.details[0]


def test_stalled_for_another_reason_is_told_once(fleet):
    fleet.ship("s", "Held", holder("mine"), None, STALLED)
    assert the_one(fleet).words == "1 asset is stalled, and goes no further until somebody acts"


def test_a_job_that_waits_for_nothing_that_exists(fleet):
    fleet.job("early", "Pending", claim("ship-1", "ghost"))
    fleet.job("viewer", "Pending", claim("phantom", mode="Shared"), namespace="other")
    fleet.job("over", "Cancelled", claim("ghost"))
    one = the_one(fleet)
    assert one.words == "2 jobs wait for assets that do not exist"
    assert one.details == (
        "job/early in namespace default: asset/ghost",
        "job/viewer in namespace other: asset/phantom",
    )
    assert "mainstay cancel job/early" in one.way


@pytest.mark.parametrize(
    ("phase", "more", "way"),
    [
        ("ActionRequired", {"resumable": True}, "mainstay resume job/mine"),
        ("Suspended", {}, "mainstay start job/mine"),
    ],
)
def test_a_job_that_waits_behind_one_that_stands_still(fleet, phase, more, way):
    fleet.job(
        "mine", phase, claim("ship-1"), condition("Ready", "False", "TaskFailed", "sell: exit code 3"), **more
    )
    fleet.job("paused", "Suspended", claim("ship-1"))
    one = the_one(fleet, Mark.ATTENTION)
    why = ": TaskFailed: sell: exit code 3" if phase == "ActionRequired" else ""
    assert one.details == (
        f"asset/ship-1 in namespace default: job/mine in namespace default has it and is {phase}{why}; job/late waits",
    )
    assert one.way == f"{way}; or mainstay cancel job/mine, which lets the next one in"


def test_a_job_that_waits_behind_one_that_waits_for_nothing_that_exists(fleet):
    told = condition("Ready", "Unknown", "AssetNotFound", "asset ghost does not exist")
    fleet.job("mine", "Pending", claim("ship-1", "ghost"), told)
    nowhere, behind = found(fleet)
    assert nowhere.details == ("job/mine in namespace default: asset/ghost",)
    assert behind.details == (
        "asset/ship-1 in namespace default: job/mine in namespace default has it and is Pending: "
        "AssetNotFound: asset ghost does not exist; job/late waits",
    )


def test_many_are_counted(fleet):
    for number in range(25):
        fleet.ship(f"s-{number}", "Unknown", None, None, BLIND)
    one = the_one(fleet)
    assert len(one.details) == 21
    assert one.details[-1] == "and 5 more"
