"""One Strategy: the bytes first, then the word that they are offered."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from tests.unit.core.worlds import NOW

from mainstay.api.conditions import find
from mainstay.api.strategy import Revision, Strategy, StrategyStatus, UsedBy
from mainstay.core import reasons
from mainstay.core.plan import Act, DeleteStrategy, KeepSnapshot, Wait, Write
from mainstay.core.strategy.strategy import Content, StrategySnapshot, decide, events

ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")
NOBODY = UsedBy()
TWO_USERS = UsedBy(count=2, runs=("a",), external=("grafana",))


def content(what: str = ONE, *, problem: str | None = None, **changes: Any) -> Content:
    return Content(
        **{"file": "Ema.py", "hash": what, "md5": "m" * 32, "size": 9, "problem": problem} | changes
    )


def revision(what: str, file: str = "Ema.py") -> Revision:
    return Revision(hash=what, file=file, size=9, seen_at=NOW)


def strategy(*, users: bool = False, deleting: bool = False, **status: Any) -> Strategy:
    spec = {
        "library": "main",
        "name": "Ema",
        "source": {"file": {"path": "Ema.py"}},
        "users": [{"name": "grafana"}] if users else [],
    }
    meta = {"name": "main.ema", "namespace": "default", "uid": "u1", "generation": 2}
    made = Strategy.model_validate(
        {"metadata": meta | ({"deletionTimestamp": NOW} if deleting else {}), "spec": spec}
    )
    return made.model_copy(update={"status": StrategyStatus().model_copy(update=status)})


def seen(
    of: Strategy, now: Content | None, *, kept: tuple[str, ...] = (ONE, TWO), **about: Any
) -> StrategySnapshot:
    return StrategySnapshot(of, NOW, now, **{"used_by": NOBODY, "kept": frozenset(kept)} | about)


def settled(s: StrategySnapshot) -> StrategyStatus:
    """The status that it has in the end."""
    plan = decide(s)
    assert isinstance(plan, Write)
    return plan.status


def test_the_bytes_are_kept_before_anything_is_said() -> None:
    assert decide(seen(strategy(), content(), kept=())) == Act(KeepSnapshot("Ema.py", ONE))
    assert decide(seen(strategy(), content(TWO), kept=(ONE,))) == Act(KeepSnapshot("Ema.py", TWO))


def test_lost_bytes_are_kept_again() -> None:
    known = settled(seen(strategy(), content()))
    again = decide(seen(strategy(**known.__dict__), content(), kept=()))
    assert again == Act(KeepSnapshot("Ema.py", ONE))


def test_what_is_broken_is_not_kept_and_not_offered() -> None:
    broken = content(TWO, problem="line 3: invalid syntax")
    status = settled(seen(strategy(), broken, kept=()))
    assert (status.valid, status.hash, status.revision, status.revisions) == (False, TWO, None, ())
    stalled = find(status.conditions, "Stalled")
    assert stalled is not None
    assert (stalled.status, stalled.reason) == ("True", reasons.STRATEGY_INVALID)
    assert stalled.message == "Ema.py: line 3: invalid syntax"
    ready = find(status.conditions, "Ready")
    assert ready is not None
    assert "no run can start" in ready.message


def test_a_broken_edit_keeps_the_last_good_revision() -> None:
    old = settled(seen(strategy(), content()))
    of = strategy(**old.__dict__)
    status = settled(seen(of, content(TWO, problem="line 3: invalid syntax", file="Ema.pyc")))
    assert (status.hash, status.valid, status.revision) == (TWO, False, ONE)
    assert status.file == "Ema.py", "of what is offered, not of what is broken"
    assert [r.hash for r in status.revisions] == [ONE]
    ready = find(status.conditions, "Ready")
    assert ready is not None
    assert "last good code" in ready.message


def test_the_last_good_revision_is_not_offered_without_its_bytes() -> None:
    of = strategy(revision=ONE, revisions=(revision(ONE),), hash=ONE, valid=True, file="Ema.py")
    status = settled(seen(of, content(TWO, problem="line 1: no"), kept=()))
    assert (status.revision, status.revisions) == (None, ())


HISTORY: dict[str, tuple[tuple[str, ...], str, int, tuple[str, ...], tuple[str, ...]]] = {
    "the first": ((), ONE, 10, (ONE,), (ONE,)),
    "another": ((ONE,), TWO, 10, (ONE, TWO), (TWO, ONE)),
    "the same": ((TWO, ONE), TWO, 10, (ONE, TWO), (TWO, ONE)),
    "an older one again": ((TWO, ONE), ONE, 10, (ONE, TWO), (ONE, TWO)),
    "too many": ((TWO, ONE), THREE, 2, (ONE, TWO, THREE), (THREE, TWO)),
    "one whose bytes are lost": ((TWO, ONE), THREE, 10, (TWO, THREE), (THREE, TWO)),
}


@pytest.mark.parametrize(("before", "now", "history", "kept", "after"), HISTORY.values(), ids=HISTORY)
def test_revisions(
    before: tuple[str, ...], now: str, history: int, kept: tuple[str, ...], after: tuple[str, ...]
) -> None:
    of = strategy(revisions=tuple(map(revision, before)), revision=before[0] if before else None)
    status = settled(seen(of, content(now), kept=kept, history=history))
    assert tuple(r.hash for r in status.revisions) == after
    assert status.revision == now


def test_what_is_gone_is_not_offered_and_its_history_is_kept() -> None:
    old = settled(seen(strategy(), content()))
    status = settled(seen(strategy(**old.__dict__), None, missing="library main has no file Ema.py"))
    assert (status.hash, status.md5, status.size, status.valid, status.revision) == (None,) * 5
    assert [r.hash for r in status.revisions] == [ONE]
    ready = find(status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason, ready.message) == (
        "False",
        reasons.SOURCE_MISSING,
        "library main has no file Ema.py",
    )


def test_a_namesake_offers_nothing() -> None:
    status = settled(seen(strategy(), content(), kept=(), namesake="by-hand"))
    assert (status.hash, status.revision) == (None, None)
    ready = find(status.conditions, "Ready")
    assert ready is not None
    assert ready.reason == reasons.NAME_COLLISION
    assert "by-hand" in ready.message


def test_while_nothing_is_known_nothing_is_said_but_who_uses_it() -> None:
    old = settled(seen(strategy(), content()))
    of = strategy(**old.__dict__)
    assert decide(seen(of, None, unknown=True)) == Wait()
    plan = decide(seen(of, None, unknown=True, used_by=TWO_USERS))
    assert plan == Write(old.model_copy(update={"used_by": TWO_USERS}))


def test_a_file_that_changes_while_it_is_read_is_looked_into_again() -> None:
    assert decide(seen(strategy(), None, unknown=True, moved=True, used_by=TWO_USERS)) == Wait(1.0)


def test_an_orphan_goes_unless_others_are_registered_with_it() -> None:
    gone = Act(DeleteStrategy("main.ema", "u1"))
    assert decide(seen(strategy(), None, orphaned=True)) == gone
    assert decide(seen(strategy(), None, orphaned=True, unknown=True)) == gone
    kept = settled(seen(strategy(users=True), None, orphaned=True, missing="there is no library main"))
    assert kept.revision is None


def test_one_that_is_being_deleted_is_left_alone() -> None:
    assert decide(seen(strategy(deleting=True), content(), kept=())) == Wait()


def test_counts_are_written_at_most_once_a_second() -> None:
    old = settled(seen(strategy(), content()))
    of = strategy(**old.__dict__)
    assert decide(seen(of, content())) == Wait()
    assert decide(seen(of, content(), used_by=TWO_USERS, counted_seconds_ago=0.25)) == Wait(0.75)
    assert decide(seen(of, content(), used_by=TWO_USERS)) == Write(
        old.model_copy(update={"used_by": TWO_USERS})
    )


def test_a_fixed_point_writes_nothing() -> None:
    for now in (content(), content(problem="line 1: no"), None):
        first = settled(seen(strategy(), now))
        assert decide(seen(strategy(**first.__dict__), now)) == Wait()


TIMES: dict[str, tuple[float | None, str | None, datetime | None, datetime]] = {
    "of the file": (1_000_000.75, None, None, datetime(1970, 1, 12, 13, 46, 40, tzinfo=UTC)),
    "a file of the far future": (1e30, None, None, NOW),
    "a file of no time": (float("nan"), None, None, NOW),
    "not told, first seen": (None, None, None, NOW),
    "not told, seen before": (None, ONE, datetime(2029, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)),
    "not told, other bytes": (None, TWO, datetime(2029, 1, 1, tzinfo=UTC), NOW),
}


@pytest.mark.parametrize(("told", "known", "since", "expected"), TIMES.values(), ids=TIMES)
def test_modified_at(
    told: float | None, known: str | None, since: datetime | None, expected: datetime
) -> None:
    of = strategy(hash=known, modified_at=since)
    assert settled(seen(of, content(modified_at=told))).modified_at == expected


def test_events_tell_turns_once() -> None:
    empty = StrategyStatus()
    good = settled(seen(strategy(), content()))
    better = settled(seen(strategy(**good.__dict__), content(TWO)))
    broken = settled(seen(strategy(**better.__dict__), content(THREE, problem="line 3: no")))
    gone = settled(seen(strategy(**broken.__dict__), None, missing="no file"))
    story = [empty, good, better, better, broken, gone, good]
    told = [[(e.kind, e.reason) for e in events(a, b)] for a, b in pairwise(story)]
    assert told == [
        [("Normal", reasons.OFFERED)],
        [("Normal", reasons.OFFERED)],
        [],
        [("Warning", reasons.STRATEGY_INVALID)],
        [("Warning", reasons.SOURCE_MISSING)],
        [("Normal", reasons.OFFERED)],
    ]
    assert "instead of " + "1" * 12 in events(good, better)[0].message
    assert "line 3" in events(better, broken)[0].message
