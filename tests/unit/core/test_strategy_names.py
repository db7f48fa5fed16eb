"""Names of strategies, of their files and of their objects."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mainstay.api.meta import NAME_MAX
from mainstay.core.strategy.names import STRATEGY_NAME, hidden, object_name, split

RFC_1123 = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
libraries = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
names = st.from_regex(STRATEGY_NAME, fullmatch=True)

OBJECTS: dict[str, str] = {
    "EmaRsiStrategy": "main.ema-rsi-strategy",
    "ema_rsi": "main.ema-rsi",
    "ema-rsi": "main.ema-rsi",
    "EMARsi": "main.ema-rsi",
    "RSI": "main.rsi",
    "RSI2": "main.rsi2",
    "Rsi2Fast": "main.rsi2-fast",
    "a__b--c": "main.a-b-c",
    "Trailing_": "main.trailing",
    "Trailing-": "main.trailing",
    "7": "main.7",
}


@pytest.mark.parametrize(("name", "expected"), OBJECTS.items(), ids=OBJECTS)
def test_object_names(name: str, expected: str) -> None:
    assert object_name("main", name) == expected


@given(libraries, names)
@example("main", "A" * 100)
@example("main", "A-" * 50)
@example("main", "a_" * 50)
@example("m" * 40, "Ab" * 50)
@example("main", "x" * (NAME_MAX - 5))
@example("main", "x" * (NAME_MAX - 4))
@settings(max_examples=500, derandomize=True, deadline=None)
def test_every_object_name_is_one_that_the_api_server_takes(library: str, name: str) -> None:
    made = object_name(library, name)
    assert RFC_1123.fullmatch(made), made
    assert len(made) <= NAME_MAX <= 63
    assert made.startswith(library + ".")
    assert made == object_name(library, name)


def test_long_names_that_differ_at_their_end_do_not_collide() -> None:
    one, other = object_name("main", "A" * 99 + "b"), object_name("main", "A" * 99 + "c")
    assert one != other


BAD = {
    "parent": "../../x",
    "absolute": "/etc/passwd",
    "a separator": "a/b",
    "a backslash": "a\\b",
    "NUL": "a\0b",
    "254 characters": "a" * 254,
    "101 characters": "a" * 101,
    "empty": "",
    "a dot": "a.b",
    "a leading dash": "-rf",
    "a leading underscore": "_a",
    "Cyrillic a": "\u0430ma",
    "fullwidth E": "\uff25ma",
    "a ligature": "\ufb01sh",
    "right-to-left override": "a\u202eb",
    "a zero-width space": "a\u200bb",
    "Arabic digits": "a\u0661",
    "a newline": "a\nb",
    "a newline at its end": "a\n",
    "a space": "a b",
    "a command": "$(id)",
    "a percent sign": "a%s",
    "a surrogate": "a\udc80",
}


@pytest.mark.parametrize("name", BAD.values(), ids=BAD)
def test_bad_names(name: str) -> None:
    assert STRATEGY_NAME.fullmatch(name) is None


@given(st.text(max_size=120))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_what_is_a_name_is_plain(name: str) -> None:
    if STRATEGY_NAME.fullmatch(name):
        assert name.isascii()
        assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


SPLIT = {
    "Ema.py": ("Ema", ".py"),
    "Ema": ("Ema", ""),
    "Ema.tar.gz": ("Ema.tar", ".gz"),
    ".py": (".py", ""),
    "Ema.": ("Ema", "."),
    "": ("", ""),
}


@pytest.mark.parametrize(("file", "parts"), SPLIT.items(), ids=SPLIT)
def test_split(file: str, parts: tuple[str, str]) -> None:
    assert split(file) == parts


def test_hidden() -> None:
    theirs = (
        ".Ema.py",
        "_base.py",
        "__init__.py",
        "#Ema.py#",
        "Ema.py~",
        "Ema.tmp",
        ".Ema.py.swp",
        "Ema.py.part",
    )
    assert all(map(hidden, theirs))
    assert not any(map(hidden, ("Ema.py", "ema_.py", "E#.py", "part.py", "tmp")))
