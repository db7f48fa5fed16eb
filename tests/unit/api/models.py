"""Random pydantic models, and random values of a structural schema."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional, Union
from uuid import UUID

from hypothesis import strategies as st
from pydantic import BaseModel, Field, create_model

from mainstay.api.structural import INT_OR_STRING, PRESERVE

TEXT = Annotated[str, Field(max_length=9, pattern="^[a-z]*$")]
PORT = Annotated[int, Field(gt=0, le=65535)]
RATIO = Annotated[float, Field(ge=0, lt=1)]

fine_leaves = st.sampled_from(
    [
        *(bool, TEXT, PORT, RATIO, PORT | TEXT, datetime, dict[str, Any]),
        *(Literal["a"], Literal["a", "b"], Literal[1, 2]),
    ]
)
odd_leaves = st.sampled_from(
    [
        *(str, int, float, bytes, date, timedelta, Decimal, UUID, None, object, Any),
        *(Literal["a", 1], PORT | bool, PORT | RATIO),
        *(tuple[int, str], set[PORT], frozenset[str], list[Any]),
    ]
)
names = st.from_regex(r"[a-w][a-z]{0,5}", fullmatch=True).filter(lambda n: not hasattr(BaseModel, n))


def _grown(inner: st.SearchStrategy[Any], *, odd: bool) -> st.SearchStrategy[Any]:
    grown = [
        inner.map(lambda x: Annotated[list[x], Field(max_length=3)]),
        inner.map(lambda x: Annotated[tuple[x, ...], Field(max_length=3)]),
        inner.map(lambda x: Annotated[dict[str, x], Field(max_length=3)]),
        inner.map(lambda x: Optional[x]),  # noqa: UP045 - `None | None` is no type
        models(inner, odd=odd),
    ]
    if odd:
        grown += [
            inner.map(lambda x: list[x]),
            st.tuples(inner, inner).map(lambda p: Union[p]),  # noqa: UP007
        ]
    return st.one_of(grown)


@st.composite
def models(draw: st.DrawFn, inner: st.SearchStrategy[Any], *, odd: bool) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        described = not odd or draw(st.integers(0, 29)) > 0
        info = {"description": f"About {name}."} if described else {}
        default = draw(st.sampled_from([..., None]))
        fields[name] = (draw(inner), Field(default, **info))
    return create_model("M", **fields)


def annotations(*, odd: bool) -> st.SearchStrategy[Any]:
    leaves = st.one_of(fine_leaves, fine_leaves, fine_leaves, odd_leaves) if odd else fine_leaves
    return st.recursive(leaves, lambda inner: _grown(inner, odd=odd), max_leaves=6)


def any_model() -> st.SearchStrategy[type[BaseModel]]:
    """Models of whatever pydantic knows."""
    some = annotations(odd=False)
    return models(st.one_of(some, some, some, annotations(odd=True)), odd=True)


def fine_model() -> st.SearchStrategy[type[BaseModel]]:
    """Models that must have a structural form."""
    return models(annotations(odd=False), odd=False)


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """JSON values that fit a structural schema; its CEL rules are left aside."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if INT_OR_STRING in schema:
        return _either(schema)
    match schema["type"]:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema["minimum"], schema["maximum"])
        case "number":
            return st.floats(schema["minimum"], schema["maximum"], allow_nan=False)
        case "array":
            keys = schema.get("x-kubernetes-list-map-keys")
            unique = (lambda item: tuple(item[k] for k in keys)) if keys else None
            most = min(3, schema["maxItems"])
            return st.lists(
                values(schema["items"]), min_size=schema.get("minItems", 0), max_size=most, unique_by=unique
            )
        case "object":
            return _object(schema)
        case _:
            return _text(schema)


def _either(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.integers(schema["minimum"], schema["maximum"]), _text(schema))


def _text(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    if schema.get("format") == "date-time":
        return st.datetimes(timezones=st.just(UTC)).map(lambda t: t.isoformat().replace("+00:00", "Z"))
    least, most = schema.get("minLength", 0), schema["maxLength"]
    pattern = schema.get("pattern")
    if pattern in {None, r"^[^\x00]*$"}:
        characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
        return st.text(characters, min_size=least, max_size=min(most, 20))
    found = st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True)
    return found.filter(lambda t: least <= len(t) <= most and not t.endswith("\n"))


def _object(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    if schema.get(PRESERVE):
        leaf = st.one_of(st.booleans(), st.integers(-9, 9), st.text(max_size=3))
        anything = st.recursive(leaf, lambda x: st.lists(x, max_size=2) | _map(x), max_leaves=4)
        return _map(anything)
    if "additionalProperties" in schema:
        return _map(values(schema["additionalProperties"]), schema.get("minProperties", 0))
    fields = schema.get("properties", {})
    required = set(schema.get("required", []))
    return st.fixed_dictionaries(
        {name: values(field) for name, field in fields.items() if name in required},
        optional={name: values(field) for name, field in fields.items() if name not in required},
    )


def _map(inner: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, min_size=least, max_size=3)
