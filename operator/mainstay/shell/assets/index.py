"""Our copy of assets, and which jobs have to do with each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError

from mainstay.api.asset import Asset
from mainstay.api.phasedjob import PhasedJob
from mainstay.shell.store import Key, Object, Parsed, key_of


class AssetIndex:
    """Assets by name; by asset the jobs that claim it, and those that carry reports for it."""

    def __init__(self) -> None:
        self.assets: Parsed[Asset] = Parsed(Asset)
        self.concerned: Callable[[Key], None] = lambda _: None
        """Called with an asset for which it matters what became of a job."""
        self.moved: Callable[[Key, bool], None] = lambda *_: None
        """Called with an asset whose holder, state or counted reports are others than before; True if it is new, or gone, or
        accepts something else."""
        self._claimers: dict[Key, dict[Key, None]] = {}
        self._users: dict[Key, dict[Key, None]] = {}  # those that only look at it, too
        self._carriers: dict[Key, dict[Key, None]] = {}
        self._said: dict[Key, tuple[object, ...]] = {}  # job → what assets go by of it
        self._named: dict[Key, tuple[dict[Key, bool], frozenset[Key]]] = {}  # job → what it is filed under

    # -- assets

    def get(self, key: Key) -> Asset | None:
        """The asset; None if there is none, or none that can be read."""
        try:
            return self.assets.get(key)
        except ValidationError:
            return None

    def put(self, obj: Object) -> bool:
        """Take an asset in; False if a newer version is known."""
        key = key_of(obj)
        before = self.assets.objects.get(key)
        if not self.assets.put(obj):
            return False
        if before is None or _goes_by(before) != _goes_by(obj):
            self.moved(key, before is None or _known_by(before) != _known_by(obj))
        return True

    def drop(self, obj: Object) -> bool:
        """An asset is gone."""
        dropped = self.assets.drop(obj)
        if dropped:
            self.moved(key_of(obj), True)
        return dropped

    def holder_of(self, key: Key) -> str | None:
        """Uid of who has the asset."""
        obj = self.assets.objects.get(key)
        holder = ((obj or {}).get("status") or {}).get("holder") or {}
        return holder.get("uid") or None

    # -- jobs

    def claimers(self, asset: Key) -> Iterable[Key]:
        """Jobs that name it, and not to look at it only."""
        return tuple(self._claimers.get(asset, ()))

    def users(self, asset: Key) -> Iterable[Key]:
        """Jobs that name it."""
        return tuple(self._users.get(asset, ()))

    def carriers(self, asset: Key) -> Iterable[Key]:
        """Jobs with reports that it has not counted, or that don't know yet that it has."""
        return tuple(self._carriers.get(asset, ()))

    def claimed(self, job: Key) -> Iterable[Key]:
        """Assets that a job claims."""
        named, _ = self._named.get(job, ({}, frozenset()))
        return tuple(asset for asset, exclusive in named.items() if exclusive)

    def carries(self, job: Key) -> bool:
        """Whether the job has reports that it has not forgotten."""
        return bool(self._named.get(job, ({}, frozenset()))[1])

    def put_job(self, key: Key, job: PhasedJob | None) -> None:
        """Note what a job, as it is now, has to do with assets; None when it is gone."""
        named, carried = self._named.get(key, ({}, frozenset()))
        if job is None or not job.spec.assets:
            now: dict[Key, bool] = {}
            carries: frozenset[Key] = frozenset()
            said: tuple[object, ...] = ()
        else:
            now = {(key[0], claim.ref): claim.exclusive for claim in job.spec.assets}
            reports = (report for task in job.status.tasks() for report in task.reports)
            carries = frozenset((key[0], report.ref) for report in reports)
            said = _said(job)
        if not (named or carried or now or carries):
            return
        changed = said != self._said.get(key)
        self._file(key, named, now, carried, carries)
        for asset in {*named, *now}:
            # what is carried is counted; what is carried no more need not be remembered
            if (changed and (named.get(asset) or now.get(asset))) or asset in carries ^ carried:
                self.concerned(asset)
        if now or carries:
            self._named[key], self._said[key] = (now, carries), said
        else:
            self._named.pop(key, None)
            self._said.pop(key, None)

    def _file(
        self,
        key: Key,
        named: dict[Key, bool],
        now: dict[Key, bool],
        carried: frozenset[Key],
        carries: frozenset[Key],
    ) -> None:
        for index, before, after in (
            (self._users, set(named), set(now)),
            (self._claimers, {a for a in named if named[a]}, {a for a in now if now[a]}),
            (self._carriers, carried, carries),
        ):
            for asset in before - after:
                index[asset].pop(key, None)
                if not index[asset]:
                    del index[asset]
            for asset in after - before:
                index.setdefault(asset, {})[key] = None


def _said(job: PhasedJob) -> tuple[object, ...]:
    """What assets go by of a job that claims them."""
    meta, status = job.metadata, job.status
    ready = next((c.reason for c in status.conditions if c.type == "Ready"), "")
    return (
        meta.uid,
        status.phase,
        job.spec.state,
        meta.deletion_timestamp is None,
        status.observed_generation == meta.generation,
        ready == "SpecInvalid",
        tuple(held.ref for held in status.assets),
    )


def _known_by(obj: Object) -> tuple[Any, ...]:
    """What also jobs go by that only look at it."""
    return obj["metadata"]["uid"], (obj.get("status") or {}).get("accepts")


def _goes_by(obj: Object) -> tuple[Any, ...]:
    """What jobs go by of an asset."""
    status = obj.get("status") or {}
    holder = status.get("holder") or {}
    return (
        *_known_by(obj),
        obj["metadata"].get("deletionTimestamp"),
        holder.get("uid"),
        status.get("state"),
        tuple(status.get("taken") or ()),
    )
