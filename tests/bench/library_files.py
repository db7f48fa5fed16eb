"""A directory of strategies, its editor, and how its objects are told apart."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from tests.bench.api import Object, Test

from mainstay.cli.home import data
from mainstay.core.strategy.names import object_name

STRATEGY_CODE = '''"""One of many."""

EDIT = {edit}


class {name}:
    warmup = 1

    def on_candle(self, candle):
        return None
'''


def object_of(name: str) -> str:
    """Name of the object of a strategy of library main."""
    return object_name("main", name)


def numbered(stem: str, count: int) -> list[str]:
    return [f"{stem}{number:04}Strategy" for number in range(count)]


def library(directory: Path, default: str | None = None) -> Object:
    """A StrategyLibrary."""
    spec: Object = {"source": {"directory": str(directory)}}
    if default:
        spec["default"] = default
    meta = {"name": "main"}
    return {
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "StrategyLibrary",
        "metadata": meta,
        "spec": spec,
    }


class Files:
    """A directory of strategies and its editor."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self._sample = (data("samples") / "strategies" / "EmaRsiStrategy.py").read_text()
        self._edits = 0

    def text(self, name: str) -> bytes:
        """The sample strategy under that name, never the same twice."""
        self._edits += 1
        return (self._sample.replace("EmaRsiStrategy", name) + f"\nEDIT = {self._edits}\n").encode()

    def rename(self, name: str, text: bytes) -> float:
        """Put it in place as editors do; when that was, by time.perf_counter."""
        fresh = self.directory / f".{name}.fresh"
        fresh.write_bytes(text)
        at = time.perf_counter()
        fresh.replace(self.directory / f"{name}.py")
        return at

    def in_place(self, name: str, text: bytes) -> float:
        """Write over it; when the last of it was written."""
        (self.directory / f"{name}.py").write_bytes(text)
        return time.perf_counter()

    def delete(self, name: str) -> float:
        at = time.perf_counter()
        (self.directory / f"{name}.py").unlink()
        return at


def hash_of(text: bytes) -> str:
    return "sha256:" + hashlib.sha256(text).hexdigest()


def offers(content: str | None) -> Test:
    """A Strategy whose source has that content, and runs get it; None: any content."""

    def test(obj: Object | None) -> bool:
        status = (obj or {}).get("status") or {}
        found = status.get("hash")
        return found is not None and found == status.get("revision") and content in (None, found)

    return test
