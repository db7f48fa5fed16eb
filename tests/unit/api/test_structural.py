"""The converter: which constructs become what, and which are refused."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model

from mainstay.api.structural import INT_OR_STRING, PRESERVE, NotStructuralError, structural


class Colour(StrEnum):
    RED = "Red"
    BLUE = "Blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(Enum):
    ONE = 1
    TWO = "two"


class Leaf(BaseModel):
    """A leaf."""

    name: str = Field(description="Its name.", max_length=10)


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(description="Its name.", max_length=10)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str = Field(description="Its name.", max_length=10)


class Tree(BaseModel):
    children: list[Tree] = Field(description="More.", max_length=3)


def field(kind: Any, **constraints: Any) -> dict[str, Any]:
    """The structural schema of a model's only field `x`, without its description."""
    model = create_model("M", x=(kind, Field(description="text", **constraints)))
    schema = structural(model)["properties"]["x"]
    assert schema.pop("description") == "text"
    return schema


Short = Annotated[str, Field(max_length=5)]
Small = Annotated[int, Field(ge=0, le=9)]
LEAF = {
    "type": "object",
    "properties": {"name": {"type": "string", "description": "Its name.", "maxLength": 10}},
    "required": ["name"],
}


@pytest.mark.parametrize(
    ("kind", "constraints", "expected"),
    [
        (bool, {}, {"type": "boolean"}),
        (Short, {}, {"type": "string", "maxLength": 5}),
        (Short | None, {"default": None}, {"type": "string", "maxLength": 5}),
        (Small, {"default": 3}, {"type": "integer", "minimum": 0, "maximum": 9}),
        (
            int,
            {"gt": 0, "lt": 9},
            {
                "type": "integer",
                "minimum": 0,
                "exclusiveMinimum": True,
                "maximum": 9,
                "exclusiveMaximum": True,
            },
        ),
        (float, {"ge": 0, "le": 1.5}, {"type": "number", "minimum": 0, "maximum": 1.5}),
        (Literal["a"], {}, {"type": "string", "enum": ["a"]}),
        (Literal["a", "b"] | None, {}, {"type": "string", "enum": ["a", "b"]}),
        (Colour, {}, {"type": "string", "enum": ["Red", "Blue"]}),
        (Level, {}, {"type": "integer", "enum": [1, 2]}),
        (datetime, {}, {"type": "string", "format": "date-time"}),
        (Leaf, {}, LEAF),
        (Leaf | None, {"default": None}, LEAF),
        (Closed, {}, LEAF),
        (list[Small], {"max_length": 4}, {"type": "array", "maxItems": 4, "items": field(Small)}),
        (tuple[Short, ...], {"max_length": 4}, {"type": "array", "maxItems": 4, "items": field(Short)}),
        (
            dict[str, Small],
            {"max_length": 4},
            {"type": "object", "maxProperties": 4, "additionalProperties": field(Small)},
        ),
        (dict[str, Any], {}, {"type": "object", PRESERVE: True}),
        (Small | Short, {}, {INT_OR_STRING: True, "minimum": 0, "maximum": 9, "maxLength": 5}),
        (Small | Short | None, {}, {INT_OR_STRING: True, "minimum": 0, "maximum": 9, "maxLength": 5}),
    ],
    ids=str,
)
def test_becomes(kind: Any, constraints: dict[str, Any], expected: dict[str, Any]) -> None:
    found = field(kind, **constraints)
    if expected is LEAF and kind != Closed:
        assert "name" in found["properties"]
    assert found == expected


@pytest.mark.parametrize(
    ("kind", "constraints", "why"),
    [
        (str, {}, "without maxLength"),
        (list[str], {"max_length": 3}, r"x\[\]: a text without maxLength"),
        (list[Small], {}, "a list without maxItems"),
        (dict[str, Small], {}, "a map without maxProperties"),
        (dict[Short, Small], {"max_length": 3}, "propertyNames"),
        (list[Any], {"max_length": 3}, "a list of anything"),
        (int, {}, "without minimum"),
        (int, {"ge": 0}, "without maximum"),
        (int, {"ge": 0, "le": 2**63}, "not safe"),
        (float, {"ge": 0, "le": float("inf")}, "without maximum"),
        (float, {"ge": float("nan"), "le": 1}, "not safe"),
        (int, {"ge": 0, "gt": 0, "le": 3}, "both minimum and exclusiveMinimum"),
        (Any, {}, "no structural form"),
        (None, {}, "no structural form"),
        (object, {}, "no structural form"),
        (Small | bool, {}, "a union of boolean and integer"),
        (Leaf | Closed, {}, "a union"),
        (Small | Short | bool, {}, "a union of 3 types"),
        (Small | Literal["a"], {}, r"int \| str with"),
        (Literal["a", 1], {}, "no structural form"),
        (Mixed, {}, "no structural form"),
        (tuple[Small, Short], {}, "prefixItems"),
        (set[Small], {"max_length": 3}, "uniqueItems"),
        (Tree, {}, "contains itself"),
        (Open, {}, "both named and free fields"),
        (bytes, {"max_length": 3}, "format binary"),
        (date, {}, "format date"),
        (timedelta, {}, "format duration"),
        (UUID, {}, "format uuid"),
        (Decimal, {}, "a union|without"),
        (complex, {}, "no structural form|pattern|without"),
        (type(...), {}, "no JSON schema|no structural form"),
        (Short, {"examples": ["a"]}, "examples"),
        (Short, {"deprecated": True}, "deprecated"),
        (Short, {"json_schema_extra": {"pattern": r"(?=a)b"}}, "not portable"),
        (Short, {"json_schema_extra": {"pattern": r"(a)\1"}}, "not portable"),
        (
            list[Leaf],
            {"max_length": 3, "json_schema_extra": {"x-kubernetes-list-type": "map"}},
            "belong together",
        ),
        (
            list[Leaf],
            {
                "max_length": 3,
                "json_schema_extra": {
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["other"],
                },
            },
            "other is not a required field",
        ),
    ],
    ids=str,
)
def test_refused(kind: Any, constraints: dict[str, Any], why: str) -> None:
    with pytest.raises(NotStructuralError, match=why) as error:
        field(kind, **constraints)
    assert str(error.value).startswith("M")


def test_a_field_without_text_is_refused() -> None:
    with pytest.raises(NotStructuralError, match=r"M\.x: no description"):
        structural(create_model("M", x=(bool, True)))


def test_a_nested_models_text_stands_in() -> None:
    assert structural(create_model("M", x=(Leaf, ...)))["properties"]["x"]["description"] == "A leaf."
