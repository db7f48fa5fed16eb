"""Which jobs have to do with which assets, after any changes; and who is told of one, exactly when it matters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.shell.assets.houses import NOW, STEPS

from mainstay.api.phasedjob import PhasedJob
from mainstay.core.asset.claims import claimant
from mainstay.shell.assets.index import AssetIndex
from mainstay.shell.store import Key, Object

ASSETS = ("a", "b", "c")
JOB: Key = ("d", "haul")
MODES = (None, "Exclusive", "TakeOver", "Shared")
REPORT = {"deliveries": [{"symbol": "X", "units": 1}]}


def a_job(name: str = "haul", *, uid: str = "u1", namespace: str = "d", **said: Any) -> PhasedJob:
    """`claims`: asset → mode; `held`, `reports`: assets; the rest as in the API."""
    claims = [
        {"name": ref, "ref": ref} | ({"mode": mode} if mode else {})
        for ref, mode in said.get("claims", {"a": None}).items()
    ]
    task = {
        "name": "t",
        "state": "Completed",
        "reports": [{"ref": ref, **REPORT} for ref in said.get("reports", ())],
    }
    told = {
        "type": "Ready",
        "status": "False",
        "reason": said.get("reason", "InProgress"),
        "lastTransitionTime": NOW,
    }
    meta = {
        "name": name,
        "namespace": namespace,
        "uid": uid,
        "creationTimestamp": NOW,
        "generation": said.get("generation", 1),
    }
    if said.get("deleting"):
        meta["deletionTimestamp"] = NOW
    status = {
        "phase": said.get("phase", "Pending"),
        "observedGeneration": 1,
        "progress": said.get("progress", ""),
        "conditions": [told],
        "assets": [{"name": ref, "ref": ref} for ref in said.get("held", ())],
        "steps": [
            {
                "name": "s",
                "state": "InProgress",
                "phases": [{"name": "p", "state": "InProgress", "tasks": [task]}],
            }
        ],
    }
    spec = {"steps": STEPS, "assets": claims} | ({"state": said["state"]} if "state" in said else {})
    return PhasedJob.model_validate(
        {"metadata": meta, "spec": spec, "status": {k: v for k, v in status.items() if v is not None}}
    )


def told(index: AssetIndex, job: PhasedJob | None, key: Key = JOB) -> set[str]:
    """Assets that are told of this change of a job."""
    heard: list[Key] = []
    index.concerned = heard.append
    index.put_job(key, job)
    assert len(heard) == len(set(heard))
    return {name for _, name in heard}


# --- of one job


@pytest.mark.parametrize(
    ("change", "heard"),
    [
        ({}, set()),
        ({"progress": "1 of 2"}, set()),
        ({"phase": "InProgress"}, {"a", "b"}),
        ({"phase": "Cancelled"}, {"a", "b"}),
        ({"deleting": True}, {"a", "b"}),
        ({"generation": 2}, {"a", "b"}),
        ({"reason": "SpecInvalid"}, {"a", "b"}),
        ({"reason": "AssetHeld"}, set()),
        ({"state": "Suspended"}, {"a", "b"}),
        ({"held": ("a",)}, {"a", "b"}),
        ({"reports": ("a",)}, {"a"}),
        ({"reports": ("s",)}, {"s"}),
        ({"claims": {"b": None, "c": None, "s": "Shared"}}, set()),
        ({"uid": "u2"}, {"a", "b"}),
    ],
)
def test_who_is_told_of_a_job(change: dict[str, Any], heard: set[str]) -> None:
    index = AssetIndex()
    claims = {"a": None, "b": "TakeOver", "s": "Shared"}
    assert told(index, a_job(claims=claims)) == {"a", "b"}
    assert told(index, a_job(**{"claims": claims, **change})) == heard
    assert told(index, a_job(**{"claims": claims, **change})) == set()


def test_a_job_that_is_gone_is_told_to_all_that_it_claimed() -> None:
    index = AssetIndex()
    told(index, a_job(claims={"a": None, "s": "Shared"}, reports=("a",)))
    assert told(index, None) == {"a"}
    assert told(index, None) == set()
    for asset in ("a", "s"):
        assert (index.claimers(("d", asset)), index.users(("d", asset)), index.carriers(("d", asset))) == (
            (),
            (),
            (),
        )


def test_an_asset_hears_that_a_report_is_there_and_that_it_is_forgotten() -> None:
    index, claims = AssetIndex(), {"a": None, "s": "Shared"}
    told(index, a_job(claims=claims, phase="Completed"))
    assert told(index, a_job(claims=claims, phase="Completed", reports=("a", "s"))) == {"a", "s"}
    assert told(index, a_job(claims=claims, phase="Completed", reports=("s",))) == {"a"}
    assert told(index, None) == {"a", "s"}


def test_a_job_without_assets_is_nobodys_business() -> None:
    index = AssetIndex()
    assert told(index, a_job(claims={})) == set()
    assert told(index, None) == set()


# --- of many, against a naive recomputation


jobs = st.fixed_dictionaries(
    {"claims": st.dictionaries(st.sampled_from(ASSETS), st.sampled_from(MODES), max_size=3)},
    optional={
        "phase": st.sampled_from([None, "Pending", "InProgress", "Completed", "Cancelled", "Failed"]),
        "held": st.lists(st.sampled_from(ASSETS), unique=True, max_size=2),
        "reports": st.lists(st.sampled_from(ASSETS), unique=True, max_size=2),
        "deleting": st.booleans(),
        "generation": st.sampled_from([1, 2]),
        "reason": st.sampled_from(["InProgress", "SpecInvalid"]),
        "state": st.sampled_from(["Running", "Suspended", "Cancelled"]),
        "uid": st.sampled_from(["u1", "u2"]),
    },
)
changes = st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["d", "e"]), st.none() | jobs)


def goes_by(job: PhasedJob | None, ref: str) -> Any:
    """All that a decision about the asset reads of a job: whether it may have it next, and whether it has ended."""
    if job is None or not any(claim.ref == ref and claim.exclusive for claim in job.spec.assets):
        return None
    may = [claimant(job, ref, dict.fromkeys(ASSETS, has).get) for has in (job.metadata.uid, None)]
    return (job.metadata.uid, job.status.phase, *may)


def carries(job: PhasedJob | None, ref: str) -> bool:
    return (
        job is not None
        and bool(job.spec.assets)
        and any(r.ref == ref for t in job.status.tasks() for r in t.reports)
    )


def as_it_can_be(said: dict[str, Any]) -> dict[str, Any]:
    """What a job claims can't be changed, and its tasks tell of nothing else."""
    reports = [ref for ref in said.get("reports", ()) if ref in said["claims"]]
    return said | {
        "reports": reports,
        "uid": f"{said.get('uid', 'u1')}-{sorted(said['claims'].items(), key=str)}",
    }


