"""One run, pass after pass: gather, decide, and either write or act, until there is nothing to do but wait."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus

from pydantic import ValidationError

from mainstay.api.strategyrun import StrategyRun, StrategyRunStatus
from mainstay.core import reasons
from mainstay.core.backoff import delay
from mainstay.core.plan import Act, Wait, Write
from mainstay.core.run.decide import decide
from mainstay.core.run.story import events
from mainstay.core.snapshot import Problem, RunSnapshot
from mainstay.core.unitspec import SecretNotFoundError
from mainstay.runtime.base import Runtime, RuntimeUnavailableError, UnitRefusedError
from mainstay.shell.executor import Executor
from mainstay.shell.gather import Gatherer, Memory
from mainstay.shell.kube import LEASES, RUNS, ApiError, Kube, path
from mainstay.shell.recorder import Recorder
from mainstay.shell.store import HistoryLostError, Key, Store, version_of

logger = logging.getLogger(__name__)

PASSES = 40
"""Passes in a row before a key goes to the back of the queue."""

FIRST_POLL_SECONDS = 0.004
LAST_POLL_SECONDS = 0.5
QUIET_FAILURES = 3
"""Failures of the runtime in a row that are not worth telling anybody."""


class RunReconciler:
    """Converges runs. Holds no truth: a new one on the same API server and runtime goes on where this stopped."""

    def __init__(
        self,
        store: Store,
        kube: Kube,
        runtime: Runtime,
        recorder: Recorder,
    ) -> None:
        self._store = store
        self._kube = kube
        self._recorder = recorder
        self._gatherer = Gatherer(store, runtime)
        self._executor = Executor(store, kube, runtime, self._gatherer)
        self._memories: dict[Key, Memory] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Passes until one answers Wait; the seconds after which to look again, or None."""
        memory = self._memories.setdefault(key, Memory())
        for _ in range(PASSES):
            try:
                snapshot = await self._gatherer.snapshot(key, memory)
            except ValidationError as error:
                await self._unreadable(key, error)
                return None
            if snapshot is None:
                self._memories.pop(key, None)
                return None
            plan = decide(snapshot)
            match plan:
                case Write(status=status):
                    memory.polls = memory.repeats = 0
                    memory.last_action = None
                    await self._write(key, snapshot, status)
                case Act(action=action):
                    memory.polls = 0
                    memory.repeats = memory.repeats + 1 if action == memory.last_action else 0
                    memory.last_action = action
                    await self._act(key, snapshot, plan, memory)
                    if memory.repeats:
                        # Decided again although it was just done: its effect shows later, or not at all.
                        return delay(memory.repeats, initial=FIRST_POLL_SECONDS, cap=2.0)
                case Wait(poll=True):
                    memory.polls += 1
                    return delay(memory.polls, initial=FIRST_POLL_SECONDS, cap=LAST_POLL_SECONDS)
                case Wait(seconds=seconds):
                    memory.polls = memory.repeats = 0
                    return seconds
        return 0.0

    async def _write(self, key: Key, s: RunSnapshot, status: StrategyRunStatus) -> None:
        obj = self._store.runs.objects[key]
        if obj["metadata"]["resourceVersion"] != s.run.metadata.resource_version:
            return  # it changed while we decided
        self._store.claim(s.run, status.port if status.endpoint else None)
        try:
            answer = await self._kube.put_status(RUNS, obj, status.wire())
        except ApiError as error:
            if error.code in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                await self.refresh(key)
                return
            raise
        self._store.put_run(answer)
        for event in events(s.status, status):
            self._recorder.record(answer, event)

    async def _act(self, key: Key, s: RunSnapshot, plan: Act, memory: Memory) -> None:
        try:
            await self._executor.perform(key, s.run, plan.action)
        except UnitRefusedError as error:
            self._remember(memory, s.run, Problem(error.reason, str(error), True, 60.0))
        except SecretNotFoundError as error:
            self._remember(memory, s.run, Problem(reasons.SECRET_NOT_FOUND, str(error), True, 5.0))
        except RuntimeUnavailableError as error:
            memory.failures += 1
            if memory.failures <= QUIET_FAILURES:
                raise
            wait = delay(memory.failures - QUIET_FAILURES, initial=0.5, cap=10.0)
            self._remember(memory, s.run, Problem(reasons.RUNTIME_UNAVAILABLE, str(error), False, wait))
        except ApiError as error:
            if error.code not in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                raise
            await self.refresh(key)
        else:
            memory.failures = 0

    @staticmethod
    def _remember(memory: Memory, run: StrategyRun, problem: Problem) -> None:
        memory.problem = problem
        memory.problem_generation = run.metadata.generation
        memory.problem_until = time.monotonic() + problem.retry_seconds

    async def refresh(self, key: Key) -> None:
        """Replace our copy by a consistent read: a write told us that it is old."""
        known = self._store.runs.objects.get(key)
        obj = await self._kube.get(path(RUNS, key[0], key[1]))
        if obj is not None:
            if known is not None and version_of(obj) < version_of(known):
                raise HistoryLostError(f"StrategyRun {key[0]}/{key[1]} is older than it was seen before")
            self._store.put_run(obj)
        elif known is not None:
            self._store.drop_run(known)
        if known is not None:
            for lease in self._store.leases_of(known["metadata"]["uid"]):
                current = await self._kube.get(path(LEASES, name=lease.metadata.name))
                raw = self._store.leases.objects.get(("", lease.metadata.name))
                if current is not None:
                    self._store.put_lease(current)
                elif raw is not None:
                    self._store.drop_lease(raw)

    async def _unreadable(self, key: Key, error: ValidationError) -> None:
        """The object doesn't parse: said in a condition, never guessed; its process is left alone."""
        obj = self._store.runs.objects.get(key)
        if obj is None:
            return
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"{where}: {first['msg']}; correct it, nothing is done until then"
        status = dict(obj.get("status") or {})
        told = {
            "reason": reasons.STATUS_INVALID,
            "message": message,
            "lastTransitionTime": obj["metadata"].get("creationTimestamp"),
        }
        new = [{"type": "Ready", "status": "False", **told}, {"type": "Stalled", "status": "True", **told}]
        kept = [c for c in status.get("conditions") or [] if isinstance(c, dict)]
        if any(c.get("type") == "Stalled" and c.get("message") == message for c in kept):
            return
        status["conditions"] = [*(c for c in kept if c.get("type") not in {"Ready", "Stalled"}), *new]
        logger.warning("StrategyRun %s/%s: %s", *key, message)
        try:
            self._store.put_run(await self._kube.put_status(RUNS, obj, status))
        except ApiError as refused:
            if refused.code != HTTPStatus.UNPROCESSABLE_ENTITY:
                raise
            logger.error("StrategyRun %s/%s: its status can't be written either: %s", *key, refused.message)
