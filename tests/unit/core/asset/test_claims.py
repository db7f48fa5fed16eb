"""Who may have an asset: in the order of names within a job, and of age between jobs."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.asset.worlds import NOW, claimant

from mainstay.api.asset import Asset
from mainstay.api.conditions import Condition, ConditionStatus
from mainstay.api.holdings import HeldAsset
from mainstay.api.meta import Owner, OwnerReference
from mainstay.api.phasedjob import FINAL, JobPhase, PhasedJob
from mainstay.core import reasons
from mainstay.core.asset.claims import batches_of, belongs_to, exclusive, first, reachable
from mainstay.core.asset.claims import claimant as claimant_of

STEPS = [{"name": "s", "phases": [{"name": "p", "tasks": [{"name": "t", "program": {"command": ["t"]}}]}]}]
UID = "uid-of-job"
SHARED = {"name": "c", "ref": "a-market", "mode": "Shared"}
SHIPS = [
    {"name": "x", "ref": "ship-2"},
    {"name": "y", "ref": "ship-1"},
    {"name": "z", "ref": "ship-3", "mode": "TakeOver"},
]


def a_job(
    *,
    assets: Any = None,
    deleting: bool = False,
    generation: int = 4,
    held: tuple[str, ...] = (),
    invalid: bool = False,
    batch: str = "",
    owner: str = "the",
    name: str = "haul",
    controls: bool = True,
    state: str | None = None,
    **status: Any,
) -> PhasedJob:
    meta = {
        "name": name,
        "namespace": "d",
        "uid": UID,
        "generation": generation,
        "creationTimestamp": NOW,
    }
    spec = {"steps": STEPS, "assets": SHIPS if assets is None else assets} | (
        {"state": state} if state else {}
    )
    job = PhasedJob.model_validate({"metadata": meta, "spec": spec})
    reason = reasons.SPEC_INVALID if invalid else reasons.IN_PROGRESS
    told = {
        "phase": JobPhase.PENDING,
        "observed_generation": 4,
        "conditions": (
            Condition(type="Ready", status=ConditionStatus.FALSE, reason=reason, last_transition_time=NOW),
        ),
        "assets": tuple(HeldAsset(name="x", ref=ref) for ref in held),
        **status,
    }
    changed = {"deletion_timestamp": NOW if deleting else None}
    if batch:
        changed["owner_references"] = (
            OwnerReference(kind="JobBatch", name=owner, uid=batch, controller=controls),
        )  # type: ignore[assignment]
    return job.model_copy(
        update={
            "status": job.status.model_copy(update=told),
            "metadata": job.metadata.model_copy(update=changed),
        }
    )


def claims(job: PhasedJob, ref: str, **holders: str) -> bool:
    """`ship_1="uid"`: who has it."""
    return claimant_of(job, ref, lambda one: holders.get(one.replace("-", "_"))) is not None


def test_they_are_taken_in_the_order_of_names_however_they_are_listed() -> None:
    for ships in permutations([*SHIPS, SHARED]):
        job = a_job(assets=list(ships))
        assert [one.ref for one in exclusive(job)] == ["ship-1", "ship-2", "ship-3"]


@pytest.mark.parametrize(
    ("has", "may"),
    [
        ((), ["ship-1"]),
        (("ship_1",), ["ship-1", "ship-2"]),
        (("ship_2",), ["ship-1"]),
        (("ship_2", "ship_3"), ["ship-1"]),
        (("ship_1", "ship_2"), ["ship-1", "ship-2", "ship-3"]),
    ],
)
def test_one_after_the_other(has: tuple[str, ...], may: list[str]) -> None:
    mine = dict.fromkeys(has, UID)
    others = {f"ship_{n}": "another" for n in (1, 2, 3)}
    for holders in (mine, others | mine):
        assert [
            ref for ref in ("a-market", "ship-1", "ship-2", "ship-3") if claims(a_job(), ref, **holders)
        ] == may


@pytest.mark.parametrize(
    "copied", [{"owner": "night"}, {"controls": False}], ids=["named else", "not controlled"]
)
def test_a_copy_of_a_job_has_not_what_its_batch_has(copied: dict[str, Any]) -> None:
    assert batches_of(a_job(batch="the-batch", name="the-haul", **copied)) == ()


def test_what_its_batch_has_it_has() -> None:
    job = a_job(batch="the-batch", name="the-haul")
    assert batches_of(job) == ("the-batch",)
    assert claims(job, "ship-2", ship_1="the-batch")
    assert not claims(a_job(), "ship-2", ship_1="the-batch")


def test_one_that_it_does_not_claim() -> None:
    assert not claims(a_job(assets=[SHARED]), "a-market")
    assert not claims(a_job(), "ship-9")


@pytest.mark.parametrize(
    "why",
    [
        {"deleting": True},
        {"state": "Suspended"},
        {"state": "Cancelled"},
        {"observed_generation": 3},
        {"invalid": True},
    ],
)
def test_who_claims_nothing_new_keeps_what_it_had(why: dict[str, Any]) -> None:
    assert not claims(a_job(**why), "ship-1")
    had = claimant_of(a_job(held=("ship-1",), **why), "ship-1", lambda _: None)
    assert had is not None
    assert had.had
    assert not claims(a_job(held=("ship-1",), **why), "ship-2", ship_1=UID)


@pytest.mark.parametrize("phase", [None, *JobPhase])
def test_who_has_ended_or_was_never_looked_at_claims_nothing(phase: JobPhase | None) -> None:
    may = phase is not None and phase not in FINAL
    for held in ((), ("ship-1",)):
        assert claims(a_job(phase=phase, held=held), "ship-1") is may


def test_what_it_had_it_claims_out_of_order() -> None:
    job = a_job(held=("ship-3",))
    assert claims(job, "ship-3", ship_1="another")
    assert not claims(job, "ship-2", ship_1="another")


def test_what_is_told_of_it() -> None:
    one = claimant_of(a_job(), "ship-3", lambda _: UID)
    assert one is not None
    assert (one.name, one.uid, one.created, one.had, one.take_over) == ("haul", UID, NOW, False, True)
    two = claimant_of(a_job(held=("ship-1",)), "ship-1", lambda _: None)
    assert two is not None
    assert (two.had, two.take_over) == (True, False)


def test_nobody_waits_in_a_circle() -> None:
    """Whatever two jobs have of the same assets, one of them may have what it waits for next as soon as it is free."""
    refs = ["ship-1", "ship-2", "ship-3"]
    for split in range(8):
        owners = {ref.replace("-", "_"): "j1" if split >> n & 1 else "j2" for n, ref in enumerate(refs)}
        waiting = {}
        for uid in ("j1", "j2"):
            job = a_job()
            job = job.model_copy(update={"metadata": job.metadata.model_copy(update={"uid": uid})})
            missing = [ref for ref in refs if owners[ref.replace("-", "_")] != uid]
            waiting[uid] = [ref for ref in missing if claims(job, ref, **owners)]
            assert waiting[uid] == missing[:1]


# --- who is next


def test_who_had_it_then_the_oldest_then_by_name() -> None:
    old, young = claimant("old", age=9), claimant("young")
    had = claimant("had", had=True)
    assert first([young, old]) == old
    assert first([young, old, had]) == had
    assert first([claimant("b"), claimant("a")]) == claimant("a")
    assert first([claimant("taker", take_over=True), old]) == old
    assert first([]) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.sampled_from("abc")), min_size=1, max_size=6))
def test_whatever_the_order_they_come_in(made: list[tuple[bool, int, str]]) -> None:
    row = [claimant(f"{uid}{n}", age=age, had=had) for n, (had, age, uid) in enumerate(made)]
    best = first(row)
    assert best == first(reversed(row))
    assert best is not None
    for other in row:
        assert best.had >= other.had
        if best.had == other.had:
            assert best.created <= other.created
    assert NOW - timedelta(seconds=3) < best.created


def an_asset(name: str, owner: str = "") -> Asset:
    spec = {"owner": {"userId": owner}} if owner else {}
    return Asset.model_validate({"metadata": {"name": name}, "spec": spec})


def owned(job: PhasedJob, user: str) -> PhasedJob:
    owner = Owner(user_id=user) if user else None
    return job.model_copy(update={"spec": job.spec.model_copy(update={"owner": owner})})


@pytest.mark.parametrize("missing", [None, "ship-1", "ship-3", "a-market"])
def test_who_can_not_get_all_takes_nothing(missing: str | None) -> None:
    assets = {name: an_asset(name) for name in ("ship-1", "ship-2", "ship-3", "a-market") if name != missing}
    assert reachable(a_job(assets=[*SHIPS, SHARED]), assets.get) is (missing is None)


@pytest.mark.parametrize(
    ("asset", "job", "whose"),
    [
        ("", "", ""),
        ("", "bob", ""),
        ("alice", "alice", ""),
        ("alice", "bob", "alice"),
        ("alice", "", "alice"),
    ],
)
def test_what_belongs_to_another_is_not_had(asset: str, job: str, whose: str) -> None:
    ship, market = an_asset("ship-1", asset), an_asset("a-market", "carol")
    mine = owned(a_job(assets=[{"name": "x", "ref": "ship-1"}, SHARED]), job)
    assert belongs_to(ship, mine) == whose
    assert reachable(mine, {"ship-1": ship, "a-market": market}.get) is not bool(whose)
