"""docs/api.md: every field of every kind, written from the CRDs so that it can't be out of date.

`python -m mainstay.api.reference` writes it, `--check` tells whether it agrees.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mainstay.api.crd import crds

TARGET = Path("docs/api.md")


def reference() -> str:
    """Return the whole document."""
    parts = ["# API reference\n\nWritten from the CRDs by `make crds`; `kubectl explain` tells the same.\n"]
    for crd in crds():
        names = crd["spec"]["names"]
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        short = ", ".join(names.get("shortNames", ()))
        parts.append(f"\n## {names['kind']}\n\n{schema.get('description', '')} ")
        parts.append(f"`{names['plural']}`, short `{short}`, {crd['spec']['scope'].lower()}.\n\n")
        parts.append("| field | type | what |\n|---|---|---|\n")
        parts.extend(
            f"| `{path}` | {kind} | {text} |\n"
            for part in ("spec", "status")
            if part in schema["properties"]
            for path, kind, text in _fields(part, schema["properties"][part])
        )
    return "".join(parts)


def _fields(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        inner = field.get("items", field)
        where = f"{path}.{name}" + ("[]" if "items" in field else "")
        kind = "int or string" if field.get("x-kubernetes-int-or-string") else inner.get("type", "any")
        if "enum" in inner:
            kind = " \\| ".join(str(value) for value in inner["enum"])
        star = ", required" if name in required else ""
        yield where, kind + star, " ".join(field.get("description", "").replace("|", "\\|").split())
        yield from _fields(where, inner)


def main(arguments: list[str]) -> int:
    """Write, or with --check compare; 1 when they differ."""
    wanted = reference()
    if "--check" in arguments:
        if TARGET.exists() and TARGET.read_text() == wanted:
            return 0
        print(f"{TARGET} is out of date; run `make crds`", file=sys.stderr)
        return 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
