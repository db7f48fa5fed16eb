"""Which stacks a command means; start, stop and help."""

from __future__ import annotations

import json

import pytest
import yaml
from tests.unit.cli.theatre import OWNER, cluster, condition, say, state

from mainstay.cli import stacks
from mainstay.shell.kube import JOBS, RUNS, STACKS, ApiError, path

__all__ = ["cluster"]

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
    cluster.add(RUNS, "backend", {"state": "Stopped"} if verb == "start" else {})
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
    assert "--mode is for stacks; run/backend is a run" in told
    told = say("restart", "x", "--mode", "fast", code=2)
    assert "--mode fast is unknown; it is full, quick, emergency or flush" in told
    cluster.add(RUNS, "bot", {})
    assert "--mode is for stacks; bot is a run" in say("restart", "backend", "bot", "-m", "quick", code=1)
    assert len(cluster.restarts) == 1


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
    assert "name a run or a stack" in say("restart", code=2)


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
    cluster.add(RUNS, "backend", {"state": "Stopped" if verb == "resume" else "Running"})
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


# -- start and stop


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
    cluster.stack(state="Stopped")
    cluster.add(RUNS, "bot", {"state": "Stopped"})
    cluster.add(JOBS, "j", {"steps": [], "state": "Suspended"}, phase="Suspended")
    say("start", "bot", "backend", "job/j", "--no-wait")
    assert [url.split("/")[-2] for url, _ in cluster.patches] == [RUNS, STACKS, JOBS]


@pytest.mark.parametrize("verb", ["start", "stop", "pause", "resume", "restart"])
@pytest.mark.parametrize("last", ["nope", "run/nope", "stack/nope", "pod/x"])
def test_nothing_is_touched_before_every_name_is_found(cluster, verb, last):
    cluster.add(RUNS, "bot", {"state": "Paused"})
    cluster.stack()
    say(verb, "bot", last, code=2 if last == "pod/x" else 1)
    assert cluster.patches == []
    assert cluster.restarts == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (
            ["stack/backend", "poller"],
            1,
            'no run "poller"; nothing was restarted. stack/backend has a service of this name: '
            "mainstay restart stack/backend/poller",
        ),
        (["backend", "full"], 2, "mainstay restart backend --mode full"),
        (["backend", "stack/backend/nope"], 1, "stack/backend has no service nope"),
        (["backend/poller"], 2, "did you mean stack/backend/poller?"),
        (["backend", "job/x"], 1, "restart is for runs and stacks"),
    ],
)
def test_a_name_that_was_not_meant_so(cluster, words, code, says):
    cluster.stack()
    assert says in say("restart", *words, code=code)
    assert cluster.patches == []
    assert cluster.restarts == []


def test_a_name_that_only_a_job_has(cluster):
    cluster.add(JOBS, "j", {"steps": [], "state": "Suspended"}, phase="Suspended")
    say("start", "j", "--no-wait")
    assert cluster.patches == [(path(JOBS, "default", "j"), {"spec": {"state": "Running"}})]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["status", "-o", "wide"], "--output wide is unknown; it is json or yaml"),
        (["stop"], "name at least one"),
        (["logs"], "name what to read"),
        (["stop", "bot", "--offline", "--dry-run"], "--dry-run doesn't go with --offline"),
        (["start", "bot", "-o", "json"], "--output goes with --dry-run"),
    ],
)
@pytest.mark.usefixtures("cluster")
def test_wrong_usage(words, says):
    assert says in say(*words, code=2)


def test_a_dry_run_as_json(cluster):
    cluster.stack(state="Stopped")
    cluster.add(RUNS, "bot", {"state": "Stopped"})
    for name in ("bot", "backend"):
        assert json.loads(say("start", name, "--dry-run", "-o", "json"))["spec"] == {"state": "Running"}
    assert json.loads(say("flush", "--dry-run", "-o", "json"))["kind"] == "StackRestart"


def test_what_is_so_already(cluster):
    stopped = condition("Ready", "True", "Stopped")
    cluster.stack(state="Stopped")
    state(cluster, "Stopped", stopped)
    cluster.add(RUNS, "bot", {"state": "Stopped"}, phase="Stopped", conditions=[stopped])
    told = say("stop", "bot", "backend")
    assert told == "strategyrun/bot is Stopped already\nservicestack/backend is Stopped already\n"
    assert cluster.patches == []


def test_a_run_that_is_held(cluster):
    cluster.add(RUNS, "bot", {"state": "Stopped"}, conditions=[condition("HeldLocally", "True", "Held")])
    for verb in ("start", "resume", "restart"):
        assert "`mainstay release bot` lets it run again" in say(verb, "bot", code=1)
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
    assert "no command nope" in say("help", "nope", code=2)


def test_older_words_are_not_listed():
    told = say("--help")
    assert "flush " in told
    assert "master " not in told
