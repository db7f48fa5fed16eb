"""Which bytes a run is to run: what it names, what it falls back to, or what it has.

A library changes under its users. What the user changed in the run itself is obeyed at once; what the library
changed waits while the run is paused, while it is over, and for its turn (spec.rollout of the library).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from mainstay.api.strategyrun import (
    FallbackPolicy,
    RunGoal,
    StrategyInUse,
    StrategyRef,
    StrategyRunSpec,
    StrategyUpdatePolicy,
)
from mainstay.core import reasons


@dataclass(frozen=True, slots=True)
class StrategyView:
    """What is known of the strategy that a run names, and of its library's default."""

    found: bool = False  # it has a source, whatever that is worth
    offered: StrategyInUse | None = None  # its newest content that was valid
    invalid: str = ""  # why its present content can't be run
    library: bool = True  # there is a StrategyLibrary of that name
    coming: bool = False  # nobody can tell yet whether it is there
    default: StrategyInUse | None = None  # what the library's default offers
    default_name: str | None = None
    pinned: StrategyInUse | None = None  # spec.strategy.revision, if its bytes are there
    room: bool = True  # it is this run's turn to be restarted
    unread: bool = False  # all this is what was known before: its file is another one, or was not read yet


@dataclass(frozen=True, slots=True)
class Resolution:
    """What to run, and what to say of it.

    `told` is (as asked, reason, message) of the condition StrategyResolved. With `problem` (reason, message)
    nothing can be started; what lives goes on, unless `stop`.
    """

    use: StrategyInUse | None = None
    told: tuple[bool, str, str] | None = None
    problem: tuple[str, str] | None = None
    stop: bool = False
    waits: bool = False  # for its turn
    unread: bool = False  # nothing that lives is to be judged by this yet


def same_program(one: StrategyInUse | None, other: StrategyInUse | None) -> bool:
    """Whether a process sees no difference: whose place it takes is none of its business."""
    told = [None if use is None else (use.name, use.hash, use.file) for use in (one, other)]
    return told[0] == told[1]


def with_strategy(declared: str, use: StrategyInUse | None) -> str:
    """The hash of a run's inputs with the strategy it was started with."""
    if use is None or not declared:
        return declared
    told = f"{declared}\n{use.name}\n{use.hash}\n{use.file}"
    return "sha256:" + hashlib.sha256(told.encode()).hexdigest()


def resolve(
    spec: StrategyRunSpec,
    current: StrategyInUse | None,
    view: StrategyView,
    *,
    settled: bool,
    ended: bool = False,
) -> Resolution:
    """What to run now. `current` is what was claimed last.

    `settled`: it lives, or has ended for good (`ended`), and nothing of its own asks for another start.
    """
    ref = spec.strategy
    if ref is None:
        return Resolution()
    mine = current if current is not None and _still_asked(ref, current) else None
    if view.found or ref.revision:
        found = _found(ref, mine, view)
    else:
        found = _gone(spec, ref, mine, view, settled=settled)
    unpinned = mine is not None and mine.pinned
    theirs = not settled or mine is None or unpinned or ref.revision is not None or found.use is None
    if theirs or same_program(found.use, mine):
        return found
    return _in_turn(spec, found, mine, view, ended=ended)


def _still_asked(ref: StrategyRef, current: StrategyInUse) -> bool:
    """Whether what runs is what this run asks for now: all else is the user's own change, and obeyed at once."""
    asked = (current.instead_of or ref.name) if current.fallback else current.name
    return (current.library, asked) == (ref.library, ref.name)


def _found(ref: StrategyRef, mine: StrategyInUse | None, view: StrategyView) -> Resolution:
    if ref.revision is not None:
        if view.pinned is not None:
            return _as_asked(view.pinned, f", revision {short(ref.revision)} as spec.strategy.revision asks")
        words = (
            f"the bytes of {ref.revision} are not kept here; choose one of status.revisions of the strategy, "
            "or leave spec.strategy.revision out"
        )
        return _blocked(reasons.REVISION_NOT_FOUND, words)
    if view.offered is not None and not view.invalid:
        return _as_asked(view.offered)
    why = f"{ref.name} can't be run as it is: {view.invalid}"
    use = view.offered or mine
    if use is None:
        return _blocked(reasons.STRATEGY_INVALID, why)
    words = f"{why}. {use.name} goes on with the last good code, {short(use.hash)}"
    return Resolution(use, (False, reasons.STRATEGY_INVALID, words))


