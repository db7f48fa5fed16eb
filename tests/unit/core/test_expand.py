"""$(NAME) as Kubernetes expands it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.core.expand import expand, referenced

VALUES = {"A": "1", "B_2": "two words", "EMPTY": "", "DOLLAR": "$(A)", "a.b": "dotted"}

CASES = {
    "plain": ("text", "text"),
    "one": ("$(A)", "1"),
    "within": ("x$(A)y$(B_2)z", "x1ytwo words" + "z"),
    "empty value": ("[$(EMPTY)]", "[]"),
    "unknown stays": ("$(NOPE)", "$(NOPE)"),
    "escaped": ("$$(A)", "$(A)"),
    "escaped twice": ("$$$$(A)", "$$(A)"),
    "escaped, then expanded": ("$$$(A)", "$1"),
    "two dollars": ("a$$b", "a$b"),
    "dollar at the end": ("cost: 5$", "cost: 5$"),
    "dollar and a letter": ("$A", "$A"),
    "braces are the shell's": ("${A}", "${A}"),
    "not closed": ("$(A", "$(A"),
    "no name": ("$()", "$()"),
    "any name up to the bracket": ("$(a.b)", "dotted"),
    "first bracket closes": ("$(A))", "1)"),
    "opened twice": ("$($(A))", "$($(A))"),
    "values are not expanded again": ("$(DOLLAR)", "$(A)"),
}


@pytest.mark.parametrize(("text", "expanded"), CASES.values(), ids=CASES)
def test_cases(text: str, expanded: str) -> None:
    assert expand(text, VALUES) == expanded


REFERENCED = {
    "none": (["a", "$$(A)", "$A", "$("], set()),
    "several": (["$(A)$(B)", "x", "$(A)"], {"A", "B"}),
    "not the escaped one": (["$$(A)$(B)"], {"B"}),
}


@pytest.mark.parametrize(("texts", "names"), REFERENCED.values(), ids=REFERENCED)
def test_referenced(texts: list[str], names: set[str]) -> None:
    assert referenced(texts) == names


pieces = st.lists(st.sampled_from(["$", "$$", "(", ")", "A", "B", "$(A)", "$(B)", "é", " "]), max_size=9)
texts = pieces.map("".join)
values = st.dictionaries(st.sampled_from(["A", "B", ""]), texts)


@settings(max_examples=60, derandomize=True)
@given(st.text().filter(lambda t: "$" not in t), values)
def test_text_without_a_dollar_stays(text: str, known: dict[str, str]) -> None:
    assert expand(text, known) == text


@settings(max_examples=60, derandomize=True)
@given(texts)
def test_escaped_text_comes_out_as_it_was(text: str) -> None:
    assert expand(text.replace("$", "$$"), VALUES) == text
    assert referenced([text.replace("$", "$$")]) == frozenset()


@settings(max_examples=100, derandomize=True)
@given(texts, values)
def test_only_what_is_referenced_matters(text: str, known: dict[str, str]) -> None:
    used = {name: value for name, value in known.items() if name in referenced([text])}
    assert expand(text, known) == expand(text, used)
    if not used:
        assert expand(text, known) == expand(text, {})
