"""Ships that one job at a time may have: how much longer than the world itself a fleet's work takes, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from tests.bench.api import Api
from tests.bench.figures import Figure, Sample, sample, say, show
from tests.bench.fleet_objects import JOBS_PER_SHIP, Worker, names_of
from tests.bench.fleet_operator import operator_with
from tests.bench.fleet_told import Story
from tests.bench.fleet_turn import Fleet, notes_of
from tests.bench.fleet_world import OPERATIONS, world_of
from tests.bench.installed import free_ports, installation

LATENCY = 0.5
"""Seconds of each operation of a ship."""
MANY_TASKS = 256
"""Room for a task of every ship; the default, TASKS_AT_ONCE, has less."""
ROUNDS = 3
"""Turns of the first contest; the others have one."""


async def fleet(*, quick: bool) -> list[Figure]:
    """Everything, in turns within one installation. What was measured before a failure is shown."""
    figures: list[Figure] = []
    try:
        await _turns(figures, quick=quick)
    except BaseException:
        show(figures)
        raise
    return figures


async def _turns(figures: list[Figure], *, quick: bool) -> None:
    ships = 20 if quick else 200
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
                    what: str, worker: Worker, *, as_batch: bool = False, alone: bool = False, rounds: int = 1
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

                await contest("fast worker", world.fast, rounds=1 if quick else ROUNDS)
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
                async with operator_with(home, MANY_TASKS):
                    await contest(f"fast worker, {MANY_TASKS} tasks at once", world.fast, alone=True)


def _maybe(values: Sequence[float]) -> Sample | None:
    return sample(values, "s") if values else None
