"""Assets as a job sees them: whether they are its own, and what was seen in them."""

from __future__ import annotations

from collections.abc import Mapping

from mainstay.api.asset import Asset, AssetState
from mainstay.api.conditions import find
from mainstay.api.phasedjob import PhasedJob
from mainstay.core import reasons
from mainstay.core.asset.claims import batches_of, belongs_to
from mainstay.core.asset.snapshot import Looked, LookedUp
from mainstay.core.job.snapshot import AssetView
from mainstay.shell.assets.index import AssetIndex
from mainstay.shell.assets.observer import Observer
from mainstay.shell.store import Key


class AssetViews:
    """Reads our copy of assets and what was observed of them."""

    def __init__(self, index: AssetIndex, observer: Observer) -> None:
        self._index = index
        self._observer = observer

    def of(self, job: PhasedJob) -> Mapping[str, AssetView]:
        """The assets that a job names, by their name within it."""
        mine = {job.metadata.uid, *batches_of(job)}
        namespace = job.metadata.namespace
        return {claim.name: self._view((namespace, claim.ref), job, mine) for claim in job.spec.assets}

    def _view(self, key: Key, job: PhasedJob, mine: set[str]) -> AssetView:
        asset = self._index.get(key)
        if asset is None:
            return AssetView(key[1])
        holder, status = asset.status.holder, asset.status
        sight = self._observer.sight(key, asset)
        probed = asset.spec.holdings is not None
        looked = sight.looked if probed else None
        seen = looked.holdings if looked is not None and looked.holdings is not None else status.holdings
        return AssetView(
            ref=key[1],
            exists=True,
            uid=asset.metadata.uid,
            type=asset.spec.type or "",
            state=str(status.state or AssetState.UNKNOWN),
            mine=holder is not None and holder.uid in mine,
            holder=""
            if holder is None
            else f"{'job' if holder.kind == 'PhasedJob' else 'batch'} {holder.name}",
            belongs_to=belongs_to(asset, job),
            trouble=_trouble(asset),
            holdings=seen,
            accepts=status.accepts,
            probed=probed,
            purposes=self._observer.good_for(sight)
            if looked is not None and not looked.error
            else frozenset(),
            asking=self._observer.asking(sight),
            asking_seconds=self._observer.asking_seconds(sight),
            error=_error(asset, looked, sight.looked_up),
            looks_up=asset.spec.accepts is not None,
            next_look_seconds=self._observer.next_look(sight),
            taken=frozenset(status.taken),
        )


def _error(asset: Asset, looked: Looked | None, looked_up: LookedUp | None) -> str:
    """Why it can't be known what is in it, or what it accepts."""
    ready = find(asset.status.conditions, "Ready")
    if ready is not None and ready.reason == reasons.SPEC_INVALID:
        return ready.message
    if looked is not None and looked.error:
        return looked.error
    unknown = asset.status.accepts is None and looked_up is not None
    return looked_up.error if unknown and looked_up is not None else ""


def _trouble(asset: Asset) -> str:
    """Why nobody can have it now, where that is not that somebody has it."""
    if asset.metadata.deletion_timestamp is not None:
        return "it is being deleted"
    ready = find(asset.status.conditions, "Ready")
    odd = asset.status.state in (AssetState.HELD_ORPHANED, AssetState.UNKNOWN)
    known = ready is not None and ready.status != "Unknown"
    return ready.message if odd and known and ready is not None else ""
