"""Logs of tasks, from files alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.cli import logs
from mainstay.cli.app import app
from mainstay.runtime.process import records
from mainstay.shell.kube import JOBS, Kube

run = CliRunner()


class Files:
    """A scope of tasks as shims leave it."""

    def __init__(self, home: Path) -> None:
        self.units = home / "scopes/jobs/units"

    def attempt(self, unit: str, number: int, said: str, code: int | None = 0, at: float = 1e9) -> Path:
        directory = self.units / unit / f"attempt-{number}"
        directory.mkdir(parents=True)
        (directory / "stdout.log").write_text(said)
        (directory / "stderr.log").write_text("")
        if code is not None:
            entries = {
                "owner": "u", "code": code, "signal": "", "ended": at, "timed_out": 0, "outputs": "",
                "problem": "", "clean": 1,
            }  # fmt: skip
            text = "".join(f"{k}={v}\n" for k, v in entries.items()) + "end=\n"
            (directory / "exit").write_text(text)
        return directory


@pytest.fixture
def files(tmp_path, monkeypatch):
    home = tmp_path / "h"
    monkeypatch.setattr("mainstay.cli.home.LONGEST", 500)
    monkeypatch.setenv("MAINSTAY_HOME", str(home))
    assert records.read(str(home / "nothing")) is None
    return Files(home)


def test_what_failed_comes_first_and_then_the_latest(files):
    files.attempt("default.j_old", 1, "", at=1e9)
    files.attempt("default.j_new", 1, "", at=1.5e9)
    files.attempt("default.j_bad", 1, "", code=0, at=1e9)
    files.attempt("default.j_bad", 2, "", code=3, at=1.1e9)
    files.attempt("default.j_lost", 1, "", code=None)
    files.attempt("default.j2_other", 1, "")
    files.attempt("default.j-2_other", 1, "")
    files.attempt("other.j_other", 1, "")
    (files.units / "default.j_never").mkdir()
    result = run.invoke(app, ["logs", "job/j"])
    assert result.exit_code == 0, result.output
    lines = [
        line.split()
        for line in result.stdout.splitlines()[1:]
        if line.startswith(("old", "new", "bad", "lost"))
    ]
    assert [line[0] for line in lines] == ["bad", "lost", "new", "old"]
    assert lines[0][1] == "2"
    assert "exit code 3" in result.stdout
    assert "its end was not seen" in result.stdout
    assert "other" not in result.stdout


def test_the_latest_attempt_and_the_one_before(files):
    files.attempt("ns.j_t", 9, "nine\n")
    files.attempt("ns.j_t", 10, "a\nb\nten\n")
    assert run.invoke(app, ["logs", "job/j", "t", "-n", "ns"]).stdout == "a\nb\nten\n"
    assert run.invoke(app, ["logs", "job/j", "t", "-n", "ns", "--tail", "1"]).stdout == "ten\n"
    assert run.invoke(app, ["logs", "job/j", "t", "-n", "ns", "-p"]).stdout == "nine\n"


def test_a_task_that_was_declared_and_never_started(files):
    (files.units / "default.j_t").mkdir(parents=True)
    result = run.invoke(app, ["logs", "job/j", "t"])
    assert result.exit_code == 1
    assert "was not started yet" in result.output


def test_an_attempt_that_wrote_nothing_says_so(files):
    files.attempt("default.j_t", 1, "one\n")
    files.attempt("default.j_t", 2, "")
    result = run.invoke(app, ["logs", "job/j", "t"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "attempt 2 wrote nothing; attempt 1: -p\n"
    assert run.invoke(app, ["logs", "job/j", "t", "-p"]).output == "one\n"


STEPS = [
    {"name": "a", "task": {}},
    {"name": "ask", "action": {"title": "?"}},
    {"name": "s", "phases": [{"name": "p", "tasks": [{"name": "t"}, {"name": "u"}]}]},
]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["job/nope"], 'no PhasedJob "nope" in namespace default'),
        (["job/nope", "t"], 'no PhasedJob "nope" in namespace default'),
        (["j"], "j is a job; its tasks write: mainstay logs job/j"),
        (["nope"], 'no StrategyRun "nope"'),
        (["job/j", "ask"], "ask is a user action of job/j"),
        (["job/j", "p"], "p is a phase of job/j; its tasks: t, u"),
        (["job/j", "s"], "s is a step of job/j; its tasks: t, u"),
        (["job/j", "v"], "job/j has no task v; it has: a, t, u"),
        (["job/j", "u"], "task u of job/j has written nothing on this machine"),
    ],
)
@pytest.mark.parametrize("down", [False, True])
def test_what_the_files_do_not_know(files, monkeypatch, arguments, says, down):
    home = files.units.parents[2]
    home.mkdir(exist_ok=True)
    (home / "kubeconfig").write_text("{}")
    cluster = Cluster()
    cluster.add(JOBS, "j", {"steps": STEPS})
    cluster.down = down
    monkeypatch.setattr(Kube, "connect", cluster.connect)
    result = run.invoke(app, ["logs", *arguments])
    assert result.exit_code == 1
    words = " ".join(result.stderr.split())
    assert (says if not down else "written") in words
    assert "Traceback" not in words


def test_following_goes_over_to_the_next_attempt(files, monkeypatch):
    """What happens between two looks is scripted: a pause is the event."""
    first = files.attempt("default.j_t", 1, "one\n", code=None)

    def more() -> None:
        with (first / "stdout.log").open("a") as file:
            file.write("more\n")

    def next_attempt() -> None:
        files.attempt("default.j_t", 2, "two\n", code=None)

    def interrupt() -> None:
        raise KeyboardInterrupt

    script = iter([more, next_attempt, lambda: None, lambda: None, interrupt])
    monkeypatch.setattr(logs, "pause", lambda _: next(script)())
    result = run.invoke(app, ["logs", "-f", "job/j", "t"])
    assert result.exit_code == 0, result.output
    assert result.stdout.replace("--- attempt 2\n", "") == "one\nmore\ntwo\n"
    assert "--- attempt 2" in result.output
