"""From apply to Ready: one run, 34 at once; and what the fence costs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench import peers
from tests.bench.api import Api, Watch, gone, run, running
from tests.bench.figures import Figure, sample, say
from tests.bench.installed import cpu, free_ports, installation, operator_of

from mainstay.core.unit import UnitSpec
from mainstay.runtime.process import declare, proc
from mainstay.runtime.process.scope import Scope
from mainstay.runtime.process.unitdir import ScopeDir

AT_ONCE = 34


async def apply(api: Api, watch: Watch, names: list[str]) -> float:
    """Seconds from the first POST to the last Ready."""
    objects = [run(name, peers.server("$(CONTROL_API_PORT)"), port=True) for name in names]
    began = time.perf_counter()
    waiting = asyncio.create_task(watch.until(names, running))
    await asyncio.gather(*map(api.create, objects))
    return max((await waiting).values()) - began


async def remove(api: Api, watch: Watch, names: list[str]) -> None:
    await asyncio.gather(*(api.delete(name) for name in names))
    await watch.until(names, gone)
    await asyncio.sleep(0.2)


async def contest(home: Path, count: int, rounds: int) -> tuple[list[float], list[float], list[float], float]:
    """Seconds of ours, bare and supervisord in turn; CPU seconds of our operator per life."""
    names = [f"web-{number}" for number in range(count)]
    first = free_ports(count)
    ports = list(range(first, first + count))
    ours, bare, theirs = [], [], []
    operator = operator_of(home)
    spent = 0.0
    with peers.supervisord() as supervisord:
        async with await Api.connect(home / "kubeconfig") as api, Watch(api) as watch:
            for number in range(rounds + 1):  # the first warms up
                before = cpu(operator)
                took = await apply(api, watch, names)
                for obj in [watch.objects[name] for name in names]:
                    peers.connected(obj["status"]["port"])
                await remove(api, watch, names)
                used = cpu(operator) - before
                other = await asyncio.to_thread(supervisord.start, ports)
                least = await asyncio.to_thread(peers.bare, ports)
                if number:
                    ours.append(took)
                    theirs.append(other)
                    bare.append(least)
                    spent += used
    return ours, bare, theirs, spent / rounds / count


async def starts(*, quick: bool, one: bool = True, many: bool = True) -> list[Figure]:
    figures = []
    Path("/var/empty").mkdir(exist_ok=True)
    async with installation() as home:
        if one:
            say(f"one run of {peers.server_name()}: ours, bare spawn and supervisord in turn")
            ours, bare, theirs, spent = await contest(home, 1, 5 if quick else 25)
            figures.append(
                Figure(
                    "one",
                    f"apply → Ready, one run ({peers.server_name()})",
                    sample((1000 * x for x in ours), "ms"),
                    limit=sample((1000 * x for x in bare), "ms"),
                    peer=sample((1000 * x for x in theirs), "ms"),
                    target=45,
                    notes={"operator's CPU, apply and delete": f"{1000 * spent:.1f} ms"},
                )
            )
        if many:
            say(f"{AT_ONCE} at once: ours, bare spawn and supervisord in turn")
            ours, bare, theirs, spent = await contest(home, AT_ONCE, 2 if quick else 7)
            figures.append(
                Figure(
                    "many",
                    f"{AT_ONCE} runs at once",
                    sample(ours, "s"),
                    limit=sample(bare, "s"),
                    peer=sample(theirs, "s"),
                    target=0.55,
                    notes={"operator's CPU per run, apply and delete": f"{1000 * spent:.1f} ms"},
                )
            )
    return figures


async def fence(*, quick: bool) -> list[Figure]:
    """A program that exits at once, behind `sh -c exec` and behind the fence."""
    say("the fence")
    ours, least = [], []
    with tempfile.TemporaryDirectory(prefix="mainstay-bench-") as directory:
        scope = Scope(ScopeDir(Path(directory), "runs"), "bench")
        scope.write_files()
        unit = scope.dir.unit("default.fence")
        for number in range(20 if quick else 100):
            spec = UnitSpec("default.fence", "uid", number + 1, ("/bin/true",))
            declare.write_spec(scope, unit, spec, extra={}, clean=proc.boottime())
            ours.append(_timed(["/bin/sh", f"{unit.path}/run"]))
            least.append(_timed(["/bin/sh", "-c", "exec /bin/true"]))
    difference = [a - b for a, b in zip(ours, least, strict=True)]
    return [
        Figure(
            "fence",
            "/bin/true through the fence",
            sample((1000 * x for x in ours), "ms"),
            limit=sample((1000 * x for x in least), "ms"),
            notes={"added by the fence": str(sample((1000 * x for x in difference), "ms"))},
        )
    ]


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, env={"PATH": os.defpath})
    return time.perf_counter() - began
