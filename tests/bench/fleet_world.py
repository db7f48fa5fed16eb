"""The sample world as a process, who works in it, and the same work done without Mainstay."""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import psutil

from mainstay.cli.home import data

GOOD, UNITS = "IRON_ORE", 40
BUYS_AT, SELLS_AT = "X1-DF55-A1", "X1-DF55-B2"
"""Where this world sells the good cheapest, and buys it dearest."""
OPERATIONS = 4
"""Of a job that take the world's latency: there, purchase, there, sell."""

FAST = """\
#!/bin/bash
# PORT OPERATION WAYPOINT GOOD UNITS: what worker.py does in one phase, without looking first, in about 3 ms of CPU.
IFS= read -r -d '' given < "$INPUTS_PATH"
[[ $given =~ \\"uid\\":\\ *\\"([^\\"]+)\\" ]] && uid=${BASH_REMATCH[1]}
[[ $given =~ \\"ref\\":\\ *\\"([^\\"]+)\\" ]] && ship=${BASH_REMATCH[1]}
exec 3<>/dev/tcp/127.0.0.1/$1 || exit 75
ask() {
    printf 'POST /my/ships/%s/%s HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nContent-Length: %d\\r\\n\\r\\n%s' \\
        "$ship" "$1" ${#2} "$2" >&3
    local length=0 line status body
    read -r _ status _ <&3 || exit 75
    while IFS= read -r line <&3 && line=${line%$'\\r'} && [[ $line ]]; do
        [[ ${line,,} == content-length:* ]] && length=$((${line#*:}))
    done
    read -r -N "$length" body <&3
    [[ $status == 200 ]] || { echo "$status $body" >&2; exit 75; }
}
ask navigate "{\\"waypointSymbol\\":\\"$3\\"}"
ask "$2" "{\\"symbol\\":\\"$4\\",\\"units\\":$5,\\"requestId\\":\\"$uid/$2\\"}"
"""

Command = list[str]


class World:
    """A world with so many ships on a port of its own. Every operation of a ship takes `latency` seconds."""

    def __init__(self, directory: Path, port: int, ships: int, latency: float) -> None:
        self.port = port
        self.ships = [f"ship-{number}" for number in range(1, ships + 1)]
        self.latency = latency
        self.code = data("samples") / "world"
        command = [sys.executable, str(self.code / "world.py"), "--port", str(port)]
        command += ["--data", str(directory), "--ships", str(ships), "--latency", str(latency)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise RuntimeError("the world did not begin")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What the world answers."""
        return _ask(self._connection(), method, path, body)

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def begin(self) -> None:
        """Empty ships, and a ledger without trades."""
        self.ask("POST", "/admin/reset", {})

    def gaps(self, jobs: int) -> list[float]:
        """Seconds that each ship lay idle between a sale and the purchase of its next job, without the latencies.

        Raises RuntimeError unless the ledger has exactly the trades of so many jobs, and nothing is lost or doubled.
        """
        audit = self.ask("GET", "/audit")
        trades = self.ask("GET", "/ledger")
        if not audit["ok"] or len(trades) != 2 * jobs:
            raise RuntimeError(f"{len(trades)} trades of {jobs} jobs, {audit['violations']}")
        by_ship: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in trades:
            by_ship[line["ship"]].append(line)
        found = []
        for lines in by_ship.values():
            for before, after in pairwise(lines):
                if (before["kind"], after["kind"]) == ("sale", "purchase"):
                    found.append(after["time"] - before["time"] - 2 * self.latency)
        return found

    @property
    def cpu(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    # --- who works in it

    def python(self, phase: str) -> Command:
        """The sample's own worker: it looks before it acts, and sums up what it did."""
        return ["python3", str(self.code / "worker.py"), phase]

    def fast(self, phase: str) -> Command:
        """The two operations of a phase and nothing else; the script is where `write_fast` put it."""
        operation, at = {"collect": ("purchase", BUYS_AT), "sell": ("sell", SELLS_AT)}[phase]
        return ["bash", str(self._script), str(self.port), operation, at, GOOD, str(UNITS)]

    def write_fast(self, directory: Path) -> None:
        """Put the script of the fast worker there."""
        self._script = directory / "fleet-worker.sh"
        self._script.write_text(FAST)

    # --- the same work without Mainstay

    def by_threads(self, jobs_per_ship: int) -> float:
        """Seconds of a script with a thread for each ship: no process, no record, nothing survives it."""

        def work(ship: str) -> None:
            peer = self._connection()
            for job in range(jobs_per_ship):
                for operation, at in (("purchase", BUYS_AT), ("sell", SELLS_AT)):
                    _ask(peer, "POST", f"/my/ships/{ship}/navigate", {"waypointSymbol": at})
                    body = {"symbol": GOOD, "units": UNITS, "requestId": f"{ship}/{job}/{operation}"}
                    _ask(peer, "POST", f"/my/ships/{ship}/{operation}", body)
            peer.close()

        began = time.perf_counter()
        with ThreadPoolExecutor(len(self.ships)) as pool:
            for one in [pool.submit(work, ship) for ship in self.ships]:
                one.result()
        return time.perf_counter() - began

    def by_xargs(
        self, directory: Path, jobs_per_ship: int, worker: Callable[[str], Command]
    ) -> tuple[float, float]:
        """(seconds, CPU seconds of the processes) of `xargs -P` with a shell for each ship and the same workers."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        lines = ["cd " + str(directory), "set -e"]
        for job in range(jobs_per_ship):
            lines += [
                f"export INPUTS_PATH=$1-{job}.json OUTPUTS_PATH=$1-{job}.out",
                *(" ".join(worker(phase)) for phase in ("collect", "sell")),
            ]
            for ship in self.ships:
                given = {
                    "job": {"name": f"{ship}-{job}", "uid": f"{ship}-{job}"},
                    "inputs": inputs(self),
                    "assets": {"ship": {"ref": ship}},
                }
                (directory / f"{ship}-{job}.json").write_text(json.dumps(given))
        (directory / "ship.sh").write_text("\n".join(lines) + "\n")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        subprocess.run(
            ["xargs", "-P", str(len(self.ships)), "-n1", "sh", str(directory / "ship.sh")],
            input="\n".join(self.ships).encode(),
            check=True,
            env={"PATH": os.environ["PATH"]},
        )
        took = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def inputs(world: World) -> dict[str, Any]:
    """What a job of the fleet is given."""
    return {"world": f"http://127.0.0.1:{world.port}", "symbol": GOOD, "units": UNITS}


def _ask(peer: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Any:
    peer.request(method, path, None if body is None else json.dumps(body))
    answer = peer.getresponse()
    said = json.loads(answer.read())
    if answer.status != 200:
        raise RuntimeError(f"{method} {path}: {answer.status} {said}")
    return said["data"]


def world_of(stack: ExitStack, home: Path, port: int, ships: int, latency: float) -> World:
    """A world that ends with the stack."""
    one = stack.enter_context(World(home / "world", port, ships, latency))
    one.write_fast(home)
    return one
