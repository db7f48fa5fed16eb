"""`mainstay verify` against an operator that keeps its promises, and against one that breaks them one by one."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.cluster import Cluster
from typer.testing import CliRunner

from mainstay.api.crd import crds
from mainstay.cli import cluster, verification, verify, verifyparts
from mainstay.cli.app import app
from mainstay.cli.verification import LABEL, MAKER, abandoned, maker
from mainstay.cli.verifyparts import difference
from mainstay.cli.verifyprogram import broken, hash_of, source
from mainstay.shell.kube import LEASES, RUNS, STRATEGIES, ApiError, path

AT = "2030-01-01T00:00:00Z"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
PORT = 18766


def condition(kind: str, good: bool, reason: str, message: str = "") -> dict[str, Any]:
    status = "True" if good else "False"
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": AT}


class World(Cluster):
    """An API server with an operator behind it, whose `fault` is what it does wrong."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.program: subprocess.Popen[bytes] | None = None
        self.deleted: list[str] = []
        self.starts = 0
        self.running: dict[str, Any] = {}
        for crd in crds():
            seen = json.loads(json.dumps(crd)) | {
                "status": {"conditions": [condition("Established", True, "x")]}
            }
            self.objects[CRD + crd["metadata"]["name"]] = seen

    # --- the API

    async def request(self, method: str, url: str, body: Any = None, **more: Any) -> dict[str, Any]:
        if url == "/version":
            return {"gitVersion": "v1.99.0"}
        return await super().request(method, url, body, **more)

    async def get(self, url: str) -> dict[str, Any] | None:
        if url.startswith(CRD) and self.fault == "may not read definitions":
            raise ApiError(403, "Forbidden", "no")
        return await super().get(url)

    async def create(self, plural: str, kind: str, namespace: str, obj: dict[str, Any]) -> dict[str, Any]:
        meta = obj["metadata"]
        assert LABEL in meta["labels"], kind
        self.add(plural, meta["name"], obj["spec"], namespace)
        made = self.objects[path(plural, namespace, meta["name"])]
        made["metadata"] |= {"labels": meta["labels"], "annotations": meta["annotations"]}
        made["status"] = {}
        if self.fault != "no operator":
            self.look(plural, made)
        return made

    async def patch(self, url: str, body: Any, **_: Any) -> dict[str, Any]:
        obj = self.objects[url]
        obj["spec"] |= body["spec"]
        obj["metadata"]["generation"] += 1
        self.look(STRATEGIES if f"/{STRATEGIES}/" in url else RUNS, obj)
        return obj

    async def delete_object(self, url: str, *, uid: str) -> None:
        assert self.objects[url]["metadata"]["uid"] == uid
        self.deleted.append(url.rpartition("/")[2])
        if self.fault == "never lets go" and f"/{RUNS}/" in url:
            return
        del self.objects[url]
        if f"/{STRATEGIES}/" in url and self.running:
            self.resolved(False, "LastGoodInUse", "goes on")
            if self.fault == "deletion restarts":
                self.start(self.running["status"]["strategy"]["hash"])
        if f"/{RUNS}/" in url:
            self.end()

    # --- the operator

    def look(self, plural: str, obj: dict[str, Any]) -> None:
        if plural == STRATEGIES:
            self.strategy(obj)
        else:
            self.run(obj)

    def strategy(self, obj: dict[str, Any]) -> None:
        code = obj["spec"]["source"]["inline"]
        if code == broken()[0]:
            line = 1 if self.fault == "wrong line" else broken()[1]
            words = f"x.py: line {line}: invalid syntax"
            obj["status"]["conditions"] = [condition("Ready", False, "StrategyInvalid", words)]
            self.resolved(False, "StrategyInvalid", words)
            if self.fault == "broken code is run":
                self.start(hash_of(code))
            return
        obj["status"] = {"revision": hash_of(code), "valid": self.fault != "refuses the strategy",
                         "conditions": [condition("Ready", True, "Offered", "revision x")]}  # fmt: skip
        if self.running and self.fault != "edits are not noticed":
            self.start(hash_of(code))
            if self.fault == "restarts twice":
                self.start(hash_of(code))
            if self.fault == "moves to another port":
                self.running["status"]["port"] += 1

    def run(self, obj: dict[str, Any]) -> None:
        self.running = obj
        state = obj["spec"].get("state", "Running")
        status = obj["status"]
        if state == "Running" and not status:
            if self.fault in ("PoolExhausted", "PoolNotFound", "CrashLoopBackOff"):
                words = "all 34 ports of pool default are leased"
                obj["status"] = {"observedGeneration": 1, "phase": "Pending",
                                 "conditions": [condition("Ready", False, self.fault, words)]}  # fmt: skip
                return
            status |= {"port": PORT, "attempt": 0, "restarts": 0}
            self.start(hash_of(source(1)))
            self.objects[path(LEASES, name=f"port-{PORT}")] = {
                "metadata": {"name": f"port-{PORT}", "uid": "lease"},
                "spec": {"holder": {"uid": obj["metadata"]["uid"]}},
            }
        if state == "Stopped":
            self.end()
            status["process"] = None
            if self.fault != "keeps the lease":
                self.objects.pop(path(LEASES, name=f"port-{PORT}"))
        serving = state == "Running" or self.fault == "paused and serving"
        status |= {"phase": state, "observedGeneration": obj["metadata"]["generation"]}
        conditions = [c for c in status["conditions"] if c["type"] == "StrategyResolved"]
        status["conditions"] = [
            condition("Ready", True, state),
            condition("Serving", serving, "x"),
            *conditions,
        ]
        if self.fault == "resumed as another" and state == "Running" and self.deleted:
            self.start(status["strategy"]["hash"])

    def start(self, content: str) -> None:
        self.end()
        self.program = subprocess.Popen(["sleep", "60"])
        self.starts += 1
        status = self.running["status"]
        status["attempt"] += 1
        status["strategy"] = {"hash": content}
        pid = self.program.pid
        boot = "another" if self.fault == "runs elsewhere" else verification._boot()
        status["process"] = {"pid": pid, "startTicks": verification._ticks(pid), "bootId": boot}
        status |= {
            "phase": "Running",
            "conditions": [condition("Ready", True, "Running"), condition("Serving", True, "x")],
        }
        self.resolved(True, "InUse", "")

    def resolved(self, good: bool, reason: str, words: str) -> None:
        if self.running:
            kept = [c for c in self.running["status"]["conditions"] if c["type"] != "StrategyResolved"]
            self.running["status"]["conditions"] = [*kept, condition("StrategyResolved", good, reason, words)]

    def end(self) -> None:
        if self.program is not None:
            self.program.kill()
            self.program.wait()
            self.program = None

    # --- the program

    async def ask(self, *_: float) -> dict[str, Any] | None:
        status = self.running["status"]
        if self.fault == "nobody answers" or (status["phase"] == "Paused" and self.fault != "answers paused"):
            return None
        content = "sha256:other" if self.fault == "another hash" else status["strategy"]["hash"]
        run_id = "another" if self.fault == "another program" else self.running["metadata"]["uid"]
        return {"hash": content, "runId": run_id, "starts": self.starts, "attempt": status["attempt"]}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ms-cli-") as directory:
        monkeypatch.setenv("MAINSTAY_HOME", directory + "/none")
        monkeypatch.delenv("KUBECONFIG", raising=False)
        monkeypatch.setattr(verification, "POLL_SECONDS", 0.001)
        monkeypatch.setattr(verify, "CLEAN_UP_SECONDS", 0.1)
        yield Path(directory)


