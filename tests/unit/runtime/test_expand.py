"""`$(NAME)` as Kubernetes expands it; the table is from its own expansion tests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.core.expand import expand, referenced

VALUES = {"VAR_A": "A", "VAR_B": "B", "VAR_C": "C", "VAR_REF": "$(VAR_A)", "VAR_EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("___$(VAR_C)", "___C"),
        ("$(VAR_A)-$(VAR_A)", "A-A"),
        ("$(VAR_REF)", "$(VAR_A)"),
        ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        ("foo$$(VAR_A)bar", "foo$(VAR_A)bar"),
        ("$$$(VAR_A)", "$A"),
        ("$$$$(VAR_A)", "$$(VAR_A)"),
        ("$VAR_A", "$VAR_A"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("foo\\$(VAR_C)bar", "foo\\Cbar"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("foo$(VAR_DNE)bar", "foo$(VAR_DNE)bar"),
        ("$(VAR_A", "$(VAR_A"),
        ("$()", "$()"),
        ("$", "$"),
        ("$$", "$"),
        ("abc$", "abc$"),
        ("$?", "$?"),
        ("$((VAR_A))", "$((VAR_A))"),
        ("\n$(VAR_A)\n", "\nA\n"),
        ("", ""),
    ],
)
def test_as_kubernetes_does(text, expected):
    assert expand(text, VALUES) == expected


@given(st.text(alphabet="$()AB ").filter(lambda text: "$" not in text))
def test_text_without_a_dollar_is_unchanged(text):
    assert expand(text, VALUES) == text


@given(st.text(alphabet="$()AB "))
def test_only_referenced_names_matter(text):
    names = referenced([text])
    assert expand(text, {"A": "1", "B": "2"}) == expand(
        text, {name: value for name, value in {"A": "1", "B": "2"}.items() if name in names}
    )


def test_referenced():
    assert referenced(["$(A) $$(B)", "$(C)$(A", "x"]) == {"A", "C"}
