"""A whole installation: its memory with one bot, and what it does when there is nothing to do."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psutil
import yaml
from tests.bench import peers
from tests.bench.api import KINDS, LIBRARIES, RUNS, Api, Watch, many, run, running
from tests.bench.figures import Figure, sample, say
from tests.bench.installed import cpu, installation, operator_of

from mainstay.cli.home import data

BOT = "ema-rsi"


def parts(home: Path) -> dict[int, str]:
    """Pid → which part of the installation it is."""
    found = {}
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        line = " ".join(words)
        if process.pid == os.getpid() or str(home) not in line + (process.info["cwd"] or ""):
            continue
        names = ("kube-apiserver", "etcd", "supervisord", "operator")
        name = next((n for n in names if n in words[0] or n in words), "bot")
        if "supervisor.supervisord" in words:
            name = f"supervisord of {Path(process.info['cwd']).name}"
        found[process.pid] = name
    return found


def pss(pid: int) -> float:
    """Proportional set size in MB: shared pages are counted once over all who share them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


async def idle(home: Path, api: Api, seconds: float) -> list[Figure]:
    """Writes to objects of ours, and the CPU of each part, while nothing is asked for."""
    watches = [Watch(api, kind) for kind in KINDS]
    for watch in watches:
        await watch.__aenter__()
    try:
        operator = operator_of(home)
        everyone = {pid: (name, psutil.Process(pid)) for pid, name in parts(home).items()}
        before = {pid: cpu(process) for pid, (_, process) in everyone.items()}
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        took = time.perf_counter() - began
        writes = sum(watch.events for watch in watches)
        shares: dict[str, float] = {}
        for pid, (name, process) in everyone.items():
            shares[name] = shares.get(name, 0.0) + 100 * (cpu(process) - before[pid]) / took
    finally:
        for watch in watches:
            await watch.__aexit__()
    own = 100 * (cpu(operator) - before[operator.pid]) / took
    others = {name: f"{share:.2f} %" for name, share in sorted(shares.items()) if name != "operator"}
    return [
        Figure("idle", f"writes to our objects, idle for {seconds:.0f} s", sample([writes], ""), target=0),
        Figure("idle", "operator's CPU, idle", sample([own], "%"), target=1, notes=others),
    ]


async def whole(*, quick: bool) -> list[Figure]:
    async with installation() as home, await Api.connect(home / "kubeconfig") as api:
        say("the sample bot")
        sample_objects = list(yaml.safe_load_all((data("samples") / "quickstart.yaml").read_text()))
        async with Watch(api) as watch:
            for obj in sample_objects:
                await api.create(obj, LIBRARIES if obj["kind"] == "StrategyLibrary" else RUNS)
            await watch.until([BOT], running)
            await asyncio.sleep(5 if quick else 20)
            sizes: dict[str, float] = {}
            for pid, name in parts(home).items():
                sizes[name] = sizes.get(name, 0.0) + pss(pid)
            figures = [
                Figure(
                    "whole",
                    "memory of `mainstay up` with one bot (PSS)",
                    sample([sum(sizes.values())], "MB"),
                    target=450,
                    notes={name: f"{size:.0f} MB" for name, size in sorted(sizes.items())},
                )
            ]
            say("33 servers beside the bot, then nothing")
            names = [f"web-{number}" for number in range(33)]

            async def create(name: str) -> None:
                await api.create(run(name, peers.server("$(CONTROL_API_PORT)"), port=True))

            await many(create, names)
            await watch.until(names, running)
            await asyncio.sleep(5)
        return figures + await idle(home, api, 30 if quick else 120)
