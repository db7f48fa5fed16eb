"""Taking and giving back ports: the creation of a lease object is the only way to take one."""

from __future__ import annotations

from http import HTTPStatus

from mainstay.api.meta import ObjectMeta
from mainstay.api.ports import HOLDER_LABEL, Holder, PortLeaseSpec, lease_name
from mainstay.core.plan import CreateLease, DeleteLease
from mainstay.shell.kube import LEASES, ApiError, Kube, path
from mainstay.shell.store import Store


class Leases:
    """Creates and deletes leases; our copy knows the outcome at once."""

    def __init__(self, store: Store, kube: Kube) -> None:
        self._store = store
        self._kube = kube

    async def create(self, kind: str, meta: ObjectMeta, action: CreateLease) -> None:
        """201, or 409 held by ourselves: success. Held by another: our copy learns whose it is."""
        holder = Holder(kind=kind, namespace=meta.namespace, name=meta.name, uid=meta.uid)
        name = lease_name(action.port)
        body = {
            "metadata": {"name": name, "labels": {HOLDER_LABEL: meta.uid}},
            "spec": PortLeaseSpec(pool=action.pool, port=action.port, holder=holder).wire(),
        }
        try:
            self._store.put_lease(await self._kube.create(LEASES, "PortLease", "", body))
        except ApiError as error:
            if error.code != HTTPStatus.CONFLICT:
                raise
            existing = await self._kube.get(path(LEASES, name=name))
            if existing is not None:
                self._store.put_lease(existing)

    async def delete(self, action: DeleteLease) -> None:
        """Give a port back; our copy forgets it at once."""
        await self._kube.delete(LEASES, action.name, uid=action.uid, resource_version=action.resource_version)
        port = int(action.name.removeprefix("port-"))
        self._store.drop_lease({"metadata": {"name": action.name, "uid": action.uid}, "spec": {"port": port}})

    async def refresh(self, uid: str) -> None:
        """Read anew what we know of somebody's leases: a write told us that it is old."""
        for lease in self._store.leases_of(uid):
            name = lease.metadata.name
            current, known = (
                await self._kube.get(path(LEASES, name=name)),
                self._store.leases.objects.get(("", name)),
            )
            if current is not None:
                self._store.put_lease(current)
            elif known is not None:
                self._store.drop_lease(known)
