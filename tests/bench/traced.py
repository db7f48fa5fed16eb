"""`mainstay operator` with a stopwatch: which step of a start takes how long, per object.

    python -m tests.bench.traced FILE operator --home ...

The arguments after FILE are those of `mainstay`. FILE gets a line of JSON per step: at, seconds, step, object.
"""

from __future__ import annotations

import contextvars
import functools
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from mainstay.cli.main import main
from mainstay.runtime.process import declare
from mainstay.runtime.process.observe import Observer, Scans
from mainstay.runtime.process.rpc import Batcher, Supervisor
from mainstay.runtime.process.runtime import ProcessRuntime
from mainstay.runtime.strategies import Shelf
from mainstay.shell.gather import Gatherer
from mainstay.shell.kube import Kube
from mainstay.shell.operator import Operator
from mainstay.shell.runs import RunReconciler
from mainstay.shell.strategies.libraries import LibraryReconciler
from mainstay.shell.strategies.strategies import StrategyReconciler

_key: contextvars.ContextVar[str] = contextvars.ContextVar("object", default="")


def trace(file: Any) -> None:
    """Put a stopwatch around the steps."""

    def note(began: float, step: str) -> None:
        now = time.perf_counter()
        line = {"at": began, "seconds": now - began, "step": step, "object": _key.get()}
        file.write(json.dumps(line) + "\n")

    def timed(owner: Any, name: str, word: str, argument: int | None = None) -> None:
        inner = getattr(owner, name)

        @functools.wraps(inner)
        async def outer(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return await inner(*args, **options)
            finally:
                suffix = "" if argument is None else f" {args[argument]}"
                note(began, word + suffix)

        setattr(owner, name, outer)

    timed(Kube, "put_status", "api put status", 1)
    timed(Kube, "set_finalizer", "api finalizer")
    timed(Kube, "create", "api create", 1)
    timed(Kube, "post_event", "api event")
    timed(Gatherer, "snapshot", "gather")
    timed(ProcessRuntime, "foreign_ports", "foreign ports")
    timed(ProcessRuntime, "start", "start")
    timed(ProcessRuntime, "stop", "stop")
    for name in ("listing", "read", "problem", "keep", "place"):
        timed(Shelf, name, f"shelf {name}")
    timed(ProcessRuntime, "probe", "probe")
    timed(Observer, "observe", "observe")
    timed(Scans, "fresh", "scan of /proc")
    timed(Batcher, "add", "supervisord add and start")
    timed(Supervisor, "call", "supervisord call", 1)

    write_spec = declare.write_spec

    def written(*args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return write_spec(*args, **options)
        finally:
            note(began, "write files")

    declare.write_spec = written

    def keyed(owner: Any, word: str) -> None:
        reconcile = owner.reconcile

        async def outer(self: Any, key: tuple[str, str]) -> float | None:
            _key.set("/".join(key))
            began = time.perf_counter()
            again: float | None = await reconcile(self, key)
            note(began, word)
            return again

        owner.reconcile = outer

    keyed(RunReconciler, "reconcile")
    keyed(LibraryReconciler, "reconcile library")
    keyed(StrategyReconciler, "reconcile strategy")

    changes = Shelf.changes

    async def told(self: Shelf) -> AsyncIterator[tuple[str, str]]:
        async for key in changes(self):
            note(time.perf_counter(), "shelf tells of a change")
            yield key

    Shelf.changes = told  # type: ignore[method-assign]
    on_event = Operator.on_event

    def came(self: Operator, plural: str, deleted: bool, obj: dict[str, Any]) -> None:
        _key.set(f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}")
        note(time.perf_counter(), f"event {plural} {obj['metadata']['resourceVersion']}")
        on_event(self, plural, deleted, obj)

    Operator.on_event = came  # type: ignore[method-assign]


if __name__ == "__main__":
    with Path(sys.argv[1]).open("a", buffering=1) as told:
        trace(told)
        sys.argv = ["mainstay", *sys.argv[2:]]
        main()
