"""Strategies: from an edit of a file to its object, to all who use it, to the fallback and back."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from tests.bench import library_scale, peers
from tests.bench.api import LIBRARIES, Api, Object, Test, Watch, gone, many, run, running
from tests.bench.breakdown import stopwatch
from tests.bench.figures import Figure, sample, say
from tests.bench.installed import free_ports, installation
from tests.bench.library_files import Files, hash_of, library, object_of, offers
from tests.bench.library_rivals import DEBOUNCE, flock, healthy, sights
from tests.bench.library_rolls import Roll, roll, told
from tests.bench.starts import AT_ONCE, remove

from mainstay.cli.home import data

SEEN_TARGET = 1000 * DEBOUNCE + 50
ROLL_TARGET = DEBOUNCE + 0.6
BARE_FACTOR = 1.5
PM2_SECONDS = 2.5
"""`pm2 restart all` of 34, as DESIGN.md has it; measured on another day."""
PARTS = ("seen", "bots", "roll", "steps", "checkout", "thousand")
STRATEGY, FALLBACK = "AlphaStrategy", "FallbackStrategy"


async def seen(files: Files, strategies: Watch, rounds: int, *, cold: bool) -> list[Figure]:
    """From a file to its object's status, and what watchfiles alone needs for as much."""
    figures = []
    ways: list[tuple[str, Callable[[str, bytes], float]]] = [
        ("renamed into place", files.rename),
        ("written in place", files.in_place),
    ]
    async with sights(files.directory) as (first, quiet, own):
        for words, write in ways:
            say(f"a file is {words}, {rounds} times")
            ours, least, alone, late = [], [], [], []
            for _ in range(rounds):
                took, at = await _one_edit(files, strategies, write)
                ours.append(1000 * took)
                alone.append(1000 * await first.after(at))
                least.append(1000 * await quiet.after(at))
                late.append(1000 * await own.after(at))
                await asyncio.sleep(1.1)
            figures.append(
                Figure(
                    "seen",
                    f"file {words} → its Strategy has the hash",
                    sample(ours, "ms"),
                    limit=sample(least, "ms"),
                    peer=sample(late, "ms"),
                    target=SEEN_TARGET,
                    notes={
                        "limit: awatch as quick as it can, then the debounce; of it awatch": str(
                            sample(alone, "ms")
                        ),
                        "peer": f"awatch with a debounce and step of {1000 * DEBOUNCE:.0f} ms",
                    },
                )
            )
    if cold:
        say("an edit after 32 quiet seconds")
        await asyncio.sleep(32)
        took, _ = await _one_edit(files, strategies, files.rename)
        words = "the same, renamed after 32 quiet s: the checker has to be started"
        figures.append(Figure("seen-cold", words, sample([1000 * took], "ms"), target=SEEN_TARGET))
    return figures


async def _one_edit(
    files: Files, strategies: Watch, write: Callable[[str, bytes], float]
) -> tuple[float, float]:
    text, key = files.text(STRATEGY), object_of(STRATEGY)
    waiting = asyncio.create_task(strategies.until([key], offers(hash_of(text))))
    await asyncio.sleep(0)
    at = write(STRATEGY, text)
    return (await waiting)[key] - at, at


class Users:
    """Runs that use the strategy, and what is done to it under them."""

    def __init__(self, home: Path, files: Files, runs: Watch, strategies: Watch, names: list[str]) -> None:
        self._home = home
        self._files = files
        self._runs = runs
        self._strategies = strategies
        self._names = names

    async def edited(self) -> Roll:
        text = self._files.text(STRATEGY)
        return await self._roll(lambda: self._files.rename(STRATEGY, text), offers(hash_of(text)), text)

    async def deleted(self) -> Roll:
        def fallback(use: Object) -> bool:
            return use.get("name") == FALLBACK and use.get("fallback") is True

        return await roll(
            *(self._home, self._runs, self._strategies, self._names),
            lambda: self._files.delete(STRATEGY),
            strategy=object_of(STRATEGY),
            told_of=gone,
            wanted=fallback,
        )

    async def _roll(self, edit: Callable[[], float], told_of: Test, text: bytes) -> Roll:
        return await roll(
            *(self._home, self._runs, self._strategies, self._names),
            edit,
            strategy=object_of(STRATEGY),
            told_of=told_of,
            wanted=lambda use: use.get("name") == STRATEGY and use.get("hash") == hash_of(text),
        )


