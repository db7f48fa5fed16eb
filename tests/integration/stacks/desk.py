"""A desk: a stack of eight services in layers, and beside it a second stack and ten runs that nothing may touch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from tests.integration.stacks.programs import DAEMON, SERVER, service
from tests.support.plane import RealPlane
from tests.support.stage import Object, Stage, eventually, listener, ready, staged, start_ticks

from mainstay.api.meta import API_VERSION
from mainstay.core.names import stack_scope
from mainstay.shell.kube import LEASES, RESTARTS, RUNS, STACKS, path

STEPS = {
    "Full": (
        *("FlushPorts", "StopServices", "StopSupervisor", "StartSupervisor"),
        *("VerifyPorts", "StartServices", "Verify"),
    ),
    "Quick": (
        *("CheckPorts", "StopServices", "StopSupervisor", "StartSupervisor"),
        *("VerifyPorts", "StartServices", "Verify"),
    ),
    "Emergency": (
        *("KillServices", "KillSupervisor", "FlushPorts", "StartSupervisor"),
        *("VerifyPorts", "StartServices", "Verify"),
    ),
    "Flush": ("FlushPorts", "Verify"),
}
"""As docs/stacks.md promises them."""

BACKEND = (
    "btc_price_watchdog",
    "db_poller",
    "kalshi_api_watchdog",
    "trade_manager",
    "trade_executor",
    "active_trade_supervisor",
    "kalshi_account_sync",
    "main_app",
)
RUN_COUNT = 10
PATIENCE = 60.0


@dataclass(frozen=True)
class Seen:
    """What must stay the same of a process that nobody touched."""

    pid: int
    ticks: int


@dataclass(frozen=True)
class Around:
    """Everything beside a stack."""

    processes: Mapping[str, Seen]
    supervisors: Mapping[str, Seen]
    leases: frozenset[tuple[str, str, str]]  # name, uid, resourceVersion


class Desk:
    """Stacks on a stage, asked as a user asks."""

    def __init__(self, stage: Stage, reserved: int) -> None:
        self.stage = stage
        self.judge = stage.judge
        self.reserved = reserved
        self._restarts = 0

    # --- objects

    def url(self, name: str, subresource: str = "") -> str:
        return path(STACKS, self.stage.namespace, name, subresource)

    def create(self, name: str, services: list[Object], **spec: Any) -> Object:
        body = {
            "apiVersion": API_VERSION,
            "kind": "ServiceStack",
            "metadata": {"name": name, "namespace": self.stage.namespace},
            "spec": {
                "services": services,
                "timeouts": {
                    "flushSeconds": 1,
                    "supervisorSeconds": 5,
                    "startSeconds": 40,
                    "steadySeconds": 0,
                },
                "reservedPorts": [self.reserved],
                **spec,
            },
        }
        return self.stage.client.ok("POST", path(STACKS, self.stage.namespace), body)

    def patch(self, name: str, **spec: Any) -> Object:
        return self.stage.client.merge(self.url(name), {"spec": spec})

    def get(self, name: str) -> Object:
        found = self.stage.client.get(self.url(name))
        assert found is not None
        return found

    def until(self, name: str, is_so: Callable[[Object], bool], seconds: float = PATIENCE) -> Object:
        found: list[Object] = []

        def there() -> bool:
            found[:] = [self.get(name)]
            return is_so(found[0])

        try:
            eventually(there, name, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {found[0].get('status')}") from None
        return found[0]

    def running(self, name: str) -> Object:
        return self.until(name, ready("Running"))

    def delete(self, name: str, *, wait: bool = True) -> None:
        self.stage.client.ok("DELETE", self.url(name))
        if wait:
            eventually(lambda: self.stage.client.get(self.url(name)) is None, f"{name} gone", PATIENCE)

    def edit(self, name: str, service_name: str, change: Callable[[Object], None]) -> Object:
        """Change one service as a user does with `kubectl edit`."""
        services = self.get(name)["spec"]["services"]
        change(next(one for one in services if one["name"] == service_name))
        return self.patch(name, services=services)

    # --- restarts

    def ask(self, stack: str, mode: str, **spec: Any) -> str:
        """Ask for a restart; its name."""
        self._restarts += 1
        name = f"{stack}-{mode.lower()}-{self._restarts}"
        body = {
            "apiVersion": API_VERSION,
            "kind": "StackRestart",
            "metadata": {"name": name, "namespace": self.stage.namespace},
            "spec": {"stack": stack, "mode": mode, **spec},
        }
        self.stage.client.ok("POST", path(RESTARTS, self.stage.namespace), body)
        return name

    def restart_of(self, name: str) -> Object:
        found = self.stage.client.get(path(RESTARTS, self.stage.namespace, name))
        assert found is not None
        return found

    def at_step(self, name: str, step: str) -> Object:
        """The restart, as soon as it is seen at that step."""
        return eventually(
            lambda: (obj := self.restart_of(name)) and (obj.get("status") or {}).get("step") == step and obj,
            f"{name} at {step}",
        )

    def over(self, name: str, seconds: float = PATIENCE) -> Object:
        """The restart, once it is Completed or Failed."""
        found: list[Object] = []

        def there() -> bool:
            found[:] = [self.restart_of(name)]
            return (found[0].get("status") or {}).get("phase") in {"Completed", "Failed"}

        try:
            eventually(there, name, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {found[0].get('status')}") from None
        return found[0]

    # --- what is there

    def processes(self, name: str) -> dict[str, Seen]:
        """The service's leaders, as status says and /proc agrees."""
        found = {}
        for one in (self.get(name).get("status") or {}).get("services", ()):
            if (process := one.get("process")) is not None:
                assert start_ticks(process["pid"]) == process["startTicks"], f"{one['name']}: {process}"
                found[one["name"]] = Seen(process["pid"], process["startTicks"])
        return found

    def attempts(self, name: str) -> dict[str, int]:
        return {one["name"]: one["attempt"] for one in self.get(name)["status"]["services"]}

    def scope(self, name: str) -> Path:
        return self.stage.home / "scopes" / stack_scope(self.stage.namespace, name)

    def supervisor(self, scope: str) -> Seen | None:
        """The living supervisord of a scope, by its mark: its pid file may lie."""
        mark = f"MAINSTAY_SCOPE={self.stage.home_id}/{scope}\0".encode()
        found: dict[int, tuple[Seen, int]] = {}
        for pid in psutil.pids():
            with suppress(OSError, psutil.Error):
                if mark not in Path(f"/proc/{pid}/environ").read_bytes():
                    continue
                words = b"supervisor.supervisord" in Path(f"/proc/{pid}/cmdline").read_bytes()
                if words and (ticks := start_ticks(pid)):
                    found[pid] = Seen(pid, ticks), psutil.Process(pid).ppid()
        # One that forks is for a moment two of the same words.
        first = [seen for seen, parent in found.values() if parent not in found]
        assert len(first) < 2, f"two supervisords of {scope}: {first}"
        return first[0] if first else None

    def supervised(self, name: str) -> Seen:
        """The stack's supervisord, once there is one."""
        found = eventually(lambda: self.supervisor(self.scope(name).name), f"supervisord of {name}")
        assert isinstance(found, Seen)
        return found

    def around(self, *but: str) -> Around:
        """All that no restart of `but` may touch."""
        processes: dict[str, Seen] = {}
        supervisors: dict[str, Seen] = {}
        for item in self.stage.client.items(STACKS):
            name = item["metadata"]["name"]
            if name not in but:
                processes |= {f"{name}/{one}": seen for one, seen in self.processes(name).items()}
                supervisors[name] = self.supervised(name)
        for item in self.stage.client.items(RUNS):
            process = item["status"].get("process")
            assert process is not None, item
            assert start_ticks(process["pid"]) == process["startTicks"]
            processes[item["metadata"]["name"]] = Seen(process["pid"], process["startTicks"])
        runs = self.supervisor("runs")
        assert runs is not None
        leases = frozenset(
            (x["metadata"]["name"], x["metadata"]["uid"], x["metadata"]["resourceVersion"])
            for x in self.stage.client.items(LEASES)
        )
        return Around(processes, {**supervisors, "runs": runs}, leases)

    def ports(self, name: str) -> dict[str, int]:
        return {one["name"]: one["port"] for one in self.get(name)["spec"]["services"] if "port" in one}

    def journal(self, name: str) -> list[tuple[str, str, int]]:
        """(service, start or stop, pid) in order."""
        file = self.judge / "journal"
        lines = file.read_text().splitlines() if file.exists() else []
        words = [line.split() for line in lines]
        prefix = name + "."
        return [(w[0].removeprefix(prefix), w[1], int(w[3])) for w in words if w[0].startswith(prefix)]

    def starts(self, name: str) -> dict[str, int]:
        """How often each service was started."""
        journal = self.journal(name)
        return {one: sum(s == one and what == "start" for s, what, _ in journal) for one, _, _ in journal}

    @contextmanager
    def deaf(self, *services: str) -> Iterator[None]:
        """Services, as STACK.NAME, that ignore SIGTERM meanwhile."""
        files = [self.judge / f"{one}.deaf" for one in services]
        for file in files:
            file.touch()
        try:
            yield
        finally:
            for file in files:
                file.unlink()

    # --- the oracle

    def looks_up(self, name: str) -> None:
        """By our own look: each service lives alone, and an Http one's port is its own."""
        assert self.stage.violations() == []
        stack, leaders = self.get(name), self.processes(name)
        holders = listening()
        for one in stack["spec"]["services"]:
            assert one["name"] in leaders, f"{one['name']} does not live: {stack['status']}"
            found = holders.get(one.get("port", 0), set())
            if one["kind"] == "Http":
                assert found == {leaders[one["name"]].pid}, f"{one['name']}: port held by {found}"
            assert {self.unit_of(pid) for pid in found} <= {one["name"]}

    def unit_of(self, pid: int) -> str:
        """The service a process belongs to, by its environment."""
        with suppress(OSError):
            environ = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
            env = dict(e.partition("=")[::2] for e in environ.split("\0"))
            return env.get("SERVICE_NAME", f"nobody's {pid}")
        return f"gone {pid}"


