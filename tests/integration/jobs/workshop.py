"""Jobs whose tasks keep a journal, and a desk to create, change and watch them at."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.stage import PATIENCE, Client, Object, Stage, condition, eventually

from mainstay.api.meta import API_VERSION
from mainstay.shell.kube import BATCHES, JOBS, core_path, path

_PROGRAM = """
import fcntl, json, posix, sys, time
try:
    from _sha256 import sha256
except ImportError:
    from _sha2 import sha256
env = {k.decode(): v.decode() for k, v in posix.environ.items()}
judge, attempt = env["JUDGE"], int(env["ATTEMPT"])
unit = env["MAINSTAY_NAME"].partition("/")[2]
me = f"{unit} {env['RUN_ID']} {attempt} {posix.getpid()}"
def say(name, line):
    fd = posix.open(f"{judge}/{name}", posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT, 0o600)
    posix.write(fd, line.encode() + b"\\n")
    posix.close(fd)
lock = posix.open(f"{judge}/{unit}.lock", posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    say("violations", f"two programs of {me} at once")
ask = dict(word.partition("=")[::2] for word in sys.argv[1:])
raw = open(env["INPUTS_PATH"], "rb").read()
given = json.loads(raw)
context = given["context"]
seen = ",".join(f"{k}={v['token']}" for k, v in sorted(context.items()) if "token" in v)
digest = sha256(json.dumps(context, sort_keys=True).encode()).hexdigest()[:16]
say("journal", f"begin {me} {digest} {seen or '-'}")
if "sleep" in ask:
    time.sleep(float(ask["sleep"]))
if attempt <= int(ask.get("hang", 0)):
    time.sleep(600)
code = 0
if attempt < int(ask.get("from", 0)):
    code = 3
if "needs" in ask:
    try:
        posix.stat(f"{judge}/{env['RUN_ID']}.{ask['needs']}")
    except OSError:
        code = 4
if "fail" in ask:
    code = int(ask["fail"])
token = f"{posix.getpid()}.{time.time_ns()}"
if code == 0:
    fd = posix.open(env["OUTPUTS_PATH"], posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o600)
    left = json.dumps({"token": token, "pad": "x" * int(ask.get("size", 0))}).encode()
    while left:
        left = left[posix.write(fd, left):]
    posix.close(fd)
say("journal", f"end {me} {code} {token}")
posix._exit(code)
"""
PYTHON = os.path.realpath(sys.executable)


def program(judge: Path, **ask: Any) -> Object:
    """A program that tells when it begins, what it sees, and when it ends: sleep=, hang=, size=, from=, needs=, fail=.

    Attempts up to `hang` never end by themselves, attempts below `from` fail.
    """
    return {
        "command": [PYTHON, "-S", "-I", "-c", _PROGRAM],
        "args": [f"{key}={value}" for key, value in ask.items()],
        "env": [{"name": "JUDGE", "value": str(judge)}],
        "terminationGracePeriodSeconds": 2,
    }


LARGE = 40_000
"""Bytes of outputs that status has no room for."""


def whole(judge: Path, sleep: float = 0.0) -> Object:
    """12 tasks in 4 phases with everything a job can meet: it asks a user, then fails until `<uid>.fixed` is there."""
    more: dict[str, Any] = {"sleep": sleep} if sleep else {}

    def task(name: str, *after: str, when: str | None = None, blocking: bool = True, **ask: Any) -> Object:
        spec: Object = {"name": name, "program": program(judge, **more, **ask), "blocking": blocking}
        if after:
            spec["dependsOn"] = list(after)
        if when is not None:
            spec["when"] = when
        if "from" in ask:
            spec |= {"retries": ask["from"] - 1, "initialBackoffSeconds": 0.01}
        return spec

    first = [
        task("a"),
        task("b", size=LARGE),
        task("c", when="inputs.wanted.c"),
        task("d", "a", **{"from": 2}),
    ]
    second = [
        task("e", "a", when="has(context.b.token)"),
        task("f", "b", needs="fixed"),
        task("g", blocking=False, fail=7),
        task("h", "g"),
    ]
    third = [task("i", "e", "f", size=2000), task("j", "d")]
    fourth = [task("k", "i"), task("l", "k", when="tasks.k.outputs.token != '' && inputs.choose.number > 3")]
    return {
        "inputs": {"wanted": {"c": False}},
        "steps": [
            {"name": "prepare", "phases": [{"name": "p1", "tasks": first}]},
            {"name": "choose", "action": {"title": "Choose", "schema": {"type": "object"}}},
            {
                "name": "setup",
                "phases": [
                    {"name": "p2", "tasks": second},
                    {"name": "p3", "tasks": third},
                    {"name": "p4", "tasks": fourth},
                ],
            },
        ],
    }


def ladder(
    judge: Path,
    *,
    sleep: float = 0.0,
    retries: int = 0,
    phases: int = 4,
    tasks: int = 3,
    hanging: int = -1,
) -> Object:
    """`phases` times `tasks`, each with outputs, the first of each phase with large ones.

    The first attempts of the phase with the number `hanging` never end by themselves.
    """

    def ask(p: int, n: int) -> dict[str, Any]:
        return {"sleep": sleep} | ({} if n else {"size": 9000}) | ({"hang": 1} if p == hanging else {})

    return {
        "steps": [
            {
                "name": "all",
                "phases": [
                    {
                        "name": f"p{p}",
                        "tasks": [
                            {
                                "name": f"t{p}{n}",
                                "retries": retries,
                                "initialBackoffSeconds": 0.05,
                                "program": program(judge, **ask(p, n)),
                            }
                            for n in range(tasks)
                        ],
                    }
                    for p in range(phases)
                ],
            }
        ]
    }


# --- watching


def phase_is(phase: str, reason: str | None = None) -> Callable[[Object | None], bool]:
    """What was asked last was looked at, and the job or batch is in that phase."""

    def is_so(obj: Object | None) -> bool:
        status = (obj or {}).get("status") or {}
        return (
            obj is not None
            and status.get("phase") == phase
            and status.get("observedGeneration") == obj["metadata"]["generation"]
            and (reason is None or condition(obj).get("reason") == reason)
        )

    return is_so


completed = phase_is("Completed")


def tasks_of(obj: Object) -> dict[str, Object]:
    """Status of each task that status tells of."""
    steps = (obj.get("status") or {}).get("steps") or []
    return {t["name"]: t for s in steps for p in s.get("phases") or [] for t in p.get("tasks") or []}


def told(obj: Object) -> Object:
    """What a status tells, without times and words. Outputs by name: they differ from run to run."""
    status = obj.get("status") or {}
    failure = status.get("lastFailure") or {}
    steps = status.get("steps") or []
    return {
        **{k: status.get(k) for k in ("phase", "currentStep", "currentPhase", "lastCompletedPhase")},
        **{k: status.get(k) for k in ("progress", "resumable", "resumes", "resumePlan", "counts")},
        "created": sorted(status.get("created") or ()),
        "actions": [a["name"] for a in status.get("actions") or ()],
        "failure": [failure.get(k) for k in ("step", "phase", "task", "reason")],
        "context": sorted(status.get("context") or ()),
        "steps": {s["name"]: s.get("state", "Pending") for s in steps},
        "phases": {p["name"]: p.get("state", "Pending") for s in steps for p in s.get("phases") or ()},
        "tasks": {
            name: [t.get(k) for k in ("state", "attempt", "failures", "losses", "reason")]
            + ["outputs" in t, "completedAt" in t, "retryAt" in t]
            for name, t in tasks_of(obj).items()
        },
        "conditions": sorted((c["type"], c["status"], c["reason"]) for c in status.get("conditions", ())),
    }


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two of these differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other})
        return [line for key in keys for line in differences(one.get(key), other.get(key), f"{where}.{key}")]
    return [] if one == other else [f"{where}: {one!r} is not {other!r}"]


@dataclass
class Desk:
    """Jobs and batches of one namespace."""

    namespace: str
    judge: Path
    connect: Callable[[], AbstractContextManager[Client]]
    explain: Callable[[], str] = field(default=lambda: "")

    def url(self, name: str, subresource: str = "", plural: str = JOBS) -> str:
        return path(plural, self.namespace, name, subresource)

    def create(self, name: str, spec: Object, plural: str = JOBS) -> Object:
        kind = {JOBS: "PhasedJob", BATCHES: "JobBatch"}[plural]
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }
        with self.connect() as client:
            return client.ok("POST", path(plural, self.namespace), body)

    def get(self, name: str, plural: str = JOBS) -> Object | None:
        with self.connect() as client:
            return client.get(self.url(name, plural=plural))

    def try_get(self, name: str, plural: str = JOBS) -> Object | None:
        """As `get`; None also while the API server is away."""
        with suppress(OSError, AssertionError, ValueError):
            return self.get(name, plural)
        return None

    def patch(self, name: str, plural: str = JOBS, **spec: Any) -> Object:
        with self.connect() as client:
            return client.merge(self.url(name, plural=plural), {"spec": spec})

    def delete(self, name: str, plural: str = JOBS) -> None:
        with self.connect() as client:
            client.ok("DELETE", self.url(name, plural=plural))

    def set_status(self, name: str, status: Object | None) -> tuple[int, Object]:
        """`kubectl replace --subresource status`, of the version that is there now."""
        with self.connect() as client:
            obj = client.ok("GET", self.url(name))
            obj.pop("status", None)
            if status is not None:
                obj["status"] = status
            return client.ask("PUT", self.url(name, "status"), obj)

    def strip_finalizers(self, name: str) -> None:
        with self.connect() as client:
            client.merge(self.url(name), {"metadata": {"finalizers": None}})

    def until(
        self,
        name: str,
        is_so: Callable[[Object], bool],
        seconds: float = PATIENCE,
        plural: str = JOBS,
    ) -> Object:
        until = time.monotonic() + seconds
        while True:
            obj = self.try_get(name, plural)
            if obj is not None and is_so(obj):
                return obj
            assert time.monotonic() < until, f"{name}: {(obj or {}).get('status')}\n{self.explain()}"
            time.sleep(0.01)

    def until_gone(self, name: str, seconds: float = PATIENCE, plural: str = JOBS) -> None:
        def gone() -> bool:
            with suppress(OSError, AssertionError, ValueError):
                return self.get(name, plural) is None
            return False

        eventually(gone, f"{name} gone; {self.explain()}", seconds)

    def config_maps(self, name: str = "") -> list[str]:
        """ConfigMaps that keep outputs, of one job or of all."""
        with self.connect() as client:
            items = client.ok("GET", core_path("configmaps", self.namespace))["items"]
        names = [item["metadata"]["name"] for item in items]
        return [n for n in names if n.startswith(f"{name}-outputs-" if name else "") and "-outputs-" in n]

    def fix(self, uid: str) -> None:
        """What task f needs is there now."""
        (self.judge / f"{uid}.fixed").touch()


@dataclass
class Works:
    """A stage with a desk: what a Life of jobs is lived on."""

    stage: Stage
    plural: str = JOBS

    @property
    def desk(self) -> Desk:
        stage = self.stage
        return Desk(stage.namespace, stage.judge, lambda: nullcontext(stage.client))

    @property
    def shell(self) -> Any:
        return self.stage.shell

    def crash(self) -> None:
        self.stage.crash()

    def restart(self, plan: Any = None) -> None:
        self.stage.restart(plan)

    def get(self, name: str) -> Object | None:
        return self.desk.get(name, self.plural)


def directories(home: Path) -> list[str]:
    """Units of tasks that have a directory."""
    return sorted(p.name for p in (home / "scopes/jobs/units").glob("*"))


@contextmanager
def fresh(client: Callable[[], Client]) -> Iterator[Client]:
    """A connection for one request or two."""
    one = client()
    try:
        yield one
    finally:
        one.close()
