"""A restart of one service of a stack."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from tests.unit.cli.theatre import SERVICES, Theatre, cluster, say, state

from mainstay.cli import stackservice
from mainstay.shell.kube import STACKS, path

__all__ = ["cluster"]


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
    patch = json.loads(say("restart", "stack/backend/web", "--dry-run"))
    assert patch[1] == {"op": "add", "path": "/spec/services/0/restartNonce", "value": 1}
    assert yaml.safe_load(say("restart", "stack/backend/web", "--dry-run", "-o", "yaml")) == patch
    assert cluster.patches == []


def test_a_nonce_that_vanished_is_passed_by(cluster):
    cluster.stack()
    services(cluster, state="Running", handledRestartNonce=7)
    say("restart", "stack/backend/poller", "--no-wait")
    assert cluster.patches[0][1][1]["value"] == 8


def test_one_service_that_is_held(cluster):
    cluster.stack()
    services(cluster, state="Stopped", reason="HeldLocally")
    for verb in ("start", "restart"):
        told = say(verb, "stack/backend/poller", code=1)
        assert "is held on its host: mainstay release stack/backend/poller" in told
    assert cluster.patches == []
