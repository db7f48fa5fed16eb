"""From a pydantic model's JSON schema to the structural form a CustomResourceDefinition takes.

The API server silently ignores some keywords and refuses others; a field that is not checked is worse than an
error here. So every keyword is on a list, and everything that has no structural form raises NotStructuralError:
unions, tuples, recursion, numbers and texts without bounds, fields without a description.

Defaults are dropped: they live in the models, and a schema that fills them in is permanent drift for GitOps tools.
"""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import BaseModel

from mainstay.api.rules import KEY as VALIDATIONS

Schema = dict[str, Any]

SAFE_INTEGER = 2**53
"""Largest integer that survives every JSON reader; the API server turns 2^63 into a float and then refuses it."""

PRESERVE = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"
LIST_TYPE = "x-kubernetes-list-type"
LIST_KEYS = "x-kubernetes-list-map-keys"

_IGNORED = {"title", "default"}
_COMMON = {"type", "description", VALIDATIONS}
_NUMBER = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_STRING = {"minLength", "maxLength", "pattern"}
_KEYWORDS = {
    "string": _COMMON | _STRING | {"format", "enum", "const"},
    "integer": _COMMON | _NUMBER | {"enum", "const"},
    "number": _COMMON | _NUMBER,
    "boolean": _COMMON,
    "array": _COMMON | {"items", "minItems", "maxItems", LIST_TYPE, LIST_KEYS},
    "object": _COMMON
    | {"properties", "required", "additionalProperties", "minProperties", "maxProperties", PRESERVE},
}
_UNSAFE_PATTERN = re.compile(r"\(\?(?!:)|\\[1-9zZ]|\\[pP]\{|&&|\\u")
"""What Go's RE2 reads differently from Rust's or Python's engine, or not at all."""


