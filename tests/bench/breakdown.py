"""Where the time goes between apply and Ready: the real operator with a stopwatch in it."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.bench import peers
from tests.bench.api import Api, Watch, run, running
from tests.bench.figures import Figure, sample, say
from tests.bench.installed import installation
from tests.bench.starts import remove

from mainstay.cli import system as parts
from mainstay.cli.home import Home


@asynccontextmanager
async def stopwatch(home: Path, told: Path) -> AsyncIterator[None]:
    """Put the operator with a stopwatch in the place of the installation's own."""
    system = parts.runtime(Home(home))
    try:
        await parts.end(system, parts.OPERATOR)
    finally:
        await system.close()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.traced", str(told), "operator", "--home", str(home)),
        *("--kubeconfig", str(home / "operator.kubeconfig"), "--embedded"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(60):
            while not (home / "operator.ready").exists():
                await asyncio.sleep(0.05)
        yield
    finally:
        process.terminate()
        await process.wait()


async def breakdown(*, quick: bool) -> list[Figure]:
    """Median begin and length, in ms after the POST was sent, of each step of a start."""
    rounds = 5 if quick else 20
    spans: list[tuple[float, float]] = []
    answered: list[float] = []
    async with installation() as home:
        told = home / "trace"
        say("the operator with a stopwatch")
        async with stopwatch(home, told), await Api.connect(home / "kubeconfig") as api, Watch(api) as watch:
            for number in range(rounds + 1):
                obj = run("web", peers.server("$(CONTROL_API_PORT)"), port=True)
                began = time.perf_counter()
                await api.create(obj)
                answer = time.perf_counter()
                end = max((await watch.until(["web"], running)).values())
                if number:
                    spans.append((began, end))
                    answered.append(answer - began)
                await asyncio.sleep(0.3)
                await remove(api, watch, ["web"])
        steps = [json.loads(line) for line in told.read_text().splitlines()]
    notes = {"api server answered the POST": f"{1000 * statistics.median(answered):.1f} ms"}
    return [
        Figure(
            "breakdown",
            "apply → Ready with a stopwatch: each step's begin + length",
            sample((1000 * (end - began) for began, end in spans), "ms"),
            notes=notes | summary(steps, spans),
        )
    ]


def summary(steps: list[dict[str, Any]], spans: list[tuple[float, float]]) -> dict[str, str]:
    """The n-th occurrence of each step, over all rounds in which it happened."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for began, end in spans:
        count: dict[str, int] = defaultdict(int)
        inside = (one for one in steps if began <= one["at"] <= end)
        for one in sorted(inside, key=lambda one: one["at"]):
            words = " ".join(word for word in one["step"].split() if not word.isdigit())
            count[words] += 1
            found[words, count[words]].append((1000 * (one["at"] - began), 1000 * one["seconds"]))
    lines = []
    for (words, number), values in found.items():
        if len(values) * 2 < len(spans):
            continue
        at, length = (statistics.median(column) for column in zip(*values, strict=True))
        lines.append((at, f"{words} {number}", f"at {at:6.1f} + {length:.1f} ms ({len(values)}×)"))
    return {words: text for _, words, text in sorted(lines)}
