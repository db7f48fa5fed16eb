"""From apply to Completed: a job of 12 tasks in 4 phases, 50 of them at once, and what a thousand cost."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from pathlib import Path

import psutil
from supervisor.xmlrpc import SupervisorTransport
from tests.bench import peers
from tests.bench.api import JOBS, Api, Object, Watch, gone, many
from tests.bench.figures import Figure, sample, say
from tests.bench.installed import cpu, installation, operator_of

PHASES, TASKS = 4, 3
AT_ONCE = 50
TRUE = ["/bin/true"]


def job(name: str) -> Object:
    """12 tasks in 4 phases."""
    phases = [
        {
            "name": f"p{p}",
            "tasks": [{"name": f"t{p}x{t}", "program": {"command": TRUE}} for t in range(TASKS)],
        }
        for p in range(PHASES)
    ]
    return {
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "PhasedJob",
        "metadata": {"name": name},
        "spec": {"steps": [{"name": "only", "phases": phases}]},
    }


def completed(obj: Object | None) -> bool:
    return obj is not None and (obj.get("status") or {}).get("phase") == "Completed"


async def apply(api: Api, watch: Watch, names: list[str]) -> float:
    """Seconds from the first POST to the last Completed."""
    began = time.perf_counter()
    waiting = asyncio.create_task(watch.until(names, completed, timeout=300))
    await many(lambda name: api.create(job(name), JOBS), names)
    return max((await waiting).values()) - began


async def remove(api: Api, watch: Watch, names: list[str]) -> None:
    await many(lambda name: api.delete(name, JOBS), names)
    await watch.until(names, gone, timeout=300)


def bare(count: int) -> float:
    """Seconds to run so many /bin/true, phase after phase, as many at once as one job or fifty have."""
    began = time.perf_counter()
    for _ in range(PHASES):
        children = [subprocess.Popen(TRUE) for _ in range(count * TASKS)]
        for child in children:
            child.wait()
    return time.perf_counter() - began


SLOTS = """\
[program:slot]
command=/bin/true
process_name=%%(process_num)d
numprocs=64
autostart=false
autorestart=false
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE
"""


class Slots:
    """supervisord with 64 constant programs, driven by multicall: its own fastest way to run tasks."""

    def __init__(self, directory: Path) -> None:
        (directory / "conf.d").mkdir()
        text = peers.CONF.format(directory=directory) + SLOTS.replace("%%", "%")
        (directory / "conf").write_text(text)
        command = ["supervisord", "-c", str(directory / "conf")]
        self.process = subprocess.Popen(
            [os.path.join(os.path.dirname(sys.executable), command[0]), *command[1:]],
            stdout=subprocess.DEVNULL,
        )
        socket = directory / "s"
        while not socket.exists():
            time.sleep(0.02)
        transport = SupervisorTransport(None, None, f"unix://{socket}")
        self._proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)

    def run(self, jobs: int) -> float:
        """Seconds to run so many jobs' tasks, 64 at a time."""
        began = time.perf_counter()
        left = jobs * TASKS * PHASES
        while left:
            slots = [f"slot:{number}" for number in range(min(64, left))]
            calls = [{"methodName": "supervisor.startProcess", "params": [s, False]} for s in slots]
            self._proxy.system.multicall(calls)
            left -= len(slots)
            while any(p["state"] in (10, 20) for p in self._proxy.supervisor.getAllProcessInfo()):
                time.sleep(0.001)
        return time.perf_counter() - began


async def contest(home: Path, count: int, rounds: int) -> tuple[list[float], list[float], list[float], float]:
    """Seconds of ours, bare and slots in turn; CPU seconds of our operator per job."""
    names = [f"job-{number}" for number in range(count)]
    ours, least, slots = [], [], []
    spent = 0.0
    with tempfile.TemporaryDirectory(prefix="mainstay-bench-") as directory:
        supervisord = Slots(Path(directory))
        try:
            async with (
                await Api.connect(home / "kubeconfig") as api,
                Watch(api, "phasedjobs") as watch,
            ):
                for number in range(rounds + 1):  # the first warms up
                    before = cpu(operator_of(home))
                    took = await apply(api, watch, names)
                    used = cpu(operator_of(home)) - before
                    await remove(api, watch, names)
                    await asyncio.sleep(0.5)
                    other = await asyncio.to_thread(supervisord.run, count)
                    best = await asyncio.to_thread(bare, count)
                    if number:
                        ours.append(took)
                        slots.append(other)
                        least.append(best)
                        spent += used
        finally:
            supervisord.process.terminate()
            supervisord.process.wait(20)
    return ours, least, slots, spent / rounds / count


async def jobs(*, quick: bool, one: bool = True, many: bool = True) -> list[Figure]:
    figures = []
    async with installation() as home:
        if one:
            say("one job of 12 tasks in 4 phases: ours, bare spawn and supervisord's slots in turn")
            ours, least, slots, spent = await contest(home, 1, 5 if quick else 25)
            figures.append(
                Figure(
                    "job",
                    "apply → Completed, a job of 12 tasks (/bin/true) in 4 phases",
                    sample(ours, "s"),
                    limit=sample(least, "s"),
                    peer=sample(slots, "s"),
                    target=0.18,
                    notes={"operator's CPU per job": f"{1000 * spent:.0f} ms"},
                )
            )
        if many:
            say(f"{AT_ONCE} such jobs at once: ours, bare spawn and supervisord's slots in turn")
            ours, least, slots, spent = await contest(home, AT_ONCE, 1 if quick else 5)
            tasks = AT_ONCE * TASKS * PHASES
            figures.append(
                Figure(
                    "jobs",
                    f"{AT_ONCE} such jobs at once, {tasks} tasks",
                    sample(ours, "s"),
                    limit=sample(least, "s"),
                    peer=sample(slots, "s"),
                    target=tasks / 150,
                    notes={
                        "tasks a second": f"{tasks / statistics.median(ours):.0f} (goal 150)",
                        "operator's CPU per task": f"{1000 * spent / TASKS / PHASES:.1f} ms",
                    },
                )
            )
    return figures


async def crowd(*, quick: bool) -> list[Figure]:
    """Many jobs in one namespace: what they cost in memory and status, and how long `kubectl get` takes."""
    count = 200 if quick else 1000
    async with installation() as home:
        say(f"{count} jobs in one namespace")
        operator = operator_of(home)
        before = operator.memory_info().rss
        names = [f"job-{number}" for number in range(count)]
        async with await Api.connect(home / "kubeconfig") as api, Watch(api, "phasedjobs") as watch:
            took = await apply(api, watch, names)
            largest = max(len(str(watch.objects[name]["status"])) for name in names)
            after = psutil.Process(operator.pid).memory_info().rss
            listed = []
            for _ in range(3):
                began = time.perf_counter()
                await asyncio.to_thread(_get, home)
                listed.append(time.perf_counter() - began)
            await remove(api, watch, names)
        return [
            Figure(
                "crowd",
                f"kubectl get of {count} completed jobs",
                sample(listed, "s"),
                notes={
                    "all completed after": f"{took:.1f} s",
                    "operator's memory per job": f"{(after - before) / count / 1024:.0f} KiB",
                    "largest status": f"{largest / 1024:.1f} KiB",
                },
            )
        ]


def _get(home: Path) -> None:
    kubectl = next(iter(sorted(Path.home().glob(".cache/mainstay/controlplane/*/kubectl"))))
    subprocess.run(
        [kubectl, "--kubeconfig", home / "kubeconfig", "get", "pjob"], check=True, stdout=subprocess.DEVNULL
    )
