"""One verification: its checks one after the other, and what it has to take away again whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import aiohttp

from mainstay.cli.cluster import Target
from mainstay.cli.verifyprogram import broken, hash_of, source
from mainstay.cli.words import condition, one_line
from mainstay.core import reasons
from mainstay.shell.kube import LEASES, RUNS, STRATEGIES, ApiError, Kube, Object, path

LABEL = "mainstay.dev/verify"
"""On everything that is made here; its value is one verification."""
MAKER = "mainstay.dev/verify-by"
"""Annotation: which process made it, so that what a killed one left is told from what another one is at."""

POLL_SECONDS = 0.05
ANSWER_SECONDS = 5.0
SILENT_SECONDS = 0.5
"""How long a paused program must not answer."""

ELSEWHERE = "the program runs on another host than this command, whose loopback can't be reached from here"

_NO_PORT = {
    reasons.POOL_EXHAUSTED: "`kubectl get pl` shows who holds the ports; stop a run, or give the pool more ranges",
    reasons.POOL_NOT_FOUND: "`kubectl get pp` lists the pools; create it, or name another one with --pool",
}


class Outcome(StrEnum):
    """What a check came to."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One check that was made, or could not be."""

    title: str
    outcome: Outcome
    seconds: float
    message: str = ""


class FailedError(Exception):
    """It is not so; the message says what is, and what to do."""


class SkippedError(Exception):
    """It can't be told from here; the message says why."""


