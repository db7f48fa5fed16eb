"""Remembering members that only descent proves, while their leader still lives.

A helper that erased its environment, closed every descriptor and left the session is provable only as a
descendant. When its leader dies it becomes supervisord's child, one among many; so who was seen is written down.
"""

from __future__ import annotations

from mainstay.runtime.base import ProcessId
from mainstay.runtime.process import members, proc
from mainstay.runtime.process.observe import Observer, Scans
from mainstay.runtime.process.periodic import Periodic
from mainstay.runtime.process.unitdir import ScopeDir

EVERY_SECONDS = 15.0


class StrayKeeper(Periodic):
    """Looks at the trees of a scope now and then."""

    def __init__(self, scope: ScopeDir, scans: Scans, observer: Observer) -> None:
        self._scope = scope
        self._scans = scans
        self._observer = observer
        super().__init__("remember strays", EVERY_SECONDS, self.once)

    async def once(self) -> None:
        """Write down, per unit, the living members without a mark."""
        names = self._scope.unit_names()
        if not names:
            return
        scan = await self._scans.fresh()
        for name in names:
            unit = self._scope.unit(name)
            leader = self._observer.files(unit).leader
            roots: list[ProcessId] = [one for one in members.strays(unit) if scan.has(one)]
            if leader is not None and leader.stage == "Exec" and scan.has(leader.process):
                roots.append(leader.process)
            found: set[int] = set()
            for root in roots:
                found.add(root.pid)
                found.update(scan.descendants(root.pid, unit))
            lost = {scan.process(pid) for pid in found if members.env_erased(scan, pid)}
            if leader is not None:
                lost.discard(leader.process)
            members.remember_strays(unit, {one for one in lost if proc.look(one) is not None})
