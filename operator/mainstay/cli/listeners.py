"""Who listens on ports of this machine, and which unit of this home that is."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from mainstay.cli.home import Home
from mainstay.runtime.process import ports as tcp
from mainstay.runtime.process import proc
from mainstay.runtime.process.members import Scan


@dataclass(frozen=True, slots=True)
class Listening:
    """One process that listens; pid None where it could not be seen. `unit` as SCOPE/NAME, empty for a stranger."""

    port: int
    pid: int | None
    words: str
    unit: str


def listening(home: Home, ports: Collection[int]) -> dict[int, list[Listening]]:
    """Every process that listens on one of these, by port."""
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
            told = Listening(port_of[inode], pid, f"pid {pid} ({command(pid)})", unit_of(home, scan, pid))
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
