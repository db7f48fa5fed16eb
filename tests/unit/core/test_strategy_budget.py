"""Whose turn it is to be restarted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.core.strategy.budget import UserView, allowance, has_turn

ALLOWED: dict[str, tuple[int | str, int, int]] = {
    "a number": (2, 10, 2),
    "a number beyond all": (20, 10, 20),
    "all": ("100%", 7, 7),
    "half": ("50%", 7, 3),
    "a third, rounded down": ("33%", 10, 3),
    "at least one": ("10%", 3, 1),
    "nothing would never move": ("0%", 3, 1),
    "of nobody": ("50%", 0, 1),
}


@pytest.mark.parametrize(("limit", "users", "allowed"), ALLOWED.values(), ids=ALLOWED)
def test_allowance(limit: int | str, users: int, allowed: int) -> None:
    assert allowance(limit, users) == allowed


def users(words: str) -> list[UserView]:
    """`a+! b- c+`: a and c are available, b is not; a is outdated."""
    return [UserView(("d", w[0]), "+" in w, "!" in w) for w in words.split()]


TURNS: dict[str, tuple[str, int, str]] = {
    "all at once": ("a+! b+! c+!", 3, "abc"),
    "one": ("a+! b+! c+!", 1, "a"),
    "two": ("a+! b+! c+!", 2, "ab"),
    "one is under way": ("a- b+! c+!", 1, "a"),
    "one of two is under way": ("a- b+! c+!", 2, "ab"),
    "the first is done": ("a+ b+! c+!", 1, "b"),
    "the last is broken anyhow": ("a+! b+! c-!", 1, "c"),
    "one that is broken costs nobody anything": ("a+! b+! c-!", 2, "ac"),
    "more are broken than allowed": ("a-! b-! c+!", 1, "ab"),
    "alone": ("a+!", 1, "a"),
}


@pytest.mark.parametrize(("known", "allowed", "may"), TURNS.values(), ids=TURNS)
def test_turns(known: str, allowed: int, may: str) -> None:
    seen = users(known)
    outdated = [u.key[1] for u in seen if u.outdated or not u.available]
    assert [name for name in outdated if has_turn(("d", name), seen, allowed)] == list(may)


def test_one_that_nobody_knows_of_may() -> None:
    assert has_turn(("d", "x"), users("a+! b+!"), 1)


@given(
    seen=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=8), allowed=st.integers(1, 9)
)
@settings(max_examples=300, derandomize=True, deadline=None)
def test_followed_to_the_end(seen: list[tuple[bool, bool]], allowed: int) -> None:
    """One after another takes its turn and comes back: never too many are away, and all get theirs, in order."""
    views = {f"u{i}": UserView(("d", f"u{i}"), *what) for i, what in enumerate(seen)}
    broken = sum(not v.available for v in views.values())
    left = [name for name, v in views.items() if v.outdated]
    order = []
    while left:
        turn = [name for name in left if has_turn(("d", name), list(views.values()), allowed)]
        away = [name for name in turn if views[name].available]
        if not turn:
            assert broken >= allowed, "nothing moves"
            return
        assert len(away) <= max(0, allowed - broken) or allowed >= len(seen)
        for name in turn:
            views[name] = UserView(("d", name), True, False)
            left.remove(name)
        broken = sum(not v.available for v in views.values())
        order += away
    assert order == sorted(order)
