"""Who may have an asset next: in the order of names within a job, and of age between jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mainstay.api.asset import Asset
from mainstay.api.conditions import find
from mainstay.api.holdings import AssetClaim, ClaimMode
from mainstay.api.phasedjob import FINAL, JobGoal, PhasedJob
from mainstay.core import reasons
from mainstay.core.asset.snapshot import Claimant

HolderOf = Callable[[str], str | None]
"""Asset of the job's namespace → uid of its holder, None for nobody."""


def exclusive(job: PhasedJob) -> tuple[AssetClaim, ...]:
    """The assets that a job claims, in the order in which it takes them."""
    claims = {claim.ref: claim for claim in job.spec.assets if claim.exclusive}
    return tuple(claims[ref] for ref in sorted(claims))


def claimant(job: PhasedJob, ref: str, holder_of: HolderOf) -> Claimant | None:
    """The job as one that this asset may be given to now; None while it may not.

    Taken in the order of names and kept while waiting: of jobs that wait for each other in a circle, one would have
    to hold a later name while it waits for an earlier one. A job was looked at before it claims anything, and what it
    was seen to have it claims anew whatever state it is in, as long as it has not ended.
    """
    meta, status = job.metadata, job.status
    if status.phase is None or status.phase in FINAL:
        return None
    mine = {meta.uid, *batches_of(job)}
    order = exclusive(job)
    claim = next((one for one in order if one.ref == ref), None)
    had = any(held.ref == ref for held in status.assets)
    if claim is None or meta.creation_timestamp is None:
        return None
    if not had:
        if meta.deletion_timestamp is not None or job.spec.state is not JobGoal.RUNNING:
            return None
        if status.observed_generation != meta.generation or _invalid(job):
            return None
        if any(holder_of(before.ref) not in mine for before in order if before.ref < ref):
            return None
    return Claimant(
        name=meta.name,
        uid=meta.uid,
        created=meta.creation_timestamp,
        had=had,
        take_over=claim.mode is ClaimMode.TAKE_OVER,
    )


def reachable(job: PhasedJob, asset_of: Callable[[str], Asset | None]) -> bool:
    """Whether the job can get all that it names. One that can't takes nothing: others could use it meanwhile."""
    for claim in job.spec.assets:
        asset = asset_of(claim.ref)
        if asset is None or (claim.exclusive and belongs_to(asset, job)):
            return False
    return True


def belongs_to(asset: Asset, job: PhasedJob) -> str:
    """Whose the asset is, when that is not whose the job is, and so may not have it; empty when it may."""
    owner, mine = asset.spec.owner, job.spec.owner
    if owner is None or (mine is not None and mine.user_id == owner.user_id):
        return ""
    return owner.user_id


def first(claimants: Iterable[Claimant]) -> Claimant | None:
    """Who is next: who had it before everyone else, then the oldest."""
    return min(claimants, key=lambda one: (not one.had, one.created, one.name, one.uid), default=None)


def batches_of(job: PhasedJob) -> tuple[str, ...]:
    """Uids of the batches that control a job, and named it: what a compensation has, its jobs have, and no copy of them."""
    meta = job.metadata
    return tuple(
        o.uid
        for o in meta.owner_references
        if o.kind == "JobBatch" and o.controller and o.uid and meta.name.startswith(f"{o.name}-")
    )


def _invalid(job: PhasedJob) -> bool:
    ready = find(job.status.conditions, "Ready")
    return ready is not None and ready.reason == reasons.SPEC_INVALID
