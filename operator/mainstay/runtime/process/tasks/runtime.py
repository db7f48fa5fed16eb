"""The Process runtime of tasks: units that run to completion, on a scope with a fork server."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from mainstay.runtime.base import (
    GONE,
    RuntimeUnavailableError,
    Unit,
    UnitRefusedError,
    UnitSpec,
    UnitState,
)
from mainstay.runtime.process import cgroups, proc
from mainstay.runtime.process.logs import Rotator
from mainstay.runtime.process.observe import Scans
from mainstay.runtime.process.scope import Scope
from mainstay.runtime.process.tasks import files as task_files
from mainstay.runtime.process.tasks.client import ForkServer
from mainstay.runtime.process.tasks.declare import write_task
from mainstay.runtime.process.tasks.ending import Ender
from mainstay.runtime.process.tasks.install import SECTION, install
from mainstay.runtime.process.tasks.observe import TaskObserver, living
from mainstay.runtime.process.tasks.removal import locked
from mainstay.runtime.process.tasks.watch import TaskWatch
from mainstay.runtime.process.unitdir import ScopeDir, UnitDir

AT_A_TIME = 50  # units that are looked at before others get their turn


class ProcessTaskRuntime:
    """Implements TaskRuntime for one scope under `home`.

    Several of these, in several processes, may work on one scope: a unit's lock and its attempts' directories
    keep each attempt single. `home_id` marks processes, as with ProcessRuntime.
    """

    def __init__(
        self, home: Path, *, home_id: str, extra_env: Mapping[str, str] | None = None, scope: str = "jobs"
    ) -> None:
        if not home_id or "/" in home_id:
            raise ValueError("a home id is a non-empty word without '/'")
        self._dir = ScopeDir(home, scope)
        self._home_id = home_id
        self._extra_env = dict(extra_env or {})
        self._scope = Scope(self._dir, home_id, SECTION)
        self._scans = Scans(home_id)
        self._lost_directory: set[str] = set()
        self._watch = TaskWatch(self._scope, self._ended)
        self._observer = TaskObserver(self._scans, self._known_alive)
        self._ender = Ender(self._scans, self._observer, self._watch.tell, self._watch.follow)
        self._server = ForkServer(self._scope)
        self._rotator = Rotator(self._dir, self._growing_logs, self._every_log)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # -- life ------------------------------------------------------------------------------------

    async def start_up(self) -> None:
        """Write the scope's files, have a supervisord and its fork server, begin to watch what lives.

        Raises RuntimeUnavailableError.
        """
        try:
            await asyncio.to_thread(self._scope.write_files)
            code = await asyncio.to_thread(install, self._scope)
        except OSError as error:
            raise RuntimeUnavailableError(f"the scope's directory can't be written: {error}") from error
        await self._scope.ensure()
        await self._server.renew(code)
        self._watch.start()
        self._rotator.start()
        for unit in await self.units():
            if unit.state not in GONE:
                self._attend(unit.name)

    def _attend(self, name: str) -> None:
        """Follow what lives of a unit; stand in for its shim if that is dead."""
        self._watch.follow(name)
        leader = task_files.task_leader(self._dir.unit(name))
        if leader is None or not living(leader.shim):
            self._ender.finish(self._dir.unit(name))

    async def close(self) -> None:
        """End our own tasks and connections. supervisord, shims and programs go on."""
        await self._rotator.close()
        await self._watch.close()
        await self._ender.close()
        await self._scope.supervisor.close()

    async def shut_down_scope(self, stop_units: bool) -> None:
        """For `mainstay down`. With `stop_units`: TERM every unit, KILL after its grace, end supervisord.

        Without, all goes on. Call `close` afterwards either way.
        """
        if not stop_units:
            return
        live = [unit.name for unit in await self.units() if unit.state not in GONE]
        await asyncio.gather(*(self._shut_down_unit(self._dir.unit(name)) for name in live))
        await self._watch.close()  # else supervisord would be replaced at once
        await self._server.shut_down()
        await self._scope.shut_down()

    async def _shut_down_unit(self, unit: UnitDir) -> None:
        spec = unit.spec()
        await self._ender.stop_and_wait(unit, spec.grace if spec is not None else 10.0)

    def _ended(self, name: str) -> None:
        """A shim ended, or a leader without one: see to what nobody wrote down."""
        unit = self._dir.unit(name)
        files = task_files.read(unit)
        if files is not None and not (files.exit is not None and files.exit.clean):
            self._watch.follow(name)
            self._ender.finish(unit)

    def _known_alive(self, name: str) -> bool:
        return self._watch.follows(name) or name in self._lost_directory

    def _growing_logs(self, scope: ScopeDir) -> list[str]:
        found = (task_files.log_directory(scope.unit(name)) for name in self._watch.followed())
        return [path for path in found if path is not None]

    def _every_log(self, scope: ScopeDir) -> list[str]:
        found = []
        for name in scope.unit_names():
            unit = scope.unit(name)
            with contextlib.suppress(OSError):  # it was removed meanwhile
                found += [task_files.attempt_path(unit, number) for number in task_files.attempts(unit)]
        return found

    # -- looking ---------------------------------------------------------------------------------

    async def observe(self, name: str) -> Unit:
        """See TaskRuntime."""
        return await self._observer.observe(self._dir.unit(name))

    async def units(self) -> Sequence[Unit]:
        """See TaskRuntime. Also finds running units whose directory was deleted, by their marks."""
        began = proc.boottime()
        scan = await self._scans.fresh()
        prefix = self._dir.name + "/"
        names = set(self._dir.unit_names())
        marked = {mark.removeprefix(prefix) for mark in scan.by_name if mark.startswith(prefix)}
        self._lost_directory = marked - names
        found = []
        for count, name in enumerate(sorted(names | marked)):
            try:
                unit = self._dir.unit(name)
            except ValueError:  # the fork server and its shims are no unit
                continue
            seen = await self._observer.observe(unit, scan_after=began)
            if seen.state is not UnitState.ABSENT:
                found.append(seen)
            if count % AT_A_TIME == 0:
                await asyncio.sleep(0)
        return found

    async def names(self) -> Sequence[str]:
        """See TaskRuntime."""
        return self._dir.unit_names()

    def changes(self) -> AsyncIterator[str]:
        """See TaskRuntime."""
        return self._watch.changes()

    # -- acting ----------------------------------------------------------------------------------

    def _unit(self, name: str) -> UnitDir:
        try:
            return self._dir.unit(name)
        except ValueError as error:
            raise UnitRefusedError("InvalidName", str(error)) from None

    async def start(self, spec: UnitSpec) -> None:
        """See TaskRuntime. Raises RuntimeUnavailableError while a stop, or another attempt, isn't over."""
        unit = self._unit(spec.name)
        if spec.attempt < 1:
            raise UnitRefusedError("InvalidAttempt", "attempts are counted from 1")
        async with self._locks[spec.name]:
            seen = await self._observer.observe(unit)
            if seen.state is UnitState.STOPPING:
                raise RuntimeUnavailableError(f"{spec.name} is still stopping")
            if seen.state not in GONE:
                if seen.attempt != spec.attempt:
                    raise RuntimeUnavailableError(f"attempt {seen.attempt} of {spec.name} still lives")
                self._attend(spec.name)
                return
            if seen.owner_uid not in ("", spec.owner_uid):
                raise RuntimeUnavailableError(
                    f"{spec.name} is still another owner's; it must be removed first"
                )
            if spec.attempt <= seen.attempt:
                return
            await self._claim(unit, spec)

    async def _claim(self, unit: UnitDir, spec: UnitSpec) -> None:
        try:
            write_task(self._scope, unit, spec, self._extra_env)
            unit.unmark("stop")
        except OSError as error:
            raise RuntimeUnavailableError(f"the files of {unit.name} can't be written: {error}") from error
        answer = await self._server.request(spec.name, spec.attempt)
        if answer.word == "claimed":
            self._watch.follow(spec.name, answer.pid)
            return
        seen = await self._observer.observe(unit)
        if seen.attempt != spec.attempt:
            raise RuntimeUnavailableError(
                f"attempt {spec.attempt} of {spec.name} was not claimed: {answer.rest}"
            )
        if seen.state not in GONE:
            self._attend(spec.name)

    async def stop(
        self, name: str, *, grace_seconds: float, force: bool = False, deleting: bool = False
    ) -> None:
        """See TaskRuntime."""
        unit = self._unit(name)
        async with self._locks[name]:
            if unit.exists() or (await self._observer.observe(unit)).state is not UnitState.ABSENT:
                await self._ender.stop(unit, grace=grace_seconds, force=force, deleting=deleting)

    async def remove(self, name: str, owner_uid: str) -> None:
        """See TaskRuntime. Raises RuntimeUnavailableError while members live."""
        unit = self._unit(name)
        async with self._locks[name]:
            seen = await self._observer.observe(unit)
            if seen.owner_uid not in ("", owner_uid):
                return
            if seen.state not in GONE:
                raise RuntimeUnavailableError(f"{name} still lives ({seen.state})")
            if seen.state is UnitState.EXITED:
                await asyncio.to_thread(self._delete, unit, owner_uid)
            self._observer.forget(name)
            self._watch.forget(name)
        self._locks.pop(name, None)

    def _delete(self, unit: UnitDir, owner_uid: str) -> None:
        with locked(unit):
            spec = unit.spec()
            if spec is not None and spec.owner_uid not in ("", owner_uid):
                return  # another operator was quicker, and it is the next job's already
            unit.delete()
        cgroups.discard(unit.mark, self._home_id)
