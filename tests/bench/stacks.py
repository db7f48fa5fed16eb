"""A stack of eight services: from apply to all up, and a restart of everything from its object to Completed."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from tests.bench.api import GROUP, Api, Object, Watch, gone, ready
from tests.bench.figures import Figure, Sample, sample, say
from tests.bench.installed import cpu, free_ports, installation
from tests.bench.stack_rivals import Bare, ByHand, ports_of, spent, stack
from tests.bench.whole import idle, parts

STACKS = f"{GROUP}/namespaces/default/servicestacks"
RESTARTS = f"{GROUP}/namespaces/default/stackrestarts"
NAME = "backend"
OUTSIDE = range(12000, 20000)
"""Ports of stacks; the pool's are above them."""


@dataclass(slots=True)
class Measured:
    """What the rounds of one kind of restart gave."""

    seconds: list[float] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    used: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # CPU seconds by part


def up(obj: Object | None) -> bool:
    """All services are up, and no restart is under way."""
    return ready(obj) and obj is not None and obj["status"].get("phase") == "Running"


def over(obj: Object | None) -> bool:
    """The restart came to its end."""
    return obj is not None and (obj.get("status") or {}).get("phase") in ("Completed", "Failed")


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _pids(obj: Object) -> dict[str, int]:
    return {one["name"]: one["process"]["pid"] for one in obj["status"]["services"]}


class Ours:
    """The stack under Mainstay."""

    def __init__(self, home: Path, api: Api, stacks: Watch, restarts: Watch, first: int) -> None:
        self._home = home
        self._api = api
        self._stacks = stacks
        self._restarts = restarts
        self._declared = stack(first)
        self._count = 0

    async def first_start(self) -> float:
        """Seconds from the POST to all services up."""
        began = time.perf_counter()
        waiting = asyncio.create_task(self._stacks.until([NAME], up))
        await self._api.create(self._declared, STACKS)
        return (await waiting)[NAME] - began

    async def remove(self) -> None:
        """Delete the stack, and wait for its end."""
        await self._api.delete(NAME, STACKS)
        await self._stacks.until([NAME], gone)

    async def steady(self, seconds: int) -> None:
        """Set how long a service without a probe must live to count as up."""
        body = {"spec": {"timeouts": {"steadySeconds": seconds}}}
        await self._api.request("PATCH", f"{STACKS}/{NAME}", body, "merge-patch+json")
        await self._stacks.until([NAME], up)

    async def restart(self, mode: str, into: Measured | None) -> None:
        """One restart, from its POST until a watch tells Completed; everyone must be new afterwards."""
        self._count += 1
        name = f"{NAME}-{mode.lower()}-{self._count}"
        obj = {
            "apiVersion": "mainstay.dev/v1alpha1",
            "kind": "StackRestart",
            "metadata": {"name": name},
            "spec": {"stack": NAME, "mode": mode},
        }
        before = _pids(self._stacks.objects[NAME])
        long_lived = {
            pid: part
            for pid, part in parts(self._home).items()
            if part in ("operator", "kube-apiserver", "etcd")
        }
        used = {pid: cpu(psutil.Process(pid)) for pid in long_lived}
        began = time.perf_counter()
        waiting = asyncio.create_task(self._restarts.until([name], over))
        await self._api.create(obj, RESTARTS)
        took = (await waiting)[name] - began
        status = self._restarts.objects[name]["status"]
        if status["phase"] != "Completed":
            raise RuntimeError(f"{mode} restart: {status}")
        await self._stacks.until([NAME], up)
        after = _pids(self._stacks.objects[NAME])
        if len(after) != len(before) or set(after.values()) & set(before.values()):
            raise RuntimeError(f"not everything was restarted: {before} → {after}")
        if into is None:
            return
        into.seconds.append(took)
        for step in status["steps"]:
            length = _at(step["completedAt"]) - _at(step["startedAt"])
            into.steps[step["name"]].append(length.total_seconds())
        for pid, part in long_lived.items():
            into.used[part].append(cpu(psutil.Process(pid)) - used[pid])
        into.used["the new supervisord"].append(spent([self._supervisor()]))
        into.used["the eight services"].append(spent(after.values()))

    def _supervisor(self) -> int:
        pid: int = self._stacks.objects[NAME]["status"]["supervisor"]["pid"]
        return pid


def _ms(values: Sequence[float]) -> str:
    return f"{1000 * statistics.median(values):.0f}, at most {1000 * max(values):.0f} ms"


