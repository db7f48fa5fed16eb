"""Answers to user actions: whether an input is there, fits its schema, and gives secrets by reference only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jsonschema_rs

from mainstay.api.phasedjob import UserAction

STAND_IN = "secret"
"""What the schema sees in place of a secret: a text."""


class SchemaError(Exception):
    """The schema of an action is none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found under spec.inputs.<name>."""

    given: bool
    problem: str = ""  # why it does not fit

    @property
    def fits(self) -> bool:
        """It completes the action."""
        return self.given and not self.problem


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise SchemaError, in words, for what is no JSON Schema."""
    _validator(json.dumps(schema, sort_keys=True))


def answer(action: UserAction, name: str, inputs: Mapping[str, Any]) -> Answer:
    """Judge the input of that name. Messages name the field and never repeat a value."""
    if name not in inputs:
        return Answer(given=False)
    value = inputs[name]
    where = f"spec.inputs.{name}"
    schema: Mapping[str, Any] = action.json_schema
    if action.secret_fields:
        if not isinstance(value, dict):
            return Answer(True, f"{where} must be an object with {', '.join(action.secret_fields)}")
        for field in action.secret_fields:
            if field in value and secret_ref(value[field]) is None:
                return Answer(
                    True, f"{where}.{field} is a secret: give it as {{secretKeyRef: {{name, key}}}}"
                )
        value = {k: STAND_IN if k in action.secret_fields else v for k, v in value.items()}
        schema = _without_secrets(schema, action.secret_fields)
    try:
        validator = _validator(json.dumps(schema, sort_keys=True))
    except SchemaError as error:
        return Answer(True, f"the schema of {name} can't be used: {error}")
    first = next(validator.iter_errors(value), None)
    if first is None:
        return Answer(given=True)
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first.instance_path)
    return Answer(True, f"{where}{path}: {' '.join(first.message.split())[:300]}")


def _without_secrets(schema: Mapping[str, Any], fields: Sequence[str]) -> Mapping[str, Any]:
    """The schema as far as it can be judged: whether a secret is there, not what it is."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return schema
    return {**schema, "properties": {k: {} if k in fields else v for k, v in properties.items()}}


def secret_ref(value: Any) -> tuple[str, str] | None:
    """(name, key) of a value that stands for a Secret's key, None for any other."""
    if not isinstance(value, dict) or value.keys() != {"secretKeyRef"}:
        return None
    ref = value["secretKeyRef"]
    if (
        not isinstance(ref, dict)
        or not isinstance(ref.get("name"), str)
        or not isinstance(ref.get("key"), str)
    ):
        return None
    return ref["name"], ref["key"]


def secret_refs(value: Any) -> Sequence[tuple[str, str]]:
    """Every reference in a structure, in order."""
    if (ref := secret_ref(value)) is not None:
        return (ref,)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return tuple(ref for part in parts for ref in secret_refs(part))


@lru_cache(maxsize=512)
def _validator(schema: str) -> jsonschema_rs.Validator:
    def refused(uri: str) -> Any:
        raise ValueError(f"references to elsewhere are refused: {uri}")

    try:
        return jsonschema_rs.Draft202012Validator(
            json.loads(schema),
            mask="the value",  # an input may hold what nobody should read in a condition
            retriever=refused,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except jsonschema_rs.ValidationError as error:
        place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.instance_path)
        raise SchemaError(f"{place.lstrip('.') or 'it'}: {error.message}") from None
    except Exception as error:
        raise SchemaError(str(error).splitlines()[0]) from None
