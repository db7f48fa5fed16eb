"""What becomes of a PortLease whose holder can no longer give it back itself."""

from __future__ import annotations

from mainstay.api.ports import PortLease
from mainstay.core.plan import Act, DeleteLease, Wait


def decide_lease(lease: PortLease, *, holder_exists: bool, port_in_use: bool) -> Act | Wait:
    """Delete a lease whose holder's object is gone, once no process of a unit carries its port any more.

    A port has one holder: it is never given back while something of ours may still listen on it.
    """
    if holder_exists:
        return Wait()
    if port_in_use:
        return Wait(seconds=5.0)
    meta = lease.metadata
    return Act(DeleteLease(meta.name, meta.uid, meta.resource_version))
