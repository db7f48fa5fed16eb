"""Counts of port pools: how many ports there are, and how many are leased."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus

from mainstay.core.plan import Write
from mainstay.core.pool import decide_pool
from mainstay.shell.kube import POOLS, ApiError, Kube, path
from mainstay.shell.store import Store

POOL_WRITE_SECONDS = 1.0
"""Counts are written at most that often."""


class PoolCounter:
    """Writes the status of pools."""

    def __init__(self, store: Store, kube: Kube, ephemeral_ports: tuple[int, int] | None) -> None:
        self._store = store
        self._kube = kube
        self._ephemeral = ephemeral_ports

    async def count(self, name: str) -> float | None:
        """Write what has changed; seconds after which to look again, or None."""
        obj, pool = self._store.pools.objects.get(("", name)), self._store.pool(name)
        if obj is None or pool is None:
            return None
        now = datetime.now(UTC).replace(microsecond=0)
        plan = decide_pool(pool.pool, self._store.lease_by_port.keys(), self._ephemeral, now)
        if isinstance(plan, Write):
            try:
                self._store.pools.put(await self._kube.put_status(POOLS, obj, plan.status.wire()))
            except ApiError as error:
                if error.code != HTTPStatus.CONFLICT:
                    raise
                current = await self._kube.get(path(POOLS, name=name))
                if current is not None:
                    self._store.pools.put(current)
                return POOL_WRITE_SECONDS
        return None
