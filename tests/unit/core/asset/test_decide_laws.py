"""Laws over every situation of an asset: what no pass may do, whatever was seen, declared and claimed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.unit.core.asset.worlds import (
    BATCH,
    IRON,
    JOB,
    NOW,
    World,
    a_spec,
    an_asset,
    batch_holder,
    claimed,
    failed,
    holdings,
    job_holder,
    refused,
    report,
    wired,
)

from mainstay.api.asset import AssetState, AssetStatus
from mainstay.core import plan as p
from mainstay.core import reasons
from mainstay.core.asset.decide import AssetPlan, decide
from mainstay.core.asset.snapshot import (
    AssetSnapshot,
    BatchView,
    Claimant,
    HolderState,
    HolderView,
    Looked,
    LookedUp,
)
from mainstay.core.snapshot import Problem

CARGO = st.sampled_from([(), IRON, holdings(FUEL=3, GOLD=1)])
UIDS = ("next", "other", JOB)
PURPOSES = [f"{k}:{uid}" for k in ("nobodys", "emptied") for uid in (*UIDS, BATCH)] + [
    *("nobodys:unclaimed", "nobodys:deleted", "periodic"),
    *(f"left:{uid}:{n}" for uid in (JOB, BATCH) for n in (0, 1, 2)),
]


@st.composite
def claims(draw: st.DrawFn) -> tuple[Claimant, ...]:
    uids = draw(st.lists(st.sampled_from(UIDS), unique=True, max_size=3))
    return tuple(
        Claimant(
            uid,
            uid,
            NOW - timedelta(seconds=draw(st.integers(0, 3))),
            draw(st.booleans()),
            draw(st.booleans()),
        )
        for uid in uids
    )


@st.composite
def snapshots(draw: st.DrawFn) -> AssetSnapshot:
    """Any that can be gathered: a status that the API server took, and a holder as far as there is one."""
    yes = st.booleans()
    probe = draw(st.sampled_from([True, True, False]))
    spec = a_spec(probe=probe, accepts=draw(yes), template=draw(yes), unclaimed=draw(yes))
    holder = draw(st.sampled_from([None, job_holder(), job_holder(), batch_holder()]))
    claim = draw(
        st.sampled_from([None, claimed(), claimed(failures=2), failed(1), failed(2, due_in=-1), failed(0)])
    )
    if holder is not None and holder.kind == "JobBatch" and claim is None:
        claim = claimed()
    seen, state = draw(CARGO), draw(st.sampled_from([None, *AssetState]))
    if state is AssetState.FREE:
        holder, seen = None, ()
    asset = an_asset(
        spec, deleting=draw(yes) and draw(yes), holder=holder, state=state, holdings=seen, compensation=claim
    )
    view = HolderView(draw(st.sampled_from(HolderState)), draw(yes) and draw(yes)) if holder else None
    looked = draw(st.none() | st.builds(Looked, holdings=CARGO) | st.just(Looked(error="no answer")))
    good = looked is not None and not looked.error
    reports = st.builds(report, st.integers(1, 3), holdings=st.none() | CARGO, deliveries=CARGO)
    return AssetSnapshot(
        asset=asset,
        now=NOW,
        invalid=("spec.compensation", "no") if draw(st.integers(0, 9)) == 0 else None,
        looked=looked if probe else None,
        purposes=frozenset(draw(st.sets(st.sampled_from(PURPOSES)))) if good and probe else frozenset(),
        next_look_seconds=draw(st.sampled_from([0.0, 5.0])),
        looked_up=draw(st.none() | st.just(LookedUp(accepts=("FUEL",))) | st.just(LookedUp(error="no"))),
        looking_up=draw(yes),
        holder=view,
        claimants=draw(claims()),
        reports=tuple({one.id: one for one in draw(st.lists(reports, max_size=3))}.values()),
        batch=draw(st.none() | st.builds(BatchView, st.just(BATCH), yes)) if claim else None,
        problem=draw(st.none() | st.just(Problem("R", "w", needs_person=True, retry_seconds=3.0))),
    )


def broken_by(s: AssetSnapshot, plan: AssetPlan) -> Iterator[str]:
    """Laws that a plan breaks, in words."""
    if isinstance(plan, p.Write):
        yield from _written(s, plan.status)
    actions = (
        plan.actions if isinstance(plan, p.ActAll) else (plan.action,) if isinstance(plan, p.Act) else ()
    )
    for action in actions:
        c, holder = s.status.compensation, s.status.holder
        match action:
            case p.RemoveFinalizer():
                if not s.deleting or s.status.state is not AssetState.FREE or holder or s.status.holdings:
                    yield "it goes, and is not Free"
            case p.CreateCompensation():
                if c is None or c.ended_at is not None or s.batch or (holder and holder.name == c.batch):
                    yield "a batch is made that is not claimed, or is there"
            case _:
                pass


def _written(s: AssetSnapshot, new: AssetStatus) -> Iterator[str]:
    old = s.status
    if words := refused(old, new):
        yield words
    if wired(new) != new:
        yield "it does not survive the wire"
    if new.state is AssetState.FREE and new.holder is not None:
        yield "Free, and somebody has it"
    if s.looked is not None and s.looked.error and new.state is not AssetState.UNKNOWN and s.invalid is None:
        yield "the probe fails, and that is not what it is known for"
    if (old.holder and old.holder.uid) != (new.holder and new.holder.uid):
        yield from _changed_hands(s, new)
    c = new.compensation
    if c is not None and (old.compensation is None or c.attempt > old.compensation.attempt):
        yield from _claimed(s, new)


def _changed_hands(s: AssetSnapshot, new: AssetStatus) -> Iterator[str]:
    old, to = s.status, new.holder
    view = s.holder
    if (
        view is not None
        and (view.state is HolderState.ACTIVE or view.lives)
        and not (view.state is HolderState.GONE and not view.lives)
    ):
        yield "who has it has not ended"
    if s.invalid is not None:
        yield "one with a mistake changes hands"
    if to is not None and to.kind == "JobBatch":
        c = new.compensation
        if s.batch is None or to.uid != s.batch.uid or c is None or to.name != c.batch or c.ended_at:
            yield "the new holder is not the batch that is claimed"
        return
    taker = next((one for one in s.claimants if to is not None and one.uid == to.uid), None)
    if to is not None and taker is None:
        yield "given to somebody who does not claim it"
    if new.compensation is not None and new.compensation.ended_at is None:
        yield "it changes hands, and its compensation goes on"
    if taker is not None and taker.had and (view is None or view.state is HolderState.GONE):
        return  # its own still
    if new.holdings and not (taker is not None and (taker.had or taker.take_over)):
        yield "full, freed or given to who wants it empty"
    if old.holder is not None and taker is None and new.holdings:
        yield "full, and nobody's"
    if old.holder is not None:
        wanted = {f"left:{old.holder.uid}:{n}" for n in range(9)} | {f"emptied:{old.holder.uid}"}
    else:  # who takes it over gets it as it is, after the look for who is first
        may = [one for one in s.claimants if one == taker or (taker is not None and taker.take_over)]
        wanted = {f"nobodys:{one.uid}" for one in may}
    if s.spec.holdings is not None and not (
        wanted & s.purposes and s.looked and s.looked.holdings == new.holdings
    ):
        yield "nobody looked for that"
    if s.spec.holdings is None and {one.id for one in s.reports if one.report.holdings is not None} - set(
        new.taken
    ):
        yield "a task said what is in it, and that was not counted"


def _claimed(s: AssetSnapshot, new: AssetStatus) -> Iterator[str]:
    c, view, holder = new.compensation, s.holder, s.status.holder
    assert c is not None
    if view is not None and (view.state is HolderState.ACTIVE or view.lives):
        yield "a compensation while its holder lives"
    if (
        view is not None
        and holder is not None
        and holder.kind == "PhasedJob"
        and view.state is HolderState.COMPLETED
    ):
        yield "a compensation for what a job completed with"
    if s.spec.compensation is None or (holder is None and not s.spec.compensation.unclaimed):
        yield "a compensation that is not declared"
    if not new.holdings or c.holdings != new.holdings or new.holder != holder:
        yield "a compensation for something else than its holdings"
    before = s.status.compensation
    if before is not None and (before.ended_at is None or (before.retry_at and before.retry_at > NOW)):
        yield "a compensation beside another one, or before its time"
    wanted = (
        {f"left:{holder.uid}:{n}" for n in range(9)}
        if holder
        else {x for x in PURPOSES if x.startswith("nobodys")}
    )
    if s.spec.holdings is not None and not wanted & s.purposes:
        yield "a compensation, and nobody looked"


@settings(max_examples=600, deadline=None)
@given(snapshots())
def test_laws(s: AssetSnapshot) -> None:
    plan = decide(s)
    event(type(plan).__name__)
    assert list(broken_by(s, plan)) == []
    assert decide(s) == plan


@settings(max_examples=300, deadline=None)
@given(snapshots())
def test_it_is_written_once(s: AssetSnapshot) -> None:
    """And what is written next comes of what the last one claimed; no status comes back."""
    seen = [s.status]
    for _ in range(6):
        plan = decide(s)
        if not isinstance(plan, p.Write):
            break
        assert list(broken_by(s, plan)) == []
        old, new = s.status, wired(plan.status)
        assert new not in seen
        if len(seen) > 1 and old.holder == seen[-2].holder and old.compensation == seen[-2].compensation:
            raise AssertionError(f"written again, and nothing was claimed: {old!r} {new!r}")
        seen.append(new)
        s = replace(s, asset=s.asset.model_copy(update={"status": new}), holder=_view(s, old, new))
    else:
        raise AssertionError("never at rest")
    event(f"{len(seen) - 1} writes")


def _view(s: AssetSnapshot, old: AssetStatus, new: AssetStatus) -> HolderView | None:
    if new.holder is None:
        return None
    if old.holder is not None and old.holder.uid == new.holder.uid:
        return s.holder
    over = new.holder.kind == "JobBatch" and s.batch is not None and s.batch.over
    return HolderView(HolderState.FAILED if over else HolderState.ACTIVE)


@settings(max_examples=150, deadline=None)
@given(snapshots(), CARGO, st.booleans())
def test_it_comes_to_rest_in_the_truth(s: AssetSnapshot, cargo: tuple[object, ...], fails: bool) -> None:
    """Followed with every look answered by what is really in it, it is Free only when that is nothing."""
    if s.spec.holdings is None or s.invalid is not None:
        return
    holder = s.status.holder
    world = World(
        s.asset,
        holders={holder.uid: s.holder} if holder is not None and s.holder is not None else {},
        cargo=cargo,  # type: ignore[arg-type]
        probe_fails="no answer" if fails else "",
        claimants=s.claimants,
        batch=s.batch,
    )
    world.settle()
    if world.status.state is AssetState.FREE or world.gone:
        assert cargo == ()
        assert not fails
    if fails:
        assert not world.gone
        assert world.status.state is AssetState.UNKNOWN
    elif world.status.state is AssetState.HELD_ORPHANED:
        assert cargo or world.reason() in (reasons.HOLDER_LIVES, reasons.COMPENSATING)
