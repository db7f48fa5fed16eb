"""PortPool and PortLease: the creation of a lease object is the only way to take a port."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mainstay.api.conditions import Condition
from mainstay.api.meta import Count, Model, ObjectMeta, ObjectName, Port
from mainstay.api.rules import Rule, guarded

HOLDER_LABEL = "mainstay.dev/holder-uid"
POOL_MAX = 4096
"""Most ports of one pool: each may be probed, and counted in one pass."""


def lease_name(port: int) -> str:
    """The lease's object name: one per port on the whole cluster, whatever pool it came from."""
    return f"port-{port}"


class PortRange(
    Model,
    json_schema_extra=guarded(
        Rule("self.first <= self.last", "first must not be greater than last", ".first")
    ),
):
    """A closed range of ports."""

    first: Annotated[int, Field(ge=1024, le=65535)] = Field(description="First port.")
    last: Annotated[int, Field(ge=1024, le=65535)] = Field(description="Last port, included.")


class PortPoolSpec(
    Model,
    json_schema_extra=guarded(
        Rule(
            f"self.ranges.map(r, r.last - r.first + 1).sum() <= {POOL_MAX}",
            f"a pool has at most {POOL_MAX} ports, all ranges together",
            ".ranges",
        )
    ),
):
    """Which ports may be leased."""

    ranges: Annotated[list[PortRange], Field(min_length=1, max_length=32)] = Field(
        description="Ranges of ports; overlapping other pools is allowed, a port is leased once."
    )
    reserved: Annotated[list[Port], Field(max_length=1024)] = Field(
        [], description="Ports within the ranges that are never leased. Default: none."
    )
    quarantine_seconds: Annotated[int, Field(ge=0, le=86400)] = Field(
        0,
        description="Seconds a port rests after its run was stopped or deleted, before it is given back. Default: 0.",
    )


class PortPoolStatus(Model):
    """Counts only; the names are the printer columns of PortLease."""

    observed_generation: Count = Field(0, description="metadata.generation this status was computed from.")
    capacity: Count = Field(0, description="Ports that may be leased.")
    allocated: Count = Field(0, description="Ports of this pool's ranges that are leased, by any pool.")
    conditions: tuple[Condition, ...] = Field(
        (),
        description="Ready; a warning when it overlaps the kernel's ephemeral range.",
        max_length=16,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )


class PortPool(Model):
    """Ranges of ports that runs lease from."""

    metadata: ObjectMeta
    spec: PortPoolSpec = Field(description="Which ports may be leased.")
    status: PortPoolStatus = Field(PortPoolStatus(), description="Counts, written by the operator.")

    def ports(self) -> tuple[int, ...]:
        """Every port that may be leased, ascending, without duplicates."""
        reserved = set(self.spec.reserved)
        return tuple(sorted({p for r in self.spec.ranges for p in range(r.first, r.last + 1)} - reserved))


class Holder(Model):
    """The object a port is leased to. Fixed at creation."""

    kind: Annotated[str, Field(max_length=63, pattern=r"^[A-Z][A-Za-z]*$")] = Field(
        description="Kind of the holder."
    )
    namespace: Annotated[str, Field(max_length=63)] = Field(description="Namespace of the holder.")
    name: Annotated[str, Field(max_length=253)] = Field(description="Name of the holder.")
    uid: Annotated[str, Field(max_length=63, pattern=r"^[-A-Za-z0-9]+$")] = Field(
        description="uid of the holder; also the value of the label mainstay.dev/holder-uid."
    )


class PortLeaseSpec(Model):
    """Immutable: a lease is created and deleted, never changed."""

    pool: ObjectName | None = Field(
        None, description="Pool it was taken from; none for the fixed port of a service."
    )
    port: Port = Field(description="The port.")
    holder: Holder = Field(description="Who holds it.")


class PortLease(Model):
    """One port, held by one object."""

    metadata: ObjectMeta
    spec: PortLeaseSpec = Field(description="Immutable: port, pool and holder.")
