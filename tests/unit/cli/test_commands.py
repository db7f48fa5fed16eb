"""Commands that need no cluster: help, dry runs, refusals with a way out."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import yaml
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.api.kinds import KINDS
from mainstay.cli.app import app
from mainstay.core.names import unit_name
from mainstay.shell.kube import RUNS, Kube

run = CliRunner()


@pytest.fixture(autouse=True)
def home(monkeypatch):
    """A home of its own, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="ms-cli-") as directory:
        monkeypatch.setenv("MAINSTAY_HOME", directory)
        monkeypatch.delenv("KUBECONFIG", raising=False)
        yield Path(directory)


VERBS = [
    "up", "down", "status", "env", "run", "start", "stop", "pause", "resume", "restart", "release", "logs",
    "operator", "crds", "input", "cancel", "verify", "rollback", "ports", "doctor", "flush", "master", "full", "quick", "emergency", "force", "help",
]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    result = run.invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_run_prints_the_yaml_it_stands_for():
    result = run.invoke(
        app,
        [
            "run",
            "web",
            "--port",
            "-e",
            "A=b=c",
            "--dry-run",
            "--",
            "serve",
            "$(CONTROL_API_PORT)",
            "-x",
        ],
    )
    assert result.exit_code == 0, result.output
    obj = yaml.safe_load(result.stdout)
    assert obj["kind"] == "StrategyRun"
    assert obj["spec"] == {
        "program": {
            "command": ["serve", "$(CONTROL_API_PORT)", "-x"],
            "env": [{"name": "A", "value": "b=c"}],
        },
        "controlApi": {},
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["run", "web", "-e", "A", "--", "x"], "NAME=VALUE", id="an env without a value"),
        pytest.param(["stop"], "name at least one run", id="stop nothing"),
        pytest.param(["stop", "--all"], "--offline", id="stop all online"),
        pytest.param(["stop", "--offline", "nobody"], "no run nobody", id="brake on nobody"),
        pytest.param(["release"], "name at least one run", id="release nothing"),
        pytest.param(["logs", "nobody"], "has written nothing", id="logs of nobody"),
        pytest.param(["env"], "mainstay up", id="env before up"),
        pytest.param(["status"], "mainstay up", id="status before up"),
        pytest.param(["stop", "job/x"], "mainstay cancel job/x", id="stop a job"),
        pytest.param(["restart"], "name a run or a stack", id="restart nothing"),
        pytest.param(["restart", "x", "-m", "y"], "full, quick, emergency or flush", id="another mode"),
        pytest.param(["pause", "stack/x"], "mainstay stop stack/x", id="pause a stack"),
        pytest.param(["resume", "stack/x"], "mainstay start stack/x", id="resume a stack"),
        pytest.param(["help", "x"], "no command x", id="help of nothing"),
        pytest.param(["restart", "job/x"], "mainstay resume job/x", id="restart a job"),
        pytest.param(["stop", "--offline", "job/x"], "no task of job/x runs", id="brake on no job"),
        pytest.param(["release", "job/x"], "no task of job/x is held", id="release no job"),
        pytest.param(["release", "batch/x"], "name its jobs", id="release a batch"),
        pytest.param(["resume", "deployment/x"], "no kind that Mainstay knows", id="another kind"),
        pytest.param(["resume", "job/"], "a name is missing", id="no name"),
        pytest.param(["resume", "run/x", "--tasks", "a"], "goes with one job", id="tasks of a run"),
        pytest.param(["resume", "job/x", "--jobs", "a"], "goes with one batch", id="jobs of a job"),
        pytest.param(["input", "batch/x", "a"], "write job/x-JOB", id="input of a batch"),
        pytest.param(["input", "job/x", "a", "-f", "/nowhere"], "can't be read", id="no such file"),
        pytest.param(["input", "job/x", "a", "--set", "b"], "write FIELD=VALUE", id="set without a value"),
        pytest.param(["input", "job/x", "a", "--secret", "b=c"], "is public", id="a secret in argv"),
        pytest.param(
            ["input", "job/x", "a", "-f", "-", "--secret", "b=-"], "can be read once", id="stdin twice"
        ),
        pytest.param(["verify", "-o", "xml"], "json or yaml", id="another format"),
        pytest.param(["restart", "strategy/x"], "mainstay status strategy/x", id="restart a strategy"),
        pytest.param(["pause", "library/x"], "mainstay status library/x", id="pause a library"),
        pytest.param(["up", "--strategies", "/nowhere"], "no directory /nowhere", id="no such directory"),
        pytest.param(["up", "--strategies", __file__], "that is a file", id="a file of strategies"),
        pytest.param(["logs", "job/x"], "has written anything", id="logs of no job"),
        pytest.param(["logs", "job/x", "t"], "has written nothing", id="logs of no task"),
        pytest.param(["logs", "batch/x"], "its jobs do", id="logs of a batch"),
        pytest.param(["logs", "x", "t"], "a job is job/x", id="a task of a run"),
        pytest.param(["up", "--kubeconfig", "/does/not/exist"], "/does/not/exist", id="no such kubeconfig"),
    ],
)
def test_refusals_name_the_way_out(arguments, says):
    result = run.invoke(app, arguments)
    assert result.exit_code != 0
    assert says in " ".join(result.output.split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["resume", "x", "--tasks", "a"], "goes with one job"),
        (["cancel", "x"], "mainstay stop x"),
        (["input", "x", "a"], "write job/x"),
    ],
)
def test_what_a_run_is_not_for(monkeypatch, arguments, says):
    cluster = Cluster()
    cluster.add(RUNS, "x", {})
    monkeypatch.setattr(Kube, "connect", cluster.connect)
    result = run.invoke(app, arguments)
    assert result.exit_code != 0
    assert says in " ".join(result.output.split())
    assert cluster.patches == []


