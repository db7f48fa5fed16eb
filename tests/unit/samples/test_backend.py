"""The sample of eight services: its stack is the one that was asked for, and each program starts, answers and ends."""

import configparser
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from tests.support.exchange import PYTHON, SAMPLES

from mainstay.api.servicestack import RESERVED_PORTS, ServiceKind, ServiceStack

HERE = SAMPLES / "backend"
BEFORE = HERE / "before"
DOCUMENT = yaml.safe_load((SAMPLES / "backend.yaml").read_text())
SPEC = ServiceStack.model_validate(DOCUMENT).spec
SERVICES = {one.name: one for one in SPEC.services}

HTTP = {"main_app": 3000, "trade_manager": 4000, "active_trade_supervisor": 6000, "trade_executor": 8001}
BACKGROUND = {
    "btc_price_watchdog": 8002,
    "db_poller": 8003,
    "kalshi_account_sync": 8004,
    "kalshi_api_watchdog": 8005,
}
SILENT = ("kalshi_account_sync", "kalshi_api_watchdog")
"""They have a port and don't listen on it."""
STOP_SECONDS = 1.0


# --- the manifest


def test_the_services_and_their_ports():
    def of(kind):
        return {one.name: one.port for one in SPEC.services if one.kind is kind}

    assert of(ServiceKind.HTTP) == HTTP
    assert of(ServiceKind.BACKGROUND) == BACKGROUND
    assert tuple(SPEC.reserved_ports) == RESERVED_PORTS == (5000, 7000, 9000, 10000)


def test_http_services_are_ready_when_they_answer():
    for one in SPEC.services:
        readiness = one.program.readiness
        if one.kind is ServiceKind.HTTP:
            assert (readiness.http.path, readiness.http.port) == ("/health", "control")
        else:
            assert readiness is None


def test_the_order_begins_with_the_data_and_ends_with_main_app():
    order, left = [], dict(SERVICES)
    while left:
        ready = sorted(name for name, one in left.items() if set(one.depends_on) <= set(order))
        assert ready, f"a circle: {sorted(left)}"
        order += ready
        for name in ready:
            del left[name]
    assert {"db_poller", "btc_price_watchdog"} <= set(order[:3])
    assert order[-1] == "main_app"


def test_who_is_asked_was_started_before_and_is_asked_on_its_port():
    def before(name):
        return {
            *SERVICES[name].depends_on,
            *(far for near in SERVICES[name].depends_on for far in before(near)),
        }

    for one in SPEC.services:
        assert one.program.command == ["python3", "-S", f"{one.name}.py"]
        assert one.program.working_dir == "samples/backend"
        for asked in one.program.args:
            name, _, port = asked.partition("=")
            assert name in before(one.name)
            assert SERVICES[name].port == int(port)
            assert name not in SILENT


# --- the programs


class Running:
    """One program on a port of its own, as Mainstay starts it."""

    def __init__(self, name, data, *, port=None, interval="60", **asks):
        self.name, self.port, self.data = name, port or free_ports(1)[0], data
        self.process = subprocess.Popen(
            [*PYTHON, f"{name}.py", *(f"{one}={where}" for one, where in asks.items())],
            cwd=HERE,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONDONTWRITEBYTECODE": "1",
                "PORT": str(self.port),
                "DATA_DIR": str(data),
                "SERVICE_NAME": name,
                "ATTEMPT": "3",
                "INTERVAL": interval,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self, words):
        """The next line of its log with these words."""
        for line in self.process.stdout:
            if words in line:
                return line
        raise AssertionError(f"{self.name} ended without {words!r}: {self.process.stderr.read()}")

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def kept(self):
        return json.loads((self.data / "state.json").read_text())

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.communicate(timeout=10)


