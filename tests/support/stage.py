"""The operator in this process, against a real API server, a real supervisord and real programs.

with staged(plane) as stage:
    stage.create("bot", listener("$(CONTROL_API_PORT)"))
    stage.until("bot", ready("Running"))
    stage.crash()       # as kill -9 would: no effect of that operator any more
    stage.restart()

The operator runs in a thread with a loop of its own. It dies at any effect that `Plan` names: from then on every
effect of it raises, in tasks and in threads. What it had asked the kernel for stays, as after a real kill.
"""

from __future__ import annotations

import asyncio
import base64
import contextvars
import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from tests.support.plane import RealPlane

from mainstay.api.crd import crds
from mainstay.api.meta import API_VERSION
from mainstay.cli.apply import apply_all, established, served
from mainstay.runtime import effects
from mainstay.runtime.base import GONE
from mainstay.runtime.probes import HostProbes
from mainstay.runtime.process import ProcessRuntime
from mainstay.runtime.process.stacks import ProcessStacks
from mainstay.runtime.process.tasks import ProcessTaskRuntime
from mainstay.runtime.strategies import Shelf
from mainstay.shell.copies import WATCHED
from mainstay.shell.kube import (
    ASSETS,
    BATCHES,
    CONFIG_MAPS,
    JOBS,
    LEASES,
    LIBRARIES,
    POOLS,
    RESTARTS,
    RUNS,
    STACKS,
    STRATEGIES,
    Kube,
    core_path,
    path,
)
from mainstay.shell.operator import Operator

Object = dict[str, Any]
PATIENCE = 30.0
"""Seconds that anything may take on a busy machine before it counts as never."""
OURS = (RESTARTS, STACKS, BATCHES, JOBS, ASSETS, RUNS, LIBRARIES, STRATEGIES, LEASES, POOLS)
"""Every kind of ours, in the order in which they are taken away."""


class Crash(BaseException):
    """The operator is gone."""


# --- the API, without the operator's own client


class Client:
    """The admin's view of an API server: one blocking connection. Not for two threads at once."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as both:
            for key in ("client-certificate-data", "client-key-data"):
                both.write(base64.b64decode(user[key]))
            both.flush()
            context.load_cert_chain(both.name)
        address = urllib.parse.urlsplit(cluster["server"])
        self._connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, context=context, timeout=20
        )

    def close(self) -> None:
        self._connection.close()

    def ask(
        self, method: str, url: str, body: Any = None, kind: str = "application/json"
    ) -> tuple[int, Object]:
        """Status code and answer; a connection that was closed is opened again, once."""
        for last in (False, True):
            try:
                data = None if body is None else json.dumps(body)
                self._connection.request(
                    method, url, data, {"Content-Type": kind, "Accept": "application/json"}
                )
                response = self._connection.getresponse()
                return response.status, json.loads(response.read())
            except (http.client.HTTPException, OSError):
                self._connection.close()
                if last:
                    raise
        raise AssertionError

    def ok(self, method: str, url: str, body: Any = None, kind: str = "application/json") -> Object:
        code, answer = self.ask(method, url, body, kind)
        assert code < 300, f"{method} {url}: {answer}"
        return answer

    def merge(self, url: str, body: Any) -> Object:
        return self.ok("PATCH", url, body, "application/merge-patch+json")

    def get(self, url: str) -> Object | None:
        code, answer = self.ask("GET", url)
        assert code in {200, 404}, answer
        return answer if code == 200 else None

    def items(self, plural: str) -> list[Object]:
        return self.ok("GET", path(plural))["items"]

    def versions(self) -> dict[str, str]:
        """The resourceVersion of every object of ours: what differs later was written."""
        return {
            f"{plural}/{i['metadata']['name']}": i["metadata"]["resourceVersion"]
            for plural in (RUNS, LIBRARIES, STRATEGIES, STACKS, RESTARTS, LEASES, POOLS)
            for i in self.items(plural)
        }

    def remove_everything(self) -> None:
        """Every object of ours in every namespace, whatever its finalizers say."""
        for plural in OURS:
            for item in self.items(plural):
                meta = item["metadata"]
                url = path(plural, meta.get("namespace", ""), meta["name"])
                if meta.get("finalizers"):
                    self.ask("PATCH", url, {"metadata": {"finalizers": None}}, "application/merge-patch+json")
                self.ask("DELETE", url)


def eventually(check: Callable[[], Any], what: str = "", seconds: float = PATIENCE) -> Any:
    """The first true answer of `check`."""
    until = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < until, f"{what or check}: still {answer!r} after {seconds} s"
        time.sleep(0.01)
    return answer


def condition(obj: Object, kind: str = "Ready") -> Object:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind), {})


def ready(phase: str) -> Callable[[Object], bool]:
    """What was asked is observed, and it is this phase."""

    def is_so(obj: Object) -> bool:
        status = obj.get("status") or {}
        return (
            status.get("phase") == phase
            and status.get("observedGeneration") == obj["metadata"]["generation"]
            and condition(obj).get("status") == "True"
        )

    return is_so


# --- programs

_LISTENER = """
import _socket, fcntl, posix, sys
env = posix.environ
judge, run = env[b"JUDGE"], env[b"RUN_ID"]
def say(name, line):
    fd = posix.open(judge + b"/" + name, posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT, 0o600)
    posix.write(fd, line + b"\\n")
    posix.close(fd)
