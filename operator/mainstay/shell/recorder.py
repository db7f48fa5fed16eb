"""Kubernetes events, posted beside the work: best effort, never in its way."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from mainstay.api.meta import API_VERSION
from mainstay.core.run.story import Event
from mainstay.shell.kube import ApiError, Kube
from mainstay.shell.store import Object

logger = logging.getLogger(__name__)

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
        """Post for ever."""
        while True:
            obj, event, at = await self._queue.get()
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
