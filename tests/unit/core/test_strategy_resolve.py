"""Which bytes a run is to run: every branch, with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.worlds import a_run

from mainstay.api.strategyrun import StrategyInUse, StrategyRunSpec
from mainstay.core import reasons
from mainstay.core.strategy.resolve import (
    Resolution,
    StrategyView,
    resolve,
    same_program,
    short,
    with_strategy,
)


def use(name: str = "Ema", digit: str = "1", *, fallback: bool = False, file: str = "") -> StrategyInUse:
    return StrategyInUse(
        name=name,
        hash=f"sha256:{digit * 64}",
        file=file or f"{name}.py",
        fallback=fallback,
        instead_of="Ema" if fallback else None,
    )


OLD, NEW = use(digit="1"), use(digit="2")
DEFAULT = use("Safe", "d")
STAND_IN = use("Safe", "d", fallback=True)
STRANGER = use("Other", "e")
PIN = use(digit="9")
HERE = StrategyView(found=True, offered=NEW, default=DEFAULT, default_name="Safe")
SAME = replace(HERE, offered=OLD)
BROKEN = replace(HERE, offered=OLD, invalid="Ema.py: line 3: invalid syntax")
NEVER_GOOD = StrategyView(found=True, invalid="Ema.py: line 1: no")
GONE = StrategyView(default=DEFAULT, default_name="Safe")
GONE_WITHOUT = StrategyView()
GONE_TOO = StrategyView(default_name="Safe")
COMING = StrategyView(coming=True, default=DEFAULT, default_name="Safe")
IS_DEFAULT = StrategyView(default_name="Ema")
IGNORE, PAUSED = {"strategy_update_policy": "Ignore"}, {"state": "Paused"}
KEEP, STOP = {"fallback_policy": "KeepLast"}, {"fallback_policy": "Stop"}
PINNED = {"revision": PIN.hash}


def spec(asked: dict[str, Any]) -> StrategyRunSpec:
    said = dict(asked)
    revision = said.pop("revision", None)
    return a_run(strategy={"name": "Ema", "revision": revision}, **said).spec


Case = tuple[dict[str, Any], StrategyInUse | None, StrategyView, bool, StrategyInUse | None, str]
"""(asked, what was claimed last, what is known, settled) → what to run, and the reason that is told."""
CASES: dict[str, Case] = {
    # it is there
    "first start": ({}, None, HERE, False, NEW, reasons.STRATEGY_IN_USE),
    "nothing new": ({}, OLD, SAME, True, OLD, reasons.STRATEGY_IN_USE),
    "an edit": ({}, OLD, HERE, True, NEW, reasons.STRATEGY_IN_USE),
    "an edit, not its turn": ({}, OLD, replace(HERE, room=False), True, OLD, reasons.UPDATE_WAITING),
    "an edit, paused": (PAUSED, OLD, HERE, True, OLD, reasons.UPDATE_WAITING),
    "an edit, ignored": (IGNORE, OLD, HERE, True, OLD, reasons.UPDATE_IGNORED),
    "an edit, ignored, at its next start": (IGNORE, OLD, HERE, False, NEW, reasons.STRATEGY_IN_USE),
    "an edit, at its next start, no turn": (
        {},
        OLD,
        replace(HERE, room=False),
        False,
        NEW,
        reasons.STRATEGY_IN_USE,
    ),
    "a rename of its file": ({}, use(file="Ema.so"), SAME, True, OLD, reasons.STRATEGY_IN_USE),
    "another was asked before": ({}, STRANGER, HERE, True, NEW, reasons.STRATEGY_IN_USE),
    "another was asked before, paused": (PAUSED, STRANGER, HERE, True, NEW, reasons.STRATEGY_IN_USE),
    "back from its fallback": ({}, STAND_IN, HERE, True, NEW, reasons.STRATEGY_IN_USE),
    "back from its fallback, ignoring edits": (IGNORE, STAND_IN, HERE, True, NEW, reasons.STRATEGY_IN_USE),
    "back from its fallback, paused": (PAUSED, STAND_IN, HERE, True, STAND_IN, reasons.UPDATE_WAITING),
    # it is broken
    "broken, the last good one": ({}, OLD, BROKEN, True, OLD, reasons.STRATEGY_INVALID),
    "broken, a start": ({}, None, BROKEN, False, OLD, reasons.STRATEGY_INVALID),
    "broken, never good, it runs": ({}, OLD, NEVER_GOOD, True, OLD, reasons.STRATEGY_INVALID),
    "broken, never good": ({}, None, NEVER_GOOD, False, None, reasons.STRATEGY_INVALID),
    "broken, another was asked before": ({}, STRANGER, NEVER_GOOD, True, None, reasons.STRATEGY_INVALID),
    # a revision
    "pinned": (PINNED, OLD, replace(HERE, pinned=PIN), True, PIN, reasons.STRATEGY_IN_USE),
    "pinned, paused: the user's own": (
        PINNED | PAUSED,
        OLD,
        replace(HERE, pinned=PIN),
        True,
        PIN,
        reasons.STRATEGY_IN_USE,
    ),
    "pinned, ignoring edits: the user's own": (
        PINNED | IGNORE,
        OLD,
        replace(HERE, pinned=PIN),
        True,
        PIN,
        reasons.STRATEGY_IN_USE,
    ),
    "pinned, without a turn: the user's own": (
        PINNED,
        OLD,
        replace(HERE, pinned=PIN, room=False),
        True,
        PIN,
        reasons.STRATEGY_IN_USE,
    ),
    "pinned, the strategy is gone": (
        PINNED,
        PIN,
        replace(GONE, pinned=PIN),
        True,
        PIN,
        reasons.STRATEGY_IN_USE,
    ),
    "pinned to what is not kept": (PINNED, OLD, HERE, True, None, reasons.REVISION_NOT_FOUND),
    "pinned to what is not kept, gone": (PINNED, OLD, GONE, True, None, reasons.REVISION_NOT_FOUND),
    # it is gone
    "never there": ({}, None, GONE, False, None, reasons.STRATEGY_NOT_FOUND),
    "never there, another was asked before": ({}, STRANGER, GONE, True, None, reasons.STRATEGY_NOT_FOUND),
    "deleted": ({}, OLD, GONE, True, STAND_IN, reasons.FALLBACK_IN_USE),
    "deleted, at its next start": ({}, OLD, GONE, False, STAND_IN, reasons.FALLBACK_IN_USE),
    "deleted, ignoring edits": (IGNORE, OLD, GONE, True, STAND_IN, reasons.FALLBACK_IN_USE),
    "deleted, not its turn": ({}, OLD, replace(GONE, room=False), True, OLD, reasons.UPDATE_WAITING),
    "deleted, paused": (PAUSED, OLD, GONE, True, OLD, reasons.UPDATE_WAITING),
    "on its fallback already": ({}, STAND_IN, GONE, True, STAND_IN, reasons.FALLBACK_IN_USE),
    "its fallback was edited": (
        {},
        STAND_IN,
        replace(GONE, default=use("Safe", "f")),
        True,
        use("Safe", "f", fallback=True),
        reasons.FALLBACK_IN_USE,
    ),
    "its fallback was edited, ignoring edits": (
        IGNORE,
        STAND_IN,
        replace(GONE, default=use("Safe", "f")),
        True,
        STAND_IN,
        reasons.UPDATE_IGNORED,
    ),
    "deleted, another default": (
        {},
        STAND_IN,
        replace(GONE, default=STRANGER, default_name="Other"),
        True,
        use("Other", "e", fallback=True),
        reasons.FALLBACK_IN_USE,
    ),
    "deleted, the default too": ({}, OLD, GONE_TOO, True, OLD, reasons.LAST_GOOD_IN_USE),
    "on its fallback, which is deleted": ({}, STAND_IN, GONE_TOO, True, STAND_IN, reasons.LAST_GOOD_IN_USE),
    "deleted, no default": ({}, OLD, GONE_WITHOUT, True, OLD, reasons.LAST_GOOD_IN_USE),
    "deleted, it is the default": ({}, OLD, IS_DEFAULT, True, OLD, reasons.LAST_GOOD_IN_USE),
    "deleted, keep the last": (KEEP, OLD, GONE, True, OLD, reasons.LAST_GOOD_IN_USE),
    "deleted, keep the last, at its next start": (KEEP, OLD, GONE, False, OLD, reasons.LAST_GOOD_IN_USE),
    "deleted, stop": (STOP, OLD, GONE, True, None, reasons.STRATEGY_DELETED),
    "not read yet, stop, nothing lives": (STOP, OLD, COMING, False, None, reasons.STRATEGY_PENDING),
    "an edit, its library is not read yet": (
        {},
        OLD,
        replace(HERE, unread=True),
        True,
        OLD,
        reasons.UPDATE_WAITING,
    ),
    "not read yet, and nothing new": (
        {},
        OLD,
        replace(SAME, unread=True),
        True,
        OLD,
        reasons.STRATEGY_IN_USE,
    ),
    "not read yet, at its next start": (
        {},
        OLD,
        replace(HERE, unread=True),
        False,
        NEW,
        reasons.STRATEGY_IN_USE,
    ),
    "never there, stop": (STOP, None, GONE, False, None, reasons.STRATEGY_NOT_FOUND),
    # nobody knows yet
    "not read yet": ({}, OLD, COMING, True, OLD, reasons.STRATEGY_PENDING),
    "not read yet, stop": (STOP, OLD, COMING, True, OLD, reasons.STRATEGY_PENDING),
    "not read yet, nothing was run": ({}, None, COMING, False, None, reasons.STRATEGY_PENDING),
    "not read yet, on its fallback": ({}, STAND_IN, COMING, True, STAND_IN, reasons.STRATEGY_PENDING),
}


@pytest.mark.parametrize(("asked", "current", "view", "settled", "runs", "reason"), CASES.values(), ids=CASES)
def test_table(
    asked: dict[str, Any],
    current: StrategyInUse | None,
    view: StrategyView,
    settled: bool,
    runs: StrategyInUse | None,
    reason: str,
) -> None:
    found = resolve(spec(asked), current, view, settled=settled)
    assert found.use == runs
    assert found.told is not None
    assert found.told[:2] == (reason == reasons.STRATEGY_IN_USE, reason)
    assert (found.problem is None) is (runs is not None)
    assert found.problem is None or found.problem == found.told[1:]
    assert found.stop is (reason == reasons.STRATEGY_DELETED)


def test_what_ended_for_good_keeps_what_it_had_and_waits_for_no_turn() -> None:
    for view in (HERE, GONE, replace(HERE, room=False)):
        found = resolve(spec({}), OLD, view, settled=True, ended=True)
        assert (found.use, found.waits) == (OLD, False)
        assert found.told is not None
        assert found.told[1] == reasons.UPDATE_WAITING
        assert "next start" in found.told[2]


def test_every_reason_is_in_the_table() -> None:
    assert {reason for *_, reason in CASES.values()} == {
        *(reasons.STRATEGY_IN_USE, reasons.STRATEGY_INVALID, reasons.STRATEGY_NOT_FOUND),
        *(reasons.STRATEGY_PENDING, reasons.STRATEGY_DELETED, reasons.FALLBACK_IN_USE),
        *(reasons.LAST_GOOD_IN_USE, reasons.UPDATE_IGNORED, reasons.UPDATE_WAITING),
        reasons.REVISION_NOT_FOUND,
    }


def test_without_a_strategy_nothing_is_resolved() -> None:
    run = a_run()
    assert resolve(run.spec, OLD, HERE, settled=True) == Resolution()


def test_only_who_waits_for_a_turn_waits() -> None:
    for asked, current, view, settled, *_ in CASES.values():
        found = resolve(spec(asked), current, view, settled=settled)
        turn = found.told is not None and "waits for its turn" in found.told[2]
        assert found.waits is turn


WORDS: dict[str, tuple[dict[str, Any], StrategyInUse | None, StrategyView, tuple[str, ...]]] = {
    "the line of what is wrong, and what runs": ({}, OLD, BROKEN, ("line 3", "last good code", "1" * 12)),
    "what is missing, and that it starts by itself": ({}, None, GONE, ("main", "Ema", "by itself")),
    "the default by name and hash": ({}, OLD, GONE, ("Safe", "d" * 12, "until it is back")),
    "that the default is gone too": ({}, OLD, GONE_TOO, ("Safe neither", "last code")),
    "that there is no default": ({}, OLD, GONE_WITHOUT, ("no default", "last code")),
    "how to choose another revision": (PINNED, OLD, HERE, ("status.revisions",)),
    "what runs and what waits": (PAUSED, OLD, HERE, ("1" * 12, "2" * 12, "resumed")),
}


@pytest.mark.parametrize(("asked", "current", "view", "words"), WORDS.values(), ids=WORDS)
def test_words(
    asked: dict[str, Any], current: StrategyInUse | None, view: StrategyView, words: tuple[str, ...]
) -> None:
    found = resolve(spec(asked), current, view, settled=current is not None)
    assert found.told is not None
    assert all(word in found.told[2] for word in words), found.told[2]


SAME_PROGRAM: dict[str, tuple[StrategyInUse | None, StrategyInUse | None, bool]] = {
    "none": (None, None, True),
    "none and one": (None, OLD, False),
    "itself": (OLD, use(), True),
    "in another's place": (DEFAULT, STAND_IN, True),
    "other bytes": (OLD, NEW, False),
    "another name": (OLD, use("Ema2"), False),
    "another file": (OLD, use(file="Ema.so"), False),
}


@pytest.mark.parametrize(("one", "other", "same"), SAME_PROGRAM.values(), ids=SAME_PROGRAM)
def test_what_a_process_sees(one: StrategyInUse | None, other: StrategyInUse | None, same: bool) -> None:
    assert same_program(one, other) is same
    assert (with_strategy("sha256:x", one) == with_strategy("sha256:x", other)) is same


def test_inputs_that_can_not_be_told_stay_so() -> None:
    assert with_strategy("", OLD) == ""
    assert with_strategy("sha256:x", None) == "sha256:x"
    assert short("sha256:" + "ab" * 32) == "abababababab"


some = st.sampled_from([None, OLD, NEW, STAND_IN, STRANGER, DEFAULT])
offers = st.sampled_from([None, OLD, NEW])


@given(
    asked=st.fixed_dictionaries(
        {
            "state": st.sampled_from(["Running", "Paused", "Stopped"]),
            "strategy_update_policy": st.sampled_from([None, "Restart", "Ignore"]),
            "fallback_policy": st.sampled_from([None, "UseDefault", "KeepLast", "Stop"]),
            "revision": st.sampled_from([None, None, PIN.hash]),
        }
    ),
    current=some,
    view=st.builds(
        StrategyView,
        found=st.booleans(),
        offered=offers,
        invalid=st.sampled_from(["", "Ema.py: line 1: no"]),
        coming=st.booleans(),
        default=st.sampled_from([None, DEFAULT]),
        default_name=st.sampled_from([None, "Safe", "Ema"]),
        pinned=st.sampled_from([None, PIN]),
        room=st.booleans(),
    ),
    settled=st.booleans(),
)
@settings(max_examples=500, derandomize=True, deadline=None)
def test_laws(
    asked: dict[str, Any], current: StrategyInUse | None, view: StrategyView, settled: bool
) -> None:
    asked = {k: v for k, v in asked.items() if v is not None}
    found = resolve(spec(asked), current, view, settled=settled)
    assert found.told is not None
    assert (found.use is None) == (found.problem is not None)
    if found.use is not None:
        known = [x for x in (current, view.offered, view.pinned, view.default) if x is not None]
        assert any(same_program(found.use, x) for x in known), "what nobody has is run"
        assert found.use.name == "Ema" or found.use.fallback, "another strategy is run, and not as a fallback"
    again = resolve(spec(asked), found.use or current, view, settled=True)
    if found.use is not None and view.room and asked["state"] == "Running":
        assert same_program(again.use, found.use) or found.told[1] == reasons.UPDATE_IGNORED, "it moves again"
    if (
        settled
        and current is not None
        and not view.room
        and "revision" not in asked
        and found.use is not None
    ):
        mine = current.fallback or current.name == "Ema"
        assert not mine or same_program(found.use, current), "it moves without its turn"
