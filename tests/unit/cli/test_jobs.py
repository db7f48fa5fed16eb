"""What commands say of jobs, against a cluster of a few objects."""

from __future__ import annotations

import asyncio
import getpass
import signal
import sys
from pathlib import Path

import pytest
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.cli import answer
from mainstay.cli.app import app
from mainstay.cli.cluster import Target
from mainstay.cli.home import Home
from mainstay.cli.jobs import Asked, follow
from mainstay.cli.main import main
from mainstay.shell.kube import JOBS, Kube

run = CliRunner()

ADDRESS = {
    "title": "Where to?",
    "schema": {
        "type": "object",
        "required": ["password", "addr"],
        "properties": {
            "addr": {"type": "object", "required": ["zip"], "properties": {"zip": {"type": "string"}}},
            "password": {"type": "string"},
        },
    },
    "secretFields": ["password"],
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    made = Cluster()
    monkeypatch.setattr("mainstay.cli.home.LONGEST", 500)
    monkeypatch.setenv("MAINSTAY_HOME", str(tmp_path))
    monkeypatch.setattr(Kube, "connect", made.connect)
    return made


@pytest.fixture
def typed(monkeypatch):
    """A terminal: what is typed at the prompt, an exception for a key that raises it."""
    script: list[str | type[BaseException]] = []
    asked: list[str] = []

    def read(prompt: str) -> str:
        asked.append(prompt)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        match script.pop(0):
            case str() as text:
                return text
            case error:
                raise error

    monkeypatch.setattr(getpass, "getpass", read)
    monkeypatch.setattr(answer, "on_terminal", lambda: True)
    return script, asked


def asking(cluster: Cluster, action=ADDRESS) -> None:
    cluster.add(
        JOBS,
        "a",
        {"steps": [{"name": "ask", "action": action}]},
        phase="ActionRequired",
        actions=[{**action, "name": "ask"}],
    )


def said(result) -> str:
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_resume_before_the_suspension_is_reached(cluster):
    cluster.add(JOBS, "a", {"state": "Suspended", "steps": []}, phase="InProgress", currentStep="x")
    result = run.invoke(app, ["resume", "job/a"])
    assert result.exit_code == 0, result.output
    assert cluster.patches[0][1] == {"spec": {"state": "Running"}}


def test_a_completed_job_says_that_its_failed_tasks_stay_failed(cluster):
    tasks = [{"name": "t", "state": "Failed"}, {"name": "u", "state": "Completed"}]
    steps = [
        {"name": "s", "state": "Completed", "phases": [{"name": "p", "state": "Completed", "tasks": tasks}]}
    ]
    cluster.add(JOBS, "a", {"steps": []}, phase="Completed", steps=steps)
    result = run.invoke(app, ["resume", "job/a", "--tasks", "t"])
    assert result.exit_code == 1
    assert "t failed without blocking" in said(result)
    assert "before the job ends" in said(result)


def test_cancel_asks_or_refuses(cluster):
    cluster.add(JOBS, "a", {"steps": []}, phase="InProgress")
    result = run.invoke(app, ["cancel", "job/a"])
    assert result.exit_code == 1
    assert "cancelling is final; say --yes" in said(result)
    assert cluster.patches == []
    assert run.invoke(app, ["cancel", "job/a", "-y"]).exit_code == 0


@pytest.mark.parametrize("key", [KeyboardInterrupt, EOFError])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_ctrl_c_at_a_prompt(cluster, typed, key, dry):
    asking(cluster)
    typed[0].append(key)
    result = run.invoke(app, ["input", "job/a", "ask", "--set", "addr={zip: '1'}", *dry])
    assert result.exit_code == 130, result.output
    assert result.stdout == ""
    assert cluster.patches == []


def test_an_empty_secret_is_asked_for_again(cluster, typed):
    asking(cluster)
    typed[0].extend(["", "hunter2"])
    result = run.invoke(app, ["input", "job/a", "ask", "--set", "addr={zip: '1'}"])
    assert result.exit_code == 0, result.output
    assert "a secret can't be empty; Ctrl-C gives up" in said(result)
    assert "hunter2" not in result.output


def test_secrets_are_asked_for_last(cluster, typed):
    asking(cluster)
    result = run.invoke(app, ["input", "job/a", "ask", "--set", "addr.zip=1"])
    assert result.exit_code == 1
    assert typed[1] == []
    assert """--set 'addr={zip: "1"}' or -f""" in said(result)


def test_ctrl_c_during_imports(monkeypatch):
    class Interrupts:
        def find_spec(self, name, *_):
            if name == "mainstay.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "mainstay.cli.app")
    monkeypatch.setattr(sys, "meta_path", [Interrupts(), *sys.meta_path])
    monkeypatch.setattr(sys, "argv", ["mainstay", "status"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


def test_options_before_the_verb(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mainstay", "-n", "team", "status"])
    with pytest.raises(SystemExit):
        main()
    assert "options go after the verb: mainstay status -n team" in capsys.readouterr().err


def test_status_with_everything_down(cluster, tmp_path):
    (tmp_path / "home-id").write_text("id")
    (tmp_path / "etcd").mkdir()
    cluster.down = True
    result = run.invoke(app, ["status"])
    assert result.exit_code == 1
    assert "the API server does not answer; `mainstay up` starts everything" in said(result)
    assert "UNIT" not in result.output
    assert "Cannot connect" not in result.output


def failed(cluster: Cluster) -> None:
    words = "step a, phase a, task a: exit code 3"
    failure = {"step": "a", "phase": "a", "task": "a", "reason": "ExitCode", "message": "exit code 3",
               "time": "2026-01-01T00:00:00Z"}  # fmt: skip
    conditions = [
        {"type": "Stalled", "status": "True", "reason": "TaskFailed", "message": words},
        {"type": "Ready", "status": "False", "reason": "TaskFailed", "message": words},
    ]
    cluster.add(
        JOBS,
        "r1",
        {"steps": [{"name": "a", "task": {}}]},
        phase="ActionRequired",
        resumable=True,
        resumePlan=["a"],
        lastFailure=failure,
        conditions=conditions,
    )


def test_a_failure_is_told_once_with_what_to_do(cluster):
    failed(cluster)
    words = said(run.invoke(app, ["status", "job/r1"]))
    assert words.count("exit code 3") == 1
    assert "last failure, " in words
    assert "phase a" not in words
    assert (
        "mainstay resume job/r1 # runs a; what is wrong with the step itself: kubectl edit pjob r1 first"
        in words
    )
    assert "it failed: mainstay resume job/r1" in said(run.invoke(app, ["input", "job/r1"]))


def test_fields_of_objects_are_listed(cluster):
    asking(cluster)
    words = said(run.invoke(app, ["input", "job/a"]))
    assert "- addr (object) - zip (string) - password (secret)" in words
    assert "mainstay input job/a ask -f values.yaml" in words


def test_one_plain_field_is_proposed_with_set(cluster):
    schema = {"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}}
    asking(cluster, {"title": "Approve?", "schema": schema})
    assert "mainstay input job/a ask --set ok=" in said(run.invoke(app, ["input", "job/a"]))


def test_a_mistake_is_told_where_input_is_asked_for(cluster):
    mistake = {
        "type": "Stalled",
        "status": "True",
        "reason": "SpecInvalid",
        "message": "steps[0]: no such task",
    }
    cluster.add(JOBS, "q", {"steps": []}, phase="Pending", conditions=[mistake])
    assert "its spec has a mistake: steps[0]: no such task" in said(run.invoke(app, ["input", "job/q"]))


def test_a_question_is_the_end_of_waiting_for_a_batch_only(cluster):
    asking(cluster)
    job = next(iter(cluster.objects.values()))
    job["status"]["handledResumeNonce"] = 0
    asked = Asked.of(job)
    target = Target(Home(Path("/nowhere")))
    one = asyncio.run(follow(cluster, target, asked, None))
    assert one is not None
    assert one.startswith("job/a waits for input ask: Where to?")
    assert asyncio.run(follow(cluster, target, asked, None, questions=True)) is None