class Verification:
    """The checks so far; `tell` is called with each as soon as it is made."""

    def __init__(self, target: Target, *, pool: str, timeout: float, tell: Callable[[Check], None]) -> None:
        self.target = target
        self.checks: list[Check] = []
        self.left: list[str] = []
        """What could not be removed."""
        self.interrupted = False
        self.unreached = 0
        """Checks that were not made, because one before them failed."""
        self.token = secrets.token_hex(4)
        self.name = f"mainstay-verify-{self.token}"
        self._pool = pool
        self._timeout = timeout
        self._until = time.monotonic() + timeout
        self._tell = tell
        self._seen = ""  # what was seen last, while something else is waited for
        self._writes: set[asyncio.Future[Object]] = set()
        self._made = False
        # what the checks know of the run
        self._uid = ""
        self._port = 0
        self._attempt = 0
        self._process: Object = {}
        self._hash = ""

    @property
    def good(self) -> bool:
        """Nothing failed, and nothing is left."""
        return not self.left and all(check.outcome is not Outcome.FAILED for check in self.checks)

    def done(self, check: Check) -> None:
        """Note a check, and tell of it."""
        self.checks.append(check)
        self._tell(check)

    async def check(self, title: str, work: Callable[[], Awaitable[str]]) -> bool:
        """Make a check; `work` returns words for the user. False if it failed."""
        began = time.monotonic()
        self._seen = ""
        outcome = Outcome.PASSED
        try:
            async with asyncio.timeout(max(self._until - began, 0)):
                words = await work()
        except FailedError as error:
            outcome, words = Outcome.FAILED, str(error)
        except SkippedError as error:
            outcome, words = Outcome.SKIPPED, str(error)
        except TimeoutError:
            outcome = Outcome.FAILED
            words = f"the {self._timeout:.0f} s of --timeout are over" + (
                f"; at last: {self._seen}" if self._seen else ""
            )
        except ApiError as error:
            outcome, words = Outcome.FAILED, f"the API server says: {error.message or error}"
            if f'namespaces "{self.target.namespace}" not found' in words:
                words += f"; `kubectl create namespace {self.target.namespace}` makes it"
        self.done(Check(title, outcome, time.monotonic() - began, one_line(words)))
        return outcome is not Outcome.FAILED

    async def walk(self, kube: Kube) -> None:
        """The life of a run of our own, up to the first check that fails."""
        steps: Sequence[tuple[str, Callable[[Kube], Awaitable[str]]]] = (
            ("a strategy is offered", self._offer),
            ("a run of it is Ready, with a port", self._start),
            ("it answers on its port, with the hash of its strategy", self._answers),
            ("an edit restarts it once, on the same port", self._edit),
            ("the new code answers", self._answers),
            ("a broken edit leaves it running", self._break),
            ("deleting the strategy leaves it on its last code", self._remove),
            ("paused, it does not serve", self._pause),
            ("resumed, it is the same process and serves", self._resume),
            ("stopped, its port is free", self._stop),
        )
        for at, (title, work) in enumerate(steps):
            if not await self.check(title, lambda work=work: work(kube)):  # type: ignore[misc]
                self.unreached = len(steps) - at - 1
                return

    # --- the strategy and the run

    async def _offer(self, kube: Kube) -> str:
        spec = {"library": self.name, "source": {"inline": source(1)}}
        await self._write(kube.create(STRATEGIES, "Strategy", self.target.namespace, self._body(spec)))
        wanted = hash_of(source(1))

        def offered(obj: Object) -> bool:
            seen = obj.get("status") or {}
            if seen.get("valid") is False:
                raise FailedError(condition(obj, "Ready").get("message", "it is invalid"))
            return seen.get("revision") == wanted

        obj = await self._wait(kube, STRATEGIES, offered)
        return f"{condition(obj, 'Ready').get('message', '')}"

    async def _start(self, kube: Kube) -> str:
        spec = {
            "strategy": {"library": self.name, "name": self.name},
            "program": {
                "command": ["python3"],
                "args": ["$(STRATEGY_PATH)"],
                "readiness": {"http": {"path": "/health"}, "periodSeconds": 1},
                "terminationGracePeriodSeconds": 5,
            },
            "controlApi": {"pool": self._pool},
            "pause": {"method": "Signal"},
        }
        made = await self._write(kube.create(RUNS, "StrategyRun", self.target.namespace, self._body(spec)))
        self._uid = made["metadata"]["uid"]
        obj = await self._ready(kube, made["metadata"]["generation"], "Running")
        self._port, self._attempt = int(obj["status"].get("port") or 0), int(obj["status"]["attempt"])
        self._hash = (obj["status"].get("strategy") or {}).get("hash", "")
        if not self._port:
            raise FailedError("it is Ready and has no port")
        if self._hash != hash_of(source(1)):
            raise FailedError(f"its status names {self._hash or 'no strategy'}")
        return f"port {self._port}, pid {self._process['pid']}"

    async def _answers(self, _: Kube) -> str:
        self._here()
        told = await self._ask()
        if told is None:
            raise FailedError(
                f"nobody answers on 127.0.0.1:{self._port}, though its readiness probe succeeded"
            )
        if told.get("runId") != self._uid:
            raise FailedError(f"another program answers on port {self._port}")
        if told.get("hash") != self._hash:
            raise FailedError(f"it says {told.get('hash')}, its status {self._hash}")
        wanted = self._attempt
        if (told.get("starts"), told.get("attempt")) != (wanted, wanted):
            raise FailedError(f"it was started {told.get('starts')} times, in attempt {told.get('attempt')}")
        return self._hash.removeprefix("sha256:")[:12]

    async def _edit(self, kube: Kube) -> str:
        before, port = dict(self._process), self._port
        wanted = hash_of(source(2))
        began = time.monotonic()
        await kube.patch(self._url(STRATEGIES), {"spec": {"source": {"inline": source(2)}}})

        def changed(obj: Object) -> bool:
            status = obj.get("status") or {}
            return (
                (status.get("strategy") or {}).get("hash") == wanted
                and status.get("phase") == "Running"
                and condition(obj, "Ready").get("status") == "True"
                and condition(obj, "Serving").get("status") == "True"
            )

        obj = await self._wait(kube, RUNS, changed)
        seconds = time.monotonic() - began
        status = obj["status"]
        self._process, self._hash = dict(status.get("process") or {}), wanted
        attempts = int(status["attempt"]) - self._attempt
        self._attempt = int(status["attempt"])
        if attempts != 1 or int(status.get("restarts") or 0):
            raise FailedError(
                f"it was restarted {attempts} times, {status.get('restarts', 0)} of them by itself"
            )
        if self._process == before:
            raise FailedError(f"pid {before.get('pid')} is still the same process")
        if status.get("port") != port:
            raise FailedError(f"it had port {port}, and has {status.get('port')}")
        return f"Ready with the new code after {seconds:.1f} s, pid {self._process.get('pid')}"

    async def _break(self, kube: Kube) -> str:
        code, line = broken()
        await kube.patch(self._url(STRATEGIES), {"spec": {"source": {"inline": code}}})

        def told(obj: Object) -> bool:
            return condition(obj, "Ready").get("reason") == reasons.STRATEGY_INVALID

        strategy = await self._wait(kube, STRATEGIES, told)
        message = condition(strategy, "Ready").get("message", "")
        if f"line {line}" not in message:
            raise FailedError(f"its mistake is in line {line}, but it says: {message}")

        def noticed(obj: Object) -> bool:
            return condition(obj, "StrategyResolved").get("reason") == reasons.STRATEGY_INVALID

        await self._same(kube, await self._wait(kube, RUNS, noticed))
        return f"StrategyInvalid, line {line}; pid {self._process.get('pid')} runs on"

    async def _remove(self, kube: Kube) -> str:
        obj = await kube.get(self._url(STRATEGIES))
        if obj is not None:
            await kube.delete_object(self._url(STRATEGIES), uid=obj["metadata"]["uid"])

        def noticed(run: Object) -> bool:
            return condition(run, "StrategyResolved").get("reason") == reasons.LAST_GOOD_IN_USE

        await self._same(kube, await self._wait(kube, RUNS, noticed))
        return f"LastGoodInUse: it has no library whose default it could fall back to; pid {self._process.get('pid')}"

    async def _pause(self, kube: Kube) -> str:
        await self._state(kube, "Paused")
        obj = await kube.get(self._url(RUNS)) or {}
        if condition(obj, "Serving").get("status") == "True":
            raise FailedError("it is Paused, and Serving")
        if not self._local():
            return "Serving is False; " + ELSEWHERE
        if await self._ask(SILENT_SECONDS) is not None:
            raise FailedError(f"it is Paused, and answers on port {self._port}")
        return f"it keeps pid {self._process.get('pid')} and port {self._port}"

    async def _resume(self, kube: Kube) -> str:
        obj = await self._state(kube, "Running")
        await self._same(kube, obj)
        if not self._local():
            return "Serving is True; " + ELSEWHERE
        if await self._ask() is None:
            raise FailedError(f"it does not answer on port {self._port}")
        return f"pid {self._process.get('pid')}"

    async def _stop(self, kube: Kube) -> str:
        local = self._local()
        await self._state(kube, "Stopped")
        lease = await kube.get(path(LEASES, name=f"port-{self._port}"))
        if lease is not None and lease["spec"]["holder"].get("uid") == self._uid:
            raise FailedError(f"PortLease port-{self._port} is still its own")
        if local and _ticks(int(self._process.get("pid") or 0)) == self._process.get("startTicks"):
            raise FailedError(f"pid {self._process.get('pid')} lives on")
        return f"port {self._port} can be leased again"

    async def _state(self, kube: Kube, state: str) -> Object:
        answer = await kube.patch(self._url(RUNS), {"spec": {"state": state}})
        return await self._ready(kube, answer["metadata"]["generation"], state)

    async def _ready(self, kube: Kube, generation: int, phase: str) -> Object:
        """The run, once it is as asked; its process is noted."""

        def settled(obj: Object) -> bool:
            status, ready = obj.get("status") or {}, condition(obj, "Ready")
            if status.get("observedGeneration", 0) < generation:
                return False
            reason, words = ready.get("reason", ""), ready.get("message", "")
            if reason in _NO_PORT:
                raise FailedError(f"{words}; {_NO_PORT[reason]}")
            if reason == reasons.CRASH_LOOP or condition(obj, "Stalled").get("status") == "True":
                raise FailedError(f"{reason}: {words}")
            serves = phase != "Running" or condition(obj, "Serving").get("status") == "True"
            return status.get("phase") == phase and ready.get("status") == "True" and serves

        obj = await self._wait(kube, RUNS, settled)
        if process := obj["status"].get("process"):
            self._process = dict(process)
        return obj

    async def _same(self, kube: Kube, obj: Object) -> None:
        """It is the process that it was, still or again Ready, and started no oftener."""
        status = obj["status"]
        if (status.get("process") or {}) != self._process or status.get("attempt") != self._attempt:
            now = (status.get("process") or {}).get("pid")
            raise FailedError(f"pid {self._process.get('pid')} was replaced by {now}")
        if (ready := condition(obj, "Ready")).get("status") != "True":
            raise FailedError(f"it is not Ready: {ready.get('reason')}: {ready.get('message')}")
        if self._local():
            await self._answers(kube)

    # --- looking

    async def _wait(self, kube: Kube, plural: str, is_so: Callable[[Object], bool]) -> Object:
        while True:
            obj = await kube.get(self._url(plural))
            if obj is None:
                raise FailedError("somebody deleted it")
            if is_so(obj):
                return obj
            ready = condition(obj, "StrategyResolved" if plural == RUNS and self._attempt else "Ready")
            self._seen = (
                f"{ready['reason']}: {ready.get('message', '')}"
                if ready
                else "no operator has looked at it; is one running?"
            )
            await asyncio.sleep(POLL_SECONDS)

    def _url(self, plural: str) -> str:
        return path(plural, self.target.namespace, self.name)

    def _local(self) -> bool:
        """Whether the program is a process that we can see."""
        pid, boot = int(self._process.get("pid") or 0), self._process.get("bootId")
        return boot == _boot() and _ticks(pid) == self._process.get("startTicks")

    def _here(self) -> None:
        if not self._local():
            raise SkippedError(ELSEWHERE)

    async def _ask(self, seconds: float = ANSWER_SECONDS) -> Object | None:
        """What the program says, or None."""
        limit = aiohttp.ClientTimeout(total=seconds)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit, trust_env=False) as session,
                session.get(f"http://127.0.0.1:{self._port}/who") as answer,
            ):
                told = json.loads(await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}

    # --- making and taking away

    def _body(self, spec: Object) -> Object:
        meta = {
            "name": self.name,
            "namespace": self.target.namespace,
            "labels": {LABEL: self.token},
            "annotations": {MAKER: json.dumps(maker(self._timeout))},
        }
        return {"metadata": meta, "spec": spec}

    async def _write(self, request: Coroutine[Any, Any, Object]) -> Object:
        """Create an object. Cut off halfway it is awaited before anything is taken away."""
        self._made = True
        task = asyncio.ensure_future(request)
        self._writes.add(task)
        return await asyncio.shield(task)

    async def clean_up(self, kube: Kube, seconds: float) -> None:
        """Delete what was made, and wait until it is gone; `left` has what is not."""
        if not self._made:
            return
        began = time.monotonic()
        self._until = began + seconds
        self.left = [f"StrategyRun {self.name}", f"Strategy {self.name}"]  # until it is known to be gone
        if self._writes:
            await asyncio.wait(self._writes, timeout=seconds)
            for task in self._writes:
                if task.done() and not task.cancelled():
                    task.exception()  # told already
        urls = {f"StrategyRun {self.name}": self._url(RUNS), f"Strategy {self.name}": self._url(STRATEGIES)}
        words = await remove(kube, urls, self.left, began + seconds)
        outcome = Outcome.FAILED if self.left else Outcome.PASSED
        told = f"{', '.join(self.left)}: {words}" if self.left else ""
        self.done(Check("everything of it is gone", outcome, time.monotonic() - began, one_line(told)))


