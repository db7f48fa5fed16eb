"""The three loopback ports of one home: chosen free at the first `up`, then kept in `<home>/controlplane.json`.

A kept port that a stranger holds is replaced. Our own etcd or API server on it, still alive after its
supervisor died, is no stranger: it proves itself by a certificate of this home's own authority. A home
that was copied or moved carries the same authority, so it is recognised by its path and asks no such proof.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mainstay.controlplane import files
from mainstay.controlplane.pki import Pki, pki_of

FIRST, LAST = 20000, 29999
"""Below every system's ephemeral range and below NodePorts, above the ports that bots are given."""

FILE = "controlplane.json"

AUTHORITIES = {"apiserver": "ca", "etcd": "etcd/ca", "etcd_peer": "etcd/ca"}
"""Every port, and who signed the certificate that is shown on it."""


class NoFreePortError(Exception):
    """Every port of the range is taken."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of one home."""

    apiserver: int
    etcd: int
    etcd_peer: int


def ensure(home: Path) -> Ports:
    """Return the home's ports; choose (and store) new ones for those missing or held by a stranger.

    Ports that changed mean new kubeconfigs. Certificates must exist already (`pki.ensure`).
    """
    kept = _load(home)
    pki = pki_of(home)
    ports: dict[str, int] = {}
    for name, port in (kept.ports if kept else {}).items():
        ours = kept is not None and kept.here
        if is_free(port) or (ours and _is_ours(port, pki, AUTHORITIES[name])):
            ports[name] = port
    candidates = _candidates(home)
    for name in AUTHORITIES:
        if name not in ports:
            ports[name] = _choose(candidates, set(ports.values()))
    record = {"home": str(home.resolve()), "ports": ports}
    files.write_if_changed(home / FILE, json.dumps(record, indent=2).encode() + b"\n")
    return Ports(**ports)


def load(home: Path) -> Ports | None:
    """Return the stored ports; None before the first `up`."""
    kept = _load(home)
    try:
        return Ports(**kept.ports) if kept else None
    except TypeError:
        return None


def is_free(port: int) -> bool:
    """Tell whether 127.0.0.1:`port` can be listened on. A port in TIME_WAIT is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


@dataclass(frozen=True, slots=True)
class _Kept:
    ports: dict[str, int]
    here: bool  # recorded by a home at this path: what listens there may be ours


def _load(home: Path) -> _Kept | None:
    try:
        record = json.loads((home / FILE).read_bytes())
        ports = {str(name): int(port) for name, port in record["ports"].items()}
        if not ports.keys() <= AUTHORITIES.keys() or len({*ports.values()}) < len(ports):
            return None
        if not all(1024 <= port <= 65535 for port in ports.values()):
            return None
        return _Kept(ports, here=record["home"] == str(home.resolve()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _candidates(home: Path) -> Iterator[int]:
    """Yield the whole range, each home from a place of its own so that two `up`s at once rarely meet."""
    size = LAST - FIRST + 1
    start = int.from_bytes(hashlib.sha256(str(home.resolve()).encode()).digest()[:4]) % size
    yield from (FIRST + (start + offset) % size for offset in range(size))


def _choose(candidates: Iterator[int], taken: set[int]) -> int:
    for port in candidates:
        if port not in taken and is_free(port):
            return port
    raise NoFreePortError(f"no free port between {FIRST} and {LAST} on 127.0.0.1")


def _is_ours(port: int, pki: Pki, authority: str) -> bool:
    """Tell whether the listener shows a certificate that this home's authority signed (2 s at most)."""
    context = ssl.create_default_context(cafile=str(pki.certificate(authority)))
    if authority == "etcd/ca":
        context.load_cert_chain(pki.certificate("etcd/client"), pki.key("etcd/client"))
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=2) as connection,
        context.wrap_socket(connection, server_hostname="127.0.0.1"),
    ):
        return True
    return False
