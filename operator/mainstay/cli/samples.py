"""The samples that `mainstay up` puts into a home: renewed, unless the user changed them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

SHIPPED = ".shipped.json"
"""In the copied samples: path → SHA-256 of what was shipped when it was last copied, or put beside as x.new."""


def copy_samples(source: Path, target: Path) -> list[str]:
    """Copy what is shipped, and keep what the user changed; return what there is to say about that."""
    target.mkdir(exist_ok=True)
    known, told = _shipped(target / SHIPPED), []
    fresh: dict[str, str] = {}
    for file in sorted(f for f in source.rglob("*") if f.is_file() and "__pycache__" not in f.parts):
        name = file.relative_to(source).as_posix()
        place, content = target / name, file.read_bytes()
        fresh[name] = hashlib.sha256(content).hexdigest()
        there = _digest(place)
        if there == fresh[name]:
            continue
        if there is None and name in known and name.startswith("strategies/"):
            continue  # to delete a strategy is to withdraw it from its users; only they say when it is back
        if there is None or there == known.get(name):
            _put(file, place)
        elif fresh[name] != known.get(name):
            beside = place.with_name(place.name + ".new")
            _put(file, beside)
            why = "was changed by you" if name in known else "is not what is shipped now, perhaps by you,"
            told.append(f"samples/{name} {why} and is kept; the shipped one is beside it as {beside.name}")
    _replace(target / SHIPPED, json.dumps(fresh, indent=1).encode())
    return told


def _shipped(path: Path) -> dict[str, str]:
    """What was copied; nothing where that is not known, and then whatever differs counts as the user's."""
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _put(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    _replace(place, file.read_bytes())
    shutil.copymode(file, place)


def _replace(path: Path, content: bytes) -> None:
    """Write it whole or not at all; a link is followed by nobody."""
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.write_bytes(content)
    fresh.replace(path)
