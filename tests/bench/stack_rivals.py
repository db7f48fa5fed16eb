"""The eight services of the sample without Mainstay: by supervisord and a script, by supervisord alone, and bare."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import psutil
import yaml
from tests.bench.peers import connected

from mainstay.cli.home import data

Object = dict[str, Any]

SILENT = ("kalshi_api_watchdog", "kalshi_account_sync")
"""Those that have a port and don't listen."""
SETTLE = ("1", "1.5", "2")
"""Seconds that the script is tried with, beside its own. Below one no program counts as running: startsecs."""


def code() -> Path:
    """Where the programs are."""
    return data("samples") / "backend"


def stack(first: int, **timeouts: int) -> Object:
    """The sample's stack with its eight ports from `first` on."""
    obj: Object = yaml.safe_load((data("samples") / "backend.yaml").read_text())
    services = obj["spec"]["services"]
    ports = {str(one["port"]): str(first + index) for index, one in enumerate(services)}
    for one in services:
        one["port"] = int(ports[str(one["port"])])
        program = one["program"]
        program["workingDir"] = str(code())
        program["args"] = [
            f"{name}={ports[port]}"
            for name, _, port in (argument.partition("=") for argument in program.get("args", ()))
        ]
    obj["spec"]["timeouts"] |= timeouts
    return obj


def ports_of(obj: Object) -> dict[str, int]:
    """Service → port."""
    return {one["name"]: one["port"] for one in obj["spec"]["services"]}


def answers(ports: Mapping[str, int], healthy: Iterable[str]) -> None:
    """Return once each that listens accepts, and each of `healthy` says that it is well."""
    for name, port in ports.items():
        if name not in SILENT:
            connected(port)
    for name in healthy:
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[name]}/health", timeout=5) as answer:
            answer.read()


def http_of(obj: Object) -> list[str]:
    """Services that are asked for their health."""
    return [one["name"] for one in obj["spec"]["services"] if one["kind"] == "Http"]


class Bare:
    """Eight processes and nobody who looks after them."""

    def __init__(self, directory: Path, first: int) -> None:
        self._directory = directory
        self._stack = stack(first)
        self._services = {one["name"]: one for one in self._stack["spec"]["services"]}
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def restart(self) -> float:
        """Seconds to TERM all, wait, and spawn them in the order of what they depend on until each answers."""
        began = time.perf_counter()
        self.stop()
        self.start()
        return time.perf_counter() - began

    def start(self) -> float:
        """Seconds; those that depend on nothing that is missing, side by side."""
        began = time.perf_counter()
        order = TopologicalSorter({name: one.get("dependsOn", ()) for name, one in self._services.items()})
        order.prepare()
        ports = ports_of(self._stack)
        while order.is_active():
            layer = order.get_ready()
            for name in layer:
                self._spawn(name)
            answers({name: ports[name] for name in layer}, [n for n in layer if n in http_of(self._stack)])
            order.done(*layer)
        return time.perf_counter() - began

    def _spawn(self, name: str) -> None:
        one = self._services[name]
        program = one["program"]
        self._children[name] = subprocess.Popen(
            [*program["command"], *program["args"]],
            cwd=code(),
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "PORT": str(one["port"]),
                "DATA_DIR": str(self._directory / name),
                "PYTHONUNBUFFERED": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """TERM all and wait."""
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            child.wait(20)
        self._children.clear()

    def cpu(self) -> float:
        """CPU seconds that the eight have used so far."""
        return spent(child.pid for child in self._children.values())


class ByHand:
    """The sample's own `before`: a supervisord with eight sections, and the script that restarts all of it."""

    def __init__(self, home: Path, first: int) -> None:
        home.mkdir(parents=True, exist_ok=True)
        obj = stack(first)
        self._home = home
        self._ports = ports_of(obj)
        self._http = http_of(obj)
        self._before = code() / "before"
        scripts = Path(sys.executable).parent
        self._supervisord, self._supervisorctl = scripts / "supervisord", scripts / "supervisorctl"
        self._env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            **{f"{name.upper()}_PORT": str(port) for name, port in self._ports.items()},
            "BACKEND_HOME": str(home),
            "BACKEND_CODE": str(code()),
            "PYTHON": shutil.which("python3") or sys.executable,
            "SUPERVISORD": str(self._supervisord),
            "SUPERVISORCTL": str(self._supervisorctl),
        }

    def script(self, mode: str, **settings: str) -> float | None:
        """Seconds of a restart by the script; None if it failed, as it tells by its exit code."""
        began = time.perf_counter()
        done = subprocess.run(
            ["bash", str(self._before / "restart.sh"), mode],
            env=self._env | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        took = time.perf_counter() - began
        return None if done.returncode else took

    def fastest(self) -> dict[str, str]:
        """The least waiting with which the script's full restart works twice in a row."""
        for settle in SETTLE:
            settings = {"SETTLE": settle, "FLUSH_WAIT": "0"}
            if all(self.script("full", **settings) is not None for _ in range(2)):
                return settings
        return {}

    def start(self) -> float:
        """Seconds from `supervisord` to an answer of each."""
        for name in ("logs", "data"):
            (self._home / name).mkdir(exist_ok=True)
        began = time.perf_counter()
        self._run(self._supervisord)
        answers(self._ports, self._http)
        return time.perf_counter() - began

    def restart(self) -> float:
        """Seconds of `supervisorctl shutdown`, its end, and `supervisord` again until each answers; no look at anything."""
        process = self.process()
        began = time.perf_counter()
        self._run(self._supervisorctl, "shutdown")
        while process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.002)
        self.start()
        return time.perf_counter() - began

    def _run(self, program: Path, *arguments: str) -> None:
        subprocess.run(
            [program, "-c", self._before / "supervisord.conf", *arguments],
            env=self._env,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def process(self) -> psutil.Process | None:
        """supervisord."""
        return supervisord_of(self._home)

    def close(self) -> None:
        """Nothing of it is left."""
        end_by_hand(self._home)


def supervisord_of(home: Path) -> psutil.Process | None:
    """The supervisord whose pid file is there, if it is that of this directory."""
    try:
        found = psutil.Process(int((home / "supervisord.pid").read_text()))
        return found if found.environ().get("BACKEND_HOME") == str(home) else None
    except (OSError, ValueError, psutil.Error):
        return None


def end_by_hand(home: Path) -> None:
    """End a supervisord that was started by hand, and its services."""
    supervisord = supervisord_of(home)
    if supervisord is None:
        return
    everyone = [supervisord, *supervisord.children(recursive=True)]
    with suppress(psutil.Error):
        supervisord.terminate()
    _, alive = psutil.wait_procs(everyone, timeout=10)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()


def spent(pids: Iterable[int]) -> float:
    """CPU seconds of those that live."""
    total = 0.0
    for pid in pids:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system
    return total


def pids_under(process: psutil.Process | None) -> Sequence[int]:
    """Its children."""
    return [one.pid for one in process.children()] if process is not None else []
