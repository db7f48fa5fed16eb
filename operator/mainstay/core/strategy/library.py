"""decide() for one StrategyLibrary: the objects equal what its source has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mainstay.api.conditions import Condition, condition, find, merge
from mainstay.api.strategylibrary import (
    PROBLEMS_SHOWN,
    LibraryProblem,
    StrategyLibrary,
    StrategyLibraryStatus,
)
from mainstay.core import reasons
from mainstay.core.plan import (
    ActAll,
    CreateStrategy,
    DeleteStrategy,
    Plan,
    SetSource,
    StrategyEffect,
    Wait,
    Write,
)
from mainstay.core.run.story import Event
from mainstay.core.strategy.names import object_name
from mainstay.core.strategy.views import FileProblem, FileView, Listing

LibraryPlan = Plan[StrategyLibraryStatus]

Say = Callable[[str, bool, str, str], Condition]
"""(type, true, reason, message)"""

AT_ONCE = 32
"""Objects made or deleted side by side."""
COUNT_SECONDS = 1.0
"""Counts are written at most this often."""


@dataclass(frozen=True, slots=True)
class StrategyObject:
    """As much of a Strategy as its library needs."""

    uid: str
    name: str  # EmaRsiStrategy
    file: str = ""  # of the library's directory
    config_map: tuple[str, str] | None = None  # (name, key)
    ours: bool = True  # a library of this name made it
    adopted: bool = True  # and it was this very one
    registered: bool = False  # programs of others are registered with it
    valid: bool | None = None
    offered: bool = False


@dataclass(frozen=True, slots=True)
class LibrarySnapshot:
    """One library, its source and its objects as of one moment."""

    library: StrategyLibrary
    now: datetime
    listing: Listing
    objects: Mapping[str, StrategyObject] = field(default_factory=dict)  # by name of the object
    refused: Mapping[str, str] = field(default_factory=dict)  # name of an object → why it can't be made
    counted_seconds_ago: float = COUNT_SECONDS


def decide(s: LibrarySnapshot) -> LibraryPlan:
    """What to do next. Pure. While its source can't be read, nothing of it is touched."""
    if s.library.metadata.deletion_timestamp is not None:
        return Wait()
    wanted, collisions = _wanted(s)
    # What is new first: a default that comes with the same change is there for those who fall back to it.
    if s.listing.error is None and (actions := _missing(s, wanted) or _surplus(s, wanted)):
        return ActAll(tuple(actions[:AT_ONCE]))
    status = outlook(s, (*s.listing.problems, *collisions))
    old = s.library.status
    if status == old:
        return Wait()
    counts = {"strategies": status.strategies, "invalid": status.invalid}
    if s.counted_seconds_ago < COUNT_SECONDS and old.model_copy(update=counts) == status:
        return Wait(COUNT_SECONDS - s.counted_seconds_ago)
    return Write(status)


def _wanted(s: LibrarySnapshot) -> tuple[dict[str, FileView], list[FileProblem]]:
    """Object name → file; and files whose object name belongs to another. Who was there first keeps it."""
    library = s.library.metadata.name
    wanted: dict[str, FileView] = {}
    collisions = []

    def first_come(view: FileView) -> tuple[bool, str]:
        known = s.objects.get(object_name(library, view.name))
        return (known is None or known.name != view.name, view.name)

    for view in sorted(s.listing.files.values(), key=first_come):
        name = object_name(library, view.name)
        known = s.objects.get(name)
        if name in wanted:
            other = wanted[name]
            words = f"its object would be {name}, which is that of {other.file}; rename one of the two files"
            collisions.append(FileProblem(view.file, reasons.NAME_COLLISION, words))
        elif known is not None and not known.ours:
            words = f"Strategy {name} exists already and is not this library's; delete it, or rename the file"
            collisions.append(FileProblem(view.file, reasons.NAME_COLLISION, words))
        elif known is not None and known.registered and known.name != view.name:
            words = f"its object would be {name}, which stays for those registered with {known.name}; rename the file"
            collisions.append(FileProblem(view.file, reasons.NAME_COLLISION, words))
        elif name in s.refused:
            collisions.append(FileProblem(view.file, reasons.NAME_INVALID, s.refused[name]))
        else:
            wanted[name] = view
    return wanted, collisions


def _missing(s: LibrarySnapshot, wanted: Mapping[str, FileView]) -> Sequence[StrategyEffect]:
    actions: list[StrategyEffect] = []
    for name, view in sorted(wanted.items()):
        known = s.objects.get(name)
        if known is None:
            actions.append(CreateStrategy(name, view.name, view.file, view.config_map))
        elif known.name == view.name and (not known.adopted or not _says(known, view)):
            actions.append(SetSource(name, known.uid, view.file, view.config_map))
    return actions


