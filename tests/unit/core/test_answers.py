"""Answers to user actions."""

from __future__ import annotations

import pytest

from mainstay.api.phasedjob import UserAction
from mainstay.core.answers import SchemaError, answer, check_schema, secret_ref, secret_refs

REF = {"secretKeyRef": {"name": "s", "key": "k"}}
LOGIN = {
    "title": "Log in",
    "secretFields": ["password"],
    "schema": {
        "type": "object",
        "required": ["email", "password"],
        "properties": {"email": {"type": "string", "minLength": 3}, "password": {"type": "string"}},
        "additionalProperties": False,
    },
}
CANARY = "canary-hunter2"

CASES = {
    "nothing": (LOGIN, {}, False, ""),
    "fits": (LOGIN, {"a": {"email": "a@b", "password": REF}}, True, ""),
    "a secret in the clear": (
        LOGIN,
        {"a": {"email": "a@b", "password": CANARY}},
        True,
        "a.password is a secret",
    ),
    "an empty secret": (LOGIN, {"a": {"email": "a@b", "password": ""}}, True, "a.password is a secret"),
    "half a reference": (
        LOGIN,
        {"a": {"email": "a@b", "password": {"secretKeyRef": {"name": "s"}}}},
        True,
        "a.password is a secret",
    ),
    "a reference with more": (
        LOGIN,
        {"a": {"email": "a@b", "password": {**REF, "value": CANARY}}},
        True,
        "a.password is a secret",
    ),
    "the secret is missing": (LOGIN, {"a": {"email": "a@b"}}, True, "required"),
    "no object": (LOGIN, {"a": CANARY}, True, "must be an object with password"),
    "a list": (LOGIN, {"a": [CANARY]}, True, "must be an object"),
    "null": (LOGIN, {"a": None}, True, "must be an object"),
    "too short": (LOGIN, {"a": {"email": "a", "password": REF}}, True, "a.email"),
    "one too many": (LOGIN, {"a": {"email": "a@b", "password": REF, "x": CANARY}}, True, "spec.inputs.a"),
    "anything fits": ({"title": "x"}, {"a": None}, True, ""),
    "false fits": ({"title": "x"}, {"a": False}, True, ""),
    "under another name": ({"title": "x"}, {"b": 1}, False, ""),
    "an item": (
        {"title": "x", "schema": {"items": {"enum": [1]}}},
        {"a": [1, 2]},
        True,
        "spec.inputs.a[1]",
    ),
    "a schema that is none": (
        {"title": "x", "schema": {"type": 7}},
        {"a": 1},
        True,
        "the schema of a can't be used",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_answer(case):
    action, inputs, given, problem = CASES[case]
    found = answer(UserAction.model_validate(action), "a", inputs)
    assert found.given is given
    assert (problem in found.problem) if problem else not found.problem
    assert found.fits is (given and not problem)
    assert CANARY not in found.problem


@pytest.mark.parametrize("value", [CANARY, 12345678, {"x": CANARY}, [CANARY]])
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "boolean"},
        {"const": "a"},
        {"enum": ["a"]},
        {"pattern": "^a$", "maximum": 3, "required": ["z"], "maxItems": 0},
        {"not": {}},
        {"type": "object", "propertyNames": {"maxLength": 0}},
        {"type": "object", "additionalProperties": {"type": "null"}},
    ],
)
def test_no_message_repeats_a_value(schema, value):
    found = answer(UserAction(title="x", schema=schema), "a", {"a": value})
    assert CANARY not in found.problem
    assert "12345678" not in found.problem
    assert len(found.problem) < 512


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"$ref": "http://127.0.0.1:1/x"},
        {"$ref": "file:///etc/passwd"},
        {"properties": {"a": {"$ref": "other.json"}}},
        {"pattern": "("},
        {"pattern": "(a)\\1"},
        {"minLength": -1},
    ],
)
def test_no_schema(schema):
    with pytest.raises(SchemaError) as caught:
        check_schema(schema)
    assert str(caught.value)


@pytest.mark.parametrize(
    "schema", [{}, {"$ref": "#/$defs/x", "$defs": {"x": {"type": "string"}}}, {"pattern": "^a+$"}]
)
def test_a_schema(schema):
    check_schema(schema)


def test_a_pattern_can_not_take_for_ever():
    action = UserAction(title="x", schema={"pattern": "^(a+)+$"})
    assert not answer(action, "a", {"a": "a" * 5000 + "!"}).fits


def test_references_are_found_wherever_they_are():
    value = {"a": REF, "b": [1, REF, {"c": REF}], "d": {"secretKeyRef": {"name": 1, "key": "k"}}}
    assert secret_refs(value) == (("s", "k"),) * 3
    assert secret_ref({**REF, "more": 1}) is None
