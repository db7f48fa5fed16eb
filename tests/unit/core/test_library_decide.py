"""One StrategyLibrary: its objects equal what its source has; who was there first keeps its name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.worlds import NOW

from mainstay.api.conditions import find
from mainstay.api.strategylibrary import StrategyLibrary, StrategyLibraryStatus
from mainstay.core import reasons
from mainstay.core.plan import ActAll, Action, CreateStrategy, DeleteStrategy, SetSource, Wait, Write
from mainstay.core.strategy.library import AT_ONCE, LibrarySnapshot, StrategyObject, decide, events, outlook
from mainstay.core.strategy.names import object_name
from mainstay.core.strategy.views import FileProblem, FileView, Listing

UNREADABLE = Listing(error=(reasons.DIRECTORY_NOT_FOUND, "there is no directory /s."))


def library(*, deleting: bool = False, default: str | None = None, **status: Any) -> StrategyLibrary:
    meta = {"name": "main", "namespace": "default", "uid": "lib-1", "generation": 1}
    spec = {"source": {"directory": "/s"}} | ({"default": default} if default else {})
    made = StrategyLibrary.model_validate(
        {"metadata": meta | ({"deletionTimestamp": NOW} if deleting else {}), "spec": spec}
    )
    return made.model_copy(update={"status": StrategyLibraryStatus().model_copy(update=status)})


def view(name: str, file: str = "", config_map: str = "") -> FileView:
    return FileView(name, file or f"{name}.py", "sha256:" + "1" * 64, "m" * 32, 9, config_map=config_map)


def listing(*names: str | FileView, problems: tuple[FileProblem, ...] = ()) -> Listing:
    views = [view(n) if isinstance(n, str) else n for n in names]
    return Listing({v.name: v for v in views}, problems)


def made(name: str, **changes: Any) -> StrategyObject:
    said = {"uid": f"u-{name}", "name": name, "file": f"{name}.py", "valid": True, "offered": True}
    return StrategyObject(**said | changes)


def objects(*known: StrategyObject) -> dict[str, StrategyObject]:
    return {object_name("main", o.name): o for o in known}


def seen(source: Listing, known: dict[str, StrategyObject], **about: Any) -> LibrarySnapshot:
    return LibrarySnapshot(about.pop("of", library()), NOW, source, known, **about)


def told(s: LibrarySnapshot) -> list[str]:
    """What is done, in a few words."""
    plan = decide(s)
    return [_words(a) for a in plan.actions] if isinstance(plan, ActAll) else []


def _words(action: Action) -> str:
    match action:
        case CreateStrategy(name=name, called=called, file=file, config_map=config_map):
            return f"create {name} of {called} in {config_map + '/' if config_map else ''}{file}"
        case SetSource(name=name, uid=uid, file=file):
            return f"set {name} {uid} to {file}"
        case DeleteStrategy(name=name, uid=uid):
            return f"delete {name} {uid}"
        case _:
            raise AssertionError(action)


EMA, RSI = made("Ema"), made("Rsi")
THEIRS = {"main.ema": made("Ema", ours=False, adopted=False)}
Case = tuple[Listing, dict[str, StrategyObject], list[str]]
CASES: dict[str, Case] = {
    "empty": (listing(), {}, []),
    "new": (
        listing("Ema", "Rsi"),
        {},
        ["create main.ema of Ema in Ema.py", "create main.rsi of Rsi in Rsi.py"],
    ),
    "as it is": (listing("Ema"), objects(EMA), []),
    "gone": (listing("Rsi"), objects(EMA, RSI), ["delete main.ema u-Ema"]),
    "a rename: what is new first": (listing("Macd"), objects(EMA), ["create main.macd of Macd in Macd.py"]),
    "a case-only rename: the old one first": (listing("EMA"), objects(EMA), ["delete main.ema u-Ema"]),
    "a case-only rename, the old one gone": (listing("EMA"), {}, ["create main.ema of EMA in EMA.py"]),
    "two of one name: the first by name": (
        listing("EMA", "Ema"),
        {},
        ["create main.ema of EMA in EMA.py"],
    ),
    "two of one name: the incumbent": (listing("EMA", "Ema"), objects(EMA), []),
    "two of one name: the incumbent goes": (listing("EMA"), objects(EMA), ["delete main.ema u-Ema"]),
    "another suffix": (listing(view("Ema", "Ema.so")), objects(EMA), ["set main.ema u-Ema to Ema.so"]),
    "now in a ConfigMap": (
        listing(view("Ema", "Ema.py", "cm")),
        objects(EMA),
        ["set main.ema u-Ema to Ema.py"],
    ),
    "in a ConfigMap": (
        listing(view("Ema", "Ema.py", "cm")),
        {},
        ["create main.ema of Ema in cm/Ema.py"],
    ),
    "in a ConfigMap, as it is": (
        listing(view("Ema", "Ema.py", "cm")),
        objects(made("Ema", file="", config_map=("cm", "Ema.py"))),
        [],
    ),
    "in another ConfigMap": (
        listing(view("Ema", "Ema.py", "cm2")),
        objects(made("Ema", file="", config_map=("cm", "Ema.py"))),
        ["set main.ema u-Ema to Ema.py"],
    ),
    "out of its ConfigMap": (
        listing("Ema"),
        objects(made("Ema", file="", config_map=("cm", "Ema.py"))),
        ["set main.ema u-Ema to Ema.py"],
    ),
    "of an earlier library of this name": (
        listing("Ema"),
        objects(made("Ema", adopted=False)),
        ["set main.ema u-Ema to Ema.py"],
    ),
    "of an earlier library, and gone": (
        listing(),
        objects(made("Ema", adopted=False)),
        ["delete main.ema u-Ema"],
    ),
    "somebody else's": (listing("Ema"), THEIRS, []),
    "somebody else's, without a file": (listing(), THEIRS, []),
    "gone, and others are registered": (listing(), objects(made("Ema", registered=True)), []),
    "renamed in case, and others are registered": (
        listing("EMA"),
        objects(made("Ema", registered=True)),
        [],
    ),
    "the directory can't be read": (UNREADABLE, objects(EMA, RSI), []),
    "the directory can't be read, adoption waits": (UNREADABLE, objects(made("Ema", adopted=False)), []),
    "a file that can't be offered": (
        listing(problems=(FileProblem("a b.py", reasons.NAME_INVALID, "no name"),)),
        {},
        [],
    ),
}


@pytest.mark.parametrize(("source", "known", "done"), CASES.values(), ids=CASES)
def test_table(source: Listing, known: dict[str, StrategyObject], done: list[str]) -> None:
    assert told(seen(source, known)) == done


def follow(s: LibrarySnapshot) -> tuple[LibrarySnapshot, list[str]]:
    """Plans followed until nothing is left to do."""
    story: list[str] = []
    for number in range(60):
        plan = decide(s)
        match plan:
            case Wait():
                return s, story
            case Write(status=status):
                s = replace(s, library=s.library.model_copy(update={"status": status}))
            case ActAll(actions=actions):
                known = dict(s.objects)
                for action in actions:
                    story.append(_words(action))
                    match action:
                        case CreateStrategy(name=name):
                            assert name not in known
                            source = (action.config_map, action.file) if action.config_map else None
                            known[name] = StrategyObject(
                                f"u{number}", action.called, "" if source else action.file, source
                            )
                        case SetSource(name=name, uid=uid):
                            assert known[name].uid == uid
                            source = (action.config_map, action.file) if action.config_map else None
                            known[name] = replace(
                                known[name],
                                file="" if source else action.file,
                                config_map=source,
                                adopted=True,
                            )
                        case DeleteStrategy(name=name, uid=uid):
                            assert known.pop(name).uid == uid
                s = replace(s, objects=known)
    raise AssertionError(("no end", story))


def test_a_swap_of_two_files_whose_names_collide() -> None:
    """EMA came second and was not offered; now Ema is gone: its object goes first, and EMA gets the name."""
    both, story = follow(seen(listing("EMA", "Ema"), objects(EMA)))
    assert story == []
    assert both.library.status.problem_count == 1
    assert "which is that of Ema.py" in both.library.status.problems[0].message
    after, story = follow(replace(both, listing=listing("EMA")))
    assert story == ["delete main.ema u-Ema", "create main.ema of EMA in EMA.py"]
    assert after.objects["main.ema"].name == "EMA"
    back, story = follow(replace(after, listing=listing("Ema")))
    assert len(story) == 2
    assert back.objects["main.ema"].name == "Ema"
    assert back.library.status.problem_count == 0


def test_an_unreadable_directory_freezes_all_but_the_words() -> None:
    good, _ = follow(seen(listing("Ema", "Rsi"), {}))
    blind, story = follow(replace(good, listing=UNREADABLE))
    assert story == []
    assert blind.objects == good.objects
    status = blind.library.status
    assert status.strategies == good.library.status.strategies == 2
    stalled = find(status.conditions, "Stalled")
    assert stalled is not None
    assert (stalled.status, stalled.reason) == ("True", reasons.DIRECTORY_NOT_FOUND)
    assert "stays as it is" in stalled.message
    again, story = follow(replace(blind, listing=good.listing))
    assert story == []
    ready = find(again.library.status.conditions, "Ready")
    assert ready is not None
    assert ready.status == "True"


def test_a_library_that_is_being_deleted_does_nothing() -> None:
    assert decide(seen(listing("Ema"), {}, of=library(deleting=True))) == Wait()


def test_many_at_once_go_in_portions() -> None:
    names = [f"S{number}" for number in range(3 * AT_ONCE)]
    plan = decide(seen(listing(*names), {}))
    assert isinstance(plan, ActAll)
    assert len(plan.actions) == AT_ONCE
    after, story = follow(seen(listing(*names), {}))
    assert len(story) == len(after.objects) == 3 * AT_ONCE


def test_what_the_api_server_refused_is_told_and_not_tried_again() -> None:
    status = outlook(seen(listing("Ema"), {}), ())
    s = seen(listing("Ema", "Rsi"), objects(RSI), refused={"main.ema": "exceeded quota"})
    assert told(s) == []
    plan = decide(s)
    assert isinstance(plan, Write)
    assert [(p.file, p.reason, p.message) for p in plan.status.problems] == [
        ("Ema.py", reasons.NAME_INVALID, "exceeded quota")
    ]
    assert status != plan.status


DEFAULTS: dict[str, tuple[str | None, dict[str, StrategyObject], str, str]] = {
    "none": (None, objects(EMA), "False", reasons.NO_DEFAULT),
    "there": ("Ema", objects(EMA), "True", reasons.DEFAULT_OFFERED),
    "not there": ("Safe", objects(EMA), "False", reasons.DEFAULT_NOT_FOUND),
    "not offered": ("Ema", objects(made("Ema", offered=False)), "False", reasons.DEFAULT_NOT_FOUND),
}


@pytest.mark.parametrize(("default", "known", "truth", "reason"), DEFAULTS.values(), ids=DEFAULTS)
def test_the_default_is_told(
    default: str | None, known: dict[str, StrategyObject], truth: str, reason: str
) -> None:
    status = outlook(seen(listing("Ema"), known, of=library(default=default)), ())
    condition = find(status.conditions, "DefaultAvailable")
    assert condition is not None
    assert (condition.status, condition.reason) == (truth, reason)


def test_counts_and_problems() -> None:
    bad = tuple(FileProblem(f"b{n:02} .py", reasons.NAME_INVALID, "m" * 2000) for n in range(30))
    known = objects(EMA, made("Rsi", valid=False, offered=False))
    plan = decide(seen(listing("Ema", "Rsi", problems=bad), known))
    assert isinstance(plan, Write)
    status = plan.status
    assert (status.strategies, status.invalid, status.problem_count) == (2, 1, 30)
    assert len(status.problems) == 20
    assert all(len(p.message) == 1024 for p in status.problems)
    ready = find(status.conditions, "Ready")
    assert ready is not None
    assert "29 more" in ready.message


def test_counts_alone_are_written_at_most_once_a_second() -> None:
    s, _ = follow(seen(listing("Ema"), objects(EMA)))
    broken = replace(s, objects=objects(made("Ema", valid=False)), counted_seconds_ago=0.25)
    assert decide(broken) == Wait(0.75)
    assert isinstance(decide(replace(broken, counted_seconds_ago=1.0)), Write)


def test_a_host_that_can_not_watch_says_so() -> None:
    status = outlook(seen(replace(listing("Ema"), watched=False), objects(EMA)), ())
    condition = find(status.conditions, "Watching")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", reasons.WATCH_UNAVAILABLE)
    assert "30 s" in condition.message


def test_events_tell_turns_once() -> None:
    fresh = StrategyLibraryStatus()
    good = outlook(seen(listing("Ema"), objects(EMA)), ())
    blind = outlook(seen(UNREADABLE, objects(EMA), of=library(**good.__dict__)), ())
    assert [e.reason for e in events(fresh, good)] == []
    assert [(e.kind, e.reason) for e in events(good, blind)] == [("Warning", reasons.DIRECTORY_NOT_FOUND)]
    assert events(blind, blind) == ()
    assert [(e.kind, e.reason) for e in events(blind, good)] == [("Normal", reasons.OFFERED)]


NAMES = ("Ema", "EMA", "ema", "Rsi", "R_si", "r-si", "Macd")
sources = st.lists(st.sampled_from(NAMES), unique=True, max_size=6)


@given(st.lists(sources | st.none(), min_size=1, max_size=6), st.sets(st.sampled_from(NAMES), max_size=2))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_the_objects_equal_the_directory_in_the_end(
    histories: list[list[str] | None], external: set[str]
) -> None:
    """None: the directory can't be read for a while. Those in `external` have registered users."""
    s = seen(listing(), {})
    for names in histories:
        before = s.objects
        known = {k: replace(o, registered=o.name in external) for k, o in s.objects.items()}
        s, _ = follow(replace(s, listing=UNREADABLE if names is None else listing(*names), objects=known))
        if names is None:
            assert s.objects.keys() == before.keys()
            continue
        for name in names:
            holder = s.objects[object_name("main", name)].name
            assert holder in names or holder in external, "its name is held by nobody's object"
        for name, known_object in s.objects.items():
            assert known_object.name in names or known_object.name in external, f"{name} is nobody's"
            assert object_name("main", known_object.name) == name
        told_of = {p.file for p in s.library.status.problems}
        missing = {f"{n}.py" for n in names if s.objects[object_name("main", n)].name != n}
        assert missing <= told_of, "what is not offered is told"
