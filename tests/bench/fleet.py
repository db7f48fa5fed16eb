"""Ships that one job at a time may have: how much longer than the world itself a fleet's work takes, and what it costs."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families
from tests.bench.api import GROUP, JOBS, Api, Object, gone, many
from tests.bench.figures import Figure, Sample, sample, say
from tests.bench.fleet_operator import operator_with
from tests.bench.fleet_told import Story, handovers
from tests.bench.fleet_world import OPERATIONS, Command, World, inputs, world_of
from tests.bench.installed import cpu, free_ports, installation, operator_of
from tests.bench.whole import parts

ASSETS = f"{GROUP}/namespaces/default/assets"
BATCHES = f"{GROUP}/namespaces/default/jobbatches"
JOBS_PER_SHIP = 2
LATENCY = 0.5
"""Seconds of each operation of a ship."""
PROBE_SECONDS = 30
PATIENCE = 300

Worker = Callable[[str], Command]


def steps(worker: Worker) -> list[Object]:
    """COLLECT_SELL, as the sample's pipeline has it."""
    done = {
        "collect": "assets.ship.holdings.exists(h, h.symbol == inputs.symbol && h.units >= inputs.units)",
        "sell": "!assets.ship.holdings.exists(h, h.symbol == inputs.symbol)",
    }
    phases = [
        {
            "name": name,
            "completeWhen": when,
            "tasks": [
                {
                    "name": name,
                    "program": {"command": worker(name)},
                    "retries": 10,
                    "maxBackoffSeconds": 30,
                    "timeoutSeconds": 60,
                }
            ],
        }
        for name, when in done.items()
    ]
    return [{"name": "collectSell", "phases": phases}]


def asset(world: World, ship: str) -> Object:
    """A ship as the sample has it."""
    url = f"http://127.0.0.1:{world.port}/my/ships/{ship}"
    liquidate = {"name": "liquidate", "program": {"command": world.python("liquidate")}, "retries": 3}
    phases = [{"name": "liquidate", "tasks": [liquidate]}]
    return {
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "Asset",
        "metadata": {"name": ship},
        "spec": {
            "type": "Ship",
            "holdings": {
                "everySeconds": PROBE_SECONDS,
                "probe": {"http": {"url": url}, "path": "body.data.cargo.inventory"},
            },
            "compensation": {
                "template": {
                    "inputs": {"world": f"http://127.0.0.1:{world.port}"},
                    "steps": [{"name": "liquidate", "phases": phases}],
                }
            },
        },
    }


def names_of(world: World) -> list[str]:
    """Jobs by name, those that come first at each ship before the others."""
    return [f"{ship}-{job}" for job in "abcdefgh"[:JOBS_PER_SHIP] for ship in world.ships]


def job(world: World, name: str, worker: Worker) -> Object:
    """One job of a ship."""
    return {
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "PhasedJob",
        "metadata": {"name": name},
        "spec": {
            "assets": [{"name": "ship", "ref": name.rpartition("-")[0]}],
            "inputs": inputs(world),
            "steps": steps(worker),
        },
    }


def batch(world: World, worker: Worker) -> Object:
    """All jobs in one batch."""
    names = names_of(world)
    entries = [{"name": n, "assets": [{"name": "ship", "ref": n.rpartition("-")[0]}]} for n in names]
    return {
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "JobBatch",
        "metadata": {"name": "fleet"},
        "spec": {
            "parallelism": len(names),
            "jobs": entries,
            "template": {"inputs": inputs(world), "steps": steps(worker)},
        },
    }


def completed(obj: Object | None) -> bool:
    return obj is not None and (obj.get("status") or {}).get("phase") == "Completed"


def free(obj: Object | None) -> bool:
    return obj is not None and (obj.get("status") or {}).get("state") == "Free"


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


async def fleet(*, quick: bool) -> list[Figure]:
    """Everything, in turns within one installation."""
    ships = 20 if quick else 200
    rounds = 1 if quick else 2
    figures: list[Figure] = []
    limit = JOBS_PER_SHIP * OPERATIONS * LATENCY
    async with installation() as home, await Api.connect(home / "kubeconfig") as api:
        with ExitStack() as stack:
            world = await asyncio.to_thread(world_of, stack, home, free_ports(1), ships, LATENCY)
            count = len(names_of(world))
            async with Story(api, "phasedjobs") as jobs, Story(api, "assets") as assets:
                ours = Fleet(home, api, world, jobs, assets)
                say(f"{ships} ships")
                made = await ours.make_ships()
                figures.append(Figure("fleet", f"{ships} ships: first POST → all Free", sample([made], "s")))

                async def contest(
                    what: str, worker: Worker, *, as_batch: bool = False, alone: bool = False
                ) -> None:
                    turns, threads, shells, floor = [], [], [], []
                    for number in range(rounds):
                        say(f"{what}: round {number + 1} of {rounds}")
                        turns.append(await ours.turn(worker, as_batch=as_batch))
                        await ours.remove(as_batch=as_batch)
                        if alone:
                            continue
                        await asyncio.to_thread(world.begin)
                        threads.append(await asyncio.to_thread(world.by_threads, JOBS_PER_SHIP))
                        await asyncio.to_thread(world.begin)
                        took, used = await asyncio.to_thread(
                            world.by_xargs, home / "xargs", JOBS_PER_SHIP, worker
                        )
                        shells.append(took)
                        floor.append(used)
                    best = min(turns, key=lambda one: one.took)
                    notes: dict[str, Any] = {"the world's own latencies, in a row": f"{limit:.1f} s"}
                    if floor:
                        notes["CPU per job of the workers under xargs"] = (
                            f"{1000 * min(floor) / count:.1f} ms"
                        )
                    figures.append(
                        Figure(
                            "fleet",
                            f"{count} jobs, two per ship, {what}: first POST → all Completed, all Free",
                            sample([one.took for one in turns], "s"),
                            limit=_maybe(threads),
                            peer=_maybe(shells),
                            notes=notes | notes_of(best, count),
                        )
                    )

                await contest("fast worker", world.fast)
                await contest("the sample's worker", world.python)
                await contest("fast worker, as one JobBatch", world.fast, as_batch=True, alone=True)
                figures += await ours.idle(35 if quick else 65)
                say("the operator killed")
                turn = await ours.turn(world.fast, kill_after=count // 4)
                await ours.remove()
                figures.append(
                    Figure(
                        "fleet",
                        f"{count} jobs, fast worker, operator killed -9 after a quarter: all Completed, all Free",
                        sample([turn.took], "s"),
                    )
                )
                for tasks in (128, 256):
                    async with operator_with(home, tasks):
                        await contest(f"fast worker, {tasks} tasks at once", world.fast, alone=True)
    return figures


def _maybe(values: Sequence[float]) -> Sample | None:
    return sample(values, "s") if values else None
