"""Who listens on ports of this machine, and which unit of this home that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mainstay.cli.home import Home
from mainstay.runtime.process import ports as tcp
from mainstay.runtime.process import proc
from mainstay.runtime.process.members import Scan
from mainstay.runtime.process.strangers import protection
from mainstay.runtime.process.unitdir import ScopeDir


@dataclass(frozen=True, slots=True)
class Listening:
    """One process that listens; pid None where it could not be seen. `unit` as SCOPE/NAME, empty for a stranger."""

    port: int
    pid: int | None
    words: str
    unit: str
    protected: str = ""  # of a stranger: why no flush ends it


def listening(home: Home, ports: Mapping[int, str]) -> dict[int, list[Listening]]:
    """Every process that listens on one of these, by port; each is a port of that scope."""
    sockets = tcp.listeners(frozenset(ports))
    found: dict[int, list[Listening]] = {}
    if not sockets:
        return found
    scan = Scan.take(home.identity())
    port_of = {one.inode: one.port for one in sockets}
    seen: set[int] = set()
    for pid in scan.table:
        for inode in port_of.keys() & tcp.sockets_of(pid):
            seen.add(inode)
            port = port_of[inode]
            unit, scope = unit_of(home, scan, pid), ScopeDir(home.root, ports[port])
            why = "" if unit.startswith(scope.name + "/") else protection(pid, scan, scope, home.identity())
            told = Listening(port, pid, f"pid {pid} ({command(pid)})", unit, why)
            if told not in found.setdefault(told.port, []):
                found[told.port].append(told)
    for one in sockets:
        if one.inode not in seen:
            told = Listening(one.port, None, f"uid {one.uid}, pid unknown", "")
            if not found.get(one.port):
                found[one.port] = [told]
    return found


def unit_of(home: Home, scan: Scan, pid: int) -> str:
    """The unit of this home that a process belongs to: its own mark, or that of who started it."""
    recorded = scan.recorded(str(home.root))
    for one in _upwards(scan, pid):
        if unit := recorded.get(one):
            return unit
        marks = scan.marks(one)
        if marks.scope:
            return ""  # a supervisor or a fence
        if marks.name and marks.home == home.identity():
            return marks.name
    return ""


def command(pid: int) -> str:
    """Name of a process's program, as the kernel has it."""
    try:
        return proc.read_bytes(f"/proc/{pid}/comm").decode(errors="replace").strip()
    except OSError:
        return "?"


def _upwards(scan: Scan, pid: int) -> Iterator[int]:
    while pid > 1 and (seen := scan.table.get(pid)) is not None:
        yield pid
        pid = seen.parent
