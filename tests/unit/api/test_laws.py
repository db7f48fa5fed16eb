"""Laws: whatever the model, a structural schema or an error; whatever the object, it survives the round trip."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.unit.api.models import any_model, fine_model, values

from mainstay.api.kinds import KINDS, Kind
from mainstay.api.structural import INT_OR_STRING, PRESERVE, NotStructuralError, structural

TYPES = {"object", "array", "string", "integer", "number", "boolean"}
KNOWN = {
    "type", "description", "properties", "required", "additionalProperties", "items", "enum", "format", "pattern",
    "minLength", "maxLength", "minItems", "maxItems", "maxProperties", "minProperties", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", PRESERVE, INT_OR_STRING, "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-validations",
}  # fmt: skip
RELAXED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def assert_structural(schema: dict[str, Any], path: str = "") -> None:
    """Kubernetes' own conditions, written down apart from the converter."""
    assert schema.keys() <= KNOWN, path
    assert (schema.get("type") in TYPES) != schema.get(INT_OR_STRING, False), path
    assert schema.get("description", "") is not None
    for flag in ("exclusiveMinimum", "exclusiveMaximum"):
        assert schema.get(flag) in {None, True}, path
    for bound in ("minimum", "maximum"):
        assert math.isfinite(schema.get(bound, 0)), path
        assert abs(schema.get(bound, 0)) <= 2**53, path
    bounded = {"array": "maxItems", "string": "maxLength"}.get(schema.get("type", ""))
    assert not bounded or schema.keys() & {bounded, "enum", "format"}, path
    assert not ("properties" in schema and "additionalProperties" in schema), path
    assert isinstance(schema.get("additionalProperties", {}), dict), path
    for name, field in schema.get("properties", {}).items():
        assert field["description"], path
        assert_structural(field, f"{path}.{name}")
    for below in ("items", "additionalProperties"):
        if below in schema:
            assert_structural(schema[below], f"{path}[]")


@RELAXED
@given(any_model())
def test_any_model_is_structural_or_refused(model: type[BaseModel]) -> None:
    try:
        schema = structural(model)
    except NotStructuralError:
        event("refused")
        return
    event("structural")
    assert_structural(schema)


@RELAXED
@given(fine_model())
def test_what_has_a_structural_form_gets_it(model: type[BaseModel]) -> None:
    assert_structural(structural(model))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_our_kinds_are_structural(kind: Kind) -> None:
    assert_structural(structural(kind.model, without="metadata"))


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether the API server would keep every field: names and types only."""
    if isinstance(value, dict) and not schema.get(PRESERVE):
        fields = schema.get("properties", {})
        inner = schema.get("additionalProperties")
        return all(fits(v, inner or fields[k]) for k, v in value.items() if inner or k in fields or _fail(k))
    if isinstance(value, list):
        return all(fits(v, schema["items"]) for v in value)
    return True


def _fail(name: str) -> bool:
    raise AssertionError(f"{name} is in no schema")


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_the_schema_takes_the_model_reads_and_writes_back(kind: Kind, data: st.DataObject) -> None:
    schema = structural(kind.model, without="metadata")
    wire = data.draw(values(schema)) | {"metadata": {"name": "a", "uid": "u"}}
    read = kind.model.model_validate(wire)
    written = read.wire()
    assert fits({k: v for k, v in written.items() if k != "metadata"}, schema)
    assert kind.model.model_validate(written) == read
    assert contains(written, wire)


def contains(written: Any, wire: Any) -> bool:
    """Nothing the user said is lost; the rest are defaults."""
    if isinstance(wire, dict):
        return all(k in written and contains(written[k], v) for k, v in wire.items())
    if isinstance(wire, list):
        return len(wire) == len(written) and all(map(contains, written, wire))
    return (isinstance(wire, str) and "T" in wire) or wire == written
