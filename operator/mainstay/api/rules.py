"""CEL rules that the API server enforces, written beside the model they guard.

A rule is admission's business, not pydantic's: what was stored under an older rule must stay readable.
Every string and list that a rule touches is bounded, or the API server refuses the whole CRD for its cost.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic.types import JsonValue

KEY = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """One validation: `cel` must be true.

    `self` is the value it hangs on; a rule that names `oldSelf` runs on updates only. `field` is the path below that value, as `.spec.owner`, that a refusal names; `message` says what to do.
    """

    cel: str
    message: str
    field: str | None = None

    def schema(self) -> dict[str, JsonValue]:
        """The entry of `x-kubernetes-validations`."""
        entry: dict[str, JsonValue] = {"rule": self.cel, "message": self.message}
        return entry | ({"fieldPath": self.field} if self.field else {"reason": "FieldValueInvalid"})


def guarded(*rules: Rule) -> dict[str, JsonValue]:
    """`json_schema_extra` for a model or a field."""
    return {KEY: [rule.schema() for rule in rules]}


def at_most_one(*fields: str) -> str:
    """CEL: no more than one of these fields is set."""
    return f"[{', '.join(f'has(self.{f})' for f in fields)}].filter(x, x).size() <= 1"


def exactly_one(*fields: str) -> str:
    """CEL: one of these fields is set and no other."""
    return f"[{', '.join(f'has(self.{f})' for f in fields)}].filter(x, x).size() == 1"


def optional(path: str) -> str:
    """CEL: every step of a path such as `self.status.runId` is there; the object's own root always is."""
    root, *steps = path.split(".")
    seen = []
    for step in steps:
        root = f"{root}.{step}"
        seen.append(f"has({root})")
    return " && ".join(seen)
