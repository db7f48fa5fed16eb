"""What the operator costs at a thousand objects and more: a real API server, real kopf, a Runtime in memory."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil
from tests.bench.api import Api, Watch, gone, many, run, running, stopped
from tests.bench.figures import Figure, sample, say
from tests.bench.installed import cpu
from tests.support.plane import RealPlane, start_plane

from mainstay.cli.apply import apply_all, documents, established, served
from mainstay.cli.home import data
from mainstay.shell.kube import POOLS, Kube


class FakeOperator:
    """The operator on a runtime in memory, as a process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.began = time.perf_counter()

    @classmethod
    async def start(cls, plane: RealPlane, *options: str) -> Self:
        log = plane.home / "fake-operator.log"
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "tests.bench.fake_operator",
                    str(plane.operator_kubeconfig),
                    *options,
                ),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                start_new_session=True,
            )
        return cls(process, log)

    async def told(self, event: str, timeout: float = 120) -> float:
        """Seconds after its start when it told of that."""
        await self.line(event, timeout)
        return time.perf_counter() - self.began

    async def line(self, event: str, timeout: float = 120) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(timeout):
            while line := await self._process.stdout.readline():
                words = json.loads(line)
                if words["event"] == event:
                    return words
        raise RuntimeError(f"the operator ended:\n{self._log.read_text()[-3000:]}")

    async def stats(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await self.line("stats")

    @property
    def cpu(self) -> float:
        return cpu(psutil.Process(self._process.pid))

    @property
    def rss(self) -> float:
        """MB."""
        return psutil.Process(self._process.pid).memory_info().rss / 1e6

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        await self._process.wait()


@asynccontextmanager
async def control_plane(ports: int) -> AsyncIterator[RealPlane]:
    """Yield a plane with our CRDs, policies and a pool of so many ports."""
    directory = Path(tempfile.mkdtemp(prefix="mainstay-bench-"))
    try:
        say("etcd and kube-apiserver")
        with start_plane(directory / "home") as plane:
            kube = await Kube.connect(str(plane.kubeconfig))
            try:
                crds = list(documents(data("crds")))
                await apply_all(kube, crds)
                await apply_all(kube, documents(data("policies")))
                await established(kube, crds)
                ranges = [{"first": 30000, "last": 30000 + ports - 1}]
                pool = {"metadata": {"name": "default"}, "spec": {"ranges": ranges}}

                async def make() -> None:
                    await kube.create(POOLS, "PortPool", "", pool)

                await served(make)
            finally:
                await kube.close()
            yield plane
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def operating(plane: RealPlane, *options: str) -> AsyncIterator[FakeOperator]:
    operator = await FakeOperator.start(plane, *options)
    try:
        await operator.told("works")
        yield operator
    finally:
        await operator.kill(signal.SIGTERM)


async def settled(operator: FakeOperator) -> None:
    """Return once it does nothing any more: events and watch echoes are part of the cost."""
    used = operator.cpu
    while True:
        await asyncio.sleep(0.5)
        now = operator.cpu
        if now - used < 0.03:
            return
        used = now


async def step(
    operator: FakeOperator, watch: Watch, names: list[str], work: Any, test: Any
) -> tuple[float, float]:
    """CPU seconds and wall seconds of one thing done to all of them."""
    before, began = operator.cpu, time.perf_counter()
    waiting = asyncio.create_task(watch.until(names, test, timeout=120 + len(names) / 20))
    await many(work, names)
    took = max((await waiting).values()) - began
    await settled(operator)
    return operator.cpu - before, took


async def lives(
    api: Api, operator: FakeOperator, names: list[str], *, port: bool
) -> dict[str, tuple[float, float]]:
    """Create, stop, resume and delete all: CPU and wall seconds of each."""
    steps = {}
    async with Watch(api) as watch:

        async def create(name: str) -> None:
            await api.create(run(name, ["sleep", "1000"], port=port))

        async def stop(name: str) -> None:
            await api.state(name, "Stopped")

        async def resume(name: str) -> None:
            await api.state(name, "Running")

        async def delete(name: str) -> None:
            await api.delete(name)

        for word, work, test in (
            ("create", create, running),
            ("stop", stop, stopped),
            ("resume", resume, running),
            ("delete", delete, gone),
        ):
            steps[word] = await step(operator, watch, names, work, test)
            if word == "create":
                steps["rss"] = (operator.rss, 0.0)
            say(
                f"  {word}: {1000 * steps[word][0] / len(names):.1f} ms CPU each, {steps[word][1]:.1f} s in all"
            )
    return steps


async def thousand(*, quick: bool, profile: str | None = None) -> list[Figure]:
    """CPU per create and per life, memory, and how long a killed operator needs."""
    count = 200 if quick else 1000
    names = [f"run-{number:04}" for number in range(count)]
    figures = []
    async with control_plane(count + 100) as plane, await Api.connect(plane.kubeconfig) as api:
        for port in (False, True):
            words = "with a port" if port else "without a port"
            say(f"{count} lives {words}")
            options = ["--profile", f"{profile}.{'port' if port else 'plain'}"] if profile else []
            async with operating(plane, *options) as operator:
                empty = operator.rss
                steps = await lives(api, operator, names, port=port)
            cost = {word: 1000 * used / count for word, (used, _) in steps.items() if word != "rss"}
            figures += [
                Figure(
                    "create",
                    f"operator's CPU per create, {words}",
                    sample([cost["create"]], "ms"),
                    target=7,
                    notes={"objects per second": f"{count / steps['create'][1]:.0f}"},
                ),
                Figure(
                    "life",
                    f"operator's CPU per life, {words}",
                    sample([sum(cost.values())], "ms"),
                    target=25,
                    notes={word: f"{used:.1f} ms" for word, used in cost.items()},
                ),
                Figure(
                    "memory",
                    f"operator's RSS at {count} objects, {words}",
                    sample([steps["rss"][0]], "MB"),
                    target=120,
                    notes={"with none": f"{empty:.0f} MB"},
                ),
            ]
        figures += await killed(plane, api, names, rounds=2 if quick else 5)
    return figures


async def killed(plane: RealPlane, api: Api, names: list[str], rounds: int) -> list[Figure]:
    """Kill -9 with all of them Running, start again: until each was looked at, and nothing was written."""
    say(f"operator killed with {len(names)} objects")
    works, looked_at, steady = [], [], []
    touched = writes = 0
    async with Watch(api) as watch:
        operator = await FakeOperator.start(plane)
        try:
            await operator.told("works")

            async def create(name: str) -> None:
                await api.create(run(name, ["sleep", "1000"], port=True))

            await many(create, names)
            await watch.until(names, running, timeout=120 + len(names) / 20)
            await settled(operator)
            for _ in range(rounds):
                await operator.kill()
                before = watch.events
                operator = await FakeOperator.start(plane, "--seed")
                works.append(await operator.told("works"))
                looked_at.append(await operator.told("looked-at"))
                steady.append(await operator.told("steady"))
                await settled(operator)
                writes += watch.events - before
                touched += (await operator.stats())["acts"]
        finally:
            await operator.kill()
    return [
        Figure(
            "killed",
            f"operator killed at {len(names)} objects → steady",
            sample(looked_at, "s"),
            target=3,
            notes={
                "its lists were read after": str(sample(works, "s")),
                "kopf had brought every object after": str(sample(steady, "s")),
                "writes to runs": str(writes),
                "processes touched": str(touched),
            },
        ),
        Figure("touched", "processes touched and writes by it", sample([touched + writes], ""), target=0),
    ]


async def growth(*, quick: bool) -> list[Figure]:
    """CPU per object with many of them, as a ratio to that with few."""
    few, most = (50, 500) if quick else (100, 10_000)
    names = [f"run-{number:05}" for number in range(most)]
    async with (
        control_plane(100) as plane,
        await Api.connect(plane.kubeconfig) as api,
        operating(plane) as operator,
        Watch(api) as watch,
    ):

        async def create(name: str) -> None:
            await api.create(run(name, ["sleep", "1000"], port=False))

        say(f"the first {few} objects")
        first, _ = await step(operator, watch, names[:few], create, running)
        say(f"up to {most - few}")
        middle, took = await step(operator, watch, names[few:-few], create, running)
        say(f"the last {few}")
        last, _ = await step(operator, watch, names[-few:], create, running)
        rss = operator.rss
    average = (first + middle + last) / most
    return [
        Figure(
            "growth",
            f"CPU per create, average of {most:,} to that of the first {few}",
            sample([average / (first / few)], "×"),
            target=1.5,
            notes={
                f"the first {few}": f"{1000 * first / few:.1f} ms each",
                "average": f"{1000 * average:.1f} ms",
                f"the last {few}": f"{1000 * last / few:.1f} ms each",
                "objects per second": f"{(most - 2 * few) / took:.0f}",
                "operator's RSS": f"{rss:.0f} MB",
            },
        )
    ]
