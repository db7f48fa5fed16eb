"""One turn of a fleet under Mainstay: all jobs at once until all are done, and what that took of whom."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families
from tests.bench.api import JOBS, Api, gone, many
from tests.bench.figures import Figure, sample
from tests.bench.fleet_objects import (
    ASSETS,
    BATCHES,
    PROBE_SECONDS,
    Worker,
    asset,
    batch,
    completed,
    free,
    job,
    names_of,
)
from tests.bench.fleet_told import Story, handovers
from tests.bench.fleet_world import World
from tests.bench.installed import cpu, operator_of
from tests.bench.whole import parts

PATIENCE = 900
"""Seconds for a turn."""


@dataclass(slots=True)
class Turn:
    """What one turn of ours came to."""

    took: float  # seconds from the first POST until all jobs are Completed and all ships Free
    used: dict[str, float]  # CPU seconds by part
    counted: dict[str, float]  # what the operator counted, by metric and labels
    peak: float  # MB of the operator's RSS
    given: list[float]
    begun: list[float]
    gaps: list[float]
    writes: dict[str, Counter[str]]

    def sum(self, name: str, *labels: str) -> float:
        """Of a counter, over all of these labels."""
        return sum(
            v for k, v in self.counted.items() if k.startswith(name) and all(one in k for one in labels)
        )


class Fleet:
    """The ships, their jobs and who is asked about them."""

    def __init__(self, home: Path, api: Api, world: World, jobs: Story, assets: Story) -> None:
        self._home = home
        self._api = api
        self.world = world
        self._jobs = jobs
        self._assets = assets

    async def make_ships(self) -> float:
        """Seconds until all are Free."""
        began = time.perf_counter()
        await many(lambda ship: self._api.create(asset(self.world, ship), ASSETS), self.world.ships)
        return max((await self._assets.until(self.world.ships, free, PATIENCE)).values()) - began

    async def turn(self, worker: Worker, *, as_batch: bool = False, kill_after: int = 0) -> Turn:
        """All jobs at once. With `kill_after` the operator is killed when so many are Completed."""
        await asyncio.to_thread(self.world.begin)
        names = [f"fleet-{name}" for name in names_of(self.world)] if as_batch else names_of(self.world)
        self._jobs.clear()
        self._assets.clear()
        before = {} if kill_after else await self._counters()
        used = self._used()
        operator = operator_of(self._home)
        Path(f"/proc/{operator.pid}/clear_refs").write_text("5")
        began = time.perf_counter()
        waiting = asyncio.create_task(self._jobs.until(names, completed, PATIENCE))
        killing = asyncio.create_task(self._kill(names, kill_after))
        if as_batch:
            await self._api.create(batch(self.world, worker), BATCHES)
        else:
            await many(lambda name: self._api.create(job(self.world, name, worker), JOBS), names)
        ends = await waiting
        await killing
        # Free before a job of a ship began is no end: only what is told after the last one's end counts.
        freed = await self._assets.until(self.world.ships, free, PATIENCE)
        took = max(*ends.values(), *freed.values()) - began
        spent = {part: value - used.get(part, 0.0) for part, value in self._used().items()}
        counted = await self._counters()
        told = handovers(self._jobs, self._assets)
        return Turn(
            took=took,
            used=spent,
            counted={k: v - before.get(k, 0.0) for k, v in counted.items()},
            peak=_peak(operator_of(self._home).pid),
            given=told.given,
            begun=told.begun,
            gaps=await asyncio.to_thread(self.world.gaps, len(names)),
            writes={"job": self._jobs.writes(), "asset": self._assets.writes()},
        )

    async def remove(self, *, as_batch: bool = False) -> None:
        """Delete the jobs of a turn."""
        if as_batch:
            await self._api.delete("fleet", BATCHES)
        else:
            await many(lambda name: self._api.delete(name, JOBS), list(self._jobs.objects))
        await self._jobs.until([*self._jobs.objects], gone, PATIENCE)
        await self._assets.until(self.world.ships, free, PATIENCE)

    async def _kill(self, names: Sequence[str], after: int) -> None:
        if not after:
            return
        while sum(completed(self._jobs.objects.get(name)) for name in names) < after:
            await asyncio.sleep(0.02)
        os.kill(operator_of(self._home).pid, signal.SIGKILL)

    def _used(self) -> dict[str, float]:
        """CPU seconds of each part so far; what a part's ended children used is its own."""
        found: dict[str, float] = {"world": self.world.cpu}
        for pid, part in parts(self._home).items():
            if pid == self.world.process.pid:
                continue
            try:
                times = psutil.Process(pid).cpu_times()
            except psutil.NoSuchProcess:
                continue
            own = times.user + times.system
            name = part
            if part == "bot":  # what starts tasks, and waits for them
                name = "tasks and what starts them"
                own += times.children_user + times.children_system
            found[name] = found.get(name, 0.0) + own
        return found

    async def _counters(self) -> dict[str, float]:
        url = (self._home / "operator.url").read_text().strip()
        async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
            text = await answer.text()
        return {
            f"{one.name}{sorted(one.labels.values())}": one.value
            for family in text_string_to_metric_families(text)
            for one in family.samples
        }

    async def idle(self, seconds: float) -> list[Figure]:
        """Nothing but probes: CPU, writes and questions."""
        operator = operator_of(self._home)
        self._jobs.clear()
        self._assets.clear()
        counted, before = await self._counters(), cpu(operator)
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        own = 100 * (cpu(operator) - before) / (time.perf_counter() - began)
        after = await self._counters()
        asked = sum(
            v - counted.get(k, 0.0) for k, v in after.items() if k.startswith("mainstay_asset_probes_total")
        )
        writes = len(self._jobs.told) + len(self._assets.told)
        what = f"{len(self.world.ships)} Free ships, each asked every {PROBE_SECONDS} s"
        return [
            Figure("fleet", f"writes, {what}, for {seconds:.0f} s", sample([writes], ""), target=0),
            Figure(
                "fleet", f"operator's CPU, {what}", sample([own], "%"), notes={"probes asked": f"{asked:.0f}"}
            ),
        ]


