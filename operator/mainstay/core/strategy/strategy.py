"""decide() for one Strategy: keep the bytes, then say that they are offered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from mainstay.api.conditions import Condition, condition, find, merge
from mainstay.api.strategy import Revision, Strategy, StrategyStatus, UsedBy
from mainstay.core import reasons
from mainstay.core.plan import Act, DeleteStrategy, KeepSnapshot, Plan, Wait, Write
from mainstay.core.run.story import Event
from mainstay.core.strategy.resolve import short

StrategyPlan = Plan[StrategyStatus]

KEEP_AGAIN_SECONDS = 5.0
"""A full disk gives no event when it has room again."""
COUNT_SECONDS = 1.0
"""usedBy is written at most this often."""
LOOK_SECONDS = 1.0
"""After that a file that changed while it was read is looked into again."""


@dataclass(frozen=True, slots=True)
class Content:
    """What the source has now."""

    file: str
    hash: str
    md5: str
    size: int
    modified_at: float | None = None  # wall clock; None where the source doesn't say
    problem: str | None = None  # why it can't be run


@dataclass(frozen=True, slots=True)
class StrategySnapshot:
    """One strategy, its source and its users as of one moment."""

    strategy: Strategy
    now: datetime
    content: Content | None  # None: the source has it not
    used_by: UsedBy
    kept: frozenset[str] = (
        frozenset()
    )  # hashes whose bytes are in the snapshot store, of those that matter here
    missing: str = ""  # why there is no content, in words
    refused: str = ""  # why what the source has can't be read
    unknown: bool = False  # the source has not been read, or can't be
    moved: bool = False  # its file was another one when it was looked into: it is read again
    owned: bool = False  # a library made it, and deletes it when its file is gone
    orphaned: bool = False  # the library that made it is gone
    unkept: str = ""  # why the present content could not be kept a moment ago
    namesake: str = ""  # an older object of the same strategy name in this library
    history: int = 10
    counted_seconds_ago: float = COUNT_SECONDS


def decide(s: StrategySnapshot) -> StrategyPlan:
    """What to do next. Pure."""
    meta = s.strategy.metadata
    if meta.deletion_timestamp is not None:
        return Wait()
    if s.orphaned and not s.strategy.spec.users:
        return Act(DeleteStrategy(meta.name, meta.uid))
    if s.moved:
        return Wait(LOOK_SECONDS)  # it may be back as it was, and nothing tells of that
    content = s.content
    doomed = content is None and s.owned and not s.strategy.spec.users and not s.refused
    if (s.unknown or doomed) and not s.orphaned:
        return _count(s)
    unkept = content is not None and content.problem is None and content.hash not in s.kept
    if content is not None and unkept and not s.namesake and not s.unkept:
        return Act(KeepSnapshot(content.file, content.hash))
    status = outlook(s)
    if status != s.strategy.status:
        return Write(status)
    return Wait(KEEP_AGAIN_SECONDS) if unkept and s.unkept else _count(s)


def _count(s: StrategySnapshot) -> StrategyPlan:
    if s.strategy.status.used_by == s.used_by:
        return Wait()
    if s.counted_seconds_ago < COUNT_SECONDS:
        return Wait(COUNT_SECONDS - s.counted_seconds_ago)
    return Write(s.strategy.status.model_copy(update={"used_by": s.used_by}))


def outlook(s: StrategySnapshot) -> StrategyStatus:
    """The status that tells what is there. Who uses it is counted apart."""
    old, content = s.strategy.status, s.content
    generation = s.strategy.metadata.generation
    ok, reason, words = _verdict(s)

    def said(kind: str, value: bool, what: str = "") -> Condition:
        return condition(kind, value, reason, what, now=s.now, generation=generation)

    changes: dict[str, object] = {"hash": None, "md5": None, "size": None, "valid": None, "revision": None}
    if content is not None and not s.namesake:
        changes = {
            "hash": content.hash,
            "md5": content.md5,
            "size": content.size,
            "modified_at": _modified(s, content),
            "valid": content.problem is None,
            "file": content.file if _good(s, content) else old.file or content.file,
            "revision": _revision(s),
            "revisions": _revisions(s, content),
        }
    elif s.refused and not s.namesake:  # as a broken edit: what was read last stays what is known
        changes = {"valid": False, "revision": _revision(s)}
    conditions = [
        said("Ready", ok, words),
        said("Reconciling", False),
        said("Stalled", not ok, "" if ok else _wrong(s) or words),
    ]
    return old.model_copy(
        update={
            "observed_generation": generation,
            "name": s.strategy.called,
            **changes,
            "conditions": merge(old.conditions, conditions, s.now),
        }
    )


def _verdict(s: StrategySnapshot) -> tuple[bool, str, str]:
    content = s.content
    if s.namesake:
        words = f"strategy {s.strategy.called} of this library is {s.namesake} already; delete one of them"
        return False, reasons.NAME_COLLISION, words
    if content is None and not s.refused:
        return False, reasons.SOURCE_MISSING, s.missing or "its source is gone"
    kept = _revision(s)
    if content is not None and _good(s, content):
        return True, reasons.OFFERED, f"revision {short(content.hash)}"
    rest = f"; runs keep the last good code, {short(kept)}" if kept else "; no run can start with it"
    if content is not None and content.problem is None:
        return False, reasons.SNAPSHOT_NOT_KEPT, f"{content.file} can't be kept: {s.unkept}{rest}"
    return False, reasons.STRATEGY_INVALID, _wrong(s) + rest


def _good(s: StrategySnapshot, content: Content) -> bool:
    """It can be run, and is kept for those who do."""
    return content.problem is None and content.hash in s.kept


def _wrong(s: StrategySnapshot) -> str:
    """What a person must correct."""
    content = s.content
    return f"{content.file}: {content.problem}" if content is not None and content.problem else s.refused


def _revision(s: StrategySnapshot) -> str | None:
    if s.content is not None and _good(s, s.content):
        return s.content.hash
    last = s.strategy.status.revision
    return last if last in s.kept else None


def _revisions(s: StrategySnapshot, content: Content) -> tuple[Revision, ...]:
    """Newest first. What is offered again comes to the front again."""
    old = tuple(r for r in s.strategy.status.revisions if r.hash in s.kept)
    if _good(s, content) and (not old or old[0].hash != content.hash):
        fresh = Revision(hash=content.hash, file=content.file, size=content.size, seen_at=s.now)
        old = (fresh, *(r for r in old if r.hash != content.hash))
    return old[: s.history]


def _modified(s: StrategySnapshot, content: Content) -> datetime:
    if content.modified_at is not None:
        try:
            return datetime.fromtimestamp(content.modified_at, UTC).replace(microsecond=0)
        except (OverflowError, OSError, ValueError):  # a file may claim any time
            return s.now
    same = s.strategy.status.hash == content.hash
    return (s.strategy.status.modified_at if same else None) or s.now


def events(old: StrategyStatus, new: StrategyStatus) -> tuple[Event, ...]:
    """What happened to it that is worth telling."""
    after = find(new.conditions, "Ready")
    before = find(old.conditions, "Ready")
    if after is None or (
        before is not None and (before.reason, before.message) == (after.reason, after.message)
    ):
        return ()
    if after.reason == reasons.OFFERED:
        other = old.revision is not None and old.revision != new.revision
        words = f"{after.message} is offered" + (f" instead of {short(old.revision or '')}" if other else "")
        return (Event("Normal", reasons.OFFERED, words),)
    return (Event("Warning", after.reason, after.message),)