def _says(known: StrategyObject, view: FileView) -> bool:
    """Whether the object says where the strategy is."""
    if view.config_map:
        return known.config_map == (view.config_map, view.file)
    return known.config_map is None and known.file == view.file


def _surplus(s: LibrarySnapshot, wanted: Mapping[str, FileView]) -> Sequence[StrategyEffect]:
    """Objects whose file is gone. One that others are registered with stays, and is not offered."""
    return [
        DeleteStrategy(name, known.uid)
        for name, known in sorted(s.objects.items())
        if known.ours
        and not known.registered
        and known.name not in s.listing.withheld
        and (name not in wanted or wanted[name].name != known.name)
    ]


def outlook(s: LibrarySnapshot, problems: tuple[FileProblem, ...]) -> StrategyLibraryStatus:
    """The status that tells what was found. While the source can't be read, what was found before."""
    generation = s.library.metadata.generation
    old, listing = s.library.status, s.listing

    def said(kind: str, value: bool, reason: str, words: str) -> Condition:
        return condition(kind, value, reason, words, now=s.now, generation=generation)

    if listing.error is not None:
        reason, words = listing.error
        words = f"{words} What it had before stays as it is."
    elif problems:
        first = problems[0]
        rest = f", and {len(problems) - 1} more (status.problems)" if len(problems) > 1 else ""
        reason, words = first.reason, f"{first.file}: {first.message}{rest}"
    else:
        reason, words = (
            reasons.OFFERED,
            f"{len(listing.files)} strateg{'y' if len(listing.files) == 1 else 'ies'}",
        )
    ok = listing.error is None and not problems
    conditions = [
        said("Ready", ok, reason, words),
        said("Reconciling", False, reason, ""),
        said("Stalled", not ok, reason, words if not ok else ""),
        _watching(s, said),
        _default(s, said),
    ]
    changes: dict[str, object] = {}
    if listing.error is None:
        told = sorted(problems, key=lambda p: p.file)
        changes = {
            "strategies": len(listing.files) - sum(1 for p in problems if p not in listing.problems),
            "invalid": sum(1 for o in s.objects.values() if o.valid is False),
            "problem_count": len(problems),
            "problems": tuple(
                LibraryProblem(file=p.file[:512], reason=p.reason, message=p.message[:1024])
                for p in told[:PROBLEMS_SHOWN]
            ),
        }
    return old.model_copy(
        update={
            "observed_generation": generation,
            **changes,
            "conditions": merge(old.conditions, conditions, s.now),
        }
    )


def _watching(s: LibrarySnapshot, said: Say) -> Condition:
    every = s.library.spec.rescan_seconds
    if s.listing.watched:
        return said("Watching", True, reasons.WATCHING, "changes are noticed at once")
    words = f"this host can't tell of changes (inotify limits?); it is read every {every} s"
    return said("Watching", False, reasons.WATCH_UNAVAILABLE, words)


def _default(s: LibrarySnapshot, said: Say) -> Condition:
    default = s.library.spec.default
    if default is None:
        words = "spec.default is not set: users of a deleted strategy keep its last code"
        return said("DefaultAvailable", False, reasons.NO_DEFAULT, words)
    if any(o.name == default and o.offered for o in s.objects.values()):
        return said("DefaultAvailable", True, reasons.DEFAULT_OFFERED, default)
    if default in s.listing.files and all(o.valid is None for o in s.objects.values() if o.name == default):
        return said("DefaultAvailable", False, reasons.SCANNING, f"{default} is being read")
    words = f"there is no valid {default}: users of a deleted strategy keep its last code"
    return said("DefaultAvailable", False, reasons.DEFAULT_NOT_FOUND, words)


def events(old: StrategyLibraryStatus, new: StrategyLibraryStatus) -> tuple[Event, ...]:
    """Turns for the worse or the better, each once."""
    told = []
    for kind in ("Ready", "Watching", "DefaultAvailable"):
        before, after = find(old.conditions, kind), find(new.conditions, kind)
        if after is None or (
            before is not None and (before.status, before.reason) == (after.status, after.reason)
        ):
            continue
        if after.status == "True":
            if before is not None:
                told.append(Event("Normal", after.reason, after.message))
        elif after.reason not in (reasons.NO_DEFAULT, reasons.SCANNING):
            told.append(Event("Warning", after.reason, after.message))
    return tuple(told)