def _peak(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _ms(values: Sequence[float]) -> str:
    if not values:
        return "none"
    most = statistics.quantiles(values, n=100)[98] if len(values) > 1 else values[0]
    return f"{1000 * statistics.median(values):.0f} ms median, {1000 * most:.0f} ms p99"


def notes_of(turn: Turn, jobs: int) -> dict[str, Any]:
    """What a turn cost."""
    api = "mainstay_api_requests_total"
    wrote = {verb: turn.sum(api, f"'{verb}'") for verb in ("create", "update", "patch", "delete")}
    told = ", ".join(f"{n / jobs:.2f} {verb}" for verb, n in wrote.items() if n)
    notes = {
        "end of a job → its ship is the next job's": _ms(turn.given),
        "end of a job → the next has claimed its first task": _ms(turn.begun),
        "sale → the next job's purchase, by the ledger, without latencies": _ms(turn.gaps),
        "requests that write, per job": f"{sum(wrote.values()) / jobs:.2f}: {told}",
        "requests that read, per job": f"{(turn.sum(api, 'get') + turn.sum(api, 'list')) / jobs:.2f}",
        "conflicts, per job": f"{turn.sum('mainstay_reconcile_total', 'conflict') / jobs:.2f}",
        "probes asked, per job": f"{turn.sum('mainstay_asset_probes_total') / jobs:.2f}",
        "passes per job": ", ".join(
            f"{kind} {turn.sum('mainstay_reconcile_total', repr(kind)) / jobs:.1f}"
            for kind in ("job", "asset", "batch")
        ),
        "CPU per job": ", ".join(
            f"{part} {1000 * used / jobs:.1f} ms" for part, used in sorted(turn.used.items())
        ),
        "operator's RSS at most": f"{turn.peak:.0f} MB",
    }
    for kind, writes in turn.writes.items():
        for words, count in writes.most_common(12):
            notes[f"write of a {kind}: {words}"] = f"{count / jobs:.2f} per job"
    return notes