@settings(max_examples=100, deadline=None)
@given(st.lists(changes, max_size=12))
def test_after_any_changes(made: list[tuple[str, str, Any]]) -> None:
    index, known = AssetIndex(), dict[Key, PhasedJob]()
    for name, namespace, said in made:
        key = (namespace, name)
        before = known.pop(key, None)
        after = None if said is None else a_job(name, namespace=namespace, **as_it_can_be(said))
        heard: list[Key] = []
        index.concerned = heard.append
        index.put_job(key, after)
        if after is not None:
            known[key] = after
        for ref in ASSETS:
            asset = (namespace, ref)
            if goes_by(before, ref) != goes_by(after, ref) or (
                carries(after, ref) and not carries(before, ref)
            ):
                assert asset in heard, (before, after)
        assert {one[0] for one in heard} <= {namespace}
        for space in ("d", "e"):
            for ref in ASSETS:
                users = {
                    k for k, j in known.items() if k[0] == space and any(c.ref == ref for c in j.spec.assets)
                }
                claimers = {
                    k for k in users if any(c.ref == ref and c.exclusive for c in known[k].spec.assets)
                }
                carriers = {k for k, j in known.items() if k[0] == space and carries(j, ref)}
                assert set(index.users((space, ref))) == users
                assert set(index.claimers((space, ref))) == claimers
                assert set(index.carriers((space, ref))) == carriers
        for key, job in known.items():
            assert set(index.claimed(key)) == {(key[0], c.ref) for c in job.spec.assets if c.exclusive}
            assert index.carries(key) == any(carries(job, ref) for ref in ASSETS)


# --- assets


def an_asset(version: int, *, uid: str = "u1", **status: Any) -> Object:
    meta: Object = {"name": "a", "namespace": "d", "uid": uid, "resourceVersion": str(version)}
    if status.pop("deleting", False):
        meta["deletionTimestamp"] = NOW
    return {"metadata": meta, "spec": {}, "status": status}


HOLDER = {"kind": "PhasedJob", "name": "j", "uid": "j1", "since": NOW}


@pytest.mark.parametrize(
    ("first", "then", "moved"),
    [
        ({}, {}, []),
        ({}, {"summary": "IRON_ORE 40"}, []),
        ({}, {"holder": HOLDER}, [False]),
        ({"holder": HOLDER}, {"holder": HOLDER | {"since": "2031-01-02T03:04:05Z"}}, []),
        ({"holder": HOLDER}, {"holder": HOLDER | {"uid": "j2"}}, [False]),
        ({"holder": HOLDER}, {}, [False]),
        ({"state": "Free"}, {"state": "Unknown"}, [False]),
        ({}, {"taken": ["x/t/1"]}, [False]),
        ({}, {"deleting": True}, [False]),
        ({}, {"uid": "u2"}, [True]),
    ],
)
def test_who_goes_by_an_asset_is_told_when_it_moved(first: Any, then: Any, moved: list[bool]) -> None:
    index, heard = AssetIndex(), list[tuple[Key, bool]]()
    index.moved = lambda key, new: heard.append((key, new))
    assert index.put(an_asset(1, **first))
    assert heard == [(("d", "a"), True)]
    heard.clear()
    assert index.put(an_asset(2, **then))
    assert heard == [(("d", "a"), new) for new in moved]
    heard.clear()
    assert not index.put(an_asset(1, **first))
    assert not index.put(an_asset(2, holder=HOLDER | {"uid": "late"}))
    assert heard == []
    assert index.drop(an_asset(3, **then))
    assert heard == [(("d", "a"), True)]
    assert not index.drop(an_asset(3, **then))


def test_who_has_it_as_our_copy_says() -> None:
    index = AssetIndex()
    assert index.holder_of(("d", "a")) is None
    index.put(an_asset(1))
    assert index.holder_of(("d", "a")) is None
    index.put(an_asset(2, holder=HOLDER))
    assert index.holder_of(("d", "a")) == "j1"


def test_one_that_can_not_be_read_is_none_and_has_a_holder_all_the_same() -> None:
    index = AssetIndex()
    index.put(an_asset(1, holder=HOLDER) | {"spec": {"holdings": "nonsense"}})
    assert index.get(("d", "a")) is None
    assert index.holder_of(("d", "a")) == "j1"