WEBS = [f"web-{number:02}" for number in range(AT_ONCE)]


async def webs(api: Api, runs: Watch) -> None:
    """34 tiny servers that use the strategy."""
    say(f"{AT_ONCE} runs of {peers.server_name()} that use it")
    command = peers.server("$(CONTROL_API_PORT)")
    await many(lambda name: api.create(run(name, command, port=True, strategy=STRATEGY)), WEBS)
    await runs.until(WEBS, running)
    await asyncio.sleep(2)


async def servers(home: Path, files: Files, runs: Watch, strategies: Watch, quick: bool) -> list[Figure]:
    """An edit, beside kill and spawn by hand and `supervisorctl restart all`; then the fallback."""
    users = Users(home, files, runs, strategies, WEBS)
    first = free_ports(2 * AT_ONCE)
    ports, others = range(first, first + AT_ONCE), range(first + AT_ONCE, first + 2 * AT_ONCE)
    ours, least, theirs = [], [], []
    rounds = 2 if quick else 7
    with peers.supervisord() as supervisord, flock(peers.server, ports) as bare:
        supervisord.hold(others)
        for number in range(rounds + 1):  # the first warms up
            say("an edit; kill and spawn; supervisorctl restart all")
            one = await users.edited()
            other = await asyncio.to_thread(supervisord.restart_all, others)
            best = await asyncio.to_thread(bare.restart)
            if number:
                ours.append(one)
                theirs.append(other)
                least.append(best)
    figures = [
        Figure(
            "roll",
            f"edit → all {AT_ONCE} Ready on the new code ({peers.server_name()})",
            sample((one.took for one in ours), "s"),
            limit=sample(least, "s"),
            peer=sample(theirs, "s"),
            target=ROLL_TARGET,
            notes={
                "limit, peer": "kill and spawn by hand; supervisorctl restart all: neither has the debounce "
                f"of {DEBOUNCE} s to wait for, nor anything to notice",
                "without the debounce": str(sample((one.took - DEBOUNCE for one in ours), "s")),
                "PM2 restart all, measured on another day": f"{PM2_SECONDS} s",
                **told(ours),
            },
        )
    ]
    return figures + await fallback(users, 1 if quick else 4)


async def fallback(users: Users, rounds: int) -> list[Figure]:
    away, back = [], []
    for _ in range(rounds):
        say("the strategy is deleted, and comes back")
        away.append(await users.deleted())
        back.append(await users.edited())
    return [
        Figure(
            f"fallback-{word}",
            f"{words} → all {AT_ONCE} Ready on {what}",
            sample((one.took for one in rolls), "s"),
            target=ROLL_TARGET,
            notes=told(rolls),
        )
        for word, words, what, rolls in (
            ("away", "strategy deleted", "the default", away),
            ("back", "it is back", "it again", back),
        )
    ]


async def bots(
    home: Path, api: Api, files: Files, runs: Watch, strategies: Watch, quick: bool
) -> list[Figure]:
    """34 of the sample bot, which takes real time to start; beside it the same by hand."""
    names = [f"bot-{number:02}" for number in range(AT_ONCE)]
    program = [sys.executable, str(data("samples") / "bot" / "bot.py"), "--interval=60"]
    say(f"{AT_ONCE} sample bots")
    await many(
        lambda name: api.create(
            run(name, program, port=True, strategy=STRATEGY, readiness={"http": {"path": "/health"}})
        ),
        names,
    )
    await runs.until(names, running, timeout=120)
    await asyncio.sleep(3)
    users = Users(home, files, runs, strategies, names)
    first = free_ports(AT_ONCE)
    ours, least = [], []

    def command(port: int) -> list[str]:
        directory = home / "bare" / str(port)
        directory.mkdir(parents=True, exist_ok=True)
        return [
            *program,
            f"--control-api-port={port}",
            f"--strategy={files.directory / (STRATEGY + '.py')}",
            f"--data-dir={directory}",
        ]

    def env(_port: int) -> dict[str, str]:
        return {"PATH": os.environ["PATH"]}

    with flock(command, range(first, first + AT_ONCE), env, healthy) as bare:
        for number in range((1 if quick else 4) + 1):  # the first warms up
            say("an edit; kill and spawn")
            one = await users.edited()
            best = await asyncio.to_thread(bare.restart)
            if number:
                ours.append(one)
                least.append(best)
    ratio = statistics.median(one.took - DEBOUNCE for one in ours) / statistics.median(least)
    await remove(api, runs, names)
    return [
        Figure(
            "roll-bots",
            f"edit → all {AT_ONCE} Ready on the new code (sample bot)",
            sample((one.took for one in ours), "s"),
            limit=sample(least, "s"),
            target=DEBOUNCE + BARE_FACTOR * statistics.median(least),
            notes={
                "without the debounce, to kill and spawn by hand": f"{ratio:.2f} × (target {BARE_FACTOR} ×)",
                **told(ours),
            },
        )
    ]