def verified(monkeypatch: pytest.MonkeyPatch, world: World, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and what -o json says."""
    monkeypatch.setattr(cluster.Kube, "connect", world.connect)
    monkeypatch.setattr(verification.Verification, "_ask", lambda _, *seconds: world.ask(*seconds))
    try:
        result = CliRunner().invoke(app, ["verify", "-o", "json", "--timeout", "2", *options])
    finally:
        world.end()
    assert "Traceback" not in result.output
    return result.exit_code, json.loads(result.stdout)


def test_all_is_well(monkeypatch: pytest.MonkeyPatch):
    world = World()
    code, told = verified(monkeypatch, world)
    assert (code, told["ok"], told["left"]) == (0, True, [])
    assert {c["check"]: c["outcome"] for c in told["checks"] if c["outcome"] != "passed"} == {
        "the parts of this machine run": "skipped",
        "the operator is ready": "skipped",
    }
    assert len(told["checks"]) == 16
    assert world.starts == 2, "one start, one restart"
    assert [url for url in world.objects if not url.startswith(CRD)] == []


@pytest.mark.parametrize(
    ("fault", "check", "says"),
    [
        ("no operator", "a strategy is offered", "no operator has looked at it"),
        ("refuses the strategy", "a strategy is offered", "revision x"),
        ("PoolExhausted", "a run of it is Ready", "kubectl get pl"),
        ("PoolNotFound", "a run of it is Ready", "--pool"),
        ("CrashLoopBackOff", "a run of it is Ready", "CrashLoopBackOff: all 34"),
        ("nobody answers", "it answers on its port", "nobody answers on 127.0.0.1:18766"),
        ("another program", "it answers on its port", "another program answers"),
        ("another hash", "it answers on its port", "it says sha256:other"),
        ("edits are not noticed", "an edit restarts it once", "--timeout are over; at last: InUse"),
        ("restarts twice", "an edit restarts it once", "restarted 2 times"),
        ("moves to another port", "an edit restarts it once", "and has 18767"),
        ("wrong line", "a broken edit leaves it running", f"in line {broken()[1]}, but it says"),
        ("broken code is run", "a broken edit leaves it running", "--timeout are over; at last: InUse"),
        ("deletion restarts", "deleting the strategy", "--timeout are over"),
        ("paused and serving", "paused, it does not serve", "Paused, and Serving"),
        ("answers paused", "paused, it does not serve", "Paused, and answers"),
        ("resumed as another", "resumed, it is the same process", "was replaced by"),
        ("keeps the lease", "stopped, its port is free", "port-18766 is still its own"),
    ],
)
def test_a_broken_promise_is_a_failed_check(
    monkeypatch: pytest.MonkeyPatch, fault: str, check: str, says: str
):
    world = World(fault)
    code, told = verified(monkeypatch, world)
    (failed,) = [c for c in told["checks"] if c["outcome"] == "failed"]
    assert failed["check"].startswith(check)
    assert says in failed["message"]
    assert (code, told["ok"]) == (1, False)
    assert told["checks"][-1]["check"] == "everything of it is gone"
    assert told["unreached"] == 16 - len(told["checks"])
    assert [url for url in world.objects if "mainstay-verify" in url] == []


def test_what_can_not_be_removed_is_told(monkeypatch: pytest.MonkeyPatch):
    code, told = verified(monkeypatch, World("never lets go"))
    assert code == 1
    (left,) = told["left"]
    assert left.startswith("StrategyRun mainstay-verify-")
    last = told["checks"][-1]
    assert (last["check"], last["outcome"]) == ("everything of it is gone", "failed")
    assert left in last["message"]


def test_a_program_on_another_host_is_skipped_in_words(monkeypatch: pytest.MonkeyPatch):
    code, told = verified(monkeypatch, World("runs elsewhere"))
    assert code == 0
    skipped = {c["check"]: c["message"] for c in told["checks"] if c["outcome"] == "skipped"}
    assert set(skipped) >= {"it answers on its port, with the hash of its strategy", "the new code answers"}
    assert verification.ELSEWHERE in skipped.values()
    paused = next(c for c in told["checks"] if c["check"].startswith("paused"))
    assert verification.ELSEWHERE in paused["message"]


def test_an_api_server_that_is_away(monkeypatch: pytest.MonkeyPatch):
    world = World()

    async def away(*_: Any, **__: Any) -> Any:
        raise verifyparts.ApiUnavailableError(0, "", "Cannot connect")

    monkeypatch.setattr(world, "request", away)
    code, told = verified(monkeypatch, world)
    assert code == 1
    assert [c["message"] for c in told["checks"]] == [
        "it does not answer (Cannot connect); `mainstay up` starts it"
    ]


def test_a_namespace_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    world = World()

    async def refuses(*_: Any, **__: Any) -> Any:
        raise ApiError(404, "NotFound", 'namespaces "nosuch" not found')

    monkeypatch.setattr(world, "create", refuses)
    code, told = verified(monkeypatch, world, "-n", "nosuch")
    assert code == 1
    assert any("`kubectl create namespace nosuch` makes it" in c["message"] for c in told["checks"])


# --- definitions


def test_definitions_that_may_not_be_read_are_skipped(monkeypatch: pytest.MonkeyPatch):
    code, told = verified(monkeypatch, World("may not read definitions"))
    assert code == 0
    assert "may not read" in told["checks"][1]["message"]
    assert told["checks"][1]["outcome"] == "skipped"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (None, "is missing"),
        ({"status": {}}, "is not established"),
        ({"spec": {"versions": []}}, "does not serve"),
        ({"spec": {"versions": [{"name": "v1alpha1", "served": True, "schema": {}}]}}, "another schema"),
    ],
)
def test_definitions_of_another_version(change: dict[str, Any] | None, says: str):
    (wanted, *_) = crds()
    seen = None
    if change is not None:
        seen = {**wanted, "status": {"conditions": [condition("Established", True, "x")]}, **change}
    assert says in str(difference(wanted, seen))


# --- left-overs


def test_who_left_it():
    mine = {"metadata": {"annotations": {MAKER: json.dumps(maker(60))}}}
    assert not abandoned(mine), "we live"
    dead = maker(60) | {"startTicks": 1}
    assert abandoned({"metadata": {"annotations": {MAKER: json.dumps(dead)}}})
    other = {**maker(60), "host": "another"}
    assert not abandoned({"metadata": {"annotations": {MAKER: json.dumps(other)}}})
    other["until"] = time.time() - 1
    assert abandoned({"metadata": {"annotations": {MAKER: json.dumps(other)}}})
    assert abandoned({"metadata": {}}), "nobody says who made it"
    assert abandoned({"metadata": {"annotations": {MAKER: "[]"}}})


def test_what_a_killed_one_left_is_removed_first(monkeypatch: pytest.MonkeyPatch):
    world = World()
    world.add(RUNS, "mainstay-verify-old", {})
    world.add(STRATEGIES, "mainstay-verify-old", {})
    code, told = verified(monkeypatch, world)
    assert code == 0
    left = next(c for c in told["checks"] if c["check"].startswith("nothing of an earlier"))
    assert left["message"] == "removed StrategyRun mainstay-verify-old, Strategy mainstay-verify-old"
    assert world.deleted[:2] == ["mainstay-verify-old", "mainstay-verify-old"]


# --- the program


def test_editions_differ_and_compile():
    assert hash_of(source(1)) != hash_of(source(2))
    for edition in (1, 2):
        compile(source(edition), "x.py", "exec")
    code, line = broken()
    with pytest.raises(SyntaxError) as caught:
        compile(code, "x.py", "exec")
    assert caught.value.lineno == line


def test_words_without_a_terminal(monkeypatch: pytest.MonkeyPatch):
    world = World("runs elsewhere")
    monkeypatch.setattr(cluster.Kube, "connect", world.connect)
    try:
        result = CliRunner().invoke(app, ["verify", "--timeout", "5"])
    finally:
        world.end()
    lines = result.stdout.splitlines()
    assert lines[0].startswith("ok      the API server answers (")
    assert any(line.startswith("skipped the parts of this machine run") for line in lines)
    assert "checks passed, 4 skipped" in lines[-1]
    assert "\x1b" not in result.output
