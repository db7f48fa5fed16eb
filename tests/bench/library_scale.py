"""Many strategies: 500 files changed at once; a thousand of them with a thousand users, and nothing to do.

A real API server, real kopf, real files; the runtime alone is in memory.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.api import KINDS, LIBRARIES, RUNS, Api, Object, Watch, many, run, running
from tests.bench.figures import Figure, sample, say
from tests.bench.library_files import STRATEGY_CODE, hash_of, library, numbered, object_of, offers
from tests.bench.library_rolls import grown, requests, use
from tests.bench.scale import FakeOperator, control_plane, operating, settled

from mainstay.runtime.strategies.snapshots import Snapshots

CHANGED = 500
SHARED = 34
"""Users of the strategy that is edited among a thousand."""
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


class Told(Watch):
    """A watch that remembers how often each object was told of, and with which hashes."""

    def __init__(self, api: Api, plural: str) -> None:
        super().__init__(api, plural)
        self.times: Counter[str] = Counter()
        self.hashes: dict[str, list[str]] = {}

    def _take(self, deleted: bool, obj: Object) -> None:
        super()._take(deleted, obj)
        name = obj["metadata"]["name"]
        self.times[name] += 1
        content = (obj.get("status") or {}).get("hash")
        if content:
            before = self.hashes.setdefault(name, [])
            if not before or before[-1] != content:
                before.append(content)

    def forget(self) -> None:
        self.times.clear()
        self.hashes.clear()


@contextmanager
def directories() -> Iterator[tuple[Path, Path]]:
    """A home for snapshots, and a directory of strategies."""
    home = Path(tempfile.mkdtemp(prefix="mainstay-bench-"))
    files = home / "files"
    files.mkdir()
    try:
        yield home, files
    finally:
        shutil.rmtree(home, ignore_errors=True)


def checkout(files: Path, texts: dict[str, bytes]) -> float:
    """Every file is renamed into place, as git does; when the last one was."""
    for name, text in texts.items():
        fresh = files / f".{name}.fresh"
        fresh.write_bytes(text)
        fresh.replace(files / f"{name}.py")
    return time.perf_counter()


def texts(names: Iterable[str], edit: int) -> dict[str, bytes]:
    return {name: STRATEGY_CODE.format(name=name, edit=edit).encode() for name in names}


async def counters(operator: FakeOperator) -> dict[str, float]:
    found: dict[str, float] = (await operator.stats())["counters"]
    return found


def sums(before: dict[str, float], after: dict[str, float]) -> dict[str, str]:
    """Passes by kind and result, and writes by verb."""
    passes = grown(before, after, "mainstay_reconcile_total")
    visits = grown(before, after, "mainstay_reconcile_duration_seconds_sum")
    writes = requests(before, after)
    return {
        "requests that write": ", ".join(f"{verb} {n:.0f}" for verb, n in sorted(writes.items())) or "none",
        "passes": ", ".join(f"{words} {n:.0f}" for words, n in sorted(passes.items())) or "none",
        "seconds in visits, side by side": ", ".join(
            f"{words} {n:.2f}" for words, n in sorted(visits.items())
        ),
    }


async def configmaps(api: Api, count: int) -> float:
    """Seconds for so many small writes and nothing else."""
    names = [f"bare-{number}" for number in range(count)]

    async def create(name: str) -> None:
        await api.create({"metadata": {"name": name}, "data": {"hash": "x" * 71}}, CONFIG_MAPS)

    began = time.perf_counter()
    await many(create, names, workers=64)
    took = time.perf_counter() - began
    await many(lambda name: api.delete(name, CONFIG_MAPS), names)
    return took


def kept(home: Path, contents: Iterable[bytes]) -> float:
    """Seconds to keep these snapshots in another home, one after the other."""
    store = Snapshots(home / "bare")
    (home / "bare").mkdir(exist_ok=True)
    began = time.perf_counter()
    for text in contents:
        store.keep(hash_of(text), "Bare.py", text)
    return time.perf_counter() - began


async def changed(api: Api, plane: Any, *, quick: bool) -> list[Figure]:
    """500 files come, and 500 files change."""
    names = numbered("Many", 100 if quick else CHANGED)
    keys = [object_of(name) for name in names]
    figures = []
    with directories() as (home, files):
        async with operating(plane, "--home", str(home)) as operator, Told(api, "strategies") as watch:
            await api.create(library(files), LIBRARIES)
            await asyncio.sleep(2)
            for edit in range(2 if quick else 4):
                words = "come" if edit == 0 else "change at once"
                say(f"{len(names)} files {words}")
                wanted = texts(names, edit)
                hashes = {object_of(name): hash_of(text) for name, text in wanted.items()}
                watch.forget()
                before, used = await counters(operator), operator.cpu

                def settles(obj: Object | None, hashes: dict[str, str] = hashes) -> bool:
                    return obj is not None and offers(hashes[obj["metadata"]["name"]])(obj)

                waiting = asyncio.create_task(watch.until(keys, settles, timeout=120))
                began = time.perf_counter()
                done = await asyncio.to_thread(checkout, files, wanted)
                took = max((await waiting).values())
                await settled(operator)
                await asyncio.sleep(2)
                spent = operator.cpu - used
                after = await counters(operator)
                limit = await configmaps(api, len(names))
                alone = await asyncio.to_thread(kept, home, wanted.values())
                lost = sum(1 for key in keys if watch.hashes.get(key, [""])[-1] != hashes[key])
                doubled = sum(1 for key in keys if len(watch.hashes.get(key, ())) != 1)
                writes = sum(requests(before, after).values()) / len(names)
                statuses = sum(watch.times[key] for key in keys) / len(names)
                figures.append(
                    Figure(
                        f"checkout-{edit}",
                        f"{len(names)} files {words} → all offered (from the last file, debounce included)",
                        sample([took - done], "s"),
                        limit=sample([limit], "s"),
                        notes={
                            "limit": f"as many bare writes to the API server; to keep as many snapshots {alone:.2f} s",
                            "lost, told with another hash first": f"{lost}, {doubled}",
                            "watch events per object, requests that write per file": f"{statuses:.2f}, {writes:.2f}",
                            "operator's CPU per file": f"{1000 * spent / len(names):.1f} ms",
                            "the files were written in": f"{done - began:.2f} s",
                            **sums(before, after),
                        },
                    )
                )
                figures.append(
                    Figure(
                        "checkout-lost", "  lost and doubled of them", sample([lost + doubled], ""), target=0
                    )
                )
            await api.delete("main", LIBRARIES)
            await asyncio.sleep(3)
    return figures


class Idle:
    """Writes to objects of ours and CPU, while nothing is asked for."""

    def __init__(self, api: Api, operator: FakeOperator, seconds: float) -> None:
        self._api = api
        self._operator = operator
        self._seconds = seconds

    async def measure(self, words: str, target: float | None) -> list[Figure]:
        say(f"idle {words}")
        await settled(self._operator)
        await asyncio.sleep(3)
        watches = [Watch(self._api, kind) for kind in KINDS]
        for watch in watches:
            await watch.__aenter__()
        try:
            counts, used, began = await counters(self._operator), self._operator.cpu, time.perf_counter()
            await asyncio.sleep(self._seconds)
            share = 100 * (self._operator.cpu - used) / (time.perf_counter() - began)
            writes = sum(watch.events for watch in watches)
            after = await counters(self._operator)
        finally:
            for watch in watches:
                await watch.__aexit__()
        return [
            Figure(
                "library-idle",
                f"writes to our objects, idle for {self._seconds:.0f} s {words}",
                sample([writes], ""),
                target=0,
            ),
            Figure(
                "library-idle-cpu",
                f"operator's CPU, idle {words}",
                sample([share], "%"),
                target=target,
                notes={"RSS": f"{self._operator.rss:.0f} MB", **sums(counts, after)},
            ),
        ]


async def thousand(api: Api, plane: Any, *, quick: bool) -> list[Figure]:
    """As many strategies as runs: what an edit of one touches, and what all cost while nothing happens."""
    count = 200 if quick else 1000
    names = [f"run-{number:04}" for number in range(count)]
    strategies = numbered("Big", count)
    shared = strategies[0]
    asks = {name: shared if number < SHARED else strategies[number] for number, name in enumerate(names)}
    figures: list[Figure] = []
    with directories() as (home, files):
        checkout(files, texts(strategies, 0))
        async with (
            operating(plane, "--home", str(home)) as operator,
            Told(api, "strategyruns") as runs,
            Told(api, "strategies") as objects,
        ):
            idle = Idle(
                api, operator, 10 if quick else 70
            )  # a resync comes every minute, a rescan every half

            async def create(name: str) -> None:
                await api.create(run(name, ["sleep", "1000"], port=False))

            async def ask(name: str) -> None:
                body = {"spec": {"strategy": {"name": asks[name]}}}
                await api.request("PATCH", f"{RUNS}/{name}", body, "merge-patch+json")

            def has(obj: Object | None) -> bool:
                return (
                    obj is not None and running(obj) and use(obj).get("name") == asks[obj["metadata"]["name"]]
                )

            say(f"{count} runs without strategies")
            await many(create, names)
            await runs.until(names, running, timeout=120 + count / 20)
            figures += await idle.measure(f"with {count} runs", None)
            say(f"{count} strategies")
            began, used = time.perf_counter(), operator.cpu
            await api.create(library(files), LIBRARIES)
            everything = [object_of(name) for name in strategies]
            come = max(
                (await objects.until(everything, lambda o: bool(o and offers(None)(o)), timeout=180)).values()
            )
            await settled(operator)
            figures.append(
                Figure(
                    "library-made",
                    f"library of {count} files → all offered",
                    sample([come - began], "s"),
                    notes={"operator's CPU per file": f"{1000 * (operator.cpu - used) / count:.1f} ms"},
                )
            )
            say("each run asks for one")
            await many(ask, names)
            await runs.until(names, has, timeout=120 + count / 20)
            figures += await one_edit(
                operator, files, runs, objects, names[:SHARED], shared, 2 if quick else 5
            )
            figures += await idle.measure(f"with {count} runs and strategies", 1)
    return figures


async def one_edit(
    operator: FakeOperator,
    files: Path,
    runs: Told,
    objects: Told,
    users: list[str],
    strategy: str,
    rounds: int,
) -> list[Figure]:
    """One strategy of many is edited: who is touched."""
    took, strangers, writes, cpu = [], [], [], []
    notes: dict[str, str] = {}
    for edit in range(1, rounds + 1):
        say("one of them is edited")
        text = texts([strategy], edit)
        wanted = hash_of(text[strategy])

        def done(obj: Object | None, wanted: str = wanted) -> bool:
            return running(obj) and use(obj).get("hash") == wanted

        await settled(operator)
        before, used = await counters(operator), operator.cpu
        runs.forget()
        objects.forget()
        waiting = asyncio.create_task(runs.until(users, done))
        at = checkout(files, text)
        took.append(max((await waiting).values()) - at)
        await settled(operator)
        await asyncio.sleep(2)
        after = await counters(operator)
        others = {*runs.times} - {*users}, {*objects.times} - {object_of(strategy)}
        strangers.append(float(sum(map(len, others))))
        writes.append(sum(requests(before, after).values()))
        cpu.append(1000 * (operator.cpu - used))
        notes = sums(before, after) | {
            "watch events": f"{sum(objects.times.values())} of strategies, {sum(runs.times.values())} of runs"
        }
    notes["operator's CPU"] = str(sample(cpu, "ms"))
    notes["requests that write"] += f"; all rounds {sample(writes, '')}"
    return [
        Figure(
            "library-edit",
            f"one of many edited → its {len(users)} users Running (in memory)",
            sample(took, "s"),
            notes=notes,
        ),
        Figure("library-strangers", "  objects of others touched by it", sample(strangers, ""), target=0),
    ]


async def scale(*, quick: bool, part: str = "") -> list[Figure]:
    figures = []
    for word, bench in (("checkout", changed), ("thousand", thousand)):
        if part in ("", word):
            async with control_plane(100) as plane, await Api.connect(plane.kubeconfig) as api:
                figures += await bench(api, plane, quick=quick)
    return figures
