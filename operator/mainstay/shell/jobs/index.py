"""Our copy of jobs and batches, parsed once per version, with the counts that decisions need."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError

from mainstay.api.jobbatch import JobBatch
from mainstay.api.phasedjob import CLAIMED, PhasedJob, PhasedJobStatus
from mainstay.core.job.draft import STARVED
from mainstay.shell.assets.index import AssetIndex
from mainstay.shell.store import Key, Object, Parsed, key_of

TASKS_AT_ONCE = 128
"""Tasks that run at once on this host; more wait. A program that only waits costs little, one that works a core."""


class JobIndex:
    """Jobs, batches, and which job is of which batch."""

    def __init__(self, limit: int = TASKS_AT_ONCE, assets: AssetIndex | None = None) -> None:
        self.jobs: Parsed[PhasedJob] = Parsed(PhasedJob)
        self.batches: Parsed[JobBatch] = Parsed(JobBatch)
        self.limit = limit
        self.claimed: dict[Key, int] = {}  # job → tasks it has claimed
        self.total = 0
        self.waiting: dict[Key, None] = {}  # jobs that wait for room, longest first
        self.assets = assets or AssetIndex()
        self.room_made: Callable[[], None] = lambda: None
        """Called when fewer tasks are claimed than before."""
        self._children: dict[Key, dict[str, Key]] = {}  # batch → uid of the job → its key

    # -- jobs

    def put_job(self, obj: Object) -> bool:
        """Take a job in; False if a newer version is known."""
        if not self.jobs.put(obj):
            return False
        key = key_of(obj)
        self._index_child(key, obj)
        try:
            job = self.jobs.get(key)
        except ValidationError:
            return True
        if job is not None:
            self.count(key, holding(job.status))
            self.assets.put_job(key, job)
        return True

    def drop_job(self, obj: Object) -> bool:
        """A job is gone."""
        if not self.jobs.drop(obj):
            return False
        key = key_of(obj)
        self.count(key, 0)
        self.assets.put_job(key, None)
        self.waiting.pop(key, None)
        if batch := batch_of(obj):
            self._children.get(batch, {}).pop(obj["metadata"]["uid"], None)
        return True

    def count(self, key: Key, claimed: int) -> None:
        """Note how many tasks a job has claimed; before the write too, so that two never take the same room."""
        before = self.claimed.pop(key, 0)
        if claimed:
            self.claimed[key] = claimed
        self.total += claimed - before
        if claimed < before:
            self.room_made()

    def room_for(self, key: Key) -> int:
        """How many tasks this job may have claimed, with the others as they are."""
        return max(0, self.limit - self.total + self.claimed.get(key, 0))

    @property
    def room(self) -> int:
        """How many more tasks may be claimed."""
        return max(0, self.limit - self.total)

    # -- batches

    def owner_gone(self, job: PhasedJob) -> tuple[str, str] | None:
        """(name, uid) of the batch that a job says it is of, and our copies lack."""
        for owner in job.metadata.owner_references:
            if owner.kind == "JobBatch" and owner.uid:
                known = self.batches.objects.get((job.metadata.namespace, owner.name))
                if known is None or known["metadata"]["uid"] != owner.uid:
                    return owner.name, owner.uid
        return None

    def children(self, batch: Key, uid: str) -> list[Object]:
        """Every job that this very batch owns, whatever it is called."""
        objects = (self.jobs.objects.get(key) for key in self._children.get(batch, {}).values())
        return [obj for obj in objects if obj is not None and uid in (o["uid"] for o in owners_of(obj))]

    def _index_child(self, key: Key, obj: Object) -> None:
        if batch := batch_of(obj):
            self._children.setdefault(batch, {})[obj["metadata"]["uid"]] = key


def holding(status: PhasedJobStatus) -> int:
    """Tasks of a job that take room on this host."""
    return sum(1 for t in status.tasks() if t.state in CLAIMED and t.reason not in STARVED)


def owners_of(job: Object) -> list[Object]:
    """Batches that own a job."""
    owners = job["metadata"].get("ownerReferences") or ()
    return [owner for owner in owners if owner.get("kind") == "JobBatch" and owner.get("uid")]


def batch_of(job: Object) -> Key | None:
    """The batch that owns a job. The label is for people: it may be stripped or copied."""
    owners = owners_of(job)
    return (job["metadata"].get("namespace", ""), owners[0]["name"]) if owners else None
