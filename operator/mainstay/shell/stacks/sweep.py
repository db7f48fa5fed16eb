"""Scopes of stacks whose object is gone."""

from __future__ import annotations

import logging

from mainstay.core.unit import LIVE
from mainstay.runtime.base import Stacks
from mainstay.shell.kube import STACKS, Kube, path
from mainstay.shell.stacks.index import StackIndex
from mainstay.shell.store import Key
from mainstay.shell.sweep import finish

logger = logging.getLogger(__name__)


class StackSweeper:
    """Finds scopes without a stack. What runs is reported, and ended only when its deletion was witnessed."""

    def __init__(self, index: StackIndex, kube: Kube, stacks: Stacks) -> None:
        self._index = index
        self._kube = kube
        self._stacks = stacks
        self._reported: set[Key] = set()

    def orphans(self) -> list[Key]:
        """Stacks that have a scope on this host and no object in our copy."""
        return [key for key in self._stacks.known() if key not in self._index.stacks.objects]

    async def scope(self, key: Key) -> float | None:
        """Finish or report one scope; seconds after which to look again, or None."""
        if key in self._index.stacks.objects or await self._kube.get(path(STACKS, *key)) is not None:
            return None
        if key not in self._stacks.known():
            return None
        scope = await self._stacks.open(key)
        units = await scope.units()
        again: float | None = None
        for unit in units:
            if unit.deletion_witnessed:
                again = await finish(scope, unit) or 0.1
        if any(unit.state in LIVE and not unit.deletion_witnessed for unit in units):
            self._report(key)
        elif not units:
            await self._stacks.remove(key)
            logger.info("the scope of stack %s/%s was removed, nothing of it was left", *key)
        return again

    def _report(self, key: Key) -> None:
        if key not in self._reported:
            self._reported.add(key)
            logger.warning(
                "services of stack %s/%s run, and no such ServiceStack exists; they are left alone. Create it again, or "
                "end them with `mainstay doctor --remove-orphans`.",
                *key,
            )
