"""The assigned ports of a stack: who has each, and whether that keeps a service from starting."""

from __future__ import annotations

from collections.abc import Sequence

from mainstay.api.servicestack import PortState, PortStatus
from mainstay.core import reasons
from mainstay.core.plan import CreateLease, DeleteLease, StackEffect
from mainstay.core.stack.snapshot import ServiceView, StackSnapshot
from mainstay.core.stack.spec import ports_of
from mainstay.core.unit import LIVE, PortHolder


def trouble(s: StackSnapshot, v: ServiceView) -> tuple[str, str] | None:
    """Why a service can't have its port now: (reason, message), or None."""
    port = v.spec.port if v.spec is not None else None
    if port is None:
        return None
    if holder := s.taken.get(port):
        meta = s.stack.metadata
        if holder == f"ServiceStack {meta.namespace}/{meta.name}":
            holder = "an earlier stack of this name"
        words = f"port {port} is leased to {holder}; it starts by itself when that is given back"
        return reasons.PORT_TAKEN, words
    if other := next((h for h in s.holders.get(port, ()) if h.unit != v.name), None):
        if other.passing:
            return reasons.PORT_CLOSING, f"port {port} has {other.words}; it starts by itself then"
        return reasons.PORT_FOREIGN, foreign_words(other, s.stack.metadata.name)
    if users := _users(s, v.name, port):  # between two starts of a crash loop nobody listens
        words = f"port {port} is that of service {users[0]}, which was started with it and isn't over"
        return reasons.PORT_FOREIGN, words
    return None


def _users(s: StackSnapshot, name: str, port: int) -> list[str]:
    """Other services of this stack that live and were started with that port."""
    return [
        one.name for one in s.services.values() if one.name != name and one.live and one.unit.port == port
    ]


def in_a_ring(s: StackSnapshot, v: ServiceView) -> bool:
    """Services of this stack that are to have each other's ports: none can wait for the next, so all make room."""
    seen: set[str] = set()
    one = v
    while one.name not in seen:
        seen.add(one.name)
        port = one.spec.port if one.spec is not None else None
        if port is None or port == one.unit.port:
            return False
        others = {h.unit for h in s.holders.get(port, ()) if h.unit != one.name}
        others.update(_users(s, one.name, port))
        if len(others) != 1 or "" in others:
            return False
        one = s.services[others.pop()]
    return one is v


def foreign_words(holder: PortHolder, stack: str) -> str:
    """Who listens on a port that isn't his, and what to do about it."""
    if holder.unit:
        return f"port {holder.port} is held by service {holder.unit} of this stack, {holder.words}"
    found = f"port {holder.port} is held by {holder.words}"
    if holder.protected:
        return f"{found}: {holder.protected}; give one of the two another port"
    if holder.process is None:
        return f"{found}; end it, or give the service another port"
    return f"{found}; `kubectl mainstay flush {stack}` ends it"


def told(s: StackSnapshot) -> tuple[PortStatus, ...]:
    """Each assigned port and who has it."""
    return tuple(_port(s, port, service) for port, service in ports_of(s.stack.spec).items())


def _port(s: StackSnapshot, port: int, service: str) -> PortStatus:
    holders = [one for one in s.holders.get(port, ()) if not one.passing]
    others = [one for one in holders if one.unit != service]
    first = others[0] if others else holders[0] if holders else None
    pid = first.process.pid if first is not None and first.process is not None else None
    if (lessee := s.taken.get(port)) is not None:  # who listens is most likely its process
        words = f"{lessee}; {_all(others)} listens" if others else lessee
        return PortStatus(port=port, service=service, state=PortState.TAKEN, holder=words, pid=pid)
    if others:
        return PortStatus(port=port, service=service, state=PortState.FOREIGN, holder=_all(others), pid=pid)
    if first is not None:
        return PortStatus(port=port, service=service, state=PortState.HELD, holder=service, pid=pid)
    return PortStatus(port=port, service=service, state=PortState.FREE)


def _all(holders: Sequence[PortHolder]) -> str:
    words = [f"{one.words}, service {one.unit}" if one.unit else one.words for one in holders]
    return ", ".join(dict.fromkeys(words))[:400]


def leases(s: StackSnapshot) -> list[StackEffect]:
    """What is missing between the declared ports and the leases: taken as long as declared, given back after the last user."""
    wanted = {} if s.deleting else ports_of(s.stack.spec)
    held = {lease.port for lease in s.leases}
    used = {v.unit.port for v in s.services.values() if v.unit.state in LIVE}
    take: list[StackEffect] = [
        CreateLease(port) for port in wanted if port not in held and port not in s.taken
    ]
    give: list[StackEffect] = [
        DeleteLease(lease.name, lease.uid, lease.resource_version)
        for lease in s.leases
        if lease.port not in wanted and lease.port not in used
    ]
    return take + give
