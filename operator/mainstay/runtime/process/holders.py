"""Who listens on the ports of a stack, by socket inode; and a flush, which ends strangers that a user asked to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Collection, Iterable, Mapping

from mainstay.runtime import effects
from mainstay.runtime.base import PortHolder, ProcessId
from mainstay.runtime.process import members, proc
from mainstay.runtime.process import ports as tcp
from mainstay.runtime.process.members import Scan
from mainstay.runtime.process.observe import Observer, Scans
from mainstay.runtime.process.ports import Listener
from mainstay.runtime.process.strangers import protection
from mainstay.runtime.process.unitdir import ScopeDir

Owned = tuple[ProcessId, str]  # a process and the unit of this stack it belongs to; "" for a stranger
LOOKS = 3  # for who has a socket, while it is there
ENDING_SECONDS = 0.02  # for the socket of a process that is ending to go
BOUND = "a socket that is bound but does not listen"
CLOSED = "closed connections, which the kernel keeps for up to a minute (TIME_WAIT)"


class Holders:
    """Looks at ports for one stack."""

    def __init__(self, scope: ScopeDir, home_id: str, scans: Scans, observer: Observer) -> None:
        self._scope = scope
        self._home_id = home_id
        self._scans = scans
        self._observer = observer
        self._proven: dict[int, list[Owned]] = {}  # inode → members that were seen with it
        self._led: dict[
            str, ProcessId
        ] = {}  # the leaders then: who only descends from one is proven by it alone

    async def look(self, ports: Iterable[int]) -> list[PortHolder]:
        """See StackRuntime.holders. Where only leaders listen, or who was proven before, few files are read."""
        wanted = frozenset(ports)
        listeners = tcp.listeners(wanted)
        leaders = self._leaders()
        known = self._known(listeners, leaders) if listeners else {}
        found = await self._holders(listeners, known)
        self._led = {name: process for name, (process, _, _) in leaders.items()}
        silent = wanted - {one.port for one in listeners} - self._executing(wanted, leaders)
        taken = {port for port in silent if not tcp.bindable(port, listen=False)}
        closed = tcp.closed(taken) if taken else set()
        found += [
            PortHolder(port, CLOSED, passing=True) if port in closed else PortHolder(port, BOUND)
            for port in taken
        ]
        return sorted(found, key=_order)

    async def end(self, ports: Collection[int], *, force: bool) -> None:
        """See StackRuntime.end_holders: look, hold by a pidfd, look again, signal what is still so."""
        wanted = frozenset(ports)
        held: dict[ProcessId, int] = {}
        try:
            for one in await self._holders(tcp.listeners(wanted), {}):
                if one.endable and one.process is not None and one.process not in held:
                    fd = proc.open_pidfd(one.process)
                    if fd is not None:
                        held[one.process] = fd
            if not held:
                return
            for one in sorted(await self._holders(tcp.listeners(wanted), {}), key=_order):
                if one.endable and one.process is not None and one.process in held:
                    fd = held.pop(one.process)
                    try:
                        _signal(fd, one.process, one.port, force)
                    finally:
                        os.close(fd)
        finally:
            for fd in held.values():
                os.close(fd)

    # -- who has a socket ------------------------------------------------------------------------

    def _leaders(self) -> dict[str, tuple[ProcessId, bool, int | None]]:
        """Unit → its living leader, whether that is its program (not a fence), and the unit's port."""
        found = {}
        for name in self._scope.unit_names():
            leader = self._observer.files(self._scope.unit(name)).leader
            if leader is not None and proc.look(leader.process) is not None:
                found[name] = (leader.process, leader.stage == "Exec", leader.port)
        return found

    def _executing(
        self, ports: frozenset[int], leaders: Mapping[str, tuple[ProcessId, bool, int | None]]
    ) -> set[int]:
        """Ports of programs that run without listening: they may bind it right now, and a trial would disturb."""
        return {port for _, executes, port in leaders.values() if executes and port in ports}

    def _known(
        self, listeners: Iterable[Listener], leaders: Mapping[str, tuple[ProcessId, bool, int | None]]
    ) -> dict[int, list[Owned]]:
        """Inode → members that have it open, as far as leaders have, or who was proven a member before."""
        rest = {one.inode: one.port for one in listeners}
        known: dict[int, list[Owned]] = {}
        for inode in [inode for inode in rest if inode in self._proven]:
            owned = [pair for pair in self._proven[inode] if _has(pair[0], inode)]
            if owned and all(
                unit in leaders and self._led.get(unit) == leaders[unit][0] for _, unit in owned
            ):
                known[inode] = owned
                del rest[inode]
        ports = set(rest.values())
        for name, (process, executes, port) in sorted(
            leaders.items(), key=lambda item: item[1][2] not in ports
        ):
            if not rest:
                break
            if not executes and port not in ports:
                continue  # a fence has no socket
            for inode in rest.keys() & tcp.sockets_of(process.pid):
                if proc.look(process) is not None:
                    known[inode] = [(process, name)]
                    del rest[inode]
        return known

    async def _holders(
        self, listeners: Collection[Listener], known: dict[int, list[Owned]]
    ) -> list[PortHolder]:
        rest = {one.inode for one in listeners} - known.keys()
        protected: dict[ProcessId, str] = {}
        if rest:
            for round_ in range(LOOKS):
                openers = await asyncio.to_thread(_openers, rest)
                scan = await self._scans.fresh()
                openers = {inode: [one for one in who if scan.has(one)] for inode, who in openers.items()}
                if rest <= {inode for inode, who in openers.items() if who}:
                    break
                # Who had it may have passed it on and ended meanwhile, or be ending just now.
                await asyncio.sleep(round_ * ENDING_SECONDS)
                still = {one.inode for one in tcp.listeners(frozenset(one.port for one in listeners))}
                listeners = [one for one in listeners if one.inode in still]
                rest &= still
            everyone = {one for who in openers.values() for one in who}
            units, protected = await asyncio.to_thread(self._judge, everyone, scan)
            for inode, who in openers.items():
                if who:
                    known[inode] = [(one, units.get(one, "")) for one in who]
        self._proven = {inode: who for inode, who in known.items() if all(unit for _, unit in who)}
        found: dict[tuple[int, ProcessId | None], PortHolder] = {}
        for listener in listeners:
            for process, unit in known.get(listener.inode, ()):
                found[listener.port, process] = PortHolder(
                    listener.port,
                    tcp.process_words(process.pid),
                    process,
                    unit,
                    protected.get(process, ""),
                )
            if listener.inode not in known:
                found.setdefault(
                    (listener.port, None),
                    PortHolder(listener.port, f"uid {listener.uid}, pid unknown"),
                )
        return list(found.values())

    def _judge(
        self, processes: Collection[ProcessId], scan: Scan
    ) -> tuple[dict[ProcessId, str], dict[ProcessId, str]]:
        """Which unit of this stack each belongs to; and of the others, why it is protected."""
        units = members.of_scope(self._scope, scan)
        protected = {
            one: protection(one.pid, scan, self._scope, self._home_id)
            for one in processes
            if one not in units
        }
        return units, protected