@pytest.mark.parametrize("part", ["operator", "etcd", "kube-apiserver"])
def test_logs_of_a_part_of_mainstay(home, part):
    for scope, unit in (("system", part), ("runs", unit_name("default", "bot"))):
        directory = home / "scopes" / scope / "units" / unit / "log"
        directory.mkdir(parents=True)
        (directory / "stderr.log").write_text(f"written by {scope}\n")
    result = run.invoke(app, ["logs", part])
    assert result.exit_code == 0
    assert "written by system" in result.output
    (home / "scopes" / "runs" / "units" / unit_name("default", part) / "log").mkdir(parents=True)
    (home / "scopes" / "runs" / "units" / unit_name("default", part) / "log" / "stderr.log").write_text("x\n")
    assert "written by system" not in run.invoke(app, ["logs", part]).output, "a run comes first"
    assert "written by system" in run.invoke(app, ["logs", part, "--system"]).output


def test_a_refused_up_leaves_nothing_behind(home):
    assert run.invoke(app, ["up", "--kubeconfig", "/does/not/exist"]).exit_code == 1
    assert run.invoke(app, ["up", "--ports", "9200-9100"]).exit_code == 1
    assert list(home.iterdir()) == []


def test_a_home_too_long_for_a_socket_is_refused(monkeypatch):
    monkeypatch.setenv("MAINSTAY_HOME", "/tmp/" + "x" * 80)
    result = run.invoke(app, ["status"])
    assert result.exit_code == 1
    assert "MAINSTAY_HOME" in result.output


def test_crds_are_printed_as_yaml():
    result = run.invoke(app, ["crds"])
    kinds = {d["spec"]["names"]["kind"] for d in yaml.safe_load_all(result.stdout) if d}
    assert kinds == {kind.name for kind in KINDS}


@pytest.mark.parametrize(
    ("lines", "printed"), [(2, "c\nd\n"), (-1, "a\nb\nc\nd\n"), (100, "a\nb\nc\nd\n"), (0, "")]
)
def test_logs_print_the_last_lines(home, lines, printed):
    directory = home / "scopes" / "runs" / "units" / unit_name("default", "bot") / "log"
    directory.mkdir(parents=True)
    (directory / "stdout.log").write_text("a\nb\nc\nd\n")
    result = run.invoke(app, ["logs", "bot", "--tail", str(lines)])
    assert result.exit_code == 0
    assert result.stdout == printed


@pytest.mark.parametrize(
    "text",
    [
        "password: *hunter2",
        "password: !hunter2 x",
        "password: 'hunter2",
        "{password: hunter2",
        "password: hunter2\n  x: [",
        "\tpassword: hunter2",
        "password: hunter2\nn: .nan",
        "password: !!binary aHVudGVyMg==",
    ],
)
def test_a_file_that_is_no_yaml_is_not_repeated(text):
    result = run.invoke(app, ["input", "job/x", "a", "-f", "-"], input=text)
    assert result.exit_code == 1
    assert "standard input" in result.output
    assert "hunter2" not in result.output
    assert "Traceback" not in result.output
