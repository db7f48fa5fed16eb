"""One edit and all who use it: when each was claimed, ended, was started again and was Ready, and what it cost."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import psutil
from prometheus_client.parser import text_string_to_metric_families
from tests.bench.api import Object, Test, Watch, running
from tests.bench.installed import cpu
from tests.bench.whole import parts

TICKS = os.sysconf("SC_CLK_TCK")
WRITES = ("create", "update", "patch", "delete")


def use(obj: Object | None) -> Object:
    """status.strategy of a run."""
    return ((obj or {}).get("status") or {}).get("strategy") or {}


def attempt(obj: Object | None) -> int:
    return ((obj or {}).get("status") or {}).get("attempt") or 0


def counted(home: Path) -> dict[str, float]:
    """What the operator's metrics count: name and values of labels → value; nothing where it serves none."""
    if not (home / "operator.url").exists():
        return {}
    with urlopen((home / "operator.url").read_text().strip() + "/metrics") as answer:
        text = answer.read().decode()
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.type in ("counter", "histogram") and not sample.name.endswith("_bucket")
    }


def grown(before: dict[str, float], after: dict[str, float], begin: str) -> dict[str, float]:
    """By how much each counter grew whose name begins so; the rest of the name → how much."""
    return {
        name.removeprefix(begin).strip(): after[name] - before.get(name, 0)
        for name in after
        if name.startswith(begin) and after[name] > before.get(name, 0)
    }


def requests(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Requests that wrote something, by verb; whatever their answers were."""
    found: dict[str, float] = {}
    for words, count in grown(before, after, "mainstay_api_requests_total").items():
        verb = next((word for word in words.split() if word in WRITES), None)
        if verb:
            found[verb] = found.get(verb, 0) + count
    return found


@dataclass
class Roll:
    """Seconds after the edit of each step; CPU in ms; requests that wrote something."""

    strategy: float
    claims: list[float]
    exits: list[float]
    starts: list[float]
    ready: list[float]
    cpu: dict[str, float] = field(default_factory=dict)
    writes: dict[str, float] = field(default_factory=dict)
    passes: float = 0
    restarted_twice: int = 0
    wrong: int = 0  # processes that were not given the hash their object tells of

    @property
    def took(self) -> float:
        return max(self.ready)


class Exits:
    """When processes end, without being their parent."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.times: list[float] = []
        self._open: list[int] = []
        loop = asyncio.get_running_loop()
        for pid in pids:
            descriptor = os.pidfd_open(pid)
            self._open.append(descriptor)
            loop.add_reader(descriptor, self._ended, descriptor)

    def _ended(self, descriptor: int) -> None:
        self.times.append(time.perf_counter())
        asyncio.get_running_loop().remove_reader(descriptor)

    def close(self) -> None:
        for descriptor in self._open:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)


async def roll(
    home: Path,
    runs: Watch,
    strategies: Watch,
    names: list[str],
    edit: Callable[[], float],
    *,
    strategy: str,
    told_of: Test,
    wanted: Callable[[Object], bool],
) -> Roll:
    """Edit, and wait until every run is Ready with what is `wanted`. `edit` answers when it was done.

    `told_of` becomes true of the object `strategy` by it.
    """
    before = {name: attempt(runs.objects[name]) for name in names}
    exits = Exits(runs.objects[name]["status"]["process"]["pid"] for name in names)
    everyone = {pid: (part, psutil.Process(pid)) for pid, part in parts(home).items() if part != "bot"}
    spent = {pid: cpu(process) for pid, (_, process) in everyone.items()}
    counts = await asyncio.to_thread(counted, home)

    def claimed(obj: Object | None) -> bool:
        return obj is not None and attempt(obj) > before[obj["metadata"]["name"]]

    def done(obj: Object | None) -> bool:
        return obj is not None and claimed(obj) and running(obj) and wanted(use(obj))

    claims = asyncio.create_task(runs.until(names, claimed))
    ready = asyncio.create_task(runs.until(names, done))
    offered = asyncio.create_task(strategies.until([strategy], told_of))
    await asyncio.sleep(0)
    at = edit()
    one = Roll(
        strategy=(await offered)[strategy] - at,
        claims=[when - at for when in (await claims).values()],
        ready=[when - at for when in (await ready).values()],
        exits=[],
        starts=[],
    )
    await asyncio.sleep(1.2)  # events, echoes and counts are part of the cost
    one.exits = [when - at for when in exits.times]
    exits.close()
    for pid, (part, process) in everyone.items():
        one.cpu[part] = one.cpu.get(part, 0) + 1000 * (cpu(process) - spent[pid])
    after = await asyncio.to_thread(counted, home)
    one.writes = requests(counts, after)
    one.passes = sum(grown(counts, after, "mainstay_reconcile_total").values())
    behind = time.clock_gettime(time.CLOCK_BOOTTIME) - time.perf_counter()
    for name in names:
        obj = runs.objects[name]
        process = obj["status"]["process"]
        one.starts.append(process["startTicks"] / TICKS - behind - at)
        one.restarted_twice += attempt(obj) != before[name] + 1
        one.wrong += not given(process["pid"], use(obj)["hash"])
    return one


def given(pid: int, content: str) -> bool:
    """Whether the process was started with the strategy of that hash."""
    return f"STRATEGY_HASH={content}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def told(rolls: list[Roll]) -> dict[str, str]:
    """Where the time went and what it cost: medians over the rolls."""

    def median(value: Callable[[Roll], float]) -> float:
        return statistics.median(map(value, rolls))

    steps = {
        "Strategy written": lambda r: r.strategy,
        "first claim": lambda r: min(r.claims),
        "last claim": lambda r: max(r.claims),
        "first exit": lambda r: min(r.exits),
        "last exit": lambda r: max(r.exits),
        "last start": lambda r: max(r.starts),
        "first Ready": lambda r: min(r.ready),
        "last Ready": lambda r: max(r.ready),
    }
    line = ", ".join(f"{word} {1000 * median(value):.0f}" for word, value in steps.items())
    names = sorted({part for r in rolls for part in r.cpu})
    used = ", ".join(f"{part} {median(lambda r, p=part: r.cpu.get(p, 0)):.0f}" for part in names)
    writes = median(lambda r: sum(r.writes.values()))
    verbs = ", ".join(f"{verb} {count:.0f}" for verb, count in sorted(rolls[-1].writes.items()))
    return {
        "ms after the edit, medians": line,
        "ms of CPU a roll, medians": used,
        "requests that write, a roll": f"{writes:.0f} (the last: {verbs}); passes {median(lambda r: r.passes):.0f}",
        "restarted twice, or with other code than told": str(sum(r.restarted_twice + r.wrong for r in rolls)),
    }