def _notes(one: Measured) -> dict[str, Any]:
    steps = {f"step {name}": _ms(values) for name, values in one.steps.items()}
    return steps | {f"CPU of {part}": _ms(values) for part, values in sorted(one.used.items())}


def _maybe(values: Sequence[float]) -> Sample | None:
    return sample(values, "s") if values else None


async def _rounds(ours: Ours, bare: Bare, hand: ByHand, *, quick: bool) -> list[Figure]:
    full, at_once, fast_mode, emergency = Measured(), Measured(), Measured(), Measured()
    least, alone, slow, fast = [], [], [], []
    said = asyncio.to_thread
    say("the script by hand: the least waiting with which it works")
    settings = await said(hand.fastest)
    say(f"it works with {settings or 'its defaults only'}")
    bare.start()
    rounds = 2 if quick else 5
    for number in range(rounds + 1):  # the first warms up
        say(f"round {number} of {rounds}: full restarts by us, by hand and bare in turn")
        kept = number > 0
        await ours.steady(0)
        await ours.restart("Full", at_once if kept else None)
        await ours.steady(1)
        await ours.restart("Full", full if kept else None)
        bare_took = await said(bare.restart)
        alone_took = await said(hand.restart)
        if not kept:
            continue
        least.append(bare_took)
        alone.append(alone_took)
        await ours.restart("Quick", fast_mode)
        await ours.restart("Emergency", emergency)
        if number > 3:
            continue
        if settings and (took := await said(lambda: hand.script("full", **settings))) is not None:
            fast.append(took)
        if number == 1 and (took := await said(hand.script, "full")) is not None:
            slow.append(took)
    limit, peer = sample(least, "s"), sample(alone, "s")
    by_hand = {
        "limit": "bare: TERM eight, wait, spawn in order until each answers",
        "peer": "supervisorctl shutdown, supervisord, until each answers",
        "restart.sh full, as it is": str(_maybe(slow) or "never worked"),
        f"restart.sh full, {' '.join(f'{k}={v}' for k, v in settings.items())}": str(
            _maybe(fast) or "never worked"
        ),
    }
    what = "restart of eight services: StackRestart created → Completed"
    return [
        Figure(
            "stack-restart",
            f"Full {what}, steadySeconds 0",
            sample(at_once.seconds, "s"),
            limit,
            peer,
            notes=by_hand | _notes(at_once),
        ),
        Figure(
            "stack-restart",
            f"Full {what}, steadySeconds 1 (default)",
            sample(full.seconds, "s"),
            limit,
            peer,
            notes=_notes(full),
        ),
        Figure(
            "stack-restart",
            f"Quick {what}",
            sample(fast_mode.seconds, "s"),
            limit,
            peer,
            notes=_notes(fast_mode),
        ),
        Figure(
            "stack-restart",
            f"Emergency {what}",
            sample(emergency.seconds, "s"),
            limit,
            notes=_notes(emergency),
        ),
    ]


async def stack_restart(*, quick: bool) -> list[Figure]:
    """First starts, restarts of every kind, and what eight services cost while nothing is asked for."""
    ports = len(ports_of(stack(0)))
    async with installation() as home, await Api.connect(home / "kubeconfig") as api:
        with ExitStack() as rivals:
            directory = home / "rivals"
            directory.mkdir()
            first = free_ports(3 * ports, OUTSIDE)
            bare = Bare(directory / "bare", first + ports)
            rivals.callback(bare.stop)
            hand = ByHand(home / "by-hand", first + 2 * ports)
            rivals.callback(hand.close)
            async with Watch(api, "servicestacks") as stacks, Watch(api, "stackrestarts") as restarts:
                ours = Ours(home, api, stacks, restarts, first)
                starts, bare_starts, hand_starts = [], [], []
                for number in range(3 if quick else 5):
                    say(f"first start {number}")
                    took = await ours.first_start()
                    bare_took = await asyncio.to_thread(bare.start)
                    hand_took = await asyncio.to_thread(hand.start)
                    bare.stop()
                    hand.close()
                    await ours.remove()
                    if number:
                        starts.append(took)
                        bare_starts.append(bare_took)
                        hand_starts.append(hand_took)
                await ours.first_start()
                figures = [
                    Figure(
                        "stack-restart",
                        "first start of eight services: apply → Running",
                        sample(starts, "s"),
                        limit=sample(bare_starts, "s"),
                        peer=sample(hand_starts, "s"),
                    ),
                    *await _rounds(ours, bare, hand, quick=quick),
                ]
        say("the eight services, then nothing")
        await asyncio.sleep(5)
        return figures + await idle(home, api, 30 if quick else 120)
