"""What commands ask of stacks, and what they say while a restart goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.api.meta import NAME_MAX
from mainstay.cli import stackrestart, stacks, stackservice
from mainstay.cli.app import app
from mainstay.cli.stackrestart import restart_name
from mainstay.shell.kube import JOBS, RESTARTS, RUNS, STACKS, ApiError, Kube, path

run = CliRunner()

SERVICES = [{"name": "web", "kind": "Http", "port": 3000}, {"name": "poller", "kind": "Background"}]
OWNER = {"userId": "u-7"}


class Theatre(Cluster):
    """A cluster whose restarts go on by a script: one status for each look."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[Any] = []

    async def get(self, url: str) -> dict[str, Any] | None:
        if f"/{RESTARTS}/" in url and url in self.objects and self.script:
            scene = self.script.pop(0)
            if isinstance(scene, BaseException):
                raise scene
            if scene is None:
                del self.objects[url]
            else:
                self.objects[url]["status"] = scene
        return await super().get(url)

    def stack(self, name: str = "backend", namespace: str = "default", **spec: Any) -> None:
        self.add(STACKS, name, {"services": SERVICES, **spec}, namespace)

    @property
    def restarts(self) -> list[dict[str, Any]]:
        return [obj for at, obj in self.objects.items() if f"/{RESTARTS}/" in at]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    made = Theatre()
    monkeypatch.setattr("mainstay.cli.home.LONGEST", 500)
    monkeypatch.setenv("MAINSTAY_HOME", str(tmp_path))
    monkeypatch.setattr(Kube, "connect", made.connect)
    monkeypatch.setattr(stackrestart, "POLL_SECONDS", 0)
    monkeypatch.setattr(stacks, "POLL_SECONDS", 0)
    return made


def say(*words: str, code: int = 0) -> str:
    """What a command printed on both outputs, never with colours."""
    result = run.invoke(app, list(words))
    assert "Traceback" not in result.output
    assert "\x1b" not in result.output
    assert result.exit_code == code, f"{result.exit_code}: {result.output} {result.exception!r}"
    return str(result.output)


def step(name: str, state: str = "Completed", message: str = "", **more: Any) -> dict[str, Any]:
    times = {"startedAt": "2026-11-21T10:00:00.000Z"}
    if state != "Running":
        times["completedAt"] = "2026-11-21T10:00:00.400Z"
    return {"name": name, "state": state, "message": message, **times, **more}


