"""The command line of jobs against a real API server, under our policies, and a real operator."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.api.client import Api, action, batch, job, phases
from tests.support.plane import RealPlane
from tests.support.stage import Stage, eventually, staged
from typer.testing import CliRunner

from mainstay.cli.app import app
from mainstay.shell.kube import BATCHES, JOBS, core_path, path

CANARY = "hunter2-canary"
LOGIN = {
    "type": "object",
    "required": ["email", "password"],
    "properties": {"email": {"type": "string"}, "password": {"type": "string"}},
}


class House:
    """One stage, and the command line of a user of it."""

    def __init__(self, stage: Stage, directory: Path) -> None:
        self.stage = stage
        self.directory = directory

    def __call__(self, *words: str, code: int = 0, stdin: str | None = None) -> str:
        """What the command printed, on both outputs, in one line for each run of white space."""
        where = ["--home", str(self.stage.home), "-n", self.stage.namespace]
        if words[0] not in ("logs", "release"):
            where += ["--kubeconfig", str(self.stage.plane.kubeconfig)]
        done = CliRunner().invoke(app, [words[0], *where, *words[1:]], input=stdin)
        assert "Traceback" not in done.output
        assert done.exit_code == code, f"{words}: {done.exit_code}\n{done.output}\n{done.exception!r}"
        assert CANARY not in done.output
        return " ".join(done.output.replace(f" -n {self.stage.namespace}", "").split())

    def put(self, document: dict[str, Any], name: str) -> str:
        plural = JOBS if document["kind"] == "PhasedJob" else BATCHES
        body = {**document, "metadata": {"name": name, "namespace": self.stage.namespace}}
        self.stage.client.ok("POST", path(plural, self.stage.namespace), body)
        return f"job/{name}" if plural == JOBS else f"batch/{name}"

    def get(self, name: str, plural: str = JOBS) -> dict[str, Any]:
        return self.stage.client.get(path(plural, self.stage.namespace, name)) or {}

    def comes_to(self, name: str, phase: str, plural: str = JOBS) -> dict[str, Any]:
        def look() -> bool:
            return (self.get(name, plural).get("status") or {}).get("phase") == phase

        eventually(look, f"{name} {phase}")
        return self.get(name, plural)

    def task(self, name: str, script: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "program": {"command": ["sh", "-c", script]}, **more}

    def gate(self, name: str) -> str:
        """A script that fails until the gate is opened."""
        return f"echo trying; test -e {self.directory}/{name} || {{ echo no {name} >&2; exit 3; }}"

    def open(self, name: str) -> None:
        (self.directory / name).touch()

    def secret(self, name: str) -> dict[str, Any] | None:
        return self.stage.client.get(core_path("secrets", self.stage.namespace, name))


@pytest.fixture(scope="module")
def stage(plane: RealPlane, api: Api) -> Iterator[Stage]:  # noqa: ARG001 - its policies are in force here too
    with staged(plane) as one:
        yield one


@pytest.fixture
def cli(stage: Stage, tmp_path: Path) -> House:
    return House(stage, tmp_path)


def setup(cli: House, gate: str) -> dict[str, Any]:
    return phases(
        "setup",
        ("first", [cli.task("account", "true"), cli.task("extra", cli.gate("extra"), blocking=False)]),
        ("second", [cli.task("register", cli.gate(gate)), cli.task("site", "true", dependsOn=["register"])]),
    )


# --- resume


def test_a_failed_job_resumes_after_what_is_completed(cli: House) -> None:
    one = cli.put(job(setup(cli, "door")), "story")
    cli.comes_to("story", "ActionRequired")
    told = cli("resume", one, "--dry-run")
    assert "would go on after phase first" in told
    assert "runs: setup / second: register (failed, attempt 2 follows), site" in told
    assert "never runs again: setup / first: account" in told
    assert "extra (mainstay resume job/story --tasks extra runs it too)" in told
    assert cli.get("story")["spec"].get("resumeNonce") is None
    told = cli("resume", one, "--wait", code=1)
    assert "phasedjob/story resumed after phase first" in told
    assert (
        "TaskFailed: step setup, phase second, task register: ended with exit code 3, stderr: no door" in told
    )
    assert "mainstay logs job/story register" in told
    assert cli.get("story")["spec"]["resumeNonce"] == 1
    cli.open("door")
    cli.open("extra")
    assert "phasedjob/story is Completed" in cli("resume", one, "--tasks", "extra", "--wait")
    after = cli.get("story")
    assert (after["spec"]["resumeNonce"], after["spec"]["resumeTasks"]) == (2, ["extra"])
    attempts = {t["name"]: t["attempt"] for p in after["status"]["steps"][0]["phases"] for t in p["tasks"]}
    assert attempts == {"account": 1, "extra": 2, "register": 3, "site": 1}
    assert "completed; nothing is left to do" in cli("resume", one, code=1)


def test_named_tasks_are_those_of_this_resume_alone(cli: House) -> None:
    one = cli.put(job(setup(cli, "later")), "named")
    cli.comes_to("named", "ActionRequired")
    cli("resume", one, "--tasks", "extra", "--wait", code=1)
    assert cli.get("named")["spec"]["resumeTasks"] == ["extra"]
    cli("resume", one, "--wait", code=1)
    after = cli.get("named")
    assert "resumeTasks" not in after["spec"]
    first = after["status"]["steps"][0]["phases"][0]["tasks"]
    assert {t["name"]: t["attempt"] for t in first} == {"account": 1, "extra": 2}


@pytest.mark.parametrize(
    ("tasks", "why"),
    [
        ("account", "it is completed, and never runs again"),
        ("nobody", "no task of this job; it has: account"),
    ],
)
def test_tasks_that_can_not_be_named(cli: House, tasks: str, why: str) -> None:
    name = f"refuses-{tasks}"
    one = cli.put(job(setup(cli, "never")), name)
    cli.comes_to(name, "ActionRequired")
    for dry in (["--dry-run"], []):
        assert why in cli("resume", one, "--tasks", tasks, *dry, code=1)
    assert cli.get(name)["spec"].get("resumeNonce") is None


def test_resume_says_why_not(cli: House) -> None:
    cli.put(job({"name": "nap", "task": {"program": {"command": ["sleep", "60"]}}}), "busy")
    cli.comes_to("busy", "InProgress")
    assert "is in progress on step nap" in cli("resume", "pjob/busy", code=1)
    cli("cancel", "job/busy", "--yes", "--wait")
    assert "is cancelled for good" in cli("resume", "job/busy", code=1)
    assert "is cancelled, and stays so" in cli("start", "job/busy", code=1)
    cli.put(job(action("ask")), "asking")
    cli.comes_to("asking", "ActionRequired")
    told = cli("resume", "phasedjob.mainstay.dev/asking", code=1)
    assert "waits for input ask (Give ask): mainstay input job/asking ask -f values.yaml" in told
    failing = {"name": "t", "task": {"program": {"command": ["false"]}}}
    cli.put(job(failing, onFailure="Fail"), "lost")
    cli.comes_to("lost", "Failed")
    assert "failed for good, as its spec.onFailure: Fail asks" in cli("resume", "job/lost", code=1)
    cycle = [{**cli.task("t", "true"), "dependsOn": ["t"]}]
    cli.put(job(phases("s", ("p", cycle))), "cycle")
    eventually(lambda: (cli.get("cycle").get("status") or {}).get("conditions"), "cycle is seen")
    assert "a mistake in its spec" in cli("resume", "job/cycle", code=1)
    assert "job/asking did not fail, it waits for input ask" in cli("resume", "asking", code=1)
    assert 'no StrategyRun "nobody"' in cli("resume", "nobody", code=1)


def test_a_suspended_job_goes_on(cli: House) -> None:
    one = cli.put(job(setup(cli, "gate")), "rest")
    cli.comes_to("rest", "ActionRequired")
    assert "phasedjob/rest is Suspended" in cli("pause", one, "--wait")
    cli.open("gate")
    cli("resume", one, "--wait")
    assert cli.get("rest")["spec"]["state"] == "Running"


def test_pause_lets_what_runs_finish(cli: House) -> None:
    steps = [{"name": n, "task": {"program": {"command": ["sleep", "1"]}}} for n in ("a", "b")]
    one = cli.put(job(*steps), "calm")
    cli.comes_to("calm", "InProgress")
    assert "is Suspended" in cli("pause", one, "--wait")
    states = {s["name"]: s["state"] for s in cli.get("calm")["status"]["steps"]}
    assert states == {"a": "Completed", "b": "Pending"}
    assert "phasedjob/calm is Completed" in cli("start", one, "--wait")


# --- batches


def test_jobs_of_a_batch_are_resumed_together_or_one_by_one(cli: House) -> None:
    work = {"name": "work", "task": {"program": cli.task("", cli.gate("shared"))["program"]}}
    one = cli.put(batch(work, action("ok"), inputs={"ok": {}}, jobs=[{"name": n} for n in "abc"]), "many")
    cli.comes_to("many", "ActionRequired", BATCHES)
    told = cli("resume", one, "--dry-run")
    assert told.count("would go on from its beginning") == 3
    assert "work (failed, attempt 2 follows)" in told
    assert "ok: answered in advance" in told
    told = cli("status", one)
    assert "0 of 3 jobs completed, 3 need action" in told
    assert "mainstay resume batch/many # 3 can be resumed; one of them with --jobs" in told
    assert "has no job x; it has: " in cli("resume", one, "--jobs", "a,x", code=1)
    assert "whose jobs are suspended and started together" in cli("pause", "job/many-a", code=1)
    cli.open("shared")
    told = cli("resume", one, "--jobs", "many-a,b", "--wait")
    assert "phasedjob/many-a is Completed" in told
    assert "phasedjob/many-b is Completed" in told
    assert (cli.get("many-c")["spec"].get("resumeNonce")) is None
    assert "completed; nothing is left to do" in cli("resume", one, "--jobs", "a", code=1)
    assert "phasedjob/many-c resumed" in cli("resume", one)
    cli.comes_to("many", "Completed", BATCHES)
    assert "can be resumed: none of its 3 jobs" in cli("resume", one, code=1)


def test_a_batch_is_cancelled(cli: House) -> None:
    nap = {"name": "nap", "task": {"program": {"command": ["sleep", "60"]}}}
    one = cli.put(batch(nap, jobs=[{"name": "a"}, {"name": "b"}]), "stopped")
    cli.comes_to("stopped-b", "InProgress")
    assert "kind: JobBatch" in cli("cancel", one, "--dry-run")
    assert "jobbatch/stopped is Cancelled" in cli("cancel", one, "--yes", "--wait")
    assert cli.get("stopped-a")["status"]["phase"] == "Cancelled"
    assert "batch/stopped is Cancelled already" in cli("cancel", one)


# --- input


def test_answers_are_checked_before_they_are_written(cli: House) -> None:
    schema = {
        "type": "object",
        "required": ["company"],
        "additionalProperties": False,
        "properties": {
            "company": {"type": "string", "description": "As registered"},
            "count": {"type": "integer"},
        },
    }
    one = cli.put(job(action("choose", schema=schema)), "ask")
    cli.comes_to("ask", "ActionRequired")
    told = cli("input", one)
    assert (
        "job/ask waits for: choose Give choose - company (string): As registered - count (integer, optional)"
        in told
    )
    assert "does not ask for other job/ask waits for: choose" in cli(
        "input", one, "other", "--set", "a=b", code=1
    )
    assert '"company" is a required property' in cli("input", one, "choose", "--set", "count=3", code=1)
    assert "spec.inputs.choose.count" in cli(
        "input", one, "choose", "--set", "company=A", "--set", "count=x", code=1
    )
    assert "nothing is given" in cli("input", one, "choose", code=1)
    assert "has no secret fields" in cli("input", one, "choose", "--secret", "x=-", stdin=CANARY, code=1)
    assert "inputs" not in cli.get("ask")["spec"]
    file = cli.directory / "v.yaml"
    file.write_text("company: 2024-01-01\ncount: 3\n")
    assert "company: '2024-01-01'" in cli("input", one, "choose", "-f", str(file), "--dry-run")
    assert "inputs" not in cli.get("ask")["spec"]
    cli("input", one, "choose", "-f", "-", "--wait", stdin='{"company": "A GmbH"}')
    assert cli.get("ask")["spec"]["inputs"] == {"choose": {"company": "A GmbH"}}
    assert "takes no input any more" in cli("input", one, "choose", "--set", "company=B", code=1)
    assert "waits for no input; it is Completed" in cli("input", one)


def test_secrets_go_into_a_secret(cli: House) -> None:
    out = cli.directory / "seen"
    read = {"name": "use", "task": {"program": cli.task("", f"cp $INPUTS_PATH {out}")["program"]}}
    one = cli.put(job(action("logIn", "password", schema=LOGIN), read, step_after("end")), "secretive")
    cli.comes_to("secretive", "ActionRequired")
    assert "command line is public" in cli("input", one, "logIn", "--set", "password=x", code=1)
    assert "command line is public" in cli("input", one, "logIn", "--secret", "password=x", code=1)
    assert "--secret password=-" in cli("input", one, "logIn", "--set", "email=a@b.c", code=1)
    values = yaml.safe_dump({"email": "a@b.c", "password": CANARY})
    told = cli("input", one, "logIn", "-f", "-", "--dry-run", stdin=values)
    assert "# Secret" in told
    assert cli.secret("secretive-login") is None
    told = cli("input", one, "logIn", "-f", "-", stdin=values)
    assert "secret/secretive-login created: password" in told
    obj = cli.comes_to("secretive", "ActionRequired")
    eventually(out.exists, "the task has run")
    given = cli.get("secretive")["spec"]["inputs"]["logIn"]
    ref = {"secretKeyRef": {"name": "secretive-login", "key": "password"}}
    assert given == {"email": "a@b.c", "password": ref}
    assert json.loads(out.read_text())["inputs"]["logIn"]["password"] == CANARY
    assert CANARY not in json.dumps(cli.get("secretive"))
    secret = cli.secret("secretive-login")
    assert secret is not None
    assert base64.b64decode(secret["data"]["password"]).decode() == CANARY
    assert secret["metadata"]["ownerReferences"][0]["uid"] == obj["metadata"]["uid"]
    # another one, later: only what is given changes
    told = cli("input", one, "logIn", "--secret", "password=-", stdin="other\n")
    assert "is Completed; what you give now is read by tasks that start from now on" in told
    assert "secret/secretive-login changed: password" in told
    assert cli.get("secretive")["spec"]["inputs"]["logIn"] == given
    changed = cli.secret("secretive-login")
    assert changed is not None
    assert base64.b64decode(changed["data"]["password"]) == b"other"


def step_after(name: str) -> dict[str, Any]:
    """A step that keeps the job from being over."""
    return action(name)


def test_somebody_elses_secret_of_that_name_is_left_alone(cli: House) -> None:
    one = cli.put(job(action("login", "password", schema=LOGIN), step_after("end")), "polite")
    cli.comes_to("polite", "ActionRequired")
    theirs = {"metadata": {"name": "polite-login"}, "stringData": {"password": "theirs"}}
    cli.stage.client.ok("POST", core_path("secrets", cli.stage.namespace), theirs)
    told = cli("input", one, "login", "--set", "email=x", "--secret", "password=-", stdin=CANARY)
    assert "secret/polite-login-" in told
    kept = cli.secret("polite-login")
    assert kept is not None
    assert base64.b64decode(kept["data"]["password"]) == b"theirs"


def test_a_terminal_is_asked_without_echo(cli: House, monkeypatch: pytest.MonkeyPatch) -> None:
    one = cli.put(job(action("login", "password", "pin", schema=LOGIN)), "typed")
    cli.comes_to("typed", "ActionRequired")
    asked = []

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        return CANARY if "password" in prompt else ""

    monkeypatch.setattr("getpass.getpass", getpass)
    monkeypatch.setattr("mainstay.cli.answer.on_terminal", lambda: True)
    assert "phasedjob/typed is Completed" in cli("input", one, "login", "--set", "email=x", "--wait")
    assert asked == ["password (secret): ", "pin (secret, optional: Enter leaves it out): "]
    assert cli.get("typed")["spec"]["inputs"]["login"].keys() == {"email", "password"}


# --- logs and status


def test_logs_of_tasks(cli: House) -> None:
    one = cli.put(
        job(
            phases(
                "s",
                ("p", [cli.task("fine", "echo out; echo err >&2")]),
                ("q", [cli.task("bad", cli.gate("no"))]),
            )
        ),
        "talks",
    )
    cli.comes_to("talks", "ActionRequired")
    told = cli("logs", one)
    assert told.index("bad 1") < told.index("fine 1")
    assert "exit code 3" in told
    assert cli("logs", one, "fine") == "out err"
    assert "(there are logs of: bad, fine)" in cli("logs", one, "nope", code=1)
    assert "had no attempt before" in cli("logs", one, "bad", "-p", code=1)
    (cli.directory / "no").touch()
    cli("resume", one, "--wait")
    assert cli("logs", one, "bad") == "trying"
    assert cli("logs", one, "bad", "-p") == "trying no no"
    assert "no task of job/silent" in cli("logs", "job/silent", code=1)


def test_status_in_depth(cli: House) -> None:
    one = cli.put(job(setup(cli, "shut"), action("end")), "deep")
    cli.comes_to("deep", "ActionRequired")
    told = cli("status", one)
    for words in (
        "job/deep ActionRequired",
        "✗ setup Failed",
        "✓ first Completed",
        "✓ account Completed 1",
        "✗ register Failed 1",
        "ended with exit code 3, stderr: no shut",
        "· site Pending",
        "last failure, ",
        "mainstay logs job/deep register",
        "mainstay resume job/deep # runs register, site",
    ):
        assert words in told, told
    assert json.loads(cli("status", one, "-o", "json"))["kind"] == "PhasedJob"


def test_the_brake_stops_a_task_with_files_alone(cli: House) -> None:
    one = cli.put(job({"name": "nap", "task": {"program": {"command": ["sleep", "60"]}}}), "braked")
    cli.comes_to("braked", "InProgress")
    uid = cli.get("braked")["metadata"]["uid"]
    eventually(lambda: cli.stage.pids(uid), "the task lives")
    assert "stopped and held" in cli("stop", one, "--offline")
    assert cli.stage.pids(uid) == []
    cli.comes_to("braked", "ActionRequired")
    cli("resume", one)
    time.sleep(0.5)
    assert cli.stage.pids(uid) == []
    assert "released" in cli("release", one)
    eventually(lambda: cli.stage.pids(uid), "it goes on")
    cli("cancel", one, "--yes", "--wait")


def test_run_verbs_refuse_jobs(cli: House) -> None:
    assert "mainstay pause job/x" in cli("stop", "job/x", code=1)
    assert "mainstay resume batch/x" in cli("restart", "batch/x", code=1)
    assert "`mainstay stop x` stops a run" in cli("cancel", "x", code=1)