def _gone(
    spec: StrategyRunSpec, ref: StrategyRef, mine: StrategyInUse | None, view: StrategyView, *, settled: bool
) -> Resolution:
    if view.coming:
        words = f"library {ref.library} has not been read yet"
        # What fallbackPolicy Stop ended, or would end, is not started on a guess.
        if mine is None or (not settled and spec.fallback_policy is FallbackPolicy.STOP):
            found = _blocked(reasons.STRATEGY_PENDING, words)
        else:
            found = Resolution(mine, (False, reasons.STRATEGY_PENDING, words))
        # At a start of the operator what was told before holds until somebody has looked.
        return replace(found, told=None) if view.unread else found
    if mine is None:
        where = f"library {ref.library} has no strategy {ref.name} (`kubectl get strategies`)"
        if not view.library:
            where = f"there is no StrategyLibrary {ref.library} (`kubectl get slib`), and no strategy {ref.name} of it"
        words = f"{where}; this run starts by itself when it is added"
        return _blocked(reasons.STRATEGY_NOT_FOUND, words)
    gone = f"{ref.name} is not in library {ref.library} any more"
    if spec.fallback_policy is FallbackPolicy.STOP:
        words = f"{gone}; stopped, as spec.fallbackPolicy says, until it is back"
        blocked = (reasons.STRATEGY_DELETED, words)
        return Resolution(told=(False, *blocked), problem=blocked, stop=True)
    if spec.fallback_policy is FallbackPolicy.USE_DEFAULT and view.default_name != ref.name:
        if view.default is not None:
            use = view.default.model_copy(update={"fallback": True, "instead_of": ref.name})
            words = f"{gone}; runs the default, {use.name} {short(use.hash)}, until it is back"
            return Resolution(use, (False, reasons.FALLBACK_IN_USE, words))
        missing = (
            f", and the default {view.default_name} neither"
            if view.default_name
            else ", and it has no default"
        )
        gone += missing
    words = f"{gone}; goes on with the last code of {mine.name}, {short(mine.hash)}"
    return Resolution(mine, (False, reasons.LAST_GOOD_IN_USE, words))


def _in_turn(
    spec: StrategyRunSpec, found: Resolution, mine: StrategyInUse | None, view: StrategyView, *, ended: bool
) -> Resolution:
    """The library changed: keep what runs where its change has to wait."""
    assert found.use is not None
    assert mine is not None
    if ended:
        words, reason = "is taken at its next start", reasons.UPDATE_WAITING
    elif spec.state is not RunGoal.RUNNING:
        words, reason = "is taken when this run is resumed", reasons.UPDATE_WAITING
    elif _edit(found.use, mine) and spec.strategy_update_policy is StrategyUpdatePolicy.IGNORE:
        words, reason = (
            "is taken at its next start, as spec.strategyUpdatePolicy says",
            reasons.UPDATE_IGNORED,
        )
    elif view.unread:
        words, reason = "waits until the library was read", reasons.UPDATE_WAITING
    elif not view.room:
        words, reason = "waits for its turn, as spec.rollout of the library says", reasons.UPDATE_WAITING
    else:
        return found
    does = "ended as" if ended else "runs"
    words = f"{does} {mine.name} {short(mine.hash)}; {found.use.name} {short(found.use.hash)} {words}"
    return Resolution(mine, (False, reason, words), waits=not view.room and not ended)


def _edit(use: StrategyInUse, mine: StrategyInUse) -> bool:
    """The same strategy, with other bytes."""
    return use.name == mine.name


def _as_asked(use: StrategyInUse, words: str = "") -> Resolution:
    return Resolution(use, (True, reasons.STRATEGY_IN_USE, f"{use.name}{words}"))


def _blocked(reason: str, words: str) -> Resolution:
    return Resolution(told=(False, reason, words), problem=(reason, words))


def short(content: str) -> str:
    """A hash as people tell one from another."""
    return content.removeprefix("sha256:")[:12]
