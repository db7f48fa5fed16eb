"""All of kopf: which events exist, and where each of them goes.

Errors in `on.event` are logged and never retried, so a handler does nothing but pass the event on; the work,
its retries and its finalizers are ours (see shell/queue.py). Handlers are coroutines: kopf runs others in threads.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import kopf

from mainstay.api.meta import GROUP, VERSION
from mainstay.shell.copies import WATCHED
from mainstay.shell.kube import CONFIG_MAPS
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

    for plural in WATCHED:
        group, version = ("", "v1") if plural == CONFIG_MAPS else (GROUP, VERSION)
        kopf.on.event(group, version, plural, id=plural, registry=table)(_route(operator, plural))

    return table


def _route(operator: Operator, plural: str) -> Callable[..., Coroutine[Any, Any, None]]:
    async def changed(event: kopf.RawEvent, **_: Any) -> None:
        operator.on_event(plural, event["type"] == "DELETED", dict(event["object"]))

    return changed
