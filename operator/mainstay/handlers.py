"""All of kopf: which events exist, and where each of them goes.

Errors in `on.event` are logged and never retried, so a handler does nothing but pass the event on; the work,
its retries and its finalizers are ours (see shell/queue.py). Handlers are coroutines: kopf runs others in threads.
"""

from __future__ import annotations

from typing import Any

import kopf

from mainstay.api.meta import GROUP, VERSION
from mainstay.shell.kube import BATCHES, CONFIG_MAPS, JOBS, LEASES, POOLS, RUNS
from mainstay.shell.operator import Operator


class NoDiffBase(kopf.DiffBaseStorage):
    """We compare with status, not with what kopf saw last: building that costs a tenth of a create."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing of the object is remembered."""
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Nothing was."""
        return None

    def store(self, **_: Any) -> None:
        """Nothing is written."""


def registry(operator: Operator) -> kopf.OperatorRegistry:
    """The routing table."""
    table = kopf.OperatorRegistry()

    @kopf.on.startup(registry=table)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.persistence.diffbase_storage = NoDiffBase()
        settings.networking.request_timeout = 30.0
        settings.scanning.disabled = True
        settings.watching.reconnect_backoff = 1.0
        settings.process.ultimate_exiting_timeout = None  # it would kill us while we finish what was begun

    @kopf.on.login(registry=table)
    async def login(**options: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**options) or kopf.login_with_kubeconfig(**options)

    @kopf.on.event(GROUP, VERSION, RUNS, registry=table)
    async def run_changed(event: kopf.RawEvent, **_: Any) -> None:
        operator.on_event(RUNS, event["type"] == "DELETED", dict(event["object"]))

    @kopf.on.event(GROUP, VERSION, JOBS, registry=table)
    async def job_changed(event: kopf.RawEvent, **_: Any) -> None:
        operator.on_event(JOBS, event["type"] == "DELETED", dict(event["object"]))

    @kopf.on.event(GROUP, VERSION, BATCHES, registry=table)
    async def batch_changed(event: kopf.RawEvent, **_: Any) -> None:
        operator.on_event(BATCHES, event["type"] == "DELETED", dict(event["object"]))

    @kopf.on.event(GROUP, VERSION, LEASES, registry=table)
    async def lease_changed(event: kopf.RawEvent, **_: Any) -> None:
        operator.on_event(LEASES, event["type"] == "DELETED", dict(event["object"]))

    @kopf.on.event(GROUP, VERSION, POOLS, registry=table)
    async def pool_changed(event: kopf.RawEvent, **_: Any) -> None:
        operator.on_event(POOLS, event["type"] == "DELETED", dict(event["object"]))

    @kopf.on.event("", "v1", CONFIG_MAPS, registry=table)
    async def config_map_changed(event: kopf.RawEvent, **_: Any) -> None:
        operator.on_event(CONFIG_MAPS, event["type"] == "DELETED", dict(event["object"]))

    return table
