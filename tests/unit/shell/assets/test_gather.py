"""What is gathered about an asset: what became of its holder is known, or asked for, and never guessed."""

from __future__ import annotations

import pytest
from tests.unit.shell.assets.houses import KEY, NOW, Clock, House
from tests.unit.shell.assets.places import (
    BATCH_HOLDER,
    COMPENSATION,
    HAUL,
    HOLDER,
    NAME,
    Place,
    a_batch,
    a_job,
)

from mainstay.core.asset.snapshot import HolderState, HolderView
from mainstay.core.names import compensation_name
from mainstay.core.snapshot import Problem
from mainstay.shell.kube import BATCHES, JOBS, ApiUnavailableError, path
from mainstay.shell.store import Object


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    modules = ("mainstay.shell.assets.observer", "mainstay.shell.assets.gather")
    return Place(House(Clock.of(monkeypatch, *modules)))


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (None, HolderState.ACTIVE),
        ("Pending", HolderState.ACTIVE),
        ("InProgress", HolderState.ACTIVE),
        ("ActionRequired", HolderState.ACTIVE),
        ("Suspended", HolderState.ACTIVE),
        ("Completed", HolderState.COMPLETED),
        ("Failed", HolderState.FAILED),
        ("Cancelled", HolderState.CANCELLED),
    ],
)
async def test_a_job_as_our_copy_knows_it(place: Place, phase: str | None, state: HolderState) -> None:
    place.asset(holder=HOLDER)
    place.take(JOBS, False, a_job(phase))
    await place.runs("haul", owner="j1")
    ended = (
        state is not HolderState.ACTIVE
    )  # whatever its status says: somebody may have written that by hand
    assert (await place.look()).holder == HolderView(state, lives=ended)
    assert place.server.asked == []


async def test_one_that_our_copy_lacks_is_asked_for(place: Place) -> None:
    place.asset(holder=HOLDER)
    place.server.objects[HAUL] = a_job("InProgress")
    assert (await place.look()).holder == HolderView(HolderState.ACTIVE)
    assert place.server.asked == [HAUL]
    await place.look()
    assert place.server.asked == [HAUL]


@pytest.mark.parametrize("instead", [None, a_job("InProgress", uid="j2")])
async def test_it_is_gone_when_the_api_server_says_so_and_asked_for_once(
    place: Place, instead: Object | None
) -> None:
    """Another one of its name is another one, in our copy too."""
    place.asset(holder=HOLDER)
    if instead is not None:
        place.server.objects[HAUL] = instead
        place.take(JOBS, False, instead)
    for _ in range(3):
        assert (await place.look()).holder == HolderView(HolderState.GONE)
    assert place.server.asked == [HAUL]
    place.asset(holder=HOLDER | {"uid": "j3"})
    await place.look()
    assert place.server.asked == [HAUL, HAUL]


async def test_it_is_not_gone_because_the_api_server_is_away(place: Place) -> None:
    place.asset(holder=HOLDER)
    place.server.error = ApiUnavailableError(503, "ServiceUnavailable", "away")
    with pytest.raises(ApiUnavailableError):
        await place.look()
    place.server.error = None
    place.server.objects[HAUL] = a_job("InProgress")
    assert (await place.look()).holder == HolderView(HolderState.ACTIVE)


async def test_a_holder_that_changes_while_it_is_asked_for(place: Place) -> None:
    place.asset(holder=HOLDER)
    place.take(JOBS, False, a_job("InProgress", uid="j9", name="next"))
    place.server.before = lambda _: place.asset(holder=HOLDER | {"uid": "j9", "name": "next"})
    found = await place.look()
    assert found.status.holder is not None
    assert (found.status.holder.uid, found.holder) == ("j9", HolderView(HolderState.ACTIVE))


@pytest.mark.parametrize(
    ("job", "namespace", "owner", "lives"),
    [
        ("haul", "d", "j1", True),
        ("haul", "d", "j2", False),
        ("haul", "e", "j1", False),
        ("haul-2", "d", "j1", False),
    ],
)
async def test_processes_of_a_job_that_is_gone(
    place: Place, job: str, namespace: str, owner: str, lives: bool
) -> None:
    place.asset(holder=HOLDER)
    unit = await place.runs(job, owner=owner, namespace=namespace)
    assert (await place.look()).holder == HolderView(HolderState.GONE, lives=lives)
    place.runtime.finish(unit)
    assert (await place.look()).holder == HolderView(HolderState.GONE)


