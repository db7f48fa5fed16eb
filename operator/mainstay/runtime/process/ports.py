"""Who listens where, by socket inode; never by name.

Listeners can share a port (SO_REUSEPORT, other loopback addresses), so every one is looked at. TIME_WAIT isn't
listening. Processes of other users can't be looked into: they are named by their uid.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mainstay.runtime.process import proc, sockdiag

LISTEN, TIME_WAIT = b"0A", b"06"


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening TCP socket."""

    port: int
    address: str  # as an address one can connect to
    inode: int
    uid: int


def _address(raw: bytes) -> str:
    words = [int(raw[index : index + 8], 16) for index in range(0, len(raw), 8)]
    return _printable(struct.pack(f"={len(words)}I", *words))  # the kernel prints words in its own byte order


def listeners(ports: frozenset[int] | None = None) -> list[Listener]:
    """Every listening socket, or those on these ports."""
    try:
        found = [
            Listener(port, _printable(raw[: 4 if family == socket.AF_INET else 16]), inode, uid)
            for family, port, raw, uid, inode in sockdiag.listening()
            if ports is None or port in ports
        ]
    except OSError:
        return _from_proc(ports)
    return found


def _printable(packed: bytes) -> str:
    text = socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(text, text)  # noqa: S104 - translated, not bound


def _from_proc(ports: frozenset[int] | None) -> list[Listener]:
    """The same where there is no netlink."""
    return [
        Listener(port, _address(address), int(fields[9]), int(fields[7]))
        for port, address, fields in _rows(LISTEN)
        if ports is None or port in ports
    ]


def closed(ports: Collection[int]) -> set[int]:
    """Those of these ports of which the kernel still keeps closed connections (TIME_WAIT)."""
    return {port for port, _, _ in _rows(TIME_WAIT) if port in ports}


def _rows(state: bytes) -> Iterator[tuple[int, bytes, list[bytes]]]:
    """(local port, local address, all fields) of every socket in this state."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            raw = Path(table).read_bytes()  # in many reads: the kernel answers a page at a time
        except OSError:
            continue
        for line in raw.splitlines()[1:]:
            fields = line.split(None, 10)
            if len(fields) >= 10 and fields[3] == state:
                address, _, port = fields[1].partition(b":")
                yield int(port, 16), address, fields


def sockets_of(pid: int) -> set[int]:
    """Inodes of the sockets a process has open; empty if we may not look."""
    found: set[int] = set()
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return found
    for name in names:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def owned(found: Iterable[Listener], pids: Iterable[int]) -> list[Listener]:
    """Those of these listeners that one of these processes has open."""
    rest = list(found)
    mine: list[Listener] = []
    for pid in pids:
        if not rest:
            break
        inodes = sockets_of(pid)
        mine += [one for one in rest if one.inode in inodes]
        rest = [one for one in rest if one.inode not in inodes]
    return mine


def describe(found: Iterable[Listener]) -> Mapping[int, str]:
    """Port → who listens, in words: `pid 812 (nginx)`, or `uid 1001, pid unknown`."""
    wanted = {one.inode: one for one in found}
    words: dict[int, str] = {}
    if not wanted:
        return words
    for pid in proc.pids():
        for inode in wanted.keys() & sockets_of(pid):
            words.setdefault(wanted[inode].port, process_words(pid))
    for one in wanted.values():
        words.setdefault(one.port, f"uid {one.uid}, pid unknown")
    return words


def process_words(pid: int) -> str:
    """A process as people know it: `pid 812 (nginx)`."""
    return f"pid {pid} ({_command(pid)})"


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return proc.read_bytes(f"/proc/{pid}/comm").decode(errors="replace").strip()
    return "?"


def bindable(port: int, *, listen: bool = True) -> bool:
    """Whether a program could listen on this port of every address; TIME_WAIT doesn't matter.

    Without `listen` it is bound only, which is in nobody's way who sets SO_REUSEADDR and starts to listen just now.
    """
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - the strictest bind
        try:
            probe = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue  # no IPv6 here
        with probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                if listen:
                    probe.listen(1)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
    return True