def scene(phase: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    times = {"startedAt": "2026-11-21T10:00:00.000Z"}
    if phase in ("Completed", "Failed"):
        times["completedAt"] = "2026-11-21T10:00:03.400Z"
    return {"observedGeneration": 1, "phase": phase, "steps": list(steps), **times, **more}


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


STOPPING = step("StopServices", "Running")
STOPPED = step("StopServices", message="8 services stopped", details=["web: pid 7 ended by TERM"])
UP = {"name": "web", "up": True, "message": "up, port 3000 is held by pid 8"}
DOWN = {"name": "poller", "up": False, "message": "exit code 1"}


# -- which one is meant


def test_a_name_that_only_a_stack_has(cluster):
    cluster.stack()
    say("restart", "backend", "--no-wait")
    assert cluster.restarts[0]["spec"] == {"stack": "backend", "mode": "Full"}


def test_a_name_that_only_a_run_has(cluster):
    cluster.add(RUNS, "bot", {})
    assert "strategyrun/bot restart asked for" in say("restart", "bot", "--no-wait")
    assert cluster.patches == [(path(RUNS, "default", "bot"), {"spec": {"restartNonce": 1}})]


@pytest.mark.parametrize("verb", ["restart", "start"])
def test_a_name_that_both_have(cluster, verb):
    cluster.add(RUNS, "backend", {})
    cluster.stack()
    assert "backend is a run and a stack; write run/backend or stack/backend" in say(verb, "backend", code=1)
    say(verb, "run/backend", "--no-wait")
    assert cluster.patches[0][0] == path(RUNS, "default", "backend")
    assert cluster.restarts == []
    say(verb, "stack/backend", "--no-wait")


@pytest.mark.usefixtures("cluster")
def test_a_name_that_nobody_has():
    told = say("restart", "nope", code=1)
    assert 'no StrategyRun "nope" in namespace default' in told
    told = say("restart", "nope", "--mode", "quick", code=1)
    assert 'no ServiceStack "nope" in namespace default' in told


def test_who_may_not_look_at_stacks_restarts_runs(cluster, monkeypatch):
    cluster.add(RUNS, "bot", {})
    look = cluster.get

    async def get(url):
        if f"/{STACKS}/" in url:
            raise ApiError(403, "Forbidden", "you may not")
        return await look(url)

    monkeypatch.setattr(cluster, "get", get)
    say("restart", "bot", "--no-wait")


def test_a_mode_means_a_stack(cluster):
    cluster.add(RUNS, "backend", {})
    cluster.stack()
    say("restart", "backend", "--mode", "QUICK", "--no-wait")
    assert cluster.restarts[0]["spec"]["mode"] == "Quick"
    told = say("restart", "run/backend", "--mode", "quick", code=1)
    assert "--mode is for stacks, and run/backend is a run" in told
    assert "--mode fast: full, quick, emergency or flush" in say("restart", "x", "--mode", "fast", code=1)


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        (["restart", "-m", "full"], "Full"),
        (["restart", "--mode", "emergency"], "Emergency"),
        (["restart", "--mode", "flush"], "Flush"),
        (["flush"], "Flush"),
        (["master"], "Full"),
        (["full"], "Full"),
        (["quick"], "Quick"),
        (["emergency"], "Emergency"),
        (["force"], "Emergency"),
        (["force", "backend"], "Emergency"),
        (["flush", "stack/backend"], "Flush"),
    ],
)
def test_the_only_stack_needs_no_name(cluster, words, mode):
    cluster.stack(owner=OWNER)
    cluster.stack("elsewhere", "team")
    told = say(*words, "--no-wait")
    (made,) = cluster.restarts
    assert made["spec"] == {"stack": "backend", "mode": mode, "owner": OWNER}
    assert told == f"stackrestart/{made['metadata']['name']} created\n"


@pytest.mark.parametrize(
    "words", [["restart", "--mode", "full"], ["flush"], ["master"], ["force"], ["quick"]]
)
def test_no_stack_and_more_than_one(cluster, words):
    assert "no stack in namespace default" in say(*words, code=1)
    cluster.stack("b")
    cluster.stack("a")
    told = say(*words, code=1)
    verb = " ".join(words)
    assert f"2 stacks in namespace default: a, b; say which, for example: mainstay {verb} stack/a" in told
    assert cluster.restarts == []


def test_restart_of_nothing():
    assert "name a run or a stack" in say("restart", code=1)


@pytest.mark.parametrize("verb", ["pause", "resume"])
@pytest.mark.parametrize("name", ["backend", "stack/backend"])
def test_a_stack_is_not_paused(cluster, verb, name):
    cluster.stack()
    told = say(verb, name, code=1)
    assert f"{verb} is not for stacks, and stack/backend is one:" in told
    assert "mainstay start stack/backend" in told
    assert cluster.patches == []


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_run_is_paused_though_a_stack_has_its_name(cluster, verb):
    cluster.stack()
    cluster.add(RUNS, "backend", {})
    say(verb, "backend", "--no-wait")
    assert cluster.patches[0][0] == path(RUNS, "default", "backend")


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("words", [["restart", "job/x"], ["restart", "batch/x"]])
def test_jobs_are_not_restarted(words):
    told = say(*words, code=1)
    assert "restart is for runs and stacks" in told
    assert f"mainstay resume {words[1]}" in told


@pytest.mark.usefixtures("cluster")
def test_a_mode_is_not_for_jobs():
    assert "mainstay resume job/x" in say("restart", "job/x", "--mode", "full", code=1)
    assert "this command is for stack/NAME" in say("flush", "job/x", code=1)


