"""The real thing: `mainstay up` in a home of its own, with bots, for tests that kill parts of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.stage import (
    Client,
    Object,
    condition,
    eventually,
    listener,
    marked,
    mortal_home,
    own_ports,
    ready,
    start_ticks,
)

from mainstay.api.meta import API_VERSION
from mainstay.cli import system as parts
from mainstay.cli.home import Home
from mainstay.controlplane.plane import ETCD, KUBE_APISERVER
from mainstay.runtime.process import brake
from mainstay.shell.kube import LEASES, RUNS, path

OPERATOR = parts.OPERATOR
PATIENCE = 90.0

PHASES = {"r0": "Running", "r1": "Running", "r2": "Running", "idle": "Stopped", "held": "Paused"}
"""The bots of a house, and how they are when nothing is wrong."""


@dataclass(frozen=True)
class Bot:
    """What must stay the same of a bot that nobody touched."""

    pid: int
    ticks: int
    attempt: int
    run_id: str
    port: int


class House:
    """A home that is up."""

    def __init__(self, root: Path, home_id: str, ports: range) -> None:
        self.root = root
        self.home_id = home_id
        self.home = Home(root)
        self.ports = ports
        self.judge = root / "judge"
        self.judge.mkdir()

    # --- commands

    def mainstay(self, *words: str, check: bool = True, seconds: float = 180) -> str:
        """Run a command; what it said, on both streams."""
        done = subprocess.run(
            self.command(*words),
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
        )
        assert not check or done.returncode == 0, f"mainstay {' '.join(words)}:\n{done.stdout}"
        return done.stdout

    @staticmethod
    def command(*words: str) -> list[str]:
        return [sys.executable, "-m", "mainstay.cli.main", *words]

    @property
    def env(self) -> dict[str, str]:
        kept = {k: os.environ[k] for k in ("PATH", "HOME", "LANG", "XDG_CACHE_HOME") if k in os.environ}
        return {**kept, "MAINSTAY_HOME": str(self.root)}

    def up(self) -> None:
        self.mainstay("up", "--no-quickstart", f"--ports={self.ports.start}-{self.ports.stop - 1}")

    # --- objects

    @contextmanager
    def client(self) -> Iterator[Client]:
        client = Client(self.home.kubeconfig)
        try:
            yield client
        finally:
            client.close()

    def get(self, name: str) -> Object | None:
        """The run; None also while the API server is away."""
        with suppress(OSError, AssertionError, ValueError), self.client() as client:
            return client.get(path(RUNS, "default", name))
        return None

    def create(self, name: str, **spec: Any) -> None:
        body = {
            "apiVersion": API_VERSION,
            "kind": "StrategyRun",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {**listener(self.judge), "controlApi": {}, **spec},
        }
        with self.client() as client:
            client.ok("POST", path(RUNS, "default"), body)

    def patch(self, name: str, **spec: Any) -> None:
        with self.client() as client:
            client.merge(path(RUNS, "default", name), {"spec": spec})

    def delete(self, name: str) -> None:
        with self.client() as client:
            client.ok("DELETE", path(RUNS, "default", name))
        eventually(lambda: name not in self.runs(), f"{name} gone", PATIENCE)

    def runs(self) -> list[str]:
        with self.client() as client:
            return [item["metadata"]["name"] for item in client.items(RUNS)]

    def ports_leased(self) -> dict[str, int]:
        with self.client() as client:
            return {i["spec"]["holder"]["name"]: i["spec"]["port"] for i in client.items(LEASES)}

    def until(self, name: str, is_so: Callable[[Object], bool], seconds: float = PATIENCE) -> Object:
        until = time.monotonic() + seconds
        while True:
            obj = self.get(name)
            if obj is not None and is_so(obj):
                return obj
            assert time.monotonic() < until, f"{name}: {(obj or {}).get('status')}\n{self.said(OPERATOR)}"
            time.sleep(0.03)

    # --- processes

    def part(self, name: str) -> int | None:
        """The pid of etcd, kube-apiserver or the operator while it runs."""
        for unit in brake.list_units(self.root, "system"):
            if unit.name == name and unit.state == "Running":
                return unit.pid
        return None

    def supervisord(self, scope: str = "runs") -> int:
        """The pid of the scope's supervisord, proven by its mark."""
        mark = f"MAINSTAY_SCOPE={self.home_id}/{scope}\0".encode()

        def look() -> int | None:
            with suppress(OSError, ValueError):
                pid = int((self.root / f"scopes/{scope}/supervisord.pid").read_text())
                if mark in Path(f"/proc/{pid}/environ").read_bytes() and start_ticks(pid):
                    return pid
            return None

        return int(eventually(look, f"supervisord of {scope}", PATIENCE))

    def kill(self, pid: int | None, number: int = signal.SIGKILL) -> None:
        """Signal a process of this house, and see it end if it was killed."""
        assert pid is not None
        ours = f"={self.home_id}/".encode()
        fd = os.pidfd_open(pid)
        try:
            assert ours in Path(f"/proc/{pid}/environ").read_bytes(), f"{pid} is not of this house"
            ticks = start_ticks(pid)
            signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)
        if number == signal.SIGKILL:
            eventually(lambda: start_ticks(pid) != ticks, f"end of {pid}")

    def kill_all(self, *, bots: bool = False) -> None:
        """Kill supervisors, control plane and operator, and the bots too if asked. None comes back by itself."""
        mine = set() if bots else {b.pid for b in self.bots().values()}
        for _ in range(100):
            found = [pid for pid, *_ in marked(self.home_id, "MAINSTAY_UNIT", "MAINSTAY_SCOPE")]
            # A fence has its supervisord's mark; those go with it, the bots stay.
            if not (rest := [pid for pid in found if pid not in mine]):
                return
            for pid in rest:
                with suppress(OSError, AssertionError):
                    self.kill(pid)
        raise AssertionError("they keep coming back")

    def bots(self) -> dict[str, Bot]:
        """The live programs by their run's name, from their own environment."""
        found = {}
        for pid, ticks, _, port in marked(self.home_id):
            with suppress(OSError):
                env = dict(
                    e.partition("=")[::2] for e in Path(f"/proc/{pid}/environ").read_text().split("\0")
                )
                scope, _, unit = env.get("MAINSTAY_NAME", "").partition("/")
                if scope == "runs":
                    name = unit.partition(".")[2]
                    assert name not in found, f"two live programs of {name}"
                    found[name] = Bot(pid, ticks, int(env["ATTEMPT"]), env["RUN_ID"], port)
        return found

    def said(self, part: str) -> str:
        return "\n".join(parts.last_lines(self.home, part, 30))

    # --- the state of things

    def steady(self) -> dict[str, Bot]:
        """The bots, once everything is as it should be."""
        for name, phase in PHASES.items():
            self.until(name, ready(phase))
        eventually(lambda: self.part(OPERATOR), "operator", PATIENCE)
        bots = self.bots()
        live = {name for name, phase in PHASES.items() if phase != "Stopped"}
        there = {name for name in bots if name in PHASES}
        assert there == live, f"{there} live, not {live}: {self.said(OPERATOR)}"
        leased = self.ports_leased()
        ports = {n: bots[n].port for n in live}
        assert {n: p for n, p in leased.items() if n in PHASES} == ports, f"leased are {leased}, used {ports}"
        for name in live:
            status = (self.get(name) or {})["status"]
            bot = bots[name]
            claims = (status["runId"], status["port"], status["attempt"], status["process"]["pid"])
            assert claims == (bot.run_id, bot.port, bot.attempt, bot.pid), (
                f"{name}: {claims}, but it is {bot}"
            )
        assert self.violations() == [], self.violations()
        return {name: bots[name] for name in live}

    def revive_held(self) -> None:
        """A paused bot without a process gets one, and is paused again."""
        self.patch("held", state="Running")
        self.until("held", ready("Running"))
        self.patch("held", state="Paused")
        self.until("held", ready("Paused"))

    def violations(self) -> list[str]:
        file = self.judge / "violations"
        return file.read_text().splitlines() if file.exists() else []

    def works(self) -> None:
        """The operator still does what it is told."""
        self.patch("idle", state="Running")
        self.until("idle", ready("Running"))
        self.patch("idle", state="Stopped")
        self.until("idle", ready("Stopped"))

    # --- parts, gently

    def end_part(self, *names: str) -> None:
        """Stop parts of the system as `mainstay down` does."""

        async def end() -> None:
            system = parts.runtime(self.home)
            try:
                for name in names:
                    await parts.end(system, name)
            finally:
                await system.close()

        asyncio.run(end())

    @property
    def etcd_data(self) -> Path:
        return self.root / "etcd"


def untouched(bots: dict[str, Bot], *but: str) -> dict[str, Bot]:
    """Those that nothing should have happened to."""
    left = {*but, "idle"}
    return {name: bot for name, bot in bots.items() if name in PHASES and name not in left}


@contextmanager
def house() -> Iterator[House]:
    """A house with its bots. Leaves no process and no file."""
    home_id = "h" + os.urandom(4).hex()
    with mortal_home(home_id) as root:
        one = House(root, home_id, own_ports(30, base=14000))
        try:
            one.up()
            for name in PHASES:
                one.create(name)
            for name, phase in PHASES.items():
                one.until(name, ready("Running"))
                if phase != "Running":
                    one.patch(name, state=phase)
            one.steady()
            yield one
        finally:
            one.mainstay("down", check=False)
            left = marked(home_id, "MAINSTAY_UNIT", "MAINSTAY_SCOPE")
            shutil.rmtree(root, ignore_errors=True)
        assert left == [], f"processes outlived the house: {left}"


__all__ = [
    "ETCD",
    "KUBE_APISERVER",
    "OPERATOR",
    "PATIENCE",
    "PHASES",
    "Bot",
    "House",
    "condition",
    "house",
    "untouched",
]
