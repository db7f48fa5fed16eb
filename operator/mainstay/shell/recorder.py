"""Kubernetes events, posted beside the work: best effort, never in its way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime

from mainstay.api.meta import API_VERSION
from mainstay.core.run.story import Event
from mainstay.shell.kube import ApiError, Kube
from mainstay.shell.store import Object

logger = logging.getLogger(__name__)

LULL_SECONDS = 0.3
"""While statuses are being written they come first: events are half of all requests of a roll."""
PATIENCE_SECONDS = 2.0
"""An event that is that old is posted, whatever else is going on."""
LAST_SECONDS = 0.8
"""What is left at the end has that long."""
BACKLOG = 2000
"""Events that may wait; more are dropped, as a story nobody can read any more."""


class Recorder:
    """Posts events one after the other, in the order they were recorded."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._queue: asyncio.Queue[tuple[Object, Event, datetime]] = asyncio.Queue(BACKLOG)

    def record(self, obj: Object, event: Event) -> None:
        """Post it soon."""
        logger.info("%s/%s: %s: %s", *_names(obj), event.reason, event.message)
        try:
            self._queue.put_nowait((obj, event, datetime.now(UTC)))
        except asyncio.QueueFull:
            logger.debug("event dropped: %s", event.reason)

    async def run(self) -> None:
        """Post for ever; when cancelled, what can still be posted."""
        try:
            while True:
                obj, event, at = await self._queue.get()
                try:
                    await self._lull(at)
                finally:
                    await self._post(obj, event, at)
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    while not self._queue.empty():
                        await self._post(*self._queue.get_nowait())
            raise

    async def _lull(self, at: datetime) -> None:
        """Return when nothing more urgent is being written."""
        while (rest := self._kube.wrote_at + LULL_SECONDS - time.monotonic()) > 0:
            left = PATIENCE_SECONDS - (datetime.now(UTC) - at).total_seconds()
            if not 0 < left <= PATIENCE_SECONDS:  # the clock may have been set
                return
            await asyncio.sleep(min(rest, left))

    async def _post(self, obj: Object, event: Event, at: datetime) -> None:
        try:
            await self._kube.post_event(_names(obj)[0], _body(obj, event, at))
        except ApiError as error:
            logger.debug("event %s not posted: %s", event.reason, error)


def _names(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", "default"), obj["metadata"]["name"]


def _body(obj: Object, event: Event, at: datetime) -> Object:
    namespace, name = _names(obj)
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"generateName": f"{name[:40]}.", "namespace": namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": obj.get("kind", "StrategyRun"),
            "namespace": namespace,
            "name": name,
            "uid": obj["metadata"]["uid"],
            "resourceVersion": obj["metadata"]["resourceVersion"],
        },
        "type": event.kind,
        "reason": event.reason,
        "message": event.message[:1024],
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
        "source": {"component": "mainstay"},
        "reportingComponent": "mainstay.dev/operator",
    }