# -- what is asked for


def test_the_name_of_a_restart():
    at = datetime(2026, 11, 21, 9, 8, 7, tzinfo=UTC)
    assert restart_name("backend", "Full", at) == "backend-full-20261121-090807"
    assert restart_name("backend", "Quick", at, 3) == "backend-quick-20261121-090807-3"
    long = restart_name("a" * 35 + ".-" + "b" * 100, "Emergency", at, 2)
    assert long == "a" * 35 + "-emergency-20261121-090807-2"
    assert len(restart_name("a" * 253, "Emergency", at, 99)) == NAME_MAX


def test_two_in_one_second(cluster, monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 11, 21, 9, 8, 7, tzinfo=tz)

    monkeypatch.setattr(stackrestart, "datetime", Clock)
    cluster.stack()
    for _ in range(3):
        say("quick", "--no-wait")
    assert [one["metadata"]["name"] for one in cluster.restarts] == [
        "backend-quick-20261121-090807",
        "backend-quick-20261121-090807-2",
        "backend-quick-20261121-090807-3",
    ]


def test_a_dry_run_prints_what_kubectl_takes(cluster):
    cluster.stack(owner=OWNER, namespace="team")
    made = yaml.safe_load(say("restart", "stack/backend", "--dry-run", "-n", "team"))
    assert made["apiVersion"] == "mainstay.dev/v1alpha1"
    assert made["kind"] == "StackRestart"
    assert made["metadata"]["namespace"] == "team"
    assert made["metadata"]["name"].startswith("backend-full-")
    assert made["spec"] == {"stack": "backend", "mode": "Full", "owner": OWNER}
    assert cluster.restarts == []


def test_a_stopped_stack_is_started_not_restarted(cluster):
    cluster.stack(state="Stopped")
    told = say("master", code=1)
    assert "stack/backend is stopped, there is nothing to restart; `mainstay start stack/backend`" in told
    say("flush", "--no-wait")


def test_a_stack_that_is_being_deleted(cluster):
    cluster.stack()
    cluster.objects[path(STACKS, "default", "backend")]["metadata"]["deletionTimestamp"] = "now"
    assert "stack/backend is being deleted" in say("restart", "backend", code=1)
    assert "stack/backend is being deleted" in say("start", "backend", code=1)


# -- following


def test_each_step_is_told_once(cluster):
    cluster.stack()
    cluster.script = [
        {},
        scene("Running", STOPPING),
        scene("Running", STOPPING),
        scene("Running", STOPPED, step("StartServices", "Running")),
        scene(
            "Completed",
            STOPPED,
            step("StartServices", message="8 started"),
            verified=[UP, UP | DOWN | {"up": True}],
        ),
    ]
    told = say("restart", "backend")
    lines = told.splitlines()
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["▸", "StopServices"],
        ["✓", "StopServices"],
        ["▸", "StartServices"],
        ["✓", "StartServices"],
    ]
    assert " ".join(lines[2].split()) == "✓ StopServices 0.4 s 8 services stopped"
    assert "ended by TERM" not in told, "a detail, for -v"
    assert lines[5].split() == ["SERVICE", "VERIFIED", "MESSAGE"]
    assert lines[6].split() == ["✓", "web", "up", "port", "3000", "is", "held", "by", "pid", "8"]
    assert lines[-1] == f"stackrestart/{cluster.restarts[0]['metadata']['name']} completed in 3.4 s"


def test_details_as_they_come(cluster):
    cluster.stack()
    cluster.script = [
        scene("Running", {**STOPPING, "details": ["web: TERM sent"]}),
        scene("Running", {**STOPPING, "details": ["web: TERM sent", "web: gone"]}),
        scene("Completed", {**STOPPED, "details": ["web: gone", "all gone"]}),
    ]
    lines = say("restart", "backend", "-v").splitlines()
    assert [" ".join(line.split()) for line in lines[1:6]] == [
        "▸ StopServices",
        "web: TERM sent",
        "web: gone",
        "all gone",
        "✓ StopServices 0.4 s 8 services stopped",
    ]


