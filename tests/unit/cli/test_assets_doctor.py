"""What `mainstay doctor` finds of assets: each fault with a way out, and nothing of what goes on by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.fleet import COMPENSATED, IRON, SINCE, Fleet, claim, condition, holder, iron

from mainstay.cli import assetchecks, checks
from mainstay.cli.checks import Finding, Mark
from mainstay.cli.cluster import Target, everything
from mainstay.cli.home import Home
from mainstay.shell.kube import ASSETS, BATCHES, JOBS, RUNS, STACKS, path

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
    assert one.way == (
        "mainstay status asset/s tells how to have it emptied, or taken over by a job (mode: TakeOver)"
    )
    fleet.objects[path(ASSETS, "default", "s")]["metadata"]["deletionTimestamp"] = SINCE
    assert the_one(fleet).way == "mainstay status asset/s tells how to have it emptied"


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
    ("phase", "more", "way", "edit"),
    [
        (
            "ActionRequired",
            {"resumable": True},
            "mainstay resume job/mine",
            " (where the step itself is wrong, first: kubectl edit pjob mine)",
        ),
        ("Suspended", {}, "mainstay start job/mine", ""),
    ],
)
def test_a_job_that_waits_behind_one_that_stands_still(fleet, phase, more, way, edit):
    fleet.job(
        "mine", phase, claim("ship-1"), condition("Ready", "False", "TaskFailed", "sell: exit code 3"), **more
    )
    fleet.job("paused", "Suspended", claim("ship-1"))
    one = the_one(fleet, Mark.ATTENTION)
    why = ": TaskFailed: sell: exit code 3" if phase == "ActionRequired" else ""
    assert one.details == (
        f"asset/ship-1 in namespace default: job/mine in namespace default has it and is {phase}{why}; job/late waits",
    )
    assert one.way.startswith(f"{way}{edit}; ")


@pytest.mark.parametrize(
    ("spec", "inside", "mode", "becomes"),
    [
        (COMPENSATED, {}, "Exclusive", "or mainstay cancel job/mine, which lets the next one in"),
        (
            COMPENSATED,
            iron(),
            "Exclusive",
            "or mainstay cancel job/mine: cancelling has its compensation empty it of IRON_ORE 40",
        ),
        (
            {"type": "Ship"},
            iron(),
            "Exclusive",
            "cancelling leaves IRON_ORE 40 in it, and nothing empties it",
        ),
        (
            {"type": "Ship"},
            iron(),
            "TakeOver",
            "or mainstay cancel job/mine, which lets one in that takes it over with IRON_ORE 40",
        ),
    ],
)
def test_what_cancelling_comes_to_is_true(fleet, spec, inside, mode, becomes):
    fleet.ship("ship-1", "Held", holder("mine"), spec, **inside)
    fleet.job("mine", "ActionRequired", claim("ship-1"), resumable=True)
    fleet.job("late", "Pending", claim("ship-1", mode=mode))
    assert the_one(fleet, Mark.ATTENTION).way.split("; ")[1] == becomes


def test_nobody_is_let_in_before_it_is_known_what_is_in_it(fleet):
    fleet.ship("ship-1", "Unknown", holder("mine"), None, BLIND)
    fleet.job("mine", "Suspended", claim("ship-1"))
    blind, behind = found(fleet)
    assert blind.mark is Mark.WRONG
    assert behind.way.endswith("cancelling lets nobody in until it is known what is in the asset")


def test_a_job_that_waits_behind_one_that_waits_for_nothing_that_exists(fleet):
    told = condition("Ready", "Unknown", "AssetNotFound", "asset ghost does not exist")
    fleet.job("mine", "Pending", claim("ship-1", "ghost"), told)
    nowhere, behind = found(fleet)
    assert nowhere.details == ("job/mine in namespace default: asset/ghost",)
    assert behind.details == (
        "asset/ship-1 in namespace default: job/mine in namespace default has it and is Pending: "
        "AssetNotFound: asset ghost does not exist; job/late waits",
    )


def test_declared_wrongly_is_not_the_probe(fleet):
    for name in ("s", "t"):
        ready = condition("Ready", "Unknown", "SpecInvalid", "spec.holdings.probe.path: no")
        told = condition("Stalled", "True", "SpecInvalid", "spec.holdings.probe.path: no")
        fleet.ship(name, "Unknown", None, None, ready, told)
    one = the_one(fleet)
    assert one.words == "2 assets are declared wrongly"
    assert one.details == (
        "asset/s in namespace default: spec.holdings.probe.path: no",
        "asset/t in namespace default: spec.holdings.probe.path: no",
    )
    assert one.way.startswith("kubectl edit asset s")


# -- each thing once


def objects_told(fleet: Fleet) -> list[Finding]:
    """What is said of objects, and then of assets."""

    async def look() -> list[Finding]:
        kube: Any = fleet
        known = {RUNS: [], STACKS: [], JOBS: await everything(kube, JOBS), **await assetchecks.gather(kube)}
        found = [*checks.stalled(TARGET, known, assetchecks.told_of(known))]
        return found + list(assetchecks.of_assets(TARGET, known))

    return [one for one in asyncio.run(look()) if one.mark is not Mark.FINE]


def compensating(fleet: Fleet, phase: str, *told: Any, **more: Any) -> None:
    """A batch that empties s, and its job."""
    fleet.batch("s-c2", "ActionRequired" if phase == "ActionRequired" else "Failed")
    batch = fleet.objects[path(BATCHES, "default", "s-c2")]
    batch["metadata"]["ownerReferences"] = [{"kind": "Asset", "name": "s", "uid": "uid-s"}]
    fleet.job("s-c2-h0", phase, claim("s"), *told, **more)
    job = fleet.objects[path(JOBS, "default", "s-c2-h0")]
    job["metadata"]["ownerReferences"] = [{"kind": "JobBatch", "name": "s-c2", "uid": "uid-s-c2"}]


FAILED = condition("Stalled", "True", "JobFailed", "sell: exit code 3")


def test_jobs_of_a_compensation_that_is_tried_again_are_told_with_it(fleet):
    told = comp(failures=1, endedAt=SINCE, retryAt=LATER, message="h0: no market buys it")
    fleet.ship("s", "HeldOrphaned", holder("s-c2", "JobBatch"), None, ORPHANED, compensation=told, **iron())
    compensating(fleet, "Failed", FAILED)
    (one,) = objects_told(fleet)
    assert one.words.startswith("the compensation of 1 asset fails")
    assert "batch/s-c2, failed once, because of" in one.details[0]
    assert one.details[0].endswith(": h0: no market buys it")


def test_failed_jobs_of_an_old_compensation_are_history(fleet):
    fleet.ship("s", "Free", None, None, compensation=comp(endedAt=SINCE))
    compensating(fleet, "Failed", FAILED)
    assert objects_told(fleet) == []


def test_a_compensation_that_asks_is_told_once_with_the_answer(fleet):
    fleet.ship("s", "Held", holder("s-c2", "JobBatch"), None, compensation=comp(), **iron())
    asks = [{"name": "price", "title": "Which price?"}]
    told = condition("Stalled", "True", "ActionRequired", "Which price?")
    compensating(fleet, "ActionRequired", told, actions=asks)
    (one,) = objects_told(fleet)
    assert "waits for a person" in one.words
    assert one.way == "mainstay input job/s-c2-h0 price -f values.yaml"


def test_a_compensation_that_is_blocked_is_known_by_the_asset_too(fleet):
    told = condition("Stalled", "True", "CompensationBlocked", "s-c2 empties it: h0 was paused")
    fleet.ship("s", "Held", holder("s-c2", "JobBatch"), None, told, compensation=comp(), **iron())
    fleet.batch("s-c2", "InProgress")
    one = the_one(fleet)
    assert "waits for a person" in one.words
    assert one.details == (
        "asset/s in namespace default (IRON_ORE 40): CompensationBlocked: s-c2 empties it: h0 was paused",
    )


@pytest.mark.parametrize(
    ("reason", "words"),
    [("AssetNotFound", "waits for an asset"), ("SpecInvalid", "1 of 5 objects is stalled")],
)
def test_a_job_without_its_asset_is_told_once(fleet, reason, words):
    fleet.job("early", "Pending", claim("ghost"), condition("Stalled", "True", reason, "asset ghost"))
    (one,) = objects_told(fleet)
    assert words in one.words


def test_a_failed_job_that_is_no_compensation_is_told(fleet):
    fleet.job("mine", "Failed", claim("ship-1"), FAILED)
    assert "stalled" in objects_told(fleet)[0].words


def test_many_are_counted(fleet):
    for number in range(25):
        fleet.ship(f"s-{number}", "Unknown", None, None, BLIND)
    one = the_one(fleet)
    assert len(one.details) == 21
    assert one.details[-1] == "and 5 more"


def test_a_compensation_without_an_asset_of_its_template_is_told_once(fleet):
    fleet.ship("s", "Held", holder("s-c2", "JobBatch"), None, compensation=comp(), **iron())
    compensating(fleet, "Pending", condition("Stalled", "True", "AssetNotFound", "asset ghost"))
    fleet.objects[path(BATCHES, "default", "s-c2")]["status"]["phase"] = "ActionRequired"
    fleet.objects[path(JOBS, "default", "s-c2-h0")]["spec"]["assets"] += claim("ghost", mode="Shared")
    (one,) = objects_told(fleet)
    assert "waits for a person" in one.words


def test_a_job_of_a_compensation_that_needs_somebody_is_told_while_others_go_on(fleet):
    told = comp(failures=1, message="h0: no market buys it")
    fleet.ship("s", "Held", holder("s-c2", "JobBatch"), None, compensation=told, **iron())
    compensating(fleet, "ActionRequired", condition("Stalled", "True", "TaskFailed", "no market"))
    fleet.objects[path(BATCHES, "default", "s-c2")]["status"]["phase"] = "InProgress"
    stuck, failing = objects_told(fleet)
    assert "stalled" in stuck.words
    assert failing.words.startswith("the compensation of 1 asset fails")
