"""Units of this home that no object stands for: finding them, and ending them when a person asks for it.

The operator ends a unit only when it saw its object deleted; an API server that is empty, wrong or restored must never
stop a bot. Whoever ends what is left says so here, and each object is asked for once more before its unit is touched.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mainstay.cli import system
from mainstay.cli.home import Home
from mainstay.cli.names import Kind, Ref
from mainstay.cli.words import age
from mainstay.core.names import object_key, task_key
from mainstay.core.unit import GONE, Unit
from mainstay.runtime.base import RuntimeUnavailableError, TaskRuntime
from mainstay.runtime.process import known_scopes
from mainstay.runtime.process.unitdir import ScopeDir
from mainstay.shell.kube import ApiError, Kube, core_path, path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Key = tuple[Kind, str, str]
GRACE_SECONDS = 30.0
KILL_SECONDS = 10.0


class NotOursError(Exception):
    """Nothing is ended; the message says why."""


@dataclass(frozen=True, slots=True)
class Owned:
    """A unit of this home and the object that it is of; unit None: a stack's scope that has none left."""

    scope: str
    kind: Kind
    namespace: str
    name: str
    unit: Unit | None

    @property
    def key(self) -> Key:
        """Its object."""
        return self.kind, self.namespace, self.name

    @property
    def lives(self) -> bool:
        """A process of it runs."""
        return self.unit is not None and self.unit.state not in GONE

    @property
    def told(self) -> str:
        """In words: which unit, with pid and since when."""
        of = f"{Ref(self.kind, self.name).told} in namespace {self.namespace}"
        if self.unit is None:
            return f"the scope {self.scope} of {of}: no units"
        part = "" if self.kind is Kind.RUN else f"{self.part} of "
        if not self.lives:
            return f"{part}{of}: does not run, only its files are left"
        pid = f"pid {self.unit.leader.pid}" if self.unit.leader is not None else "its leader is gone"
        since = self.unit.started_at
        ago = f", for {age(datetime.fromtimestamp(since, UTC).isoformat())}" if since else ""
        return f"{part}{of}: {str(self.unit.state).lower()}, {pid}{ago}"

    @property
    def part(self) -> str:
        """The task or service."""
        name = self.unit.name if self.unit is not None else ""
        return task_key(name)[2] if self.kind is Kind.JOB else name


async def owned(home: Home) -> list[Owned]:
    """Every unit of this home and whose it is. Nothing is started or changed."""
    runs, tasks = await _units(system.runtime(home, "runs")), await _units(system.task_runtime(home))
    found = [Owned("runs", Kind.RUN, *object_key(one.name), one) for one in runs]
    found += [Owned("jobs", Kind.JOB, *task_key(one.name)[:2], one) for one in tasks]
    for (namespace, name), scope in known_scopes(home.root):
        units: Sequence[Unit | None] = await _units(system.runtime(home, scope)) or [None]
        found += [Owned(scope, Kind.STACK, namespace, name, one) for one in units]
    return found


async def _units(runtime: Any) -> list[Unit]:
    try:
        return list(await runtime.units())
    except (OSError, RuntimeUnavailableError):
        return []
    finally:
        await runtime.close()


def without_object(units: Sequence[Owned], known: Collection[Key]) -> list[Owned]:
    """Those whose object is not among the known ones, what lives first. Look at units first, then at objects."""
    return sorted(
        (one for one in units if one.key not in known), key=lambda one: (not one.lives, one.scope, one.told)
    )


async def belongs(home: Home, kube: Kube) -> None:
    """Raises NotOursError unless this is the very cluster that the home's processes belong to."""
    try:
        known = json.loads(home.owner.read_text())["cluster"]
    except (OSError, ValueError, KeyError):
        raise NotOursError(f"{home.root} belongs to no cluster yet: no operator has worked from it") from None
    namespace = await kube.get(core_path("namespaces", name="kube-system"))
    uid = (namespace or {}).get("metadata", {}).get("uid", "")
    if uid != known:
        raise NotOursError(f"{home.root} belongs to cluster {known}, and this is cluster {uid or 'unknown'}")


async def absent(kube: Kube, key: Key) -> bool:
    """Whether the API server has no such object, by a consistent read. NotOursError where it can't know."""
    kind, namespace, name = key
    try:
        # A cluster without the CRD answers 404 to everything: that says nothing of the object.
        await kube.request("GET", path(kind.plural), query={"limit": "1"})
        return await kube.get(path(kind.plural, namespace, name)) is None
    except ApiError as error:
        raise NotOursError(f"the API server doesn't say whether {kind.told} {name} exists: {error}") from None


async def end(home: Home, kube: Kube, one: Owned) -> str:
    """End one unit and forget it, if there is still no object of it; what was done, in words."""
    await belongs(home, kube)
    if not await absent(kube, one.key):
        raise NotOursError(
            f"there is a {one.kind.told} {one.namespace}/{one.name} now; its unit is left alone"
        )
    if one.unit is None:
        return "nothing to end"
    async with _opened(home, one) as runtime:
        return await _ended(runtime, home, one.scope, one.unit)


async def remove_scope(home: Home, kube: Kube, key: Key) -> None:
    """End the supervisor of a stack that has no object and no units, and remove its directory."""
    await belongs(home, kube)
    if not await absent(kube, key):
        raise NotOursError(f"there is a {key[0].told} {key[1]}/{key[2]} now; its scope is left alone")
    stacks = system.stacks(home)
    try:
        await stacks.remove(key[1:])
    finally:
        await stacks.close()


@asynccontextmanager
async def _opened(home: Home, one: Owned) -> AsyncIterator[TaskRuntime]:
    if one.kind is Kind.STACK:
        stacks = system.stacks(home)
        try:
            yield await stacks.open((one.namespace, one.name))
        finally:
            await stacks.close()
        return
    runtime = system.runtime(home, "runs") if one.kind is Kind.RUN else system.task_runtime(home)
    try:
        await runtime.start_up()
        yield runtime
    finally:
        await runtime.close()


async def _ended(runtime: TaskRuntime, home: Home, scope: str, unit: Unit) -> str:
    """TERM, its grace, KILL; then its record goes too."""
    spec = ScopeDir(home.root, scope).unit(unit.name).spec()
    grace = spec.grace if spec is not None else GRACE_SECONDS
    began, forced = time.monotonic(), False
    while (seen := await runtime.observe(unit.name)).state not in GONE:
        late = time.monotonic() - began
        if late > grace + KILL_SECONDS:
            raise RuntimeUnavailableError(f"{unit.name} still lives {late:.0f} s after it was asked to end")
        await runtime.stop(unit.name, grace_seconds=grace, force=late >= grace, deleting=True)
        forced = late >= grace
        await asyncio.sleep(0.1)
    await runtime.remove(unit.name, seen.owner_uid)
    if unit.state in GONE:
        return "its files are removed"
    return "killed after its grace period, and removed" if forced else "ended, and removed"
