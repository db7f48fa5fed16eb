"""What objects say, made fit for a line of a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from mainstay.shell.kube import Object


def one_line(message: str) -> str:
    """Return a condition's message for a line of a terminal."""
    return " ".join(message.split())


def condition(obj: Object, kind: str) -> dict[str, Any]:
    """Return that condition of an object, or an empty one."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind), {})


def age(since: str) -> str:
    """How long ago, in kubectl's manner."""
    return lasted((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())


def moment(at: str) -> str:
    """A time to the second, as people read it."""
    return datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def middle(text: str, longest: int = 60) -> str:
    """A name that fits into a table: both of its ends, where it is long."""
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 1]}…{text[-tail:]}"


def some(names: Sequence[str], longest: int = 8, of: int = 0) -> str:
    """The first of them, and how many more there are; `of` all, where not every name is known."""
    rest = max(len(names), of) - min(len(names), longest)
    return ", ".join(names[:longest]) + (f" and {rest} more" if rest > 0 else "")


def count(number: int, one: str, many: str = "") -> str:
    """How many of something, as `1 port` and `2 ports`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def lasted(seconds: float) -> str:
    """A duration in one unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(int(seconds), 0)}s"


def took(part: dict[str, Any]) -> str:
    """How long a step, phase or task took, or has taken up to now; empty where it does not count."""
    if not part.get("startedAt") or (part["state"] == "Failed" and not part.get("completedAt")):
        return ""
    end = datetime.fromisoformat(part["completedAt"]) if part.get("completedAt") else datetime.now(UTC)
    seconds = (end - datetime.fromisoformat(part["startedAt"])).total_seconds()
    return f"{max(seconds, 0):.1f}s" if seconds < 10 else lasted(seconds)


FORM: ContextVar[str | None] = ContextVar("form", default=None)
"""How --dry-run prints: json, yaml, or as is usual there."""


def print_yaml(*objects: Object) -> None:
    """Print objects as YAML documents, or as the JSON that was asked for."""
    import json

    import typer
    import yaml

    if FORM.get() == "json":
        for obj in objects:
            typer.echo(json.dumps(obj, indent=2, ensure_ascii=False))
        return
    typer.echo(yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True), nl=False)


def print_as(told: Any, output: str) -> None:
    """Print what a table would tell, as `json` or `yaml`."""
    import json

    import typer
    import yaml

    if output == "json":
        typer.echo(json.dumps(told, indent=2))
    else:
        typer.echo(yaml.safe_dump(told, sort_keys=False, allow_unicode=True), nl=False)
