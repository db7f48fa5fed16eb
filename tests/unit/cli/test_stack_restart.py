"""What a restart of a stack is asked for as, and how it is followed."""

from __future__ import annotations

from datetime import UTC, datetime

import yaml
from tests.unit.cli.theatre import (
    DOWN,
    OWNER,
    STOPPED,
    STOPPING,
    UP,
    cluster,
    condition,
    say,
    scene,
    step,
)

from mainstay.api.meta import NAME_MAX
from mainstay.cli import stackrestart
from mainstay.cli.stackrestart import restart_name
from mainstay.shell.kube import STACKS, path

__all__ = ["cluster"]

# -- what is asked for


def test_the_name_of_a_restart():
    at = datetime(2026, 11, 21, 9, 8, 7, tzinfo=UTC)
    assert restart_name("backend", "Full", at) == "backend-20261121-090807-full"
    assert restart_name("backend", "Quick", at, 3) == "backend-20261121-090807-quick-3"
    long = restart_name("a" * 35 + ".-" + "b" * 100, "Emergency", at, 2)
    assert long == "a" * 35 + "-20261121-090807-emergency-2"
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
        "backend-20261121-090807-quick",
        "backend-20261121-090807-quick-2",
        "backend-20261121-090807-quick-3",
    ]


def test_a_dry_run_prints_what_kubectl_takes(cluster):
    cluster.stack(owner=OWNER, namespace="team")
    made = yaml.safe_load(say("restart", "stack/backend", "--dry-run", "-n", "team"))
    assert made["apiVersion"] == "mainstay.dev/v1alpha1"
    assert made["kind"] == "StackRestart"
    assert made["metadata"]["namespace"] == "team"
    assert made["metadata"]["name"].endswith("-full")
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
    assert "mainstay status srestart/backend-20" in told


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
