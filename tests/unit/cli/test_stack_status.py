"""Stacks and their restarts, as status shows them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.cli import machine, status
from mainstay.cli.app import app
from mainstay.cli.console import Rows
from mainstay.cli.restartstate import restarts_table, spent, step_line, verified_table
from mainstay.cli.stackdepth import ports_table, services_table
from mainstay.cli.stackstate import holder, is_up, is_wrong, troubles, words_of
from mainstay.shell.kube import JOBS, RESTARTS, RUNS, STACKS, Kube, path

run = CliRunner()

PORTS = {
    "main_app": 3000, "trade_manager": 4000, "active_trade_supervisor": 6000, "trade_executor": 8001,
    "btc_price_watchdog": 8002, "db_poller": 8003, "kalshi_account_sync": 8004, "kalshi_api_watchdog": 8005,
}  # fmt: skip
SERVICES = [
    {"name": name, "kind": "Http" if port < 8002 else "Background", "port": port}
    for name, port in PORTS.items()
]
STRANGER = "pid 99 (python3 old_manager.py --port 4000)"
FATAL = "it ended with exit code 1 again and again; correct it, then restart it"


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    made = Cluster()
    (tmp_path / "home-id").write_text("abcdef")

    async def parts(_: Any) -> list[Any]:
        return []

    monkeypatch.setattr("mainstay.cli.home.LONGEST", 500)
    monkeypatch.setattr(machine, "parts_of", parts)
    monkeypatch.setenv("MAINSTAY_HOME", str(tmp_path))
    monkeypatch.setattr(Kube, "connect", made.connect)
    return made


def say(*words: str, code: int = 0) -> str:
    """What a command printed, never with colours."""
    result = run.invoke(app, list(words))
    assert "Traceback" not in result.output
    assert "\x1b" not in result.output
    assert result.exit_code == code, f"{result.exit_code}: {result.output} {result.exception!r}"
    return str(result.output)


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def service(name: str, state: str = "Running", **more: Any) -> dict[str, Any]:
    live = {"process": {"pid": 1234567, "startTicks": 1, "bootId": "b"}, "since": ago(190)}
    up = {"ready": True, "reason": "Running", **live} if state == "Running" else {}
    return {"name": name, "state": state, "restarts": 0, **up, **more}


def condition(kind: str, value: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": value, "reason": reason, "message": message}


def healthy() -> dict[str, Any]:
    return {
        "phase": "Running",
        "ready": "8/8",
        "services": [service(name) for name in PORTS],
        "ports": [
            {"port": port, "service": name, "state": "Held", "holder": name, "pid": 1234567}
            for name, port in PORTS.items()
        ],
        "supervisor": {"pid": 4711, "startTicks": 1, "bootId": "b"},
        "conditions": [condition("Ready", "True", "ServicesUp", "8 of 8 services are up")],
    }


def troubled() -> dict[str, Any]:
    """A stranger on a port, who keeps two services from starting; one Fatal, one that crashes; a port leased away."""
    seen = healthy()
    seen |= {"phase": "Degraded", "ready": "4/8"}
    message = f"port 4000 is held by {STRANGER}; `kubectl mainstay flush backend` ends it"
    lost = {"code": 1, "message": "exit code 1\nModuleNotFoundError: No module named 'asyncpg'"}
    for one in (
        service("trade_manager", "Pending", reason="PortForeign", message=message),
        service("trade_executor", "Pending", reason="DependencyNotReady", message="waits for trade_manager"),
        service("db_poller", "Fatal", reason="ProcessFailed", message=FATAL, restarts=5, lastExit=lost),
        service("kalshi_api_watchdog", "Backoff", reason="CrashLoopBackOff", message="exit code 2",
                restarts=12, lastExit={"code": 2}),
    ):  # fmt: skip
        seen["services"][list(PORTS).index(one["name"])] = one
    seen["ports"][1] |= {"state": "Foreign", "holder": STRANGER, "pid": 99}
    seen["ports"][4] = {
        "port": 8002,
        "service": "btc_price_watchdog",
        "state": "Taken",
        "holder": "run team/bot",
    }
    words = f"4 of 8 services are up; trade_manager: PortForeign: {message}; and 2 more"
    seen["conditions"] = [condition(kind, value, "ServicesDown", words) for kind, value in
                          (("Ready", "False"), ("Stalled", "True"))]  # fmt: skip
    return seen


def restart(cluster: Cluster, name: str, phase: str, mode: str = "Full", **more: Any) -> None:
    over = {"completedAt": ago(180)} if phase in ("Completed", "Failed") else {}
    spec = {"stack": "backend", "mode": mode}
    cluster.add(RESTARTS, name, spec, phase=phase, startedAt=ago(183.4), **over, **more)
    cluster.objects[path(RESTARTS, "default", name)]["metadata"]["creationTimestamp"] = ago(184)


STEPS = [
    {
        "name": "StopServices",
        "state": "Completed",
        "startedAt": "2026-11-21T10:00:00.123Z",
        "completedAt": "2026-11-21T10:00:00.523Z",
        "message": "8 services stopped",
        "details": ["main_app: pid 7 ended by TERM"],
    },
    {
        "name": "Verify",
        "state": "Failed",
        "startedAt": "2026-11-21T10:00:00.6Z",
        "completedAt": "2026-11-21T10:01:00.6Z",
        "message": "db_poller is not up after 60 s; correct it",
    },
]
VERIFIED = [{"name": "main_app", "up": True}, {"name": "db_poller", "up": False, "message": "exit code 1"}]


# -- at a glance


def test_a_healthy_stack_is_one_line(cluster):
    cluster.add(STACKS, "backend", {"services": SERVICES}, **healthy())
    restart(cluster, "backend-full-1", "Completed")
    told = say("status")
    line = next(line for line in told.splitlines() if line.startswith("backend"))
    assert line.split()[:7] == ["backend", "Running", "8/8", "Full", "Completed", "3m", "ago"]
    assert "About" not in told


def test_what_is_wrong_first(cluster):
    cluster.add(STACKS, "a-healthy-one", {"services": SERVICES}, **healthy())
    cluster.add(STACKS, "backend", {"services": SERVICES}, **troubled())
    restart(cluster, "backend-full-1", "Running", step="Verify")
    told = say("status")
    assert told.index("backend") < told.index("a-healthy-one")
    lines = told[told.index("About stack/backend (`mainstay status stack/backend`):") :].splitlines()[1:]
    assert lines == [
        f"  trade_manager Pending: PortForeign: port 4000 is held by {STRANGER}; "
        "`kubectl mainstay flush backend` ends it",
        f"  db_poller Fatal: ProcessFailed: {FATAL}; exit code 1 ModuleNotFoundError: No module named 'asyncpg'",
        "  kalshi_api_watchdog Backoff: CrashLoopBackOff: exit code 2",
        "  port 8002 Taken: assigned to btc_price_watchdog, leased to run team/bot",
        "  trade_executor Pending: DependencyNotReady: waits for trade_manager",
    ]
    assert told.count("Full Running at Verify") == 1


def test_namespaces(cluster):
    cluster.add(STACKS, "backend", {"services": SERVICES}, **healthy())
    cluster.add(STACKS, "theirs", {"services": SERVICES}, "team", **troubled())
    told = say("status")
    assert "theirs" in told
    assert "mainstay status stack/theirs -n team" in told
    assert "NAMESPACE" in told
    assert "theirs" not in say("status", "-n", "default")
    assert "backend " not in say("status", "-n", "team")
    assert "theirs" in say("status", "-n", "default", "-A")
    assert "-A shows every namespace" in say("status", "-n", "nobody")
    assert "-A goes without a name" in say("status", "-A", "backend", code=1)


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_for_machines(cluster, form):
    cluster.add(STACKS, "backend", {"services": SERVICES}, **troubled())
    restart(cluster, "backend-full-1", "Failed", step="Verify")
    (told,) = yaml.safe_load(say("status", "-o", form))["stacks"]
    assert (told["state"], told["up"], told["reason"]) == ("Degraded", "4/8", "ServicesDown")
    assert told["wrong"][0]["what"] == "trade_manager"
    assert told["lastRestart"]["state"] == "Failed"
    assert json.loads(say("status", "stack/backend", "-o", "json"))["metadata"]["name"] == "backend"
    assert json.loads(say("status", "srestart/backend-full-1", "-o", "json"))["spec"]["mode"] == "Full"


def test_a_stack_that_no_operator_has_seen(cluster):
    cluster.add(STACKS, "backend", {"services": SERVICES})
    cluster.objects[path(STACKS, "default", "backend")]["status"] = {}
    assert "no operator has looked at it yet" in say("status")
    assert "no operator has looked at it yet" in say("status", "backend")


# -- in depth


def test_a_stack_in_depth(cluster):
    cluster.add(STACKS, "backend", {"services": SERVICES, "owner": {"userId": "u-7"}}, **troubled())
    restart(cluster, "backend-full-1", "Failed", steps=STEPS, step="Verify")
    restart(cluster, "other-full-1", "Completed")
    cluster.objects[path(RESTARTS, "default", "other-full-1")]["spec"]["stack"] = "other"
    told = say("status", "stack/backend")
    assert told.splitlines()[0].startswith("stack/backend   Degraded   4/8 up   supervisor pid 4711   age ")
    assert "owner u-7" in told
    assert told.count(STRANGER) == 2, "why a service waits, and who has the port"
    assert "No module named 'asyncpg'" in told
    assert "backend-full-1" in told
    assert "db_poller is not up after 60 s; correct it" in told
    assert "other-full-1" not in told
    assert [line.split("   ")[0].strip() for line in told.splitlines()[-7:]] == [
        "mainstay flush backend",
        "kubectl edit stack backend",
        "mainstay logs stack/backend/db_poller",
        "mainstay logs stack/backend/kalshi_api_watchdog",
        "mainstay status srestart/backend-full-1",
        "mainstay restart stack/backend/db_poller",
        "mainstay restart stack/backend",
    ]
    assert told.endswith("starts all afresh, and ends the strangers\n")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "port 4000 is held by pid 9 (sshd): it is a system service; give one of the two another port",
            False,
        ),
        ("port 4000 is held by uid 0, pid unknown; end it, or give the service another port", False),
        ("port 4000 is held by pid 9 (x); `kubectl mainstay flush backend` ends it", True),
    ],
)
def test_a_flush_is_offered_only_where_it_would_end_somebody(cluster, message, told):
    seen = healthy() | {"phase": "Degraded"}
    seen["services"][1] = service("trade_manager", "Pending", reason="PortForeign", message=message)
    seen["ports"][1] |= {"state": "Foreign", "holder": "pid 9", "pid": 9}
    cluster.add(STACKS, "backend", {"services": SERVICES}, **seen)
    shown = say("status", "backend").partition("next:")[2]
    assert ("mainstay flush backend" in shown) is told
    assert ("mainstay restart stack/backend " in shown) is told
    assert ("kubectl edit stack backend   give trade_manager another port" in shown) is not told


def test_a_flush_is_no_restart(cluster):
    cluster.add(STACKS, "backend", {"services": SERVICES}, **healthy())
    restart(cluster, "backend-1-flush", "Completed", mode="Flush")
    assert "Flush" not in say("status")
    assert "Flush" in say("status", "backend")


def test_a_free_port_of_a_service_that_is_up(cluster):
    seen = healthy()
    seen["ports"][1] |= {"state": "Free", "holder": "", "pid": None}
    cluster.add(STACKS, "backend", {"services": SERVICES}, **seen)
    assert "nobody listens" in say("status", "backend")


def test_a_healthy_stack_asks_for_nothing(cluster):
    cluster.add(STACKS, "backend", {"services": SERVICES}, **healthy())
    assert "next:" not in say("status", "backend")


def test_a_stopped_stack(cluster):
    seen = {
        "phase": "Stopped",
        "ready": "0/8",
        "conditions": [condition("Ready", "True", "Stopped", "stopped")],
    }
    stopped = [service(name, "Stopped", reason="Stopped") for name in PORTS]
    cluster.add(STACKS, "backend", {"services": SERVICES, "state": "Stopped"}, **seen, services=stopped)
    told = say("status", "backend")
    assert told.endswith("next:\n  mainstay start stack/backend   starts its services\n")
    assert "✗" not in told


def test_the_restart_under_way(cluster):
    seen = healthy() | {"phase": "Restarting", "restart": {"name": "backend-quick-1", "uid": "u"}}
    seen["conditions"] = [
        condition("Ready", "False", "Restarting", "Quick restart backend-quick-1 is at step Verify")
    ]
    cluster.add(STACKS, "backend", {"services": SERVICES}, **seen)
    steps = [
        STEPS[0],
        {"name": "Verify", "state": "Running", "startedAt": ago(2)},
        {"name": "X", "state": "Pending"},
    ]
    restart(cluster, "backend-quick-1", "Running", "Quick", steps=steps, step="Verify")
    told = say("status", "backend")
    assert "Restarting: Quick restart backend-quick-1 is at step Verify" in told
    assert "restart under way: Quick   srestart/backend-quick-1   for " in told
    assert "✓ StopServices     10:00:00.123    0.4 s  8 services stopped" in told
    assert "▸ Verify" in told
    assert "· X" in told
    assert "ended by TERM" not in told


def test_history_is_short(cluster):
    cluster.add(STACKS, "backend", {"services": SERVICES}, **healthy())
    for number in range(8):
        restart(cluster, f"backend-full-{number}", "Completed")
    told = say("status", "backend")
    assert "backend-full-7" in told
    assert "backend-full-2" not in told
    assert "and 3 earlier ones; `kubectl get srestart -n default`" in told


def test_a_restart_in_depth(cluster):
    restart(cluster, "backend-full-1", "Failed", steps=STEPS, step="Verify", verified=VERIFIED)
    told = say("status", "srestart/backend-full-1")
    assert told.splitlines()[0].split("   ") == ["srestart/backend-full-1", "Failed", "took 3.4 s"]
    assert "Full restart of stack/backend   asked for 3m ago" in told
    assert "✗ Verify           10:00:00.600   60.0 s  db_poller is not up after 60 s; correct it" in told
    assert "    main_app: pid 7 ended by TERM" in told
    assert told.index("✗ db_poller") < told.index("✓ main_app")
    assert told.endswith("\nmainstay status stack/backend\n")


def test_a_bare_name_is_the_run_if_there_is_one(cluster):
    cluster.add(STACKS, "backend", {"services": SERVICES}, **healthy())
    assert say("status", "backend").startswith("stack/backend")
    cluster.add(RUNS, "backend", {})
    assert "kubectl describe srun backend" in say("status", "backend")
    assert say("status", "stack/backend").startswith("stack/backend")


# -- words

FELL = {"state": "Fatal"}


@pytest.mark.parametrize(
    ("seen", "up", "wrong"),
    [
        (service("a"), True, False),
        (service("a", "Completed"), True, False),
        (service("a", "Starting", reason="Starting"), False, False),
        (service("a", "Pending", reason="DependencyNotReady"), False, False),
        (service("a", "Pending", reason="PortForeign"), False, True),
        (service("a", "Backoff", reason="CrashLoopBackOff"), False, True),
        (service("a", "Fatal"), False, True),
        (service("a", "Running", ready=False, reason="NotReady"), False, True),
        (service("a", "Stopped", reason="Restarting"), False, False),
        (service("a", "Stopped", reason="HeldLocally"), False, True),
    ],
)
def test_up_and_wrong(seen, up, wrong):
    assert (is_up(seen), is_wrong(seen)) == (up, wrong)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"reason": "ProcessFailed", "message": "exit code 1"}, "ProcessFailed: exit code 1"),
        ({"reason": "X", "message": "exit code 1", "lastExit": {"code": 1}, **FELL}, "X: exit code 1"),
        ({"reason": "X", "lastExit": {"signal": 9}, **FELL}, "X; last exit by signal 9"),
        (
            {"reason": "X", "message": "why", "lastExit": {"code": 3, "message": "a\n b"}, **FELL},
            "X: why; a b",
        ),
        ({"reason": "X", "lastExit": {"code": 0, "message": "exit code 0"}, **FELL}, "X"),
        ({"reason": "X", "lastExit": {"signal": 15}, "state": "Pending"}, "X"),
        ({"reason": "X", "lastExit": {"signal": 9}, "restarts": 1}, "X; last exit by signal 9"),
        ({}, ""),
    ],
)
def test_why(seen, words):
    assert words_of({"name": "a", **seen}) == words


@pytest.mark.parametrize(
    ("port", "words"),
    [
        ({"state": "Foreign", "holder": STRANGER, "pid": 99}, f"held by {STRANGER}"),
        ({"state": "Foreign", "holder": "nginx", "pid": 99}, "held by pid 99 nginx"),
        ({"state": "Taken", "holder": "run a/b"}, "leased to run a/b"),
    ],
)
def test_who_has_a_port(port, words):
    assert holder(port) == words


def test_a_strangers_port_is_told_though_its_service_is_up():
    seen = healthy()
    seen["ports"][5] |= {"state": "Foreign", "holder": "pid 7 (x)", "pid": 7}
    assert troubles({"metadata": {}, "status": seen}) == [
        ("port 8003", "Foreign", "assigned to db_poller, held by pid 7 (x)")
    ]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (0.44, "0.4 s"), (119.9, "119.9 s"), (121, "2m"), (7200, "2h")]
)
def test_how_long_it_took(seconds, words):
    began = datetime(2026, 11, 21, tzinfo=UTC)
    part = {"startedAt": began.isoformat(), "completedAt": (began + timedelta(seconds=seconds)).isoformat()}
    assert spent(part) == words
    assert spent({}) == ""


# -- tables on a terminal


def _tables() -> list[Rows]:
    stack = {"metadata": {}, "spec": {"services": SERVICES}, "status": troubled()}
    meta = {
        "name": "backend-emergency-20261121-101112",
        "namespace": "default",
        "creationTimestamp": ago(99999),
    }
    over = {
        "phase": "Failed",
        "step": "StartSupervisor",
        "steps": STEPS,
        "startedAt": ago(100),
        "completedAt": ago(1),
    }
    restart = {
        "metadata": meta,
        "spec": {"stack": "backend", "mode": "Emergency"},
        "status": over | {"verified": VERIFIED},
    }
    return [services_table(stack), ports_table(stack), restarts_table([restart]), verified_table(restart)]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("number", range(4))
def test_tables_fit(width, number):
    lines = [line.plain for line in _tables()[number].lines(width)]
    if number == 2 and width == 80:  # a name of 33, a mode of 9, a step of 15
        width = 95
    assert max(map(len, lines)) <= width


def test_messages_stand_beside_where_there_is_room():
    lines = [line.plain for line in services_table(
        {"metadata": {}, "spec": {"services": SERVICES}, "status": troubled()}
    ).lines(120)]  # fmt: skip
    assert len(lines) == 9
    assert any("ProcessFailed; last exit code 1" in line and "Fatal" in line for line in lines)


def test_a_step_in_a_line():
    assert step_line(STEPS[0]).plain == "✓ StopServices       0.4 s  8 services stopped"
    assert step_line({"name": "Verify", "state": "Pending"}).plain == "· Verify"


def test_a_service_that_is_held(cluster):
    seen = healthy() | {"phase": "Degraded"}
    seen["services"][1] = service(
        "trade_manager", "Stopped", reason="HeldLocally", message="stopped on its host"
    )
    cluster.add(STACKS, "backend", {"services": SERVICES}, **seen)
    assert "  mainstay release stack/backend/trade_manager   lets it run again" in say("status", "backend")


def test_units_without_an_object_are_counted():
    units = ["default.bot", "default.gone", "default.old_copy", "team.ghost/web", "default.backend/web"]
    told = {"runs": [{"namespace": "default", "name": "bot"}], "units": [{"name": one} for one in units]}
    meta = {"namespace": "default", "name": "backend"}
    assert status._without_object(told, {JOBS: [], STACKS: [{"metadata": meta}]}) == 3


def test_what_was_verified_is_told_once(cluster):
    steps = [{**STEPS[1], "details": ["main_app: up", "db_poller: down"]}]
    restart(cluster, "backend-1-full", "Failed", steps=steps, step="Verify", verified=VERIFIED)
    told = say("status", "srestart/backend-1-full")
    assert "main_app: up" not in told
    assert told.count("main_app") == 1
