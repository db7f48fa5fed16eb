"""Units and leases whose owner object is gone."""

from __future__ import annotations

import logging

from mainstay.core.lease import decide_lease
from mainstay.core.names import object_key, task_key
from mainstay.core.plan import Act, DeleteLease, Wait
from mainstay.core.unit import GONE, LIVE, Unit
from mainstay.runtime.base import Runtime, Stacks, TaskRuntime
from mainstay.shell.jobs.index import JobIndex
from mainstay.shell.kube import JOBS, RUNS, STACKS, Kube, path
from mainstay.shell.leases import Leases
from mainstay.shell.store import Key, Store

logger = logging.getLogger(__name__)

GRACE_SECONDS = 30.0
HOLDERS = {"StrategyRun": RUNS, "ServiceStack": STACKS}
"""Kinds that hold leases."""


async def finish(runtime: TaskRuntime, unit: Unit) -> float | None:
    """End and forget a unit whose deletion was witnessed; seconds after which to look again, or None."""
    if unit.state in GONE:
        await runtime.remove(unit.name, unit.owner_uid)
        logger.info("unit %s removed, its deletion had been asked for", unit.name)
        return None
    elapsed = unit.stopping_seconds
    force = elapsed is not None and elapsed >= GRACE_SECONDS
    await runtime.stop(unit.name, grace_seconds=GRACE_SECONDS, force=force, deleting=True)
    return 0.5


class TaskSweeper:
    """Finds tasks whose job is gone. One that runs is reported, and ended only when that was witnessed."""

    def __init__(self, index: JobIndex, kube: Kube, runtime: TaskRuntime) -> None:
        self._index = index
        self._kube = kube
        self._runtime = runtime
        self._reported: set[str] = set()

    async def orphans(self) -> list[str]:
        """Names of units without a job in our copy."""
        return [n for n in await self._runtime.names() if task_key(n)[:2] not in self._index.jobs.objects]

    async def unit(self, name: str) -> float | None:
        """Finish or report one unit; seconds after which to look again, or None."""
        key = task_key(name)[:2]
        if key in self._index.jobs.objects or await self._kube.get(path(JOBS, *key)) is not None:
            return None
        unit = await self._runtime.observe(name)
        if unit.deletion_witnessed:
            return await finish(self._runtime, unit)
        if name not in self._reported and unit.state in LIVE:
            self._reported.add(name)
            logger.warning("task %s runs, and no PhasedJob %s/%s exists; it is left alone.", name, *key)
        return None


class Sweeper:
    """Finds what no object stands for any more.

    A process is only ended when the deletion of its object was witnessed: an API server that is empty,
    wrong or restored from an old snapshot must never stop a bot. Everything else is reported.
    """

    def __init__(self, store: Store, kube: Kube, runtime: Runtime, stacks: Stacks) -> None:
        self._store = store
        self._kube = kube
        self._runtime = runtime
        self._stacks = stacks
        self._leases = Leases(store, kube)
        self._reported: set[str] = set()

    async def orphans(self) -> list[str]:
        """Names of units without an object in our copy."""
        units = await self._runtime.units()
        for unit in units:
            self._store.carry(unit.name, unit.port if unit.state in LIVE else None)
        return [u.name for u in units if object_key(u.name) not in self._store.runs.objects]

    async def unit(self, name: str) -> float | None:
        """Finish or report one unit; seconds after which to look again, or None."""
        key = object_key(name)
        if key in self._store.runs.objects or await self._kube.get(path(RUNS, *key)) is not None:
            return None
        unit = await self._runtime.observe(name)
        self._store.carry(name, unit.port if unit.state in LIVE else None)
        if not unit.deletion_witnessed:
            if name not in self._reported and unit.state in LIVE:
                self._reported.add(name)
                logger.warning(
                    "unit %s runs, and no StrategyRun %s/%s exists; it is left alone. Create the run again, "
                    "or end it with `mainstay stop --offline`.",
                    name,
                    *key,
                )
            return None
        return await finish(self._runtime, unit)

    async def lease(self, name: str) -> float | None:
        """Give back a lease whose holder is gone; seconds after which to look again, or None."""
        raw = self._store.leases.objects.get(("", name))
        if raw is None:
            return None
        lease = self._store.lease_by_port.get(raw["spec"]["port"])
        if lease is None or lease.metadata.name != name:
            return None
        holder = lease.spec.holder
        plan = decide_lease(
            lease,
            holder_exists=await self._exists(holder.kind, holder.namespace, holder.name, holder.uid),
            port_in_use=await self._in_use(lease.spec.port, (holder.namespace, holder.name)),
        )
        if isinstance(plan, Act) and isinstance(plan.action, DeleteLease):
            await self._leases.delete(plan.action)
            logger.info("%s given back: %s %s is gone", name, holder.kind, holder.name)
            return None
        return plan.seconds if isinstance(plan, Wait) else None

    async def _in_use(self, port: int, stack: Key) -> bool:
        """Whether a living unit was started with it, of a run or of a stack of that name."""
        runtimes: list[Runtime] = [self._runtime]
        if stack in self._stacks.known():
            runtimes.append(await self._stacks.open(stack))
        units = [unit for runtime in runtimes for unit in await runtime.units()]
        return any(unit.port == port and unit.state in LIVE for unit in units)

    async def _exists(self, kind: str, namespace: str, name: str, uid: str) -> bool:
        """Whether that very object exists. Kinds we don't know hold their leases for ever."""
        plural = HOLDERS.get(kind)
        if plural is None:
            return True
        current = await self._kube.get(path(plural, namespace, name))
        return current is not None and current["metadata"]["uid"] == uid