async def remove(kube: Kube, urls: dict[str, str], left: list[str], until: float) -> str:
    """Delete each and wait; takes from `left` what is gone, and returns why the rest is not."""
    why = ""
    asked: set[str] = set()
    while urls and (time.monotonic() < until or not asked):
        for what, url in list(urls.items()):
            try:
                async with asyncio.timeout(max(until - time.monotonic(), 1)):
                    obj = await kube.get(url)
                    if obj is None:
                        del urls[what]
                        left.remove(what)
                        continue
                    if what not in asked:
                        await kube.delete_object(url, uid=obj["metadata"]["uid"])
                    asked.add(what)
                why = f"it is being deleted: {condition(obj, 'Ready').get('message') or 'the operator has not let go of it'}"
            except (ApiError, TimeoutError) as error:
                why = getattr(error, "message", "") or "the API server does not answer"
        if urls:
            await asyncio.sleep(POLL_SECONDS)
        asked.add("")
    return why


def maker(timeout: float) -> Object:
    """Who we are, for a later verification that finds our objects."""
    pid = os.getpid()
    return {"host": _host(), "pid": pid, "startTicks": _ticks(pid), "until": time.time() + timeout + 60}


def abandoned(obj: Object) -> bool:
    """Whether nobody is at it any more: its maker is dead, or, where we can't see that, its time is long over."""
    try:
        told = json.loads((obj["metadata"].get("annotations") or {})[MAKER])
        if told["host"] == _host():
            return bool(_ticks(int(told["pid"])) != told["startTicks"])
        return float(told["until"]) < time.time()
    except (KeyError, TypeError, ValueError):
        return True


def _host() -> str:
    """This boot of this machine, and which processes we see of it."""
    try:
        return f"{_boot()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return _boot()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _ticks(pid: int) -> int | None:
    """When that process started, in clock ticks since boot; None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
