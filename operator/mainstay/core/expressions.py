"""CEL over inputs, context, tasks and assets, or over the body of a probe's answer.

Checked when it is declared, bounded when it is evaluated. The library refuses names it does not know, has no
backtracking regular expressions and gives up after 10,000 iterations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cel_expr_python import cel

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_WORDS = 300

ITEMS_MAX = 2000
"""Longest list that a path looks into: 0.1 s where it maps all of it."""
VARIABLES = ("inputs", "context", "tasks", "assets")
"""Each is a map from names to anything."""


class ExpressionError(Exception):
    """An expression that does not compile, can't be evaluated, or is not a boolean."""


@lru_cache(maxsize=1)
def _environment() -> cel.Env:
    anything = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    return cel.NewEnv(variables=dict.fromkeys(VARIABLES, anything))


@lru_cache(maxsize=1)
def _body_environment() -> cel.Env:
    return cel.NewEnv(variables={"body": cel.Type.DYN})


@lru_cache(maxsize=4096)
def compiled(expression: str) -> cel.Expression:
    """Return the checked expression. Raises ExpressionError with the place in the text."""
    try:
        made = _environment().compile(expression)
    except Exception as error:
        raise ExpressionError(_words(str(error))) from None
    if (kind := made.return_type().name()) not in ("BOOL", "DYN"):
        raise ExpressionError(f"it is of type {kind.lower()}, not a boolean")
    return made


def evaluate(expression: str, values: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether it is true of these values; a variable that is left out is empty. Raises ExpressionError."""
    data = {name: dict(values.get(name, {})) for name in VARIABLES}
    made = compiled(expression)
    try:
        result = made.eval(data=data)
        value = result.plain_value()
    except Exception as error:
        raise ExpressionError(_words(str(error))) from None
    if not isinstance(value, bool):
        kind = result.type().name()
        raise ExpressionError(
            _words(str(value)) if kind == "ERROR" else f"it is {kind.lower()}, not a boolean"
        )
    return value


@lru_cache(maxsize=1024)
def compiled_path(path: str) -> cel.Expression:
    """Return the checked path over `body`. Raises ExpressionError with the place in the text."""
    try:
        return _body_environment().compile(path)
    except Exception as error:
        raise ExpressionError(_words(str(error))) from None


def extracted(path: str, body: Any) -> Any:
    """What the path comes to in this body. Raises ExpressionError."""
    made = compiled_path(path)
    try:
        text = json.dumps(body)
    except (TypeError, ValueError, RecursionError):
        # the library would end the process over a number of 5,000 digits, or 50,000 lists within each other
        raise ExpressionError("body is no JSON that can be looked into") from None
    if _NUL.search(text):
        raise ExpressionError("a text in body has a NUL character")  # the library would drop what follows
    if (longest := _longest(body)) > ITEMS_MAX:
        # what a path builds of a list costs the square of its length, and nothing else runs meanwhile
        raise ExpressionError(
            f"body has a list of {longest} items, a path looks into {ITEMS_MAX} at most: ask for less"
        )
    try:
        result = made.eval(data={"body": body})
        value = result.plain_value()
    except Exception as error:
        raise ExpressionError(_words(str(error))) from None
    if result.type().name() == "ERROR":
        raise ExpressionError(_words(str(value)))
    return value


def _longest(body: Any) -> int:
    """Items of the longest list in it."""
    longest, parts = 0, [body]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            longest = max(longest, len(part))
            parts += part
        elif isinstance(part, dict):
            parts += part.values()
    return longest


@lru_cache(maxsize=4096)
def names_assets(expression: str) -> bool:
    """Whether it may look at assets: then these are looked at before it is evaluated."""
    return re.search(r"\bassets\b", expression) is not None


@lru_cache(maxsize=4096)
def named_assets(expression: str) -> tuple[str, ...]:
    """Names that stand behind `assets.` in it, each once."""
    return tuple(dict.fromkeys(re.findall(r"(?<![\w.])assets\.([A-Za-z_]\w*)", _without_texts(expression))))


ASSET_FIELDS = ("ref", "type", "state", "holdings", "accepts")
HOLDING_FIELDS = ("symbol", "units")
_ASSET_FIELD = re.compile(r"(?<![\w.])assets\.[A-Za-z_]\w*\.([A-Za-z_]\w*)")
_HOLDINGS = re.compile(r"\.holdings\s*\.\s*(?:exists|all|filter|map|exists_one)\s*\(\s*([A-Za-z_]\w*)\s*,")


@lru_cache(maxsize=4096)
def unknown_fields(expression: str) -> tuple[str, ...]:
    """What it asks of assets and holdings that these don't have: an empty list would hide it until there is cargo."""
    text = _without_texts(expression)
    found = [
        f"an asset has no {field}; it has {', '.join(ASSET_FIELDS)}"
        for field in _ASSET_FIELD.findall(text)
        if field not in ASSET_FIELDS
    ]
    for name in dict.fromkeys(_HOLDINGS.findall(text)):
        fields = re.findall(rf"(?<![\w.]){name}\.([A-Za-z_]\w*)", text)
        found += [f"a holding has no {f}; it has symbol and units" for f in fields if f not in HOLDING_FIELDS]
    return tuple(dict.fromkeys(found))


def _without_texts(expression: str) -> str:
    return re.sub(r"\"[^\"]*\"|'[^']*'", "''", expression)


def _words(message: str) -> str:
    """The first line, without the library's own status words."""
    first = message.strip().splitlines()[0] if message.strip() else "unknown error"
    for word in ("INVALID_ARGUMENT: ", "INTERNAL: ", "NOT_FOUND: ", "UNKNOWN: ", "ERROR: <input>:"):
        first = first.removeprefix(word)
    return first.partition(" [I")[0][:_WORDS]
