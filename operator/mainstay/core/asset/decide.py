"""decide(): the next plan for an asset: whose it is, and what empties it when nobody has it any more.

An asset is never given away, freed or emptied on the word of an old look: `purpose` ties each look to the decision
that asked for it, so that one that began before a holder ended can't tell what he left behind.
"""

from __future__ import annotations

from mainstay.api.asset import AssetState, AssetStatus, Holder
from mainstay.core import reasons
from mainstay.core.asset.claims import first
from mainstay.core.asset.compensation import compensate, settled
from mainstay.core.asset.draft import Draft
from mainstay.core.asset.outlook import outlook
from mainstay.core.asset.reports import take_in
from mainstay.core.asset.snapshot import AssetSnapshot, Claimant, HolderState
from mainstay.core.plan import (
    Act,
    ActAll,
    AddFinalizer,
    AssetEffect,
    CreateCompensation,
    DeleteCompensation,
    ObserveAccepts,
    ObserveAssets,
    Plan,
    RemoveFinalizer,
    Wait,
    Write,
)

AssetPlan = Plan[AssetStatus]

PERIODIC = "periodic"
LIVES_SECONDS = 1.0
"""How often to look whether the processes of a holder that is gone have ended."""


def decide(s: AssetSnapshot) -> AssetPlan:
    """What to do next. Pure: the same snapshot always gives the same plan."""
    if s.deleting and not s.has_finalizer:
        return Wait()
    if not s.has_finalizer:
        return Act(AddFinalizer())
    d = Draft(s)
    if s.invalid is not None:
        where, what = s.invalid
        stranded = d.state is AssetState.FREE and bool(d.holdings)
        state = AssetState.HELD_ORPHANED if stranded else d.state
        goes = "; it is being deleted, and goes when that is corrected" if s.deleting else ""
        d.tell(state, reasons.SPEC_INVALID, f"{where}: {what}{goes}", stalled=True)
    else:
        take_in(d)
        _whose(d)
    status = outlook(d)
    if status != s.status:
        return Write(status)
    return _acts(d)


# -- whose it is


def _whose(d: Draft) -> None:
    view, holder = d.s.holder, d.holder
    if holder is None or view is None:
        _nobodys(d)
    elif view.state is HolderState.ACTIVE:
        _active(d, holder, view.words)
    elif view.lives:
        words = (
            f"{_named(holder)} {_ended(view.state)}, and a process that works with it still runs: nobody else gets it before that "
            "ends (mainstay doctor names it)"
        )
        d.tell(AssetState.HELD_ORPHANED if d.holdings else AssetState.HELD, reasons.HOLDER_LIVES, words)
        d.timers.append(LIVES_SECONDS)
    else:
        _left(d, holder, view.state)


def _active(d: Draft, holder: Holder, words: str) -> None:
    if holder.kind == "JobBatch":
        if words:
            told = f"{holder.name} empties it, and waits for a person: {words}"
            d.tell(AssetState.HELD, reasons.COMPENSATION_BLOCKED, told, stalled=True)
        else:
            d.tell(AssetState.HELD, reasons.COMPENSATING, f"{holder.name} empties it")
    elif d.s.deleting:
        d.tell(AssetState.HELD, reasons.DELETING, f"it goes when {_named(holder)} has ended and it is empty")
    else:
        d.tell(AssetState.HELD, reasons.HELD, f"{_named(holder)} has it")


def _left(d: Draft, holder: Holder, state: HolderState) -> None:
    """Its holder has ended, or is gone. What is seen in it now decides."""
    own = next((one for one in d.s.claimants if one.had and one.uid != holder.uid), None)
    if own is not None and state is HolderState.GONE and holder.kind == "PhasedJob":
        _give(d, own)  # two were told that they had it: the one that has not ended goes on
        return
    if d.compensating() and not d.blocked():
        if compensate(d, state):
            _free(d)
        return
    if not d.seen(f"left:{holder.uid}:{d.failures}"):
        _unseen(d, f"{_named(holder)} {_ended(state)}; it is free once it is seen to be empty")
        return
    if not d.holdings:
        _free(d)
        return
    taker = first(one for one in d.s.claimants if one.take_over or one.had)
    if taker is not None and not d.s.deleting:
        _give(d, taker)
    elif state is HolderState.COMPLETED and holder.kind == "PhasedJob":
        after = "the compensation empties it" if d.s.spec.compensation else "it waits for a person"
        words = f"{_named(holder)} completed and left {d.summary}: {d.way_out()}; when that job is deleted, {after}"
        d.tell(AssetState.HELD_ORPHANED, reasons.HOLDER_COMPLETED, words, stalled=True)
    else:
        compensate(d, state)