# --- batches


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (None, HolderState.ACTIVE),
        ("InProgress", HolderState.ACTIVE),
        ("Completed", HolderState.COMPLETED),
        ("Cancelled", HolderState.CANCELLED),
        ("PartiallyCompleted", HolderState.FAILED),
        ("Failed", HolderState.FAILED),
    ],
)
@pytest.mark.parametrize("runs", [True, False])
async def test_a_batch_and_processes_of_jobs_of_it_that_were_deleted(
    place: Place, phase: str | None, state: HolderState, runs: bool
) -> None:
    place.asset(holder=BATCH_HOLDER, compensation=COMPENSATION)
    place.take(BATCHES, False, a_batch(phase))
    if runs:
        await place.runs(f"{NAME}-h0", owner="anybody")
    await place.runs(f"{NAME}x-h0", owner="anybody")
    over = state is not HolderState.ACTIVE
    found = await place.look()
    assert found.holder is not None
    assert found.holder.state is state
    assert found.batch is not None
    assert (found.batch.uid, found.batch.over) == ("b1", over)
    if over:
        assert found.holder.lives is runs


async def test_a_batch_that_is_gone(place: Place) -> None:
    place.asset(holder=BATCH_HOLDER, compensation=COMPENSATION)
    found = await place.look()
    assert (found.holder, found.batch) == (HolderView(HolderState.GONE), None)
    assert place.server.asked == [path(BATCHES, "d", NAME)]
    await place.runs(f"{NAME}-h0", owner="anybody")
    assert (await place.look()).holder == HolderView(HolderState.GONE, lives=True)


async def test_a_batch_of_that_name_that_is_not_ours_is_not_there(place: Place) -> None:
    place.asset(holder=HOLDER, compensation=COMPENSATION)
    place.take(JOBS, False, a_job("Cancelled"))
    place.take(BATCHES, False, a_batch("InProgress", owner="u2"))
    assert (await place.look()).batch is None


async def test_a_batch_that_waits_for_a_person_says_for_what(place: Place) -> None:
    place.asset(holder=BATCH_HOLDER, compensation=COMPENSATION)
    words = {
        "type": "Ready",
        "status": "False",
        "reason": "R",
        "message": "task sell failed",
        "lastTransitionTime": NOW,
    }
    stalled = {**words, "type": "Stalled", "status": "True"}
    place.take(BATCHES, False, a_batch("InProgress", conditions=[words, stalled]))
    found = await place.look()
    assert found.holder == HolderView(HolderState.ACTIVE, words="task sell failed")
    assert found.batch is not None
    assert found.batch.needs_person


async def test_earlier_batches_are_told_unless_they_have_it_or_are_not_ours(place: Place) -> None:
    last = compensation_name("ship-1", "u1", 4)
    place.asset(compensation=COMPENSATION | {"attempt": 4, "batch": last})
    for attempt, phase, owner in (
        (1, "Failed", "u1"),
        (2, "InProgress", "u1"),
        (3, "Failed", "u2"),
        (4, "Failed", "u1"),
    ):
        name = compensation_name("ship-1", "u1", attempt)
        place.take(BATCHES, False, a_batch(phase, name=name, uid=f"b{attempt}", owner=owner))
    second = compensation_name("ship-1", "u1", 2)
    assert (await place.look()).older == ((NAME, "b1"), (second, "b2"))
    place.asset(compensation=COMPENSATION | {"attempt": 4, "batch": last}, holder=BATCH_HOLDER)
    assert (await place.look()).older == ((second, "b2"),)


@pytest.mark.parametrize(
    ("phase", "ended", "needed"),
    [
        ("Completed", True, True),
        ("InProgress", False, True),
        ("InProgress", True, False),
        (None, True, False),
    ],
)
async def test_a_batch_that_was_passed_over_is_told(
    place: Place, phase: str | None, ended: bool, needed: bool
) -> None:
    place.asset(compensation=COMPENSATION | ({"endedAt": NOW} if ended else {}), holder=HOLDER)
    place.take(BATCHES, False, a_batch(phase))
    assert (await place.look()).older == (() if needed else ((NAME, "b1"),))