def free_ports(count):
    """So many different ones: all are held until the last is found."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture
def start(tmp_path):
    """Starts programs; those still alive at the end are killed."""
    started = []

    def begin(name, **options):
        started.append(Running(name, tmp_path / name, **options))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait()
        one.process.stdout.close()
        one.process.stderr.close()


def nobody(name):
    """For each that this service asks, a port where nobody listens."""
    asked = [one.partition("=")[0] for one in SERVICES[name].program.args]
    return dict(zip(asked, free_ports(len(asked)), strict=True))


@pytest.mark.parametrize("name", HTTP)
def test_an_http_service_serves_and_ends(start, name):
    one = start(name, **nobody(name))
    assert f"pid {one.process.pid}, attempt 3, http://127.0.0.1:{one.port}" in one.line("started")
    assert one.get("/health") == (200, {"status": "ok", "pid": one.process.pid})
    status, about = one.get("/")
    assert (status, about["service"], about["pid"]) == (200, name, one.process.pid)
    assert about["startedAt"] == pytest.approx(time.time(), abs=60)
    assert {name: one["up"] for name, one in about["dependencies"].items()} == dict.fromkeys(
        nobody(name), False
    )
    assert one.get("/nothing")[0] == 404
    asked = time.monotonic()
    out, err = one.end()
    assert time.monotonic() - asked < STOP_SECONDS
    assert (one.process.returncode, err) == (0, "")
    assert "stopped by SIGTERM" in out


@pytest.mark.parametrize("name", BACKGROUND)
def test_a_background_service_beats_and_ends(start, name):
    one = start(name, **nobody(name))
    one.line("started")
    one.line("heartbeat 1:")
    kept = one.kept()
    assert (kept["service"], kept["pid"], kept["beats"]) == (name, one.process.pid, 1)
    assert kept["state"]
    if name in SILENT:
        with pytest.raises(urllib.error.URLError):
            one.get("/")
    else:
        assert one.get("/")[1]["state"] == kept["state"]
    asked = time.monotonic()
    out, err = one.end()
    assert time.monotonic() - asked < STOP_SECONDS
    assert (one.process.returncode, err) == (0, "")
    assert "stopped by SIGTERM" in out


def test_it_goes_on_where_the_killed_one_was(start):
    first = start("db_poller", interval="0.01")
    first.line("heartbeat 5:")
    first.end(signal.SIGKILL)
    polls = first.kept()["state"]["polls"]
    second = start("db_poller")
    assert f"polls {polls + 1}," in second.line("heartbeat 1:")


def test_what_a_service_knows_of_its_dependencies(start):
    price, poller = start("btc_price_watchdog"), start("db_poller")
    price.line("heartbeat 1:")
    poller.line("heartbeat 1:")
    ports = {"btc_price_watchdog": price.port, "db_poller": poller.port}
    manager = start("trade_manager", interval="0.01", **ports)
    executor = start("trade_executor", interval="0.01", trade_manager=manager.port)
    manager.line("started")
    executor.line("started")
    both = {
        "btc_price_watchdog": (True, price.process.pid),
        "db_poller": (True, poller.process.pid),
    }

    def known():
        about = manager.get("/")[1]
        asked = {name: (one["up"], one.get("pid")) for name, one in about["dependencies"].items()}
        return asked == both and about["state"].get("decisions")

    wait_for(known)
    price.end()
    wait_for(lambda: not manager.get("/")[1]["dependencies"]["btc_price_watchdog"]["up"])
    assert manager.get("/health")[0] == 200, "a service is not down because another one is"
    wait_for(lambda: executor.get("/")[1]["dependencies"]["trade_manager"]["up"])


def test_it_ends_whichever_of_its_threads_gets_the_signal(start):
    """The kernel may give it to any, while the main one sleeps."""
    one = start("btc_price_watchdog")
    one.line("heartbeat 1:")
    pid = one.process.pid
    other = next(int(task) for task in os.listdir(f"/proc/{pid}/task") if int(task) != pid)
    assert ctypes.CDLL(None).tgkill(pid, other, signal.SIGTERM) == 0
    out, _ = one.process.communicate(timeout=10)
    assert "stopped by SIGTERM" in out


def test_it_ends_quickly_while_whom_it_asks_hangs(start):
    with ExitStack() as hung:
        asks = {}
        for name in nobody("main_app"):
            listener = hung.enter_context(socket.create_server(("127.0.0.1", 0)))
            asks[name] = listener.getsockname()[1]
        one = start("main_app", **asks)
        one.line("started")
        asked = time.monotonic()
        one.end()
        assert time.monotonic() - asked < STOP_SECONDS
        assert one.process.returncode == 0


def test_a_taken_port_is_one_line(start):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        one = start("main_app", port=port)
        _, err = one.process.communicate(timeout=10)
    assert one.process.returncode == 1
    assert err == f"main_app: can't listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize("missing", ["PORT", "DATA_DIR"])
def test_what_is_missing_is_one_line(tmp_path, missing):
    env = {"PORT": "1", "DATA_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    del env[missing]
    done = subprocess.run([*PYTHON, "main_app.py"], cwd=HERE, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert missing in done.stderr
    assert done.stderr.count("\n") == 1


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"


# --- as it was before: supervisord.conf and a script


def test_the_conf_before_has_the_same_services():
    conf = configparser.RawConfigParser(inline_comment_prefixes=(";",), strict=True)
    conf.read(BEFORE / "supervisord.conf")
    programs = {name.removeprefix("program:"): conf[name] for name in conf.sections() if ":" in name[:8]}
    assert programs.keys() == SERVICES.keys()
    for name, one in SERVICES.items():
        asks = [f"{asked.partition('=')[0]}" for asked in one.program.args]
        assert programs[name]["command"].split() == [
            "%(ENV_PYTHON)s",
            "-S",
            f"{name}.py",
            *(f"{asked}=%(ENV_{asked.upper()}_PORT)s" for asked in asks),
        ]
        assert f'PORT="%(ENV_{name.upper()}_PORT)s"' in programs[name]["environment"]
        assert int(programs[name]["stopwaitsecs"]) == one.program.termination_grace_period_seconds
        for needed in one.depends_on:
            assert int(programs[needed]["priority"]) < int(programs[name]["priority"])


def test_the_script_before_has_the_same_ports():
    script = (BEFORE / "restart.sh").read_text()
    for name, port in {**HTTP, **BACKGROUND}.items():
        assert f"{name.upper()}_PORT:-{port}}}" in script


@contextmanager
def before():
    """restart.sh in a directory and on ports of its own; ends the supervisor it leaves behind."""
    ports = free_ports(len(SERVICES))
    with tempfile.TemporaryDirectory(prefix="backend-") as home:
        tools = Path(sys.executable).parent
        env = {
            "PATH": os.environ["PATH"],
            "BACKEND_HOME": home,
            "PYTHON": sys.executable,
            "PYTHONDONTWRITEBYTECODE": "1",
            "SUPERVISORD": str(tools / "supervisord"),
            "SUPERVISORCTL": str(tools / "supervisorctl"),
            "FLUSH_WAIT": "0.1",
            **{f"{name.upper()}_PORT": str(port) for name, port in zip(SERVICES, ports, strict=True)},
        }

        def run(*arguments, settle):
            command = ["bash", str(BEFORE / "restart.sh"), *arguments]
            given = {**env, "SETTLE": str(settle)}
            return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60)

        try:
            yield env, run
        finally:
            if (pid_file := Path(home, "supervisord.pid")).exists():
                os.kill(int(pid_file.read_text()), signal.SIGTERM)
                wait_for(lambda: not pid_file.exists(), 30)


def test_the_script_before_works():
    with before() as (env, run):
        assert "full|quick|emergency|flush|status|help" in run("help", settle=0).stdout
        status = run("status", settle=0)
        assert status.returncode == 1
        assert status.stdout.count("FAIL") == len(SERVICES)
        port = env["TRADE_MANAGER_PORT"]
        program = (
            f"import socket; s = socket.create_server(('127.0.0.1', {port})); print(flush=True); s.accept()"
        )
        with subprocess.Popen([*PYTHON, "-c", program], stdout=subprocess.PIPE) as stranger:
            stranger.stdout.readline()
            quick = run("quick", settle=0)
            assert quick.returncode == 1
            assert f"{port} (trade_manager) is still held by pid {stranger.pid}" in quick.stderr
            assert stranger.poll() is None
            full = run(settle=3)  # supervisord calls a program RUNNING up to 2 s after its start
            assert stranger.wait(10) == -signal.SIGTERM
        assert full.returncode == 0, full.stdout + full.stderr
        assert full.stdout.count("  OK ") == len(SERVICES)