async def traced(home: Path, files: Files, quick: bool) -> list[Figure]:
    """The same edit with a stopwatch in the operator: what happens inside of it, and when."""
    say("the operator with a stopwatch")
    trace = home / "library-trace"
    spans: list[tuple[float, float]] = []
    async with stopwatch(home, trace), AsyncExitStack() as stack:
        api = await stack.enter_async_context(await Api.connect(home / "kubeconfig"))
        runs = await stack.enter_async_context(Watch(api))
        strategies = await stack.enter_async_context(Watch(api, "strategies"))
        await asyncio.sleep(3)
        users = Users(home, files, runs, strategies, WEBS)
        for number in range(2 if quick else 4):
            began = time.perf_counter()
            one = await users.edited()
            if number:
                spans.append((began, began + one.took + 0.05))
    steps = [json.loads(line) for line in trace.read_text().splitlines()]
    return [
        Figure(
            "roll-steps",
            f"edit → all {AT_ONCE} Ready, with a stopwatch: each kind of step",
            sample((end - began for began, end in spans), "s"),
            notes=kinds(steps, spans),
        )
    ]


def kinds(steps: list[Object], spans: list[tuple[float, float]]) -> dict[str, str]:
    """Of each kind of step in the last span: how many, when, and how long they took."""
    began, end = spans[-1]
    found: dict[str, list[tuple[float, float]]] = {}
    for one in steps:
        if began <= one["at"] <= end:
            words = " ".join(word for word in one["step"].split() if not word.isdigit())
            found.setdefault(words, []).append((1000 * (one["at"] - began), 1000 * one["seconds"]))
    lines = {}
    for words, values in sorted(found.items(), key=lambda item: min(item[1])):
        lengths = [length for _, length in values]
        lines[words] = (
            f"{len(values)} ×, from {min(at for at, _ in values):.0f} to {max(at + x for at, x in values):.0f} ms, "
            f"median {statistics.median(lengths):.1f}, longest {max(lengths):.1f} ms"
        )
    return lines


async def measure(*, quick: bool, part: str = "") -> list[Figure]:
    """All of it, or one of PARTS."""
    figures: list[Figure] = []
    Path("/var/empty").mkdir(exist_ok=True)
    if part not in ("checkout", "thousand"):
        async with installation(ports=128) as home, AsyncExitStack() as stack:
            files = Files(home / "bench-strategies")
            for name in (STRATEGY, FALLBACK):
                files.rename(name, files.text(name))
            api = await stack.enter_async_context(await Api.connect(home / "kubeconfig"))
            runs = await stack.enter_async_context(Watch(api))
            strategies = await stack.enter_async_context(Watch(api, "strategies"))
            await api.create(library(files.directory, FALLBACK), LIBRARIES)
            await strategies.until(map(object_of, (STRATEGY, FALLBACK)), offers(None))
            await asyncio.sleep(2)
            if part in ("", "seen"):
                figures += await seen(files, strategies, 4 if quick else 12, cold=not quick)
            if part in ("", "bots"):
                figures += await bots(home, api, files, runs, strategies, quick)
            if part in ("", "roll", "steps"):
                await webs(api, runs)
            if part in ("", "roll"):
                figures += await servers(home, files, runs, strategies, quick)
            if part in ("", "steps"):
                figures += await traced(home, files, quick)
    if part in ("", "checkout", "thousand"):
        figures += await library_scale.scale(quick=quick, part=part)
    return figures
