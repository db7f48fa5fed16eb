"""`mainstay ports`: what is leased and assigned, who listens, and what is wrong first."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path

import pytest
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.cli.app import app
from mainstay.cli.home import Home
from mainstay.cli.listeners import Listening, listening
from mainstay.core.names import stack_scope
from mainstay.shell.kube import LEASES, POOLS, RUNS, STACKS, Kube


@pytest.fixture
def home(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="ms-cli-") as directory:
        monkeypatch.setenv("MAINSTAY_HOME", directory)
        monkeypatch.delenv("KUBECONFIG", raising=False)
        yield Home(Path(directory))


def lease(
    cluster: Cluster,
    port: int,
    kind: str,
    name: str,
    namespace: str = "default",
    pool: str | None = "default",
):
    holder = {"kind": kind, "namespace": namespace, "name": name, "uid": f"uid-{name}"}
    spec = {"port": port, "holder": holder, **({"pool": pool} if pool else {})}
    cluster.add(LEASES, f"port-{port}", spec, namespace="")


@pytest.fixture
def cluster(home, monkeypatch) -> Cluster:
    made = Cluster()
    assert not home.exists, "nothing of this machine is looked at"
    made.add(POOLS, "default", {"ranges": [{"first": 8766, "last": 8770}], "reserved": [8770]}, namespace="")
    made.add(RUNS, "bot", {}, phase="Running", port=8766)
    made.add(RUNS, "far", {}, namespace="other", phase="Running", port=8767)
    lease(made, 8766, "StrategyRun", "bot")
    lease(made, 8767, "StrategyRun", "far", "other")
    services = [{"name": "main_app", "port": 3000}, {"name": "poller", "port": 8003}, {"name": "no_port"}]
    seen = [
        {"port": 3000, "service": "main_app", "state": "Held", "holder": "pid 5 (web)", "pid": 5},
        {"port": 8003, "service": "poller", "state": "Taken", "holder": "ServiceStack other/first"},
    ]
    made.add(STACKS, "backend", {"services": services}, ports=seen)
    lease(made, 3000, "ServiceStack", "backend", pool=None)
    monkeypatch.setattr(Kube, "connect", made.connect)
    return made


def told(*options: str):
    result = CliRunner().invoke(app, ["ports", "-o", "json", *options])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    return {row["port"]: row for row in answer["ports"]}, {one["name"]: one for one in answer["pools"]}


@pytest.mark.usefixtures("cluster")
def test_what_is_wrong_comes_first():
    result = CliRunner().invoke(app, ["ports"])
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["PORT", "HOLDER", "SERVICE", "STATE", "LISTENS", "POOL", "MESSAGE"]
    first = rows[0].split()
    assert first[:4] == ["8003", "stack/backend", "poller", "Taken"]
    assert "leased to another: ServiceStack other/first" in rows[0]
    assert rows[1].split() == ["3000", "stack/backend", "main_app", "Held", "pid", "5", "(web)", "fixed"]
    assert rows[2].split() == ["8766", "run/bot", "Running", "default"]
    assert result.stdout.splitlines()[-1].split() == ["default", "8766-8770", "2", "2"]
    assert "1 more in other namespaces" in result.stderr


@pytest.mark.usefixtures("cluster")
def test_of_one_namespace_or_of_all():
    assert set(told()[0]) == {3000, 8003, 8766}
    assert set(told("-n", "other")[0]) == {8767}
    assert set(told("-A")[0]) == {3000, 8003, 8766, 8767}
    assert "NAMESPACE" in CliRunner().invoke(app, ["ports", "-A"]).stdout
    assert "in namespace none" in CliRunner().invoke(app, ["ports", "-n", "none"]).stdout


def test_a_lease_whose_holder_is_gone_or_another(cluster):
    lease(cluster, 8768, "StrategyRun", "gone")
    row = told()[0][8768]
    assert "its holder StrategyRun default/gone is gone" in row["problem"]


def test_a_pool_that_is_used_up(cluster):
    cluster.add(POOLS, "small", {"ranges": [{"first": 8766, "last": 8766}]}, namespace="")
    pools = told()[1]
    assert (pools["small"]["free"], pools["small"]["problem"]) == (0, "no port is free: widen spec.ranges")
    assert (pools["default"]["free"], pools["default"]["leased"]) == (2, 2)


@pytest.mark.usefixtures("cluster")
def test_of_this_machine_who_listens_is_looked_at(home, monkeypatch):
    home.identity()
    web = f"{stack_scope('default', 'backend')}/main_app"
    seen = {
        3000: [Listening(3000, 7, "pid 7 (web)", web)],
        8766: [Listening(8766, 812, "pid 812 (nginx)", "")],
    }
    monkeypatch.setattr("mainstay.cli.listeners.listening", lambda *_: seen)
    rows = told()[0]
    assert (rows[3000]["state"], rows[3000]["pid"], rows[3000]["problem"]) == ("Held", 7, "")
    assert (rows[8766]["state"], rows[8766]["pid"]) == ("Foreign", 812)
    assert "a stranger listens: pid 812 (nginx)" in rows[8766]["problem"]
    seen[3000] = [Listening(3000, 9, "pid 9 (x)", "", "it is part of Mainstay")]
    row = told()[0][3000]
    assert row["problem"].endswith("pid 9 (x), it is part of Mainstay; give one of the two another port")
    seen[3000] = [Listening(3000, 9, "pid 9 (x)", f"{stack_scope('default', 'backend')}/poller")]
    row = told()[0][3000]
    assert "/poller; `mainstay flush" in row["problem"], "another service is a stranger to it too"
    seen[3000] = [Listening(3000, 9, "pid 9 (x)", "")]
    assert told()[0][3000]["problem"].endswith("(x); `mainstay flush stack/backend` ends it")
    seen.clear()
    assert told()[0][3000]["state"] == "Free"
    assert "nobody" in CliRunner().invoke(app, ["ports"]).stdout


def test_a_socket_is_found_with_its_process(home):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        (found,) = listening(home, {port: "runs"})[port]
        assert (found.pid, found.unit) == (os.getpid(), "")
        assert found.protected.startswith("it is Mainstay itself")
        assert f"pid {os.getpid()} (" in found.words
    assert listening(home, {port: "runs"}) == {}


@pytest.mark.usefixtures("home")
def test_output_is_json_or_yaml():
    result = CliRunner().invoke(app, ["ports", "-o", "table"])
    assert result.exit_code == 2
    assert "json or yaml" in result.output