lock = posix.open(judge + b"/" + run + b".lock", posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    say(b"violations", b"two programs of run " + run + b" at once, the second as attempt " + env[b"ATTEMPT"])
say(b"journal", b" ".join((run, env[b"ATTEMPT"], env[b"CONTROL_API_PORT"], str(posix.getpid()).encode())))
server = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(sys.argv[1].partition("=")[2])))
server.listen(8)
while True:
    posix.close(server._accept()[0])
"""


def listener(judge: Path, **spec: Any) -> Object:
    """The spec of a run that listens on its control port, and tells on itself when it is not alone."""
    command = [os.path.realpath(sys.executable), "-S", "-I", "-c", _LISTENER]
    return {
        "program": {
            "command": command,
            "args": ["--control-api-port=$(CONTROL_API_PORT)"],
            "env": [{"name": "JUDGE", "value": str(judge)}],
            "terminationGracePeriodSeconds": 2,
        },
        "controlApi": {"pool": "stage"},
        **spec,
    }


# --- processes by their mark


def marked(home_id: str, *names: str) -> list[tuple[int, int, str, int]]:
    """(pid, start ticks, object uid, port) of each living process whose environment names this home."""
    wanted = [f"{name}={home_id}/".encode() for name in names or ("MAINSTAY_UNIT",)]
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with suppress(OSError):
            environ = Path(f"/proc/{entry}/environ").read_bytes()
            if not any(one in environ for one in wanted):
                continue
            env = dict(e.partition("=")[::2] for e in environ.decode(errors="replace").split("\0"))
            if (ticks := start_ticks(int(entry))) is not None:
                uid = env.get("MAINSTAY_UNIT", "").partition("/")[2]
                found.append((int(entry), ticks, uid, int(env.get("CONTROL_API_PORT") or 0)))
    return found


def start_ticks(pid: int) -> int | None:
    """When this process started, None once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


_UNDERTAKER = """
import os, shutil, signal, sys
sys.stdin.buffer.read()
home, mark = sys.argv[1:]
for _ in range(200):
    found = False
    for pid in [int(p) for p in os.listdir("/proc") if p.isdigit()]:
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            env = b"\\0" + open(f"/proc/{pid}/environ", "rb").read()
            if any(b"\\0" + n + b"=" + mark.encode() + b"/" in env for n in (b"MAINSTAY_UNIT", b"MAINSTAY_SCOPE")):
                found = True
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        except OSError:
            pass
        finally:
            os.close(fd)
    if not found:
        break
shutil.rmtree(home, ignore_errors=True)
"""