def _nobodys(d: Draft) -> None:
    """Nobody has it, as far as it remembers."""
    if d.s.stray:
        words = "a process works with it whose job is gone: nobody gets it before that ends (mainstay doctor names it)"
        d.tell(AssetState.HELD_ORPHANED if d.holdings else AssetState.UNKNOWN, reasons.HOLDER_LIVES, words)
        d.timers.append(LIVES_SECONDS)
        return
    own = first(one for one in d.s.claimants if one.had)
    if own is not None:
        _give(d, own)
        return
    if d.compensating() and not d.blocked():
        # It forgot its holder in between: the batch is made and named all the same.
        compensate(d, HolderState.GONE)
        return
    taker = first(d.s.claimants) if not d.s.deleting else None
    # One that was made to forget may have had a holder since the last look: it is looked at again.
    told = d.s.status.state not in (None, AssetState.UNKNOWN)
    if taker is None and told and d.known and not d.holdings and not d.s.deleting:
        d.holder = None
        settled(d)
        d.tell(AssetState.FREE, reasons.ASSET_FREE, "")
        return
    wanted = taker.uid if taker is not None else "deleted" if d.s.deleting else "unclaimed"
    if not d.seen(f"nobodys:{wanted}"):
        words = f"job {taker.name} gets it once it is seen to be empty" if taker else "looking what is in it"
        _unseen(d, words)
    elif not d.holdings:
        _free(d)
    elif (keen := first(one for one in d.s.claimants if one.take_over)) is not None and not d.s.deleting:
        _give(d, keen)
    elif d.compensating() or (d.s.spec.compensation is not None and d.s.spec.compensation.unclaimed):
        compensate(d, None)
    else:
        words = (
            f"it has {d.summary}, and no job here is known to have put that there: {d.way_out()}, "
            "or set spec.compensation.unclaimed"
        )
        d.tell(AssetState.HELD_ORPHANED, reasons.UNCLAIMED, words, stalled=True)


def _free(d: Draft) -> None:
    """Seen to be empty just now: the next one gets it in the same write."""
    settled(d)
    taker = first(d.s.claimants) if not d.s.deleting else None
    if taker is not None:
        _give(d, taker)
    else:
        d.holder = None
        d.tell(AssetState.FREE, reasons.ASSET_FREE, "")


def _give(d: Draft, to: Claimant) -> None:
    settled(d)
    d.holder = Holder(kind="PhasedJob", name=to.name, uid=to.uid, since=d.s.now)
    d.tell(AssetState.HELD, reasons.HELD, f"{_named(d.holder)} has it")


def _unseen(d: Draft, words: str) -> None:
    """What has to be known is being asked, or can't be."""
    if d.failing:
        words = f"{words}; the probe fails: {d.failing}{d.let_go()}"
        d.tell(AssetState.UNKNOWN, reasons.PROBE_FAILED, words)
    elif d.s.status.state in (None, AssetState.UNKNOWN):
        d.tell(AssetState.UNKNOWN, reasons.NOT_OBSERVED, words)
    else:
        d.keep()


def _named(holder: Holder) -> str:
    return f"{'job' if holder.kind == 'PhasedJob' else 'batch'} {holder.name}"


def _ended(state: HolderState) -> str:
    return {HolderState.FAILED: "failed", HolderState.CANCELLED: "was cancelled"}.get(
        state, "completed" if state is HolderState.COMPLETED else "is gone"
    )


# -- from the status that should be to a plan


def _acts(d: Draft) -> AssetPlan:
    """What the claims in status authorise, and what has to be looked at."""
    s = d.s
    if s.deleting and d.holder is None and d.state is AssetState.FREE and not (d.purpose or d.uncounted):
        gone = tuple(DeleteCompensation(name, uid) for name, uid in s.older)
        return ActAll(gone) if gone else Act(RemoveFinalizer())
    acts: list[AssetEffect] = [DeleteCompensation(name, uid) for name, uid in s.older]
    waits = list(d.timers)
    if d.unmade:
        if s.problem is None or s.problem.retry_seconds <= 0:
            acts.append(CreateCompensation())
        else:
            waits.append(s.problem.retry_seconds)
    acts += _looks(d, waits)
    if acts:
        return ActAll(tuple(acts))
    return Wait(min(waits, default=None))


def _looks(d: Draft, waits: list[float]) -> list[AssetEffect]:
    s, looks = d.s, list[AssetEffect]()
    if s.spec.holdings is not None and s.invalid is None:
        urgent = d.purpose and not d.failing
        if urgent or s.next_look_seconds <= 0:
            purpose = d.purpose or PERIODIC
            if purpose not in s.asking and (d.purpose or not s.asking):
                looks.append(ObserveAssets((s.asset.metadata.name,), purpose))
        else:
            waits.append(s.next_look_seconds)
    if s.spec.accepts is not None and s.invalid is None and not s.looking_up:
        if s.next_look_up_seconds <= 0:
            looks.append(ObserveAccepts())
        else:
            waits.append(s.next_look_up_seconds)
    return looks