def test_a_failed_step_says_what_to_do(cluster):
    cluster.stack(namespace="team")
    failed = step("Verify", "Failed", "poller is down: exit code 1; `mainstay logs stack/backend/poller`")
    cluster.script = [scene("Failed", STOPPED, failed, step="Verify", verified=[UP, DOWN])]
    told = say("restart", "backend", "-n", "team", code=1)
    assert "✗ Verify" in told
    lines = told.splitlines()
    assert lines[4].split() == ["✗", "poller", "down", "exit", "code", "1"], "what is down comes first"
    name = cluster.restarts[0]["metadata"]["name"]
    assert told.endswith(
        "error: Full restart of stack/backend failed at step Verify: poller is down: exit code 1; "
        "`mainstay logs stack/backend/poller`\n"
        "  mainstay status stack/backend -n team\n"
        f"  mainstay status srestart/{name} -n team\n"
    )


def test_a_restart_that_was_refused(cluster):
    cluster.stack()
    why = condition("Ready", "False", "NotOwner", "the stack is u-7's")
    cluster.script = [scene("Failed", conditions=[why])]
    assert "flush of stack/backend failed: NotOwner: the stack is u-7's" in say("flush", code=1)


def test_a_queue_is_told_once(cluster):
    cluster.stack()
    seen = cluster.objects[path(STACKS, "default", "backend")]["status"]
    seen["restart"] = {"name": "backend-full-1", "uid": "uid-other"}
    cluster.script = [{}, {}, {}, scene("Completed", STOPPED)]
    assert say("restart", "backend").count("waits for restart backend-full-1") == 1


def test_a_queue_in_the_operators_words(cluster):
    cluster.stack()
    seen = cluster.objects[path(STACKS, "default", "backend")]["status"]
    seen["restart"] = {"name": "backend-full-1", "uid": "uid-other"}
    words = condition("Ready", "False", "WaitingForTurn", "behind backend-full-1")
    cluster.script = [scene("Pending", conditions=[words])] * 2 + [scene("Completed")]
    told = say("restart", "backend")
    assert told.count("WaitingForTurn: behind backend-full-1") == 1
    assert "waits for restart" not in told


def test_nobody_takes_it_up(cluster, monkeypatch):
    async def trouble(_):
        return "the operator does not run; `mainstay up` starts it"

    monkeypatch.setattr(stackrestart, "QUIET_SECONDS", 0)
    monkeypatch.setattr(stackrestart, "operator_trouble", trouble)
    cluster.stack()
    told = say("restart", "backend", code=1)
    name = cluster.restarts[0]["metadata"]["name"]
    assert f"{name} has not been begun: the operator does not run; `mainstay up` starts it" in told
    assert f"`kubectl delete srestart {name}` takes it back" in told


def test_the_operator_goes_in_the_middle(cluster, monkeypatch):
    async def trouble(_):
        return "the operator does not run; `mainstay up` starts it"

    monkeypatch.setattr(stackrestart, "QUIET_SECONDS", 0)
    monkeypatch.setattr(stackrestart, "operator_trouble", trouble)
    cluster.stack()
    cluster.script = [scene("Running", STOPPING)]
    told = say("restart", "backend", code=1)
    assert "stands still: the operator does not run; `mainstay up` starts it" in told
    assert "It goes on once an operator works." in told


def test_a_cluster_without_an_operator(cluster, monkeypatch):
    monkeypatch.setattr(stackrestart, "QUIET_SECONDS", 0)
    monkeypatch.setattr(stackrestart, "TAKEN_UP_SECONDS", 0)
    cluster.stack()
    assert "nobody has looked at it; does an operator work on this cluster?" in say("quick", code=1)