@contextmanager
def mortal_home(home_id: str) -> Iterator[Path]:
    """A short directory whose processes, known by the home's id, never outlive this process."""
    home = Path(tempfile.mkdtemp(prefix="ms-", dir="/tmp"))
    (home / "home-id").write_text(home_id + "\n")
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _UNDERTAKER, str(home), home_id],
        stdin=subprocess.PIPE,
        start_new_session=True,
    ):
        yield home  # at the end, or with us, its standard input closes


# --- the operator of this process, mortal

_current: contextvars.ContextVar[Shell] = contextvars.ContextVar("shell")


class Plan:
    """Where to die: at the N-th counted effect (from 0), before or after it."""

    def __init__(self, number: int, when: str) -> None:
        self.number = number
        self.when = when


def counted(name: str) -> bool:
    """Whether the effect belongs to the life of a run; the others come by the clock."""
    return name not in {f"api put {POOLS}/status", "rotate log"}


class Shell:
    """One operator from its start to its death, in a thread."""

    def __init__(self, stage: Stage) -> None:
        self.effects: list[str] = []
        self.finished: set[int] = set()
        self.plan: Plan | None = None
        self.dead = False
        self.died = threading.Event()
        self._stage = stage
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None

    # effects

    def before(self, name: str) -> None:
        with self._lock:
            if self.dead:
                raise Crash(name)
            if not counted(name):
                return
            self.effects.append(name)
            self._die_at("before", len(self.effects) - 1, name)

    def after(self, name: str) -> None:
        with self._lock:
            if self.dead:
                raise Crash(name)
            if counted(name):
                last = len(self.effects) - 1 - self.effects[::-1].index(name)
                self.finished.add(last)
                self._die_at("after", last, name)

    def _die_at(self, when: str, number: int, name: str) -> None:
        if self.plan is not None and (self.plan.when, self.plan.number) == (when, number):
            self.dead = True
            self.died.set()
            raise Crash(name)

    def expect(self, plan: Plan | None) -> None:
        """Count effects from now on, and die where the plan says."""
        with self._lock:
            self.effects = []
            self.finished = set()
            self.plan = plan

    # life

    def start(self) -> None:
        """Returns once it works, or has died on the way."""
        context = contextvars.copy_context()
        context.run(_current.set, self)
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="operator", daemon=True)
        self._thread.start()
        eventually(lambda: self._ready.is_set() or self.died.is_set() or self._failed, "operator")
        if self._failed is not None and not self.died.is_set():
            raise self._failed

    def end(self) -> None:
        """Die now, if not dead yet, and leave no thread, task or descriptor."""
        self.dead = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(PATIENCE)
            assert not self._thread.is_alive()

    def ask(self, work: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Run a coroutine function in the operator's loop."""

        async def call() -> Any:
            return await work()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(seconds)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda *_: None)
        main = self._loop.create_task(self._main())
        main.add_done_callback(self._main_done)
        try:
            self._loop.run_forever()
        finally:
            self._bury()

    def _main_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed = error

    def _bury(self) -> None:
        """What the kernel does for a killed process: everything it had open is closed."""
        loop = self._loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=PATIENCE))
        opened = ("runtime", "tasks", "shelf", "stacks", "probes", "kube")
        for close in (getattr(self, name, None) for name in opened):
            if close is not None:
                with suppress(Exception, Crash):
                    loop.run_until_complete(close.close())
        for transport in list(getattr(loop, "_transports", {}).values()):
            transport.abort()
        loop.run_until_complete(asyncio.sleep(0.01))  # the transports' own last words
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    async def _main(self) -> None:
        stage = self._stage
        self.kube = await Kube.connect(str(stage.plane.kubeconfig))
        self.runtime = ProcessRuntime(stage.home, "runs", home_id=stage.home_id)
        self.tasks = ProcessTaskRuntime(stage.home, home_id=stage.home_id)
        self.shelf = Shelf(Path(stage.home))
        self.stacks = ProcessStacks(Path(stage.home), home_id=stage.home_id)
        self.probes = HostProbes(str(stage.home))
        self.operator = Operator(
            self.kube,
            self.runtime,
            self.tasks,
            self.shelf,
            self.stacks,
            self.probes,
            home=Path(stage.home),
        )
        await asyncio.gather(
            self.runtime.start_up(), self.tasks.start_up(), self.shelf.start_up(), self.stacks.start_up()
        )
        await self.operator.start()
        watches = [asyncio.create_task(self._watch(plural)) for plural in WATCHED]
        self._ready.set()
        assert self.operator.lost is not None
        await asyncio.wait([*watches, self.operator.lost], return_when=asyncio.FIRST_EXCEPTION)

    async def _watch(self, plural: str) -> None:
        api = self.kube._api
        session = api.rest_client.pool_manager
        url = api.configuration.host + (core_path(plural) if plural == CONFIG_MAPS else path(plural))
        kind = self.operator.copies.kind(plural)
        while True:
            query = {"watch": "1", "resourceVersion": str(kind.newest), "allowWatchBookmarks": "false"}
            with suppress(aiohttp.ClientError):
                async with session.get(
                    url, params=query, timeout=aiohttp.ClientTimeout(total=None)
                ) as answer:
                    async for line in answer.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        self.operator.on_event(plural, event["type"] == "DELETED", event["object"])
            await asyncio.sleep(0.05)
            with suppress(Exception):
                await self.operator.copies.list(plural)


