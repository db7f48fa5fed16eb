"""Which port a run claims: the one it had, if it still can; otherwise the first free one of its pool."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from mainstay.core import reasons
from mainstay.core.snapshot import RunSnapshot


@dataclass(frozen=True, slots=True)
class NoPort:
    """Why none can be had."""

    reason: str
    message: str
    needs_person: bool = False


def choose(s: RunSnapshot) -> int | NoPort | None:
    """A port to claim, why there is none, or None for a run that wants no port."""
    api = s.spec.control_api
    if api is None:
        return None
    view = s.ports
    if not view.pool_found:
        return NoPort(
            reasons.POOL_NOT_FOUND,
            f"PortPool {api.pool} does not exist; create it, or name another in spec.controlApi.pool.",
            needs_person=True,
        )
    if api.port is not None:
        if api.port not in view.ports:
            return NoPort(
                reasons.PORT_NOT_IN_POOL,
                f"port {api.port} is not one that PortPool {api.pool} may lease.",
                needs_person=True,
            )
        if holder := blocked(s, api.port):
            return NoPort(
                reasons.PORT_TAKEN,
                f"port {api.port} is held by {holder}; this run starts by itself when it is free",
            )
        return api.port
    last = s.status.port
    if last is not None and last in view.ports and not blocked(s, last):
        return last
    free = list(islice((p for p in view.ports if not blocked(s, p)), view.older_waiting + 1))
    # Who has waited longer comes first; without this, a full pool would serve whoever asks at the right moment.
    if len(free) > view.older_waiting:
        return free[0]
    return NoPort(reasons.POOL_EXHAUSTED, _exhausted(s))


def blocked(s: RunSnapshot, port: int) -> str | None:
    """Who keeps this run from the port, in words, or None."""
    return s.ports.taken.get(port) or s.ports.foreign.get(port)


def _exhausted(s: RunSnapshot) -> str:
    """Same words while the pool stays full, whoever comes and goes: an idle queue writes nothing."""
    pool = s.spec.control_api.pool if s.spec.control_api else ""
    strangers = sorted(port for port in s.ports.ports if port in s.ports.foreign)
    theirs = f", {strangers[0]} by {s.ports.foreign[strangers[0]]}" if strangers else ""
    return (
        f"all {len(s.ports.ports)} ports of PortPool {pool} are in use (`kubectl get pl`{theirs}); this run starts "
        "by itself when one frees"
    )