def test_a_queue_is_no_silence(cluster, monkeypatch):
    monkeypatch.setattr(stackrestart, "QUIET_SECONDS", 0)
    monkeypatch.setattr(stackrestart, "TAKEN_UP_SECONDS", 0)
    cluster.stack()
    cluster.objects[path(STACKS, "default", "backend")]["status"]["restart"] = {"name": "o", "uid": "u"}
    cluster.script = [{}, {}, {}, scene("Completed")]
    say("quick")


def test_too_long(cluster):
    cluster.stack()
    cluster.script = [scene("Running", STOPPING)]
    told = say("restart", "backend", "--timeout", "0", code=1)
    assert "is not over after 0 s, and goes on by itself" in told
    assert "mainstay status srestart/backend-full-" in told


def test_one_that_is_deleted_meanwhile(cluster):
    cluster.stack()
    cluster.script = [scene("Running", STOPPING), None]
    assert "was deleted while it was waited for" in say("restart", "backend", code=1)


def test_ctrl_c_leaves_it_to_itself(cluster):
    cluster.stack()
    cluster.script = [scene("Running", STOPPING), KeyboardInterrupt()]
    told = say("restart", "backend", code=130)
    name = cluster.restarts[0]["metadata"]["name"]
    assert f"{name} goes on by itself." in told
    assert f"mainstay status srestart/{name}" in told
    assert f"kubectl get srestart {name} -w" in told


# -- start and stop


def state(cluster: Theatre, phase: str, *conditions: dict[str, Any], **more: Any) -> None:
    seen = cluster.objects[path(STACKS, "default", "backend")]["status"]
    seen |= {"phase": phase, "conditions": list(conditions), **more}


def test_start(cluster):
    cluster.stack(state="Stopped")
    state(cluster, "Running", condition("Ready", "True", "ServicesUp"), ready="2/2")
    told = say("start", "backend")
    assert cluster.patches == [(path(STACKS, "default", "backend"), {"spec": {"state": "Running"}})]
    assert told == "servicestack/backend state: Running\nservicestack/backend is Running, 2/2 up\n"


def test_start_that_needs_a_person(cluster):
    cluster.stack(state="Stopped")
    words = "port 3000 is held by pid 9 (x); `kubectl mainstay flush backend` ends it"
    state(cluster, "Degraded", condition("Stalled", "True", "ServicesDown", words))
    told = say("start", "stack/backend", code=1)
    assert f"error: stack/backend: ServicesDown: {words}\n  mainstay status stack/backend" in told


def test_start_that_takes_too_long(cluster):
    cluster.stack(state="Stopped")
    waits = {"name": "poller", "state": "Pending", "reason": "DependencyNotReady", "message": "waits for web"}
    web = {"name": "web", "state": "Running", "ready": True}
    words = condition("Ready", "False", "Starting", "1 of 2 services are up")
    state(cluster, "Starting", words, ready="1/2", services=[web, waits])
    told = say("start", "backend", "--timeout", "0", code=1)
    assert "backend: 1/2 up; Pending: poller" in told
    assert "stack/backend is not as asked after 0 s: Starting: 1 of 2 services are up" in told


def test_stop(cluster, capsys):
    from mainstay.cli.cluster import Target
    from mainstay.cli.home import Home

    cluster.stack()
    state(cluster, "Stopped", condition("Ready", "True", "Stopped"), ready="0/2")
    stacks.set_stack_state(Target(Home.resolve(None)), ["stack/backend"], "Stopped", True, 1, False)
    assert capsys.readouterr().out.endswith("servicestack/backend is Stopped\n")
    stacks.set_stack_state(Target(Home.resolve(None)), ["backend"], "Stopped", True, 1, True)
    assert yaml.safe_load(capsys.readouterr().out)["spec"] == {"state": "Stopped"}


def test_runs_stacks_and_jobs_in_one_command(cluster):
    cluster.stack()
    cluster.add(RUNS, "bot", {})
    cluster.add(JOBS, "j", {"steps": [], "state": "Suspended"}, phase="Suspended")
    say("start", "bot", "backend", "job/j", "--no-wait")
    assert [url.split("/")[-2] for url, _ in cluster.patches] == [RUNS, STACKS, JOBS]


