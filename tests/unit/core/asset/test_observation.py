"""What an answer says is read strictly: whatever comes, it is holdings or an ObservationError."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.api.asset import ACCEPTS_MAX
from mainstay.api.holdings import HOLDINGS_MAX
from mainstay.core.asset.observation import (
    UNITS_MAX,
    ObservationError,
    Question,
    read_accepts,
    read_holdings,
    shown,
)
from mainstay.core.expressions import ExpressionError, extracted

SYMBOLS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([2**53, 2**53 + 1, 2**60]),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text() | st.sampled_from(["symbol", "units"]), inner)
    ),
    max_leaves=20,
)
NEAR_MISSES = st.lists(
    st.fixed_dictionaries({"symbol": SYMBOLS | ANYTHING, "units": st.integers(0, 2**54) | ANYTHING})
)


def held(body: Any, path: str | None = None) -> dict[str, int]:
    return {one.symbol: one.units for one in read_holdings(body, path)}


def item(units: Any, symbol: Any = "ORE") -> dict[str, Any]:
    return {"symbol": symbol, "units": units}


def deep(levels: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        ([], None, {}),
        ({}, None, {}),
        ([item(40)], None, {"ORE": 40}),
        ([item(40, "B"), item(2, "A"), item(1, "B")], None, {"A": 2, "B": 41}),
        ([item(0), item(0.0, "GAS"), item(-0.0, "ICE")], None, {}),
        ([item(3.0)], None, {"ORE": 3}),
        ([item(UNITS_MAX)], None, {"ORE": UNITS_MAX}),
        ([{**item(1), "name": "x", "more": [1]}], None, {"ORE": 1}),
        ({"ORE": 40, "GAS": 0}, None, {"ORE": 40}),
        ({"symbol": 3, "units": 4}, None, {"symbol": 3, "units": 4}),
        ({"data": {"cargo": [item(40)]}}, "body.data.cargo", {"ORE": 40}),
        ({"data": {"ORE": 40}}, "body.data", {"ORE": 40}),
        ([{"s": "ORE", "n": 4}], "body.map(x, {'symbol': x.s, 'units': x.n})", {"ORE": 4}),
        ([item(4), item(5, "GAS")], "body.filter(x, x.symbol == 'GAS')", {"GAS": 5}),
        ({"n": 4}, "{'ORE': body.n}", {"ORE": 4}),
    ],
)
def test_holdings(body, path, expected):
    found = held(body, path)
    assert found == expected
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    "units",
    [
        0.5,
        -1,
        -0.5,
        math.nan,
        math.inf,
        -math.inf,
        UNITS_MAX + 1,
        2**60,
        10**30,
        10**5000,
        1e300,
        True,
        False,
        "40",
        None,
        [],
        {},
    ],
    ids=lambda units: type(units).__name__ if isinstance(units, int) else repr(units),
)
@pytest.mark.parametrize("shape", ["list", "map"])
def test_units_that_are_none(units, shape):
    with pytest.raises(ObservationError, match=r"units of ORE are .*whole number") as error:
        read_holdings([item(units)] if shape == "list" else {"ORE": units}, None)
    assert len(str(error.value)) < 200


def test_a_sum_too_large_is_none():
    with pytest.raises(ObservationError, match="units of ORE"):
        read_holdings([item(UNITS_MAX), item(1)], None)


@pytest.mark.parametrize(
    "symbol", ["", "x" * 129, "a\0b", "a\nb", "\ud800", None, 3, True, ["ORE"], {}, deep(5000)]
)
def test_symbols_that_are_none(symbol):
    for read, body in ((read_holdings, [item(0), item(1, symbol)]), (read_accepts, ["ORE", symbol])):
        with pytest.raises(ObservationError, match="item 1 has no usable symbol") as error:
            read(body, None)
        assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (None, "it is null, not a list"),
        (3, "it is a number"),
        (3.5, "it is a number"),
        (True, "it is a boolean"),
        ("ORE", "it is a text"),
        (["ORE"], "item 0 is a text without symbol and units"),
        ([[]], "item 0 is a list without"),
        ([item(1), {"symbol": "ORE"}], "item 1 is an object without"),
        ([item(1, f"S{number}") for number in range(HOLDINGS_MAX + 1)], f"at most {HOLDINGS_MAX}"),
    ],
)
def test_what_is_no_list_of_holdings(body, words):
    with pytest.raises(ObservationError, match=words):
        read_holdings(body, None)


def test_as_many_as_there_may_be():
    many = [item(1, f"S{number}") for number in range(HOLDINGS_MAX)]
    assert len(held([*many, *many, item(0, "NOTHING")])) == HOLDINGS_MAX


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        ({"data": {}}, "body.data.cargo", "cargo"),
        (None, "body.cargo", "path 'body.cargo'"),
        ([item(1)], "body.cargo", "path 'body.cargo'"),
        ({}, "body.", "path 'body.'"),
        ({}, "nothing", "path 'nothing'"),
        ({}, "1", "comes to a number"),
        ({}, "duration('1s')", "comes to timedelta"),
        ({}, "{1: 2}", "no usable symbol"),
        ({"n": 2**64}, "body", "path 'body'"),
        ({"n": 10**5000}, "body", "path 'body'"),
        (deep(60_000), "body", "path 'body'"),
        ({"a\0b": 1, "a": 2}, "body", "NUL"),
        ([list(range(100))] * 200, "body.map(x, x.map(y, y + 1))", "path 'body.map"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("read", [read_holdings, read_accepts])
def test_a_path_that_leads_nowhere_is_named(read, body, path, words):
    with pytest.raises(ObservationError) as error:
        read(body, path)
    if read is read_holdings or words.startswith("path"):
        assert words in str(error.value)


def test_a_backslash_is_no_nul():
    assert extracted("body", ["\\u0000"]) == ["\\u0000"]
    with pytest.raises(ExpressionError, match="NUL"):
        extracted("body", ["\\\0"])


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        ([], None, ()),
        (["B", "A", "B"], None, ("A", "B")),
        ({"imports": [{"symbol": "A"}]}, "body.imports.map(x, x.symbol)", ("A",)),
        (
            [f"{number:04}" for number in range(ACCEPTS_MAX)],
            None,
            tuple(f"{n:04}" for n in range(ACCEPTS_MAX)),
        ),
    ],
)
def test_accepts(body, path, expected):
    assert read_accepts(body, path) == expected


@pytest.mark.parametrize(
    "body", [None, "A", {"A": 1}, 3, [item(1)], [["A"]], [f"{n}" for n in range(ACCEPTS_MAX + 1)]]
)
def test_what_is_no_list_of_symbols(body):
    with pytest.raises(ObservationError):
        read_accepts(body, None)


@given(
    ANYTHING | NEAR_MISSES | st.dictionaries(SYMBOLS, ANYTHING),
    st.sampled_from([None, "body", "body.units", "body[0]"]),
)
def test_whatever_comes_is_holdings_or_an_observation_error(body, path):
    said = ""
    try:
        found = read_holdings(body, path)
    except ObservationError as error:
        said = str(error)
    else:
        assert all(0 < one.units <= UNITS_MAX for one in found)
        assert len({one.symbol for one in found}) == len(found)
    assert len(said) < 500
    try:
        symbols = read_accepts(body, path)
    except ObservationError:
        return
    assert list(symbols) == sorted(set(symbols))


@given(st.lists(st.tuples(SYMBOLS, st.integers(0, 2**40)), max_size=30), st.sampled_from([None, "body"]))
def test_nothing_is_lost_or_made_up(given_, path):
    found = held([item(units, symbol) for symbol, units in given_], path)
    totals = {symbol: sum(units for other, units in given_ if other == symbol) for symbol, _ in given_}
    assert found == {symbol: units for symbol, units in totals.items() if units}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:1/a/b", "http://h:1/a/b"),
        ("https://u:p@h/a?k=v&w&x=#f", "https://h/a?k=…&…&x=…"),
        ("http://u@p:q@[::1]:2/", "http://[::1]:2/"),
        ("http://[u:p@h", "an URL that can't be read"),
        ("/there?k=v", "/there?k=…"),
        ("http://h/" + "a" * 300, "http://h/" + "a" * 190 + "…"),
    ],
)
def test_an_url_is_shown_without_secrets(url, expected):
    assert shown(url) == expected


def test_a_command_is_shown_by_its_program():
    assert Question(argv=("look", "--key", "v")).shown == "'look'"
