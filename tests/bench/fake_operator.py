"""The operator as `mainstay operator` wires it, on a Runtime in memory: what the reconciler itself costs.

    python -m tests.bench.fake_operator KUBECONFIG [--seed] [--home DIR] [--profile FILE]

With --seed the runtime begins with the processes that the objects' statuses tell of; with --home strategies are
real files, and their snapshots are kept there. It prints a line of JSON
when it works and when every object was looked at, and one for every line on its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import logging
import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import kopf

from mainstay import handlers
from mainstay.core.names import unit_name
from mainstay.core.unit import ProcessId, UnitSpec, UnitState
from mainstay.runtime.fake import FakeRuntime, _Record
from mainstay.runtime.fake_probes import FakeProbes
from mainstay.runtime.fake_stacks import FakeStacks
from mainstay.runtime.fake_strategies import FakeShelf
from mainstay.runtime.strategies import Shelf
from mainstay.shell.kube import RUNS, Kube, path
from mainstay.shell.operator import Operator


def tell(**words: Any) -> None:
    print(json.dumps(words), flush=True)


async def seed(kube: Kube, runtime: FakeRuntime) -> None:
    """Take over the processes that status tells of."""
    async for page in kube.pages(path(RUNS)):
        for obj in page["items"]:
            meta, status = obj["metadata"], obj.get("status") or {}
            process = status.get("process")
            if process is None:
                continue
            name = unit_name(meta["namespace"], meta["name"])
            argv = tuple(obj["spec"]["program"]["command"])
            spec = UnitSpec(
                name, meta["uid"], status["attempt"], argv, status["inputsHash"], port=status.get("port")
            )
            runtime._records[name] = _Record(
                spec,
                UnitState.RUNNING,
                ProcessId(process["pid"], process["startTicks"], process["bootId"]),
                attempt=spec.attempt,
                inputs_hash=spec.inputs_hash,
                port=spec.port,
                started_at=datetime.fromisoformat(status["startedAt"]).timestamp(),
                restarts=status.get("restarts", 0),
            )


class Seen:
    """Which objects were worked on, and which kopf brought."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self.looked_at: set[tuple[str, str]] = set()
        self.delivered: set[tuple[str, str]] = set()
        self._told = False
        reconcile, on_event = operator._runs.reconcile, operator.on_event

        async def counted(key: tuple[str, str]) -> float | None:
            again = await reconcile(key)
            self.looked_at.add(key)
            return again

        def noted(plural: str, deleted: bool, obj: dict[str, Any]) -> None:
            on_event(plural, deleted, obj)
            if plural == RUNS:
                self.delivered.add((obj["metadata"]["namespace"], obj["metadata"]["name"]))

        operator._runs.reconcile = counted  # type: ignore[method-assign]
        self._noted = noted

    def listen(self) -> None:
        """Count what kopf brings from now on."""
        self._operator.on_event = self._noted  # type: ignore[method-assign]

    async def tell_steady(self) -> None:
        everything = set(self._operator.store.runs.objects)
        while not (everything <= self.looked_at and self._operator.queue.depth == 0):
            await asyncio.sleep(0.005)
        tell(event="looked-at", objects=len(everything))
        while not everything <= self.delivered:
            await asyncio.sleep(0.005)
        tell(event="steady", objects=len(everything))


async def answer(runtime: FakeRuntime, operator: Operator, stop: asyncio.Event) -> None:
    """A line in, a line of JSON out; the end of input ends us."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while await reader.readline():
        tell(
            event="stats",
            acts=len(runtime.acts),
            depth=operator.queue.depth,
            objects=len(operator.store.runs.objects),
            counters=counters(operator),
        )
    stop.set()


def counters(operator: Operator) -> dict[str, float]:
    """What its metrics count: name and values of labels → value."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for metric in operator.metrics.registry.collect()
        for sample in metric.samples
        if metric.type == "counter" or sample.name.endswith(("_sum", "_count"))
    }


async def main(kubeconfig: str, seeded: bool, home: Path | None) -> None:
    os.environ["KUBECONFIG"] = kubeconfig
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    kube = await Kube.connect(kubeconfig)
    runtime = FakeRuntime()
    shelf = Shelf(home) if home is not None else None
    operator = Operator(
        kube, runtime, FakeRuntime(), shelf or FakeShelf(), FakeStacks(), FakeProbes(), home=home or Path("/")
    )
    try:
        if shelf is not None:
            await shelf.start_up()
        if seeded:
            await seed(kube, runtime)
        seen = Seen(operator)
        await operator.start()
        seen.listen()
        tasks = [
            asyncio.create_task(
                kopf.operator(registry=handlers.registry(operator), clusterwide=True, standalone=True)
            ),
            asyncio.create_task(seen.tell_steady()),
            asyncio.create_task(answer(runtime, operator, stop)),
        ]
        tell(event="works", objects=len(operator.store.runs.objects))
        asked = asyncio.create_task(stop.wait())
        await asyncio.wait({tasks[0], asked}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await operator.close()
        if shelf is not None:
            await shelf.close()
        await kube.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kubeconfig")
    parser.add_argument("--seed", action="store_true")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--profile")
    asked = parser.parse_args()
    # The same logs as the real one: they are part of its work.
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s", stream=sys.stderr
    )
    for noisy in ("kopf", "asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if asked.profile:
        with cProfile.Profile() as profile:
            asyncio.run(main(asked.kubeconfig, asked.seed, asked.home))
        profile.dump_stats(asked.profile)
    else:
        asyncio.run(main(asked.kubeconfig, asked.seed, asked.home))