# -- one service


def services(cluster: Theatre, **poller: Any) -> None:
    state(cluster, "Running", services=[{"name": "poller", **poller}])


def test_one_service(cluster, monkeypatch):
    monkeypatch.setattr(stackservice, "STAY_SECONDS", 0)
    cluster.stack(services=[SERVICES[0], {**SERVICES[1], "restartNonce": 4}])
    looks = [{"attempt": 3, "ready": True}, {"attempt": 3, "ready": True}, {"attempt": 4}]
    looks += [{"attempt": 4, "ready": True}] * 2
    look = cluster.get

    async def get(url):
        if looks:
            services(cluster, state="Running", **looks.pop(0))
        return await look(url)

    monkeypatch.setattr(cluster, "get", get)
    monkeypatch.setattr(stackservice, "POLL_SECONDS", 0)
    told = say("restart", "stack/backend/poller")
    assert cluster.patches == [
        (
            path(STACKS, "default", "backend"),
            [
                {"op": "test", "path": "/spec/services/1/name", "value": "poller"},
                {"op": "add", "path": "/spec/services/1/restartNonce", "value": 5},
            ],
        )
    ]
    assert told.startswith("servicestack/backend restart of poller asked for\n")
    assert told.endswith("poller of stack/backend is Running\n")
    assert looks == []
    assert cluster.restarts == []


def test_one_service_that_does_not_come_up(cluster, monkeypatch):
    monkeypatch.setattr(stackservice, "WRONG_SECONDS", 0)
    monkeypatch.setattr(stackservice, "POLL_SECONDS", 0)
    cluster.stack()
    services(cluster, state="Backoff", reason="CrashLoopBackOff", message="exit code 3")
    told = say("restart", "stack/backend/poller", code=1)
    assert told.endswith(
        "error: poller of stack/backend is Backoff: CrashLoopBackOff: exit code 3\n"
        "  mainstay logs stack/backend/poller\n"
        "  mainstay status stack/backend\n"
    )


def test_one_service_that_nobody_looks_at(cluster):
    cluster.stack()
    cluster.objects[path(STACKS, "default", "backend")]["status"] = {}
    told = say("restart", "stack/backend/poller", "--timeout", "0", code=1)
    assert "poller of stack/backend is not up after 0 s: nobody has looked at it" in told


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["restart", "stack/backend/x"], "stack/backend has no service x; it has: web, poller"),
        (["restart", "stack/nope/x"], 'no ServiceStack "nope"'),
        (["restart", "stack/backend/web", "-m", "full"], "--mode is for whole stacks"),
        (["start", "stack/backend/web"], "mainstay restart stack/backend/web   restarts it"),
        (["pause", "stack/backend/web"], "pause is not for one service"),
        (["resume", "stack/backend/web"], "resume is not for one service"),
    ],
)
def test_what_one_service_is_not_for(cluster, words, says):
    cluster.stack()
    assert says in say(*words, code=1)
    assert cluster.patches == []


def test_one_service_of_a_stopped_stack(cluster):
    cluster.stack(state="Stopped")
    told = say("restart", "stack/backend/web", code=1)
    assert "stack/backend is stopped, there is nothing to restart" in told


def test_one_service_without_doing_it(cluster):
    cluster.stack()
    told = say("restart", "stack/backend/web", "--dry-run")
    assert "kubectl patch stack backend -n default --type json -p" in told
    assert cluster.patches == []


# -- help


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["help"], "Usage"),
        (["help", "flush"], "End strangers on the assigned ports"),
        (["help", "master"], "Restart a stack"),
        (["help", "restart"], "--mode"),
    ],
)
def test_help(words, says):
    assert says in say(*words)


def test_help_of_nothing():
    assert "no command nope" in say("help", "nope", code=1)


def test_older_words_are_not_listed():
    told = say("--help")
    assert "flush " in told
    assert "master " not in told
