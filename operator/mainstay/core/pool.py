"""The counts of a PortPool."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from mainstay.api.conditions import Condition, ConditionStatus, merge
from mainstay.api.ports import PortPool, PortPoolStatus
from mainstay.core.plan import Plan, Wait, Write


def decide_pool(
    pool: PortPool, leased: Collection[int], ephemeral: tuple[int, int] | None, now: datetime
) -> Plan[PortPoolStatus]:
    """Write capacity and allocated when they changed.

    `leased` are all leased ports of the cluster. `ephemeral` is the kernel's range for outgoing
    connections: a pool inside it loses ports to them now and then, which is said, not refused.
    """
    ports = set(pool.ports())
    overlap = ephemeral is not None and any(ephemeral[0] <= p <= ephemeral[1] for p in ports)
    ready = Condition(
        type="Ready",
        status=ConditionStatus.TRUE if ports else ConditionStatus.FALSE,
        reason="OverlapsEphemeralPorts" if overlap else "Available" if ports else "NoPorts",
        message=(
            f"outgoing connections of this host use ports {ephemeral[0]}-{ephemeral[1]} too, and may hold "
            "a port of this pool for a while; choose ranges below"
            if overlap and ephemeral
            else ""
        ),
        last_transition_time=now,
        observed_generation=pool.metadata.generation,
    )
    status = PortPoolStatus(
        observed_generation=pool.metadata.generation,
        capacity=len(ports),
        allocated=len(ports.intersection(leased)),
        conditions=merge(pool.status.conditions, [ready], now),
    )
    return Wait() if status == pool.status else Write(status)
