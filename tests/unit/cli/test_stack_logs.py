"""Logs of stacks, from files alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.cli import stacklogs
from mainstay.cli.app import app
from mainstay.core.names import stack_scope
from mainstay.shell.kube import STACKS, Kube

run = CliRunner()


class Scope:
    """A stack's scope as its services leave it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "scopes" / stack_scope("default", "backend")

    def wrote(self, service: str, out: str, errors: str = "") -> None:
        log = self.path / "units" / service / "log"
        log.mkdir(parents=True, exist_ok=True)
        (log / "stdout.log").write_text(out)
        (log / "stderr.log").write_text(errors)


@pytest.fixture
def scope(tmp_path, monkeypatch) -> Scope:
    monkeypatch.setattr("mainstay.cli.home.LONGEST", 500)
    monkeypatch.setenv("MAINSTAY_HOME", str(tmp_path / "h"))
    made = Scope(tmp_path / "h")
    made.wrote("main_app", "".join(f"request {n}\n" for n in range(40)), "a warning\n")
    made.wrote("db_poller", "polled")
    (made.path / "supervisord.log").write_text("RPC interface initialized\nsuccess: main_app\n")
    return made


def lines(*arguments: str) -> tuple[list[str], list[str]]:
    result = run.invoke(app, ["logs", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines(), result.stderr.splitlines()


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize("name", ["stack/backend", "servicestack.mainstay.dev/backend", "backend"])
def test_all_services_each_line_after_its_service(name):
    out, err = lines(name)
    assert out == ["db_poller | polled", *(f"main_app  | request {n}" for n in range(30, 40))]
    assert err == ["main_app  | a warning"]
    assert len(lines(name, "--tail", "-1")[0]) == 41


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize(
    "words", [["stack/backend", "main_app"], ["stack/backend/main_app"], ["backend", "main_app"]]
)
def test_one_service_as_it_wrote(words):
    out, err = lines(*words)
    assert (out, err) == ([f"request {n}" for n in range(40)], ["a warning"])
    assert lines(*words, "--tail", "2")[0] == ["request 38", "request 39"]


@pytest.mark.usefixtures("scope")
def test_the_supervisor_of_a_stack_and_of_the_runs(scope):
    assert lines("stack/backend", "--supervisor", "--tail", "1")[0] == ["success: main_app"]
    assert lines("backend", "--supervisor")[0][0] == "RPC interface initialized"
    runs = scope.home / "scopes/runs"
    runs.mkdir()
    (runs / "supervisord.log").write_text("of runs\n")
    assert lines("--supervisor")[0] == ["of runs"]


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["stack/backend", "nix"], "there are logs of: db_poller, main_app"),
        (["stack/other"], "no service of stack/other in namespace default"),
        (["stack/backend", "-n", "x"], "in namespace x"),
        (["stack/backend/a", "b"], "one service: a or b"),
        (["-p", "stack/backend"], "of which service? mainstay logs -p stack/backend/SERVICE"),
        (["-p", "stack/backend/main_app"], "had no process before"),
        ([], "name what to read the logs of"),
        (["stack/other", "--supervisor"], "no supervisor's log"),
        (["job/x", "--supervisor"], "logs --supervisor jobs"),
        (["bot", "--supervisor"], "logs --supervisor;"),
    ],
)
def test_refusals_say_what_there_is(words, says):
    result = run.invoke(app, ["logs", *words])
    assert result.exit_code == (1 if words else 2)
    assert says in result.output


def test_the_api_explains_what_the_files_cannot(scope, monkeypatch):
    cluster = Cluster()
    spec = {"services": [{"name": "main_app"}, {"name": "late"}]}
    late = {"name": "late", "state": "Pending", "message": "waits for main_app"}
    cluster.add(STACKS, "backend", spec, services=[late])
    monkeypatch.setattr(Kube, "connect", cluster.connect)
    (scope.home / "kubeconfig").write_text("{}")
    assert "no service nix; it has: main_app, late" in run.invoke(app, ["logs", "stack/backend/nix"]).output
    assert "Pending: waits for main_app" in run.invoke(app, ["logs", "stack/backend/late"]).output
    assert 'no ServiceStack "other"' in run.invoke(app, ["logs", "stack/other"]).output


def test_following_prints_whole_lines_and_goes_on_over_a_rotation_and_a_new_service(scope, monkeypatch):
    log = scope.path / "units/main_app/log/stdout.log"

    def add(text: str) -> None:
        with log.open("a") as file:
            file.write(text)

    steps = iter(
        [
            lambda: add("begun "),
            lambda: add("ended\n"),
            lambda: log.write_text("rotated\n"),
            lambda: scope.wrote("late", "first\n"),
        ]
    )

    def pause(_: float) -> None:
        if (step := next(steps, None)) is None:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr(stacklogs, "pause", pause)
    out, _ = lines("stack/backend", "-f", "--tail", "1")
    assert out == [
        "main_app  | request 39",
        "main_app  | begun ended",
        "main_app  | rotated",
        "late      | first",
    ]