def listening() -> dict[int, set[int]]:
    """Port → pids of those who listen on it."""
    found: dict[int, set[int]] = {}
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.pid is not None:
            found.setdefault(one.laddr.port, set()).add(one.pid)
    return found


def completed(restart: Object, mode: str, services: int) -> None:
    """It is Completed; every step is there in order, with its times; and every service is verified."""
    status = restart["status"]
    assert status["phase"] == "Completed", status
    in_order(restart, STEPS[mode])
    assert all(one["state"] == "Completed" and one["message"] for one in status["steps"]), status["steps"]
    assert "step" not in status
    if mode != "Flush":
        assert [one["up"] for one in status["verified"]] == [True] * services, status["verified"]
    assert times(status["startedAt"]) <= times(status["completedAt"])


def failed(restart: Object, mode: str, step: str) -> str:
    """It is Failed at that step, and what comes after wasn't begun; the message."""
    status = restart["status"]
    assert status["phase"] == "Failed", status
    assert status["step"] == step
    steps = STEPS[mode]
    states = [one["state"] for one in status["steps"]]
    at = steps.index(step)
    assert states == ["Completed"] * at + ["Failed"] + ["Pending"] * (len(steps) - at - 1)
    in_order(restart, steps, at + 1)
    stalled = next(c for c in status["conditions"] if c["type"] == "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "StepFailed")
    assert f"step {step}: " in stalled["message"]
    message = status["steps"][at]["message"]
    assert isinstance(message, str)
    return message


def in_order(restart: Object, steps: tuple[str, ...], begun: int | None = None) -> None:
    told = restart["status"]["steps"]
    assert tuple(one["name"] for one in told) == steps
    last = times(restart["status"]["startedAt"])
    for one in told[:begun]:
        assert last <= times(one["startedAt"]) <= times(one["completedAt"]), told
        last = times(one["completedAt"])


def times(text: str) -> datetime:
    return datetime.fromisoformat(text)


def backend(judge: Path, ports: list[int]) -> list[Object]:
    """Eight services on eight ports, in the order of the sample."""
    own = dict(zip(BACKEND, ports, strict=True))

    def one(name: str, kind: str, *after: str, **more: Any) -> Object:
        return service(judge, name, kind, own[name], after=after, grace=1, **more)

    return [
        one("btc_price_watchdog", "Background"),
        one("db_poller", "Background", program=DAEMON),
        one("kalshi_api_watchdog", "Background"),
        one("trade_manager", "Http", "btc_price_watchdog", "db_poller", http=True),
        one("trade_executor", "Http", "trade_manager", "kalshi_api_watchdog", http=True),
        one("active_trade_supervisor", "Http", "trade_manager", "trade_executor"),
        one("kalshi_account_sync", "Background", "kalshi_api_watchdog", "trade_executor", program=SERVER),
        one("main_app", "Http", "active_trade_supervisor", "kalshi_account_sync", http=True),
    ]


LAYERS = {
    "trade_manager": ("btc_price_watchdog", "db_poller"),
    "trade_executor": ("trade_manager", "kalshi_api_watchdog"),
    "active_trade_supervisor": ("trade_manager", "trade_executor"),
    "kalshi_account_sync": ("kalshi_api_watchdog", "trade_executor"),
    "main_app": ("active_trade_supervisor", "kalshi_account_sync"),
}
"""Who needs whom."""


@contextmanager
def desk(plane: RealPlane, *, runs: int = RUN_COUNT, stacks: bool = True) -> Iterator[Desk]:
    """The whole of it, running. Stacks have the last ports of the stage, the runs' pool the first."""
    with staged(plane, ports=60) as stage:
        ports = stage.ports
        one = Desk(stage, reserved=ports[-1])
        # The pool is for the runs alone: a stack's ports are fixed.
        pool = {"ranges": [{"first": ports.start, "last": ports.start + 14}]}
        stage.client.merge(path("portpools", name="stage"), {"spec": pool})
        for number in range(runs):
            stage.create(f"run-{number}", listener(stage.judge))
        if stacks:
            one.create("backend", backend(stage.judge, list(ports[20:28])))
            one.create(
                "other",
                [
                    service(stage.judge, "web", "Http", ports[28], after=("feed",)),
                    service(stage.judge, "feed", "Background"),
                ],
            )
            one.running("backend")
            one.running("other")
        for number in range(runs):
            stage.until(f"run-{number}", ready("Running"))
        yield one


def free(desk: Desk, count: int) -> list[int]:
    """Ports of the stage that no lease, service or process has."""
    leased = {x["spec"]["port"] for x in desk.stage.client.items(LEASES)} | {desk.reserved}
    heard = listening()
    found = [port for port in desk.stage.ports[29:] if port not in leased and port not in heard]
    assert len(found) >= count, f"{len(found)} ports of {os.getpid()} are free"
    return found[:count]