def _order(holder: PortHolder) -> tuple[int, int]:
    return holder.port, holder.process.pid if holder.process is not None else 0


def _has(process: ProcessId, inode: int) -> bool:
    """Whether exactly this process has the socket open."""
    return inode in tcp.sockets_of(process.pid) and proc.look(process) is not None


def _openers(inodes: Collection[int]) -> dict[int, list[ProcessId]]:
    """Every process that has one of these sockets open: several may share one."""
    wanted = set(inodes)
    found: dict[int, list[ProcessId]] = {}
    for pid in proc.pids():
        if not wanted & tcp.sockets_of(pid):
            continue
        process = proc.identify(pid)
        held = wanted & tcp.sockets_of(pid)  # again, now that it is known who it is
        if process is not None and proc.look(process) is not None:
            for inode in held:
                found.setdefault(inode, []).append(process)
    return found


def _signal(fd: int, process: ProcessId, port: int, force: bool) -> None:
    """TERM, and CONT to what is stopped, or it would wait for ever; or KILL. Of another user's: nothing."""
    number = signal.SIGKILL if force else signal.SIGTERM
    with contextlib.suppress(ProcessLookupError, PermissionError):
        with effects.effect(f"flush {number.name.removeprefix('SIG')} port {port}"):
            signal.pidfd_send_signal(fd, number)
        if not force and (seen := proc.look(process)) is not None and seen.stopped:
            with effects.effect(f"flush CONT port {port}"):
                signal.pidfd_send_signal(fd, signal.SIGCONT)
