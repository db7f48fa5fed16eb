"""One object, pass after pass: gather, decide, and either write or act, until there is nothing to do but wait."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import ValidationError

from mainstay.api.meta import Model
from mainstay.core import reasons
from mainstay.core.backoff import delay
from mainstay.core.plan import Act, ActAll, Action, Plan, Wait, Write
from mainstay.shell.kube import ApiError, Kube, path
from mainstay.shell.store import HistoryLostError, Key, Kind, Object, version_of
from mainstay.shell.writes import Finish, plainly

logger = logging.getLogger(__name__)

PASSES = 40
"""Passes in a row before a key goes to the back of the queue."""

FIRST_POLL_SECONDS = 0.004
LAST_POLL_SECONDS = 0.5


@dataclass(slots=True)
class Memory:
    """What is remembered of an object between passes. Losing it costs a look, never an effect."""

    uid: str = ""
    polls: int = 0
    last_act: object = None
    repeats: int = 0
    failures: int = 0


S = TypeVar("S")
T = TypeVar("T", bound=Model)
M = TypeVar("M", bound=Memory)


class Reconciler(ABC, Generic[S, T, M]):
    """Converges the objects of one kind. Holds no truth: a new one on the same API server goes on where this stopped."""

    plural: ClassVar[str]
    kind: ClassVar[str]

    def __init__(self, kube: Kube, objects: Kind) -> None:
        self._kube = kube
        self._objects = objects
        self._memories: dict[Key, M] = {}
        self.closing = False
        """Finish the pass that was begun, and begin none."""
        self.finish: Finish = plainly
        """How a write is awaited, together with what our copy learns from its answer."""
        self.passed: Callable[[str], None] = lambda _: None
        """Called with what a pass came to, see `metrics.RESULTS`."""
        self.gathered: Callable[[Key, S | None], None] = lambda *_: None
        """Called with every snapshot; None when the object is gone."""

    # -- what a kind has of its own

    @abstractmethod
    def _memory(self) -> M:
        """An empty memory."""

    @abstractmethod
    async def _snapshot(self, key: Key, memory: M) -> S | None:
        """Gather; None if the object is gone."""

    @abstractmethod
    def _decide(self, snapshot: S) -> Plan[T]:
        """Decide."""

    @abstractmethod
    def _seen(self, snapshot: S) -> str:
        """ResourceVersion of the object that was decided upon."""

    @abstractmethod
    async def _act(self, key: Key, snapshot: S, actions: tuple[Action, ...], memory: M) -> None:
        """Have these effects."""

    @abstractmethod
    def _put(self, obj: Object) -> None:
        """Take a newer version in."""

    @abstractmethod
    def _drop(self, obj: Object) -> None:
        """The object is gone."""

    def _claims(self, snapshot: S, status: T) -> None:
        """Note what is about to be claimed, before it is written."""

    def _waits(self, key: Key, *, room: bool) -> None:
        """There is nothing to do now; `room`: for want of room on this host."""

    def _written(self, snapshot: S, status: T, obj: Object) -> None:
        """A status was written."""

    # -- what all do

    async def reconcile(self, key: Key) -> float | None:
        """Passes until one answers Wait; the seconds after which to look again, or None."""
        memory = self._memories.get(key) or self._memories.setdefault(key, self._memory())
        for _ in range(PASSES):
            if self.closing:
                return None
            try:
                snapshot = await self._snapshot(key, memory)
            except ValidationError as error:
                self.passed("unreadable")
                await self._unreadable(key, error)
                return None
            self.gathered(key, snapshot)
            if snapshot is None:
                self.passed("gone")
                self._memories.pop(key, None)
                return None
            plan = self._decide(snapshot)
            match plan:
                case Write(status=status):
                    memory.polls = memory.repeats = 0
                    memory.last_act = None
                    self.passed("write" if await self._write(key, snapshot, status) else "conflict")
                case Act() | ActAll():
                    memory.polls = 0
                    actions = (plan.action,) if isinstance(plan, Act) else plan.actions
                    memory.repeats = memory.repeats + 1 if actions == memory.last_act else 0
                    memory.last_act = actions
                    await self._act(key, snapshot, actions, memory)
                    self.passed("act")
                    if memory.repeats:
                        # Decided again although it was just done: its effect shows later, or not at all.
                        return delay(memory.repeats, initial=FIRST_POLL_SECONDS, cap=2.0)
                case Wait(poll=True):
                    self.passed("wait")
                    memory.polls += 1
                    return delay(memory.polls, initial=FIRST_POLL_SECONDS, cap=LAST_POLL_SECONDS)
                case Wait(seconds=seconds, room=room):
                    self._waits(key, room=room)
                    self.passed("wait")
                    memory.polls = memory.repeats = 0
                    return seconds
        return 0.0

    async def _write(self, key: Key, snapshot: S, status: T) -> bool:
        """Whether it was written; False when the object had moved on."""
        obj = self._objects.objects.get(key)
        if obj is None or obj["metadata"]["resourceVersion"] != self._seen(snapshot):
            return False  # it changed while we decided
        self._claims(snapshot, status)
        try:
            await self.finish("put_status", self._put_status(obj, snapshot, status))
        except ApiError as error:
            if error.code in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                await self.refresh(key)
                return False
            raise
        return True

    async def _put_status(self, obj: Object, snapshot: S, status: T) -> None:
        answer = await self._kube.put_status(self.plural, obj, status.wire())
        self._put(answer)
        self._written(snapshot, status, answer)

    async def refresh(self, key: Key) -> None:
        """Replace our copy by a consistent read: a write told us that it is old."""
        known = self._objects.objects.get(key)
        obj = await self._kube.get(path(self.plural, key[0], key[1]))
        if obj is not None:
            if known is not None and version_of(obj) < version_of(known):
                raise HistoryLostError(f"{self.kind} {key[0]}/{key[1]} is older than it was seen before")
            self._put(obj)
        elif known is not None:
            self._drop(known)

    async def set_finalizer(self, key: Key, *, present: bool) -> None:
        """Add ours, or let the object go."""
        obj = self._objects.objects.get(key)
        if obj is None:
            return
        await self.finish("set_finalizer", self._set_finalizer(obj, present=present))

    async def _set_finalizer(self, obj: Object, *, present: bool) -> None:
        answer = await self._kube.set_finalizer(self.plural, obj, present=present)
        if present or answer.get("metadata", {}).get("finalizers"):
            self._put(answer)
        else:
            self._drop(obj)

    async def _unreadable(self, key: Key, error: ValidationError) -> None:
        """The object doesn't parse: said in a condition, never guessed; its processes are left alone."""
        obj = self._objects.objects.get(key)
        if obj is None:
            return
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"{where}: {first['msg']}; correct it, nothing is done until then"
        status: dict[str, Any] = dict(obj.get("status") or {})
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
        logger.warning("%s %s/%s: %s", self.kind, *key, message)
        try:
            self._put(await self._kube.put_status(self.plural, obj, status))
        except ApiError as refused:
            if refused.code != HTTPStatus.UNPROCESSABLE_ENTITY:
                raise
            logger.error("%s %s/%s: its status can't be written either: %s", self.kind, *key, refused.message)
