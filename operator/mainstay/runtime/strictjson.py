"""JSON read strictly: what is ambiguous, or would break whoever reads it next, is refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEPTH = 64
"""Most lists and objects within each other."""
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def decode(data: bytes) -> Any:
    """The JSON of these bytes. Raises ValueError with why not, and where, but without anything of it.

    It is UTF-8 without NaN, Infinity, a name twice in one object, NUL characters or halves of characters, at most
    DEPTH deep. A whole number beyond 64 bits becomes a float, as it does for most readers.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    if not text.strip():
        raise ValueError("empty")
    if _NUL.search(text):
        raise ValueError("a text with a NUL character")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise ValueError(f"deeper than {DEPTH} lists and objects") from None
    if _deeper(value, DEPTH):
        raise ValueError(f"deeper than {DEPTH} lists and objects")
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a text with half a character") from None
    return value


def _deeper(value: Any, depth: int) -> bool:
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(depth):
        level = [
            inner
            for outer in level
            for inner in (outer if isinstance(outer, list) else outer.values())
            if isinstance(inner, list | dict)
        ]
        if not level:
            return False
    return bool(level)


def _whole(text: str) -> int | float:
    if len(text) < 19:
        return int(text)
    if len(text) > 400:
        raise ValueError("a number of more than 400 digits")
    number = int(text)
    return number if -(2**63) <= number < 2**63 else _real(text)


def _real(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number too large to be read")
    return number


def _constant(text: str) -> Any:
    raise ValueError(f"{text}, which is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object that has a name twice")
    return found


_DECODER = json.JSONDecoder(
    parse_int=_whole, parse_float=_real, parse_constant=_constant, object_pairs_hook=_object
)
