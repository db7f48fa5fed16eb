"""`mainstay doctor`: each fault is a line with a way out, and only what has no object is ever ended."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.cli import assetchecks, checks, orphans, system
from mainstay.cli.app import app
from mainstay.cli.home import Home, data
from mainstay.cli.names import Kind
from mainstay.cli.orphans import Owned
from mainstay.core.unit import ProcessId, Unit, UnitSpec, UnitState
from mainstay.runtime.process import known_scopes
from mainstay.shell.kube import ASSETS, JOBS, LEASES, RUNS, STACKS, ApiError, Kube, core_path, path

OURS = "cluster-1"


@pytest.fixture
def home(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="ms-cli-") as directory:
        monkeypatch.setenv("MAINSTAY_HOME", directory)
        monkeypatch.delenv("KUBECONFIG", raising=False)
        place = Home(Path(directory))
        place.identity()
        place.owner.write_text(json.dumps({"cluster": OURS}))
        yield place


@pytest.fixture
def cluster(monkeypatch) -> Cluster:
    made = Cluster()
    made.objects[core_path("namespaces", name="kube-system")] = {"metadata": {"uid": OURS}}
    for file in data("crds").glob("*.yaml"):
        crd = yaml.safe_load(file.read_text())
        at = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        crd["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
        made.objects[at] = crd
    monkeypatch.setattr(Kube, "connect", made.connect)
    return made


@pytest.fixture
def healthy(monkeypatch, home, cluster):
    """Everything of this machine works."""

    assert home.exists

    async def works(*_: Any) -> str:
        return ""

    async def parts(*_: Any) -> list[dict[str, Any]]:
        return [{"name": "operator", "restarts": 0, "state": "Running", "pid": 1}]

    async def answer(*_: Any) -> checks.Finding:
        return checks.fine("all 3 supervisors answer")

    monkeypatch.setattr("mainstay.cli.health.operator_trouble", works)
    monkeypatch.setattr("mainstay.cli.machine.parts_of", parts)
    monkeypatch.setattr(checks, "supervisors", answer)
    monkeypatch.setattr(checks, "down", lambda _: False)
    return cluster


def diagnosis() -> dict[str, Any]:
    result = CliRunner().invoke(app, ["doctor", "-o", "json"])
    told = json.loads(result.stdout)
    assert result.exit_code == (0 if told["ok"] else 1)
    return told


def wrong() -> list[tuple[str, list[str]]]:
    return [(one["message"], one["details"]) for one in diagnosis()["checks"] if one["result"] == "Wrong"]


@pytest.mark.usefixtures("healthy")
def test_nothing_is_wrong():
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert all(line.startswith("✓ ") for line in result.stdout.splitlines())
    assert wrong() == []


def unit(scope: str, kind: Kind, name: str, unit_name: str, state: UnitState = UnitState.RUNNING) -> Owned:
    leader = ProcessId(812, 1, "b") if state is UnitState.RUNNING else None
    return Owned(scope, kind, "default", name, Unit(unit_name, state, leader=leader, started_at=1.0))


def test_each_fault_is_named(healthy, monkeypatch):
    left = [
        unit("runs", Kind.RUN, "bot", "default.bot"),
        unit("runs", Kind.RUN, "gone", "default.gone"),
        unit("jobs", Kind.JOB, "old", "default.old_copy", UnitState.EXITED),
        unit("stack-x", Kind.STACK, "ghost", "web"),
    ]

    async def owned(_: Home) -> list[Owned]:
        return left

    monkeypatch.setattr(orphans, "owned", owned)
    stalled = {"type": "Stalled", "status": "True", "reason": "CrashLoop", "message": "it ends\nagain"}
    healthy.add(RUNS, "bot", {}, conditions=[stalled])
    holder = {"kind": "StrategyRun", "namespace": "default", "name": "gone", "uid": "u"}
    healthy.add(LEASES, "port-9001", {"port": 9001, "holder": holder}, namespace="")
    crds = [at for at in healthy.objects if "customresourcedefinitions" in at]
    del healthy.objects[crds[0]]
    healthy.objects[crds[1]]["spec"]["versions"][0]["schema"] = {}
    monkeypatch.setattr(checks, "free_part", lambda _: 0.01)
    told = dict(wrong())
    text = json.dumps(told)
    assert "run/bot" not in text, "a run is told by its name alone"
    assert "bot in namespace default: CrashLoop: it ends again" in text
    (units,) = [details for words, details in told.items() if "without an object" in words]
    assert [one.partition(",")[0] for one in units] == [
        "strategyrun/gone in namespace default: running",
        "web of servicestack/ghost in namespace default: running",
        "copy of phasedjob/old in namespace default: does not run",
    ]
    assert "pid 812" in units[0]
    assert "is missing" in text
    assert "has another schema" in text
    assert "9001: its holder StrategyRun default/gone is gone" in text
    assert "1.0% of the disk" in text
    shown = CliRunner().invoke(app, ["doctor"])
    assert "→ mainstay doctor --remove-orphans" in shown.stdout
    assert "checks found something wrong" in shown.stdout


def test_the_control_plane_is_away(healthy):
    healthy.down = True
    (found,) = wrong()
    assert "the control plane does not answer" in found[0]


@pytest.mark.usefixtures("home", "cluster")
def test_everything_is_down():
    assert ("nothing of Mainstay runs here", []) in wrong()


@pytest.mark.usefixtures("healthy")
def test_what_this_user_may_not_look_at_is_passed_over(monkeypatch):
    async def refused(*_: Any) -> Any:
        raise ApiError(403, "Forbidden", "portleases is forbidden: User cannot list")

    monkeypatch.setattr(checks, "objects", refused)
    told = diagnosis()
    assert told["ok"]
    assert told["checks"][-1]["result"] == "Skipped"
    assert "forbidden" in told["checks"][-1]["message"]


@pytest.mark.usefixtures("cluster")
def test_without_a_home_here_only_the_cluster_is_looked_at(monkeypatch, tmp_path):
    monkeypatch.setattr("mainstay.cli.home.LONGEST", 500)
    monkeypatch.setenv("MAINSTAY_HOME", str(tmp_path / "none"))
    first, *others = diagnosis()["checks"]
    assert first["result"] == "Skipped"
    assert "nothing of Mainstay is on this machine" in first["message"]
    assert not any("unit" in one["message"] for one in others)
    refused = CliRunner().invoke(app, ["doctor", "--remove-orphans", "--yes"])
    assert refused.exit_code == 1


def test_a_supervisor_that_is_silent_is_named(home, monkeypatch):
    from mainstay.cli.cluster import Target

    monkeypatch.setattr(system, "supervisor_pid", lambda _, scope: 4711 if scope == "runs" else None)
    found = asyncio.run(checks.supervisors(Target(home)))
    assert found.mark is checks.Mark.WRONG
    assert any("that of runs, pid 4711, hangs" in one for one in found.details)
    assert "that of jobs does not run" in found.details


def test_a_job_that_waits_for_an_answer_is_no_failure(healthy):
    asks = [{"name": "ask", "title": "Give it"}]
    stalled = {"type": "Stalled", "status": "True", "reason": "InputRequired", "message": "ask"}
    for name in ("a", "b"):
        healthy.add(JOBS, name, {"steps": []}, phase="ActionRequired", actions=asks, conditions=[stalled])
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "! 2 jobs wait for an answer\n    job/a, job/b\n    → mainstay input job/a\n" in result.stdout


def test_assets_are_looked_at_and_passed_over_where_that_is_refused(healthy, monkeypatch):
    probe = {
        "type": "HoldingsObserved",
        "status": "False",
        "reason": "ProbeFailed",
        "message": "refused: 503",
    }
    healthy.add(ASSETS, "ship-1", {}, state="Unknown", conditions=[probe])
    (told,) = wrong()
    assert told[1] == ["asset/ship-1 in namespace default: ProbeFailed: refused: 503"]

    async def refused(_: Any) -> Any:
        raise ApiError(403, "Forbidden", "assets is forbidden: User cannot list")

    monkeypatch.setattr(assetchecks, "gather", refused)
    found = diagnosis()
    assert found["ok"]
    assert "assets is forbidden: User cannot list" in [one["message"] for one in found["checks"]]
    assert "no stranger" in found["checks"][-1]["message"], "the checks after it are made"


def test_a_lease_of_an_orphan_says_what_cures_it(left):
    holder = {"kind": "StrategyRun", "namespace": "default", "name": "gone", "uid": "u"}
    left.add(LEASES, "port-9001", {"port": 9001, "holder": holder}, namespace="")
    (told,) = [one for words, details in wrong() for one in details if one.startswith("9001")]
    assert "`mainstay doctor --remove-orphans` ends its unit" in told


# -- removing


class EndedError(Exception):
    """A unit was touched."""


@pytest.fixture
def left(monkeypatch, healthy):
    found = [unit("runs", Kind.RUN, "gone", "default.gone")]

    async def owned(_: Home) -> list[Owned]:
        return found

    def touched(*_: Any) -> Any:
        raise EndedError

    monkeypatch.setattr(orphans, "owned", owned)
    monkeypatch.setattr(orphans, "_opened", touched)
    return healthy


def remove(*options: str):
    return CliRunner().invoke(app, ["doctor", "--remove-orphans", *options])


@pytest.mark.usefixtures("left")
def test_it_is_asked_first():
    result = remove()
    assert result.exit_code == 1
    assert "strategyrun/gone in namespace default: running, pid 812" in result.stdout
    assert "say --yes" in result.output
    assert isinstance(remove("--yes").exception, EndedError)


def test_an_object_that_came_meanwhile_keeps_its_unit(left, monkeypatch):
    async def none(_: Any) -> dict[str, Any]:
        return {RUNS: [], JOBS: [], STACKS: []}

    monkeypatch.setattr(checks, "objects", none)
    left.add(RUNS, "gone", {})
    result = remove("--yes")
    assert result.exit_code == 1
    assert "there is a StrategyRun default/gone now; its unit is left alone" in result.output


def test_nothing_is_ended_for_another_cluster(left, home):
    left.objects[core_path("namespaces", name="kube-system")]["metadata"]["uid"] = "cluster-2"
    assert "belongs to cluster cluster-1, and this is cluster cluster-2" in remove("--yes").output
    home.owner.unlink()
    assert "belongs to no cluster yet" in remove("--yes").output
    left.down = True
    assert "does not answer" in remove("--yes").output


def test_nothing_is_ended_where_the_cluster_does_not_know_the_kind(left, monkeypatch):
    async def unknown(*_: Any, **__: Any) -> Any:
        raise ApiError(404, "Not Found", "404 page not found")

    monkeypatch.setattr(left, "request", unknown)
    result = remove("--yes")
    assert result.exit_code == 1
    assert "doesn't say whether StrategyRun gone exists" in result.output


async def _service(home: Home, stack: str, name: str, owner: str) -> None:
    stacks = system.stacks(home)
    scope = await stacks.open(("default", stack))
    argv = ("/bin/sleep", "1000")
    await scope.start(UnitSpec(name=name, owner_uid=owner, attempt=1, argv=argv, grace_seconds=2.0))
    while (await scope.observe(name)).state is not UnitState.RUNNING:
        await asyncio.sleep(0.02)
    await stacks.close()


async def _down(home: Home) -> None:
    for _, scope in known_scopes(home.root):
        runtime = system.runtime(home, scope)
        await runtime.start_up()
        await runtime.shut_down_scope(stop_units=True)
        await runtime.close()


def test_only_what_has_no_object_is_ended_with_its_whole_scope(healthy, home):
    try:
        asyncio.run(_service(home, "ghost", "web", "uid-ghost"))
        asyncio.run(_service(home, "kept", "web", "uid-kept"))
        healthy.add(STACKS, "kept", {"services": [{"name": "web"}]})
        assert path(STACKS, "default", "kept") in healthy.objects
        result = remove("--yes")
        assert result.exit_code == 0, result.output
        assert "web ended, and removed" in result.stdout
        assert (
            "stack/ghost in namespace default: its supervisor is ended and its scope removed" in result.stdout
        )
        (kept,) = asyncio.run(orphans.owned(home))
        assert (kept.name, kept.lives) == ("kept", True)
        assert [key for key, _ in known_scopes(home.root)] == [("default", "kept")]
        assert "no unit on this machine is without an object" in remove().stdout
    finally:
        asyncio.run(_down(home))