def _before(name: str) -> None:
    if (shell := _current.get(None)) is not None:
        shell.before(name)


def _after(name: str) -> None:
    if (shell := _current.get(None)) is not None:
        shell.after(name)


class Stage:
    """A home, a namespace, a pool of ports of its own, and one operator after the other."""

    def __init__(self, plane: RealPlane, home: Path, home_id: str, ports: range, namespace: str) -> None:
        self.plane = plane
        self.home = home
        self.home_id = home_id
        self.ports = ports
        self.namespace = namespace
        self.judge = home / "judge"
        self.client = Client(plane.kubeconfig)
        self.shell = Shell(self)

    # --- objects

    def url(self, name: str, subresource: str = "") -> str:
        return path(RUNS, self.namespace, name, subresource)

    def create(self, name: str, spec: Object) -> Object:
        body = {
            "apiVersion": API_VERSION,
            "kind": "StrategyRun",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }
        return self.client.ok("POST", path(RUNS, self.namespace), body)

    def patch(self, name: str, **spec: Any) -> Object:
        return self.client.merge(self.url(name), {"spec": spec})

    def delete(self, name: str) -> None:
        self.client.ok("DELETE", self.url(name))

    def get(self, name: str) -> Object | None:
        return self.client.get(self.url(name))

    def until(self, name: str, is_so: Callable[[Object], bool], seconds: float = PATIENCE) -> Object:
        """The run, once it is so."""
        until = time.monotonic() + seconds
        while True:
            obj = self.get(name)
            if obj is not None and is_so(obj):
                return obj
            assert time.monotonic() < until, f"{name} is not there: {(obj or {}).get('status')}"
            time.sleep(0.004)

    def until_gone(self, name: str, seconds: float = PATIENCE) -> None:
        eventually(lambda: self.get(name) is None, f"{name} gone", seconds)

    # --- processes and files

    def pids(self, uid: str) -> list[int]:
        """The living processes of a unit's tree, by their mark."""
        return [pid for pid, _, owner, _ in marked(self.home_id) if owner == uid]

    def argv(self, pid: int) -> list[str]:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]

    def files(self) -> list[str]:
        """What there is of units on disk."""
        scope = self.home / "scopes/runs"
        return sorted(str(p.relative_to(scope)) for p in [*scope.glob("conf.d/*"), *scope.glob("units/*")])

    def journal(self, run_id: str) -> list[tuple[int, int, int]]:
        """(attempt, port, pid) of each start of a listener, in order."""
        lines = (self.judge / "journal").read_text().splitlines() if (self.judge / "journal").exists() else []
        words = [line.split() for line in lines]
        return [(int(w[1]), int(w[2]), int(w[3])) for w in words if w[0] == run_id]

    def violations(self) -> list[str]:
        file = self.judge / "violations"
        return file.read_text().splitlines() if file.exists() else []

    # --- the operator

    def crash(self) -> None:
        """Throw the operator away, as kill -9 would."""
        self.shell.end()

    def restart(self, plan: Plan | None = None) -> None:
        """A new operator on the same home. With a plan it may die while it starts."""
        self.shell = Shell(self)
        self.shell.plan = plan
        self.shell.start()

    # --- life

    def open(self) -> None:
        self.judge.mkdir()
        asyncio.run(self._define())
        self.client.remove_everything()
        self.client.ask(
            "POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}, "kind": "Namespace"}
        )
        body = {
            "apiVersion": API_VERSION,
            "kind": "PortPool",
            "metadata": {"name": "stage"},
            "spec": {"ranges": [{"first": self.ports.start, "last": self.ports.stop - 1}]},
        }
        self.client.ok("POST", path(POOLS), body)
        self.shell.start()

    async def _define(self) -> None:
        kube = await Kube.connect(str(self.plane.kubeconfig))
        try:
            definitions = crds()
            await apply_all(kube, definitions)
            await established(kube, definitions)

            async def listed() -> None:
                for plural in OURS:
                    await kube.request("GET", path(plural))

            await served(listed)
        finally:
            await kube.close()

    def close(self) -> None:
        """End the operator, every unit and supervisord; forget every object."""
        self.crash()
        try:
            asyncio.run(self._end_units())
        finally:
            self.client.remove_everything()
            self.client.close()

    async def _end_units(self) -> None:
        for runtime in (
            ProcessRuntime(self.home, "runs", home_id=self.home_id),
            ProcessTaskRuntime(self.home, home_id=self.home_id),
        ):
            try:
                await runtime.start_up()  # a test may have ended supervisord
                for unit in await runtime.units():
                    if unit.state not in GONE:
                        await runtime.stop(unit.name, grace_seconds=0, force=True)
                await runtime.shut_down_scope(stop_units=True)
            finally:
                await runtime.close()
        await self._end_stacks()

    async def _end_stacks(self) -> None:
        stacks = ProcessStacks(self.home, home_id=self.home_id)
        try:
            for key in stacks.known():
                scope = await stacks.open(key)
                until = time.monotonic() + PATIENCE
                while living := [unit for unit in await scope.units() if unit.state not in GONE]:
                    assert time.monotonic() < until, f"units of {key} do not end: {living}"
                    for unit in living:  # a new supervisord may be about to have them again
                        await scope.stop(unit.name, grace_seconds=0, force=True)
                await stacks.remove(key)
        finally:
            await stacks.close()


_stages = 0


def own_ports(count: int, base: int = 10000) -> range:
    """Ports that no other test of this run uses, nor a control plane: a thousand for each worker."""
    global _stages  # noqa: PLW0603 - counts in this process
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0) % 4
    first = base + 1000 * worker + (_stages * count) % (1000 - count)
    _stages += 1
    return range(first, first + count)


@contextmanager
def staged(plane: RealPlane, ports: int = 40) -> Iterator[Stage]:
    """A stage, alone on its plane. Leaves no process, no object and no file."""
    home_id = "s" + os.urandom(4).hex()
    with mortal_home(home_id) as home, effects.hooked(_before, _after):
        stage = Stage(plane, home, home_id, own_ports(ports), "stage-" + home_id)
        try:
            stage.open()
            yield stage
        finally:
            stage.close()
            left = marked(home_id, "MAINSTAY_UNIT", "MAINSTAY_SCOPE")
            shutil.rmtree(home, ignore_errors=True)
        assert left == [], f"processes outlived the stage: {left}"
