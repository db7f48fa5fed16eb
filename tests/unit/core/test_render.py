"""Each format read back by a parser that is not ours, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstay.api.strategyrun import Config, ConfigFormat
from mainstay.core.render import SUFFIXES, ConfigInvalidError, render

PARSERS = {
    ConfigFormat.YAML: yaml.safe_load,
    ConfigFormat.JSON: json.loads,
    ConfigFormat.TOML: lambda data: tomllib.loads(data.decode()),
}
WORDS = [
    "yes",
    "no",
    "null",
    "~",
    "1e3",
    "012",
    "0x1f",
    "1:30",
    "2030-01-02",
    "=",
    "<<",
    "- a",
    "a: b",
    "#",
    "",
]

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\x85")
texts = st.text(characters, max_size=12) | st.sampled_from(WORDS)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.one_of(texts, st.booleans(), numbers)


def structures(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    inner = st.recursive(
        leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(texts, x, max_size=3), max_leaves=6
    )
    return st.dictionaries(texts, inner, max_size=4)


@pytest.mark.parametrize("form", PARSERS, ids=str)
def test_what_is_rendered_reads_back(form: ConfigFormat) -> None:
    nulls = st.none() if form is not ConfigFormat.TOML else st.nothing()

    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(structures(scalars | nulls))
    def law(values: dict[str, Any]) -> None:
        assert PARSERS[form](render(Config(format=form, values=values))) == values

    law()


def sourced(data: bytes, names: list[str], folder: Path) -> list[str]:
    """The values of these variables after a shell read the file."""
    path = folder / "config.env"
    path.write_bytes(data)
    script = f". {path}; printf '%s\\0' " + " ".join(f'"${{{name}}}"' for name in names)
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, check=True, env=env)
    return done.stdout.decode().split("\0")[:-1]


def test_env_is_what_a_shell_reads(tmp_path: Path) -> None:
    lines = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=12)

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(
        st.lists(
            lines | st.sampled_from([*WORDS, "$HOME", "`id`", "a'b", '"', "\\", "a b", "~"]),
            min_size=1,
            max_size=6,
        )
    )
    def law(values: list[str]) -> None:
        named = {f"V{i}": value for i, value in enumerate(values)}
        assert sourced(render(Config(format=ConfigFormat.ENV, values=named)), list(named), tmp_path) == values

    law()


def test_env_writes_scalars_as_words(tmp_path: Path) -> None:
    values = {"A": True, "B": False, "C": None, "D": 3, "E": 0.5, "F": "x y"}
    data = render(Config(format=ConfigFormat.ENV, values=values))
    assert sourced(data, list(values), tmp_path) == ["true", "false", "", "3", "0.5", "x y"]


REFUSED: dict[str, tuple[ConfigFormat, dict[str, Any], str]] = {
    "null in TOML": (ConfigFormat.TOML, {"a": {"b": [1, None]}}, "spec.config.values.a.b.1 is null"),
    "null at the top of TOML": (ConfigFormat.TOML, {"a": None}, "spec.config.values.a is null"),
    "a map in Env": (ConfigFormat.ENV, {"A": {}}, "spec.config.values.A is nested"),
    "a list in Env": (ConfigFormat.ENV, {"A": [1]}, "spec.config.values.A is nested"),
    "a line break in Env": (ConfigFormat.ENV, {"A": "x\ny"}, "spec.config.values.A has a line break"),
    "a bare CR in Env": (ConfigFormat.ENV, {"A": "x\ry"}, "spec.config.values.A has a line break"),
    "a dash in an Env name": (ConfigFormat.ENV, {"A-B": "x"}, "'A-B'"),
    "a digit first": (ConfigFormat.ENV, {"1A": "x"}, "'1A'"),
    "no name": (ConfigFormat.ENV, {"": "x"}, "''"),
    "a command for a name": (ConfigFormat.ENV, {"A;id;B": "x"}, "'A;id;B'"),
    "a line break in a name": (ConfigFormat.ENV, {"A\n": "x"}, "no name of a variable"),
    "a letter that only looks so": (ConfigFormat.ENV, {"Ａ": "x"}, "no name of a variable"),
}


@pytest.mark.parametrize(("form", "values", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_field_named(form: ConfigFormat, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigInvalidError) as refusal:
        render(Config(format=form, values=values))
    assert words in str(refusal.value)


@pytest.mark.parametrize("form", ConfigFormat, ids=str)
def test_every_format_has_a_suffix_and_an_empty_form(form: ConfigFormat) -> None:
    assert SUFFIXES[form].startswith(".")
    data = render(Config(format=form, values={}))
    if form in PARSERS:
        assert PARSERS[form](data) == {}
    else:
        assert data == b""


@pytest.mark.parametrize("form", ConfigFormat, ids=str)
def test_keys_keep_their_order(form: ConfigFormat) -> None:
    text = render(Config(format=form, values={"Z": 1, "A": 2, "M": 3})).decode()
    assert text.index("Z") < text.index("A") < text.index("M")
