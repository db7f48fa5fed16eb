"""The Process runtime: units of one scope on this host, kept by one supervisord."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from mainstay.api.program import Readiness, RestartPolicyType
from mainstay.runtime import effects
from mainstay.runtime.base import (
    GONE,
    PauseCall,
    ProbeResult,
    RuntimeUnavailableError,
    Unit,
    UnitRefusedError,
    UnitSpec,
    UnitState,
)
from mainstay.runtime.process import cgroups, declare, members, proc, rpc
from mainstay.runtime.process import ports as tcp
from mainstay.runtime.process import probe as probes
from mainstay.runtime.process.logs import Rotator
from mainstay.runtime.process.observe import Observer, Scans, found_leader
from mainstay.runtime.process.pausing import Pauser
from mainstay.runtime.process.rpc import Batcher
from mainstay.runtime.process.scope import Scope
from mainstay.runtime.process.stopping import Stopper, wait_gone
from mainstay.runtime.process.strays import StrayKeeper
from mainstay.runtime.process.unitdir import ScopeDir, UnitDir
from mainstay.runtime.process.watch import Watch


class ProcessRuntime:
    """Implements Runtime for one scope (`runs`, `jobs`, a stack, `system`) under `home`.

    Several of these, in several processes, may work on one scope: files, the scope's lock and the fence keep
    each unit single. `home_id` marks processes, so that a copied home doesn't take them for its own.
    """

    def __init__(
        self, home: Path, scope: str = "runs", *, home_id: str, extra_env: Mapping[str, str] | None = None
    ) -> None:
        if not home_id or "/" in home_id:
            raise ValueError("a home id is a non-empty word without '/'")
        self._dir = ScopeDir(home, scope)
        self._home_id = home_id
        self._extra_env = dict(extra_env or {})
        self._scope = Scope(self._dir, home_id)
        self._scans = Scans(home_id)
        self._observer = Observer(self._scope, self._scans)
        self._watch = Watch(self._scope, self._dir.unit_names, self._ended, self._reattach)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._stopper = Stopper(
            self._scope, self._scans, self._observer, self._watch.tell, lambda name: self._locks[name]
        )
        self._pauser = Pauser(self._observer, self._stopper)
        self._batcher = Batcher(self._scope.supervisor, self._repair)
        self._rotator = Rotator(self._dir)
        self._strays = StrayKeeper(self._dir, self._scans, self._observer)

    # -- life ------------------------------------------------------------------------------------

    async def start_up(self) -> None:
        """Write the scope's files, have a supervisord, begin to watch. Raises RuntimeUnavailableError."""
        try:
            await asyncio.to_thread(self._scope.write_files)
        except OSError as error:
            raise RuntimeUnavailableError(f"the scope's directory can't be written: {error}") from error
        await self._scope.ensure()
        self._watch.start()
        self._rotator.start()
        self._strays.start()

    async def close(self) -> None:
        """End our own tasks and connections. supervisord and the units go on."""
        await self._strays.close()
        await self._rotator.close()
        await self._watch.close()
        await self._stopper.close()
        await self._batcher.close()
        await self._scope.supervisor.close()

    async def strategies(self) -> Collection[str]:
        """See Runtime."""
        return await asyncio.to_thread(self._strategies)

    def _strategies(self) -> set[str]:
        specs = (self._dir.unit(name).spec() for name in self._dir.unit_names())
        hashes = {spec.env.get("STRATEGY_HASH", "") for spec in specs if spec is not None}
        return hashes - {""}

    async def shut_down_scope(self, stop_units: bool) -> None:
        """For `mainstay down`. With `stop_units`: TERM every unit, KILL after its grace, end supervisord.

        Without, all goes on. Call `close` afterwards either way.
        """
        if not stop_units:
            return
        await asyncio.gather(*(self._shut_down_unit(unit.name) for unit in await self.units()))
        await self._watch.close()  # else it would be replaced at once
        await self._scope.shut_down()

    async def _shut_down_unit(self, name: str) -> None:
        unit = self._dir.unit(name)
        spec = unit.spec()
        grace = spec.grace if spec is not None else 10.0
        deadline = proc.boottime() + grace
        await self.stop(name, grace_seconds=grace)
        while (seen := await self.observe(name)).state not in GONE:
            left = deadline - proc.boottime()
            if left <= 0:
                await self.stop(name, grace_seconds=grace, force=True)
            if seen.leader is None or await wait_gone(seen.leader, max(0.05, left)):
                await asyncio.sleep(0.01)

    def _ended(self, name: str) -> None:
        """A leader ended and nothing follows it: what it left must not live on without it."""
        unit = self._dir.unit(name)
        spec = unit.spec()
        if spec is not None and not unit.marked("stop"):
            self._stopper.finish(unit, spec.grace)

    async def _reattach(self) -> None:
        """After supervisord was replaced: let it stand behind the orphans, with a fence that waits for each.

        So they are restarted even if nobody is here when they crash. Only where every exit means a restart: how an
        orphan exits is seen by nobody.
        """
        for name in self._dir.unit_names():
            unit = self._dir.unit(name)
            files = self._observer.files(unit)
            if (
                files.leader is not None
                and proc.look(files.leader.process) is not None
                and files.spec is not None
                and files.spec.policy == RestartPolicyType.ALWAYS
                and not unit.marked("stop")
            ):
                async with self._locks[name]:
                    if not unit.marked("stop"):
                        await self._batcher.add(name, reread=False, start=True)

    async def _repair(self) -> None:
        await asyncio.to_thread(declare.restore_sections, self._scope)

    # -- looking ---------------------------------------------------------------------------------

    async def observe(self, name: str) -> Unit:
        """See Runtime."""
        return await self._observer.observe(self._dir.unit(name))

    async def names(self) -> Sequence[str]:
        """See Runtime."""
        return self._dir.unit_names()

    async def units(self) -> Sequence[Unit]:
        """See Runtime. Also finds running units whose files were deleted, by their marks."""
        scan = await self._scans.fresh()
        prefix = self._dir.name + "/"
        marked = {mark.removeprefix(prefix) for mark in scan.by_name if mark.startswith(prefix)}
        sections = {
            entry.removesuffix(".conf") for entry in os.listdir(self._dir.conf_d) if entry.endswith(".conf")
        }
        found = []
        for name in sorted(marked | sections | set(self._dir.unit_names())):
            try:
                unit = self._dir.unit(name)
            except ValueError:
                continue
            seen = await self._observer.observe(unit)
            if seen.state is not UnitState.ABSENT:
                found.append(seen)
        return found

    def changes(self) -> AsyncIterator[str]:
        """See Runtime."""
        return self._watch.changes()

    # -- starting --------------------------------------------------------------------------------

    def _unit(self, name: str) -> UnitDir:
        try:
            return self._dir.unit(name)
        except ValueError as error:
            raise UnitRefusedError("InvalidName", str(error)) from None

    async def start(self, spec: UnitSpec) -> None:
        """See Runtime. Raises RuntimeUnavailableError while a stop, or another attempt, isn't over."""
        unit = self._unit(spec.name)
        async with self._locks[spec.name]:
            clean = proc.boottime()
            seen = await self._observer.observe(unit)
            if seen.state not in GONE:
                if seen.state is UnitState.STOPPING:
                    raise RuntimeUnavailableError(f"{spec.name} is still stopping")
                if seen.attempt != spec.attempt:
                    raise RuntimeUnavailableError(f"attempt {seen.attempt} of {spec.name} still lives")
                return
            reread = await self._write(unit, spec, clean)
            await asyncio.to_thread(self._set_markers, unit, paused=spec.paused)
            pid = await self._add(unit, reread=reread, start=True)
            self._watch.follow(spec.name, pid)

    async def define(self, spec: UnitSpec) -> None:
        """See Runtime."""
        unit = self._unit(spec.name)
        async with self._locks[spec.name]:
            seen = await self._observer.observe(unit)
            reread = await self._write(unit, spec, 0.0)
            if seen.leader is not None and seen.state not in GONE:
                await asyncio.to_thread(self._record_again, unit, seen)
            pid = await self._add(unit, reread=reread, start=False)
            self._watch.follow(spec.name, pid)

    async def _write(self, unit: UnitDir, spec: UnitSpec, clean: float) -> bool:
        try:
            return await asyncio.to_thread(
                declare.write_spec, self._scope, unit, spec, extra=self._extra_env, clean=clean
            )
        except OSError as error:
            raise RuntimeUnavailableError(f"the files of {unit.name} can't be written: {error}") from error

    def _set_markers(self, unit: UnitDir, *, paused: bool) -> None:
        """After the new spec is on disk: hold it if it starts paused, then lift the stop."""
        if paused and not unit.marked("paused"):
            unit.mark_with("paused", [])
        elif not paused:
            unit.unmark("paused")
        unit.unmark("stop")

    def _record_again(self, unit: UnitDir, seen: Unit) -> None:
        """Write `leader` for a living program whose directory was lost."""
        if unit.leader() is None and seen.leader is not None and (found := found_leader(seen.leader)):
            unit.rebuild_leader(found)

    async def _add(self, unit: UnitDir, *, reread: bool, start: bool) -> int:
        """Have supervisord know and start it. One that forgot a section that is on disk rereads."""
        try:
            return await self._batcher.add(unit.name, reread=reread, start=start)
        except rpc.FaultError as error:
            if reread or error.fault.code != rpc.BAD_NAME:
                raise
            return await self._batcher.add(unit.name, reread=True, start=start)
        except RuntimeUnavailableError:
            if await self._scope.ensure():  # it was dead or hung, or is being replaced just now
                self._watch.renewed()
            return await self._batcher.add(unit.name, reread=True, start=start)

    # -- stopping, pausing -----------------------------------------------------------------------

    async def stop(
        self, name: str, *, grace_seconds: float, force: bool = False, deleting: bool = False
    ) -> None:
        """See Runtime."""
        unit = self._unit(name)
        async with self._locks[name]:
            if not unit.exists() and (await self._observer.observe(unit)).state is UnitState.ABSENT:
                return
            await self._stopper.stop(unit, grace=grace_seconds, force=force, deleting=deleting)

    async def pause(self, name: str, call: PauseCall | None = None) -> None:
        """See Runtime."""
        unit = self._unit(name)
        async with self._locks[name]:
            if unit.exists() or (await self._observer.observe(unit)).state is not UnitState.ABSENT:
                await self._pauser.pause(unit, call)

    async def resume(self, name: str, call: PauseCall | None = None) -> None:
        """See Runtime."""
        unit = self._unit(name)
        async with self._locks[name]:
            await self._pauser.resume(unit, call)

    async def remove(self, name: str, owner_uid: str) -> None:
        """See Runtime. Raises RuntimeUnavailableError while members live."""
        unit = self._unit(name)
        async with self._locks[name]:
            seen = await self._observer.observe(unit)
            if seen.owner_uid not in ("", owner_uid):
                return
            if seen.state not in GONE:
                raise RuntimeUnavailableError(f"{name} still lives ({seen.state})")
            if seen.state is UnitState.EXITED:
                with effects.effect("supervisord remove"):
                    await self._remove_program(name)
                await asyncio.to_thread(unit.delete)
                await asyncio.to_thread(cgroups.discard, unit.mark, self._home_id)
            self._observer.forget(name)
            self._watch.forget(name)
        self._locks.pop(name, None)

    async def _remove_program(self, name: str) -> None:
        (removed,) = await self._scope.supervisor.ask(("supervisor.removeProcessGroup", [name]))
        rpc.check(removed, rpc.BAD_NAME)

    # -- serving ---------------------------------------------------------------------------------

    async def probe(self, name: str, readiness: Readiness, port: int | None) -> ProbeResult:
        """See Runtime."""
        unit = self._unit(name)
        seen = await self._observer.observe(unit)
        if seen.state is not UnitState.RUNNING or seen.leader is None:
            return ProbeResult(False, f"the unit is {seen.state}")
        seconds = float(readiness.timeout_seconds)
        if readiness.exec is not None:
            return await probes.command(unit, readiness.exec, seconds)
        if readiness.tcp is None and readiness.http is None:
            return ProbeResult(True)
        asked = probes.wanted_port(readiness, port)
        if asked is None:
            return ProbeResult(False, "the unit has no control port to probe")
        found = tcp.listeners(frozenset({asked}))
        if not found:
            return ProbeResult(False, f"nothing listens on port {asked}")
        mine = tcp.owned(found, [seen.leader.pid])
        if not mine:  # a child of it, perhaps: that costs a look at the whole tree
            scan = await self._scans.fresh(age=0.2)
            everyone = members.members(unit, scan, seen.leader)
            mine = tcp.owned(found, [one.pid for one in everyone])
        if not mine:
            return ProbeResult(False, f"port {asked} is served by a process outside this unit")
        listener = probes.choose(mine)
        if readiness.http is not None:
            return await probes.http(listener, readiness.http.path, seconds)
        return await probes.tcp(listener, seconds)

    async def foreign_ports(self, ports: Iterable[int], name: str) -> Mapping[int, str]:
        """See Runtime. A single port is also tried with bind: one may be bound without listening."""
        wanted = frozenset(ports)
        unit = self._unit(name)
        found = tcp.listeners(wanted)
        foreign: Mapping[int, str] = {}
        if found:
            scan = await self._scans.fresh()
            leader = self._observer.files(unit).leader
            everyone = members.members(unit, scan, leader.process if leader else None)
            mine = tcp.owned(found, [one.pid for one in everyone])
            foreign = await asyncio.to_thread(tcp.describe, [one for one in found if one not in mine])
        if len(wanted) == 1 and not found and not tcp.bindable(port := next(iter(wanted))):
            return {port: "a socket that is bound but does not listen"}
        return foreign