class NotStructuralError(ValueError):
    """A construct without a structural form; the message starts with the path of the field."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")


def structural(model: type[BaseModel], without: str = "") -> Schema:
    """The structural schema of a model, less one top-level field. Raises NotStructuralError."""
    try:
        schema = model.model_json_schema(by_alias=True, mode="validation")
    except Exception as error:  # pydantic: a type without any JSON schema
        raise NotStructuralError(model.__name__, f"no JSON schema: {error}") from error
    if "properties" in schema:
        schema["properties"].pop(without, None)
        schema["required"] = [r for r in schema.get("required", []) if r != without]
        if not schema["required"]:
            del schema["required"]
    return _Converter(schema.get("$defs", {})).convert(schema, model.__name__, ())


class _Converter:
    """Inlines `$ref`s of one document on the way."""

    def __init__(self, definitions: Schema) -> None:
        self.definitions = definitions

    def convert(self, raw: Schema, path: str, seen: tuple[str, ...]) -> Schema:
        schema, seen = self.resolve(raw, path, seen)
        if INT_OR_STRING in schema:
            return _int_or_string(schema, path)
        kind = schema.get("type")
        if not isinstance(kind, str) or kind not in _KEYWORDS:
            raise NotStructuralError(path, f"type {kind!r} has no structural form (Any? a union?)")
        schema = {k: v for k, v in schema.items() if k not in _IGNORED}
        if unknown := schema.keys() - _KEYWORDS[kind]:
            raise NotStructuralError(path, f"{kind} with {', '.join(sorted(unknown))}")
        match kind:
            case "object":
                return self.object(schema, path, seen)
            case "array":
                return self.array(schema, path, seen)
            case "string":
                return _string(schema, path)
            case "integer" | "number":
                return _number(schema, path)
            case _:
                return schema

    def resolve(self, raw: Schema, path: str, seen: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
        """Follows `$ref` and unwraps `X | None` until a plain schema is left."""
        schema = {k: v for k, v in raw.items() if k != "$defs"}
        while True:
            if ref := schema.pop("$ref", None):
                name = str(ref).removeprefix("#/$defs/")
                if name in seen:
                    raise NotStructuralError(path, f"{name} contains itself")
                seen = (*seen, name)
                schema = _overlay(self.definitions[name], schema, path)
            elif options := schema.pop("anyOf", None):
                some = [o for o in options if o != {"type": "null"}]
                if len(some) == 1:
                    schema = _overlay(some[0], schema, path)
                elif len(some) == 2:
                    pair = [self.resolve(o, path, seen)[0] for o in some]
                    schema = _overlay(_either(pair, path), schema, path)
                else:
                    raise NotStructuralError(path, f"a union of {len(some)} types")
            else:
                return schema, seen

    def object(self, schema: Schema, path: str, seen: tuple[str, ...]) -> Schema:
        rest = schema.pop("additionalProperties", False)
        if schema.get("properties"):
            if rest is not False:
                raise NotStructuralError(path, "both named and free fields")
            for name, field in schema["properties"].items():
                if not self.resolve(field, f"{path}.{name}", seen)[0].get("description"):
                    raise NotStructuralError(f"{path}.{name}", "no description")
            schema["properties"] = {
                name: self.convert(field, f"{path}.{name}", seen)
                for name, field in schema["properties"].items()
            }
            return schema
        schema.pop("properties", None)
        if rest is True:
            schema[PRESERVE] = True
        elif rest is not False:
            if "maxProperties" not in schema:
                raise NotStructuralError(path, "a map without maxProperties")
            schema["additionalProperties"] = self.convert(rest, f"{path}[*]", seen)
        return schema

    def array(self, schema: Schema, path: str, seen: tuple[str, ...]) -> Schema:
        if "maxItems" not in schema:
            raise NotStructuralError(path, "a list without maxItems")
        if not schema.get("items"):
            raise NotStructuralError(path, "a list of anything")
        items = schema["items"] = self.convert(schema["items"], f"{path}[]", seen)
        keys = schema.get(LIST_KEYS, [])
        if (schema.get(LIST_TYPE) == "map") != bool(keys):
            raise NotStructuralError(path, "list-type map and list-map-keys belong together")
        if missing := set(keys) - set(items.get("required", [])):
            raise NotStructuralError(
                path, f"list-map key {', '.join(sorted(missing))} is not a required field"
            )
        return schema


def _overlay(base: Schema, outer: Schema, path: str) -> Schema:
    """What stands beside a `$ref` or `anyOf` wins in words; two different constraints of one name are refused."""
    for key in outer.keys() & base.keys() - _IGNORED - {"description"}:
        if outer[key] != base[key]:
            raise NotStructuralError(path, f"{key} is given twice")
    return {**base, **outer}


def _either(pair: list[Schema], path: str) -> Schema:
    """`int | str`, the one union Kubernetes knows.

    Constraints of either type go side by side: each is applied to values of its own type only.
    """
    by_type = {p.get("type"): p for p in pair}
    if by_type.keys() != {"integer", "string"}:
        raise NotStructuralError(path, f"a union of {' and '.join(sorted(map(str, by_type)))}")
    for kind, allowed in (("integer", _NUMBER), ("string", _STRING)):
        if unknown := by_type[kind].keys() - allowed - {"type", "description"} - _IGNORED:
            raise NotStructuralError(path, f"int | str with {', '.join(sorted(unknown))}")
    number, text = _number(dict(by_type["integer"]), path), _string(dict(by_type["string"]), path)
    drop = _IGNORED | {"type", "description"}
    return {k: v for k, v in (number | text).items() if k not in drop} | {INT_OR_STRING: True}


def _int_or_string(schema: Schema, path: str) -> Schema:
    kept = {k: v for k, v in schema.items() if k not in _IGNORED}
    if unknown := kept.keys() - _NUMBER - _STRING - {"description", INT_OR_STRING, VALIDATIONS}:
        raise NotStructuralError(path, f"int | str with {', '.join(sorted(unknown))}")
    return kept


def _one_value(schema: Schema) -> None:
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]


def _string(schema: Schema, path: str) -> Schema:
    _one_value(schema)
    if not all(isinstance(v, str) for v in schema.get("enum", [])):
        raise NotStructuralError(path, "an enum of mixed types")
    form = schema.get("format")
    if form not in {None, "date-time"}:
        raise NotStructuralError(path, f"format {form} is ignored, or read differently, by the API server")
    if not (form or "enum" in schema or "maxLength" in schema):
        raise NotStructuralError(path, "a text without maxLength")
    if _UNSAFE_PATTERN.search(schema.get("pattern", "")):
        raise NotStructuralError(path, f"pattern {schema['pattern']} is not portable to RE2")
    return schema


def _number(schema: Schema, path: str) -> Schema:
    """Draft 2020's numeric exclusive bounds become OpenAPI 3.0's bound and boolean."""
    _one_value(schema)
    if "enum" in schema:
        if not all(type(v) is int and abs(v) <= SAFE_INTEGER for v in schema["enum"]):
            raise NotStructuralError(path, "an enum of mixed types or of unsafe numbers")
        return schema
    for exclusive, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive not in schema:
            continue
        if plain in schema:
            raise NotStructuralError(path, f"both {plain} and {exclusive}")
        schema[plain], schema[exclusive] = schema[exclusive], True
    for bound in ("minimum", "maximum"):
        value = schema.get(bound)
        if value is None:
            raise NotStructuralError(path, f"a number without {bound}")
        if not math.isfinite(value) or (schema["type"] == "integer" and abs(value) > SAFE_INTEGER):
            raise NotStructuralError(path, f"{bound} {value} is not safe in JSON")
    if not math.isfinite(schema.get("multipleOf", 1)):
        raise NotStructuralError(path, "multipleOf is not finite")
    return schema