@pytest.mark.parametrize("known", ["compensation", "batch", None])
async def test_a_job_of_a_compensation_has_no_right_of_its_own(place: Place, known: str | None) -> None:
    place.asset()
    owner = {"kind": "JobBatch", "name": NAME, "uid": "b1", "apiVersion": "mainstay.dev/v1alpha1"}
    place.take(JOBS, False, a_job("Pending", ownerReferences=[owner]))
    if known is not None:
        batch = a_batch("InProgress")
        if known == "batch":
            del batch["metadata"]["labels"]
        place.take(BATCHES, False, batch)
    assert [one.uid for one in (await place.look()).claimants] == (["j1"] if known == "batch" else [])


# --- the rest


async def test_claimants_and_reports_are_of_this_asset(place: Place) -> None:
    place.asset()
    task = {
        "name": "t",
        "state": "Completed",
        "attempt": 2,
        "completedAt": NOW,
        "reports": [{"ref": "ship-1", "holdings": []}],
    }
    steps = [
        {"name": "s", "state": "Completed", "phases": [{"name": "p", "state": "Completed", "tasks": [task]}]}
    ]
    done = a_job("Completed", name="done", uid="j2")
    done["status"]["steps"] = steps
    place.take(JOBS, False, done)
    place.take(JOBS, False, a_job("Pending", generation=0))
    found = await place.look()
    assert [one.uid for one in found.claimants] == ["j1"]
    assert [(one.id, one.job, one.task) for one in found.reports] == [("j2/t/2", "done", "t")]


async def test_an_asset_that_is_gone_is_forgotten(place: Place) -> None:
    place.asset()
    sight = place.house.observer.sight(KEY, place.house.asset())
    place.house.index.drop({"metadata": {"name": "ship-1", "namespace": "d", "uid": "u1"}})
    assert await place.gatherer.snapshot(KEY, place.memory) is None
    anew = {"name": "ship-1", "namespace": "d", "uid": "u9", "resourceVersion": "99"}
    place.house.index.put({"metadata": anew, "spec": {}, "status": {}})
    assert place.house.observer.sight(KEY, place.house.asset()) is not sight


async def test_a_problem_is_told_with_what_is_left_of_its_wait_and_not_of_another_object(
    place: Place,
) -> None:
    place.asset()
    await place.look()
    problem = Problem("R", "w", needs_person=True, retry_seconds=0.0)
    place.memory.problem = (problem, place.house.clock.now + 8)
    place.house.clock.now += 3
    found = await place.look()
    assert found.problem is not None
    assert found.problem.retry_seconds == 5
    place.memory.uid = "another"
    assert (await place.look()).problem is None


async def test_who_names_an_asset_that_is_not_there_takes_none(place: Place) -> None:
    place.asset()
    job = a_job("Pending")
    job["spec"]["assets"].append({"name": "market", "ref": "market-1", "mode": "Shared"})
    place.take(JOBS, False, job)
    assert (await place.look()).claimants == ()
    market = {"name": "market-1", "namespace": "d", "uid": "u2", "resourceVersion": "1"}
    place.house.index.put({"metadata": market, "spec": {}, "status": {}})
    assert [one.uid for one in (await place.look()).claimants] == ["j1"]


@pytest.mark.parametrize(
    ("works_with", "known", "stray"),
    [("ship-1", False, True), ("ship-2", False, False), ("ship-1", True, False)],
)
async def test_a_worker_whose_job_was_forgotten(
    place: Place, works_with: str, known: bool, stray: bool
) -> None:
    """By an API server that was restored: nobody gets what it works with before it ends."""
    place.asset()
    place.take(JOBS, False, a_job("Pending", name="next", uid="j2"))
    if known:
        place.take(JOBS, False, a_job("InProgress", name="lost", uid="j3"))
    await place.runs("lost", owner="j3", assets=(works_with,))
    assert (await place.look()).stray is stray
    place.asset(holder=HOLDER)
    place.take(JOBS, False, a_job("Completed"))
    assert (await place.look()).holder == HolderView(HolderState.COMPLETED, lives=stray)
