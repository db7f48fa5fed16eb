"""One stack's own scope: a ProcessRuntime whose supervisord can be ended and had anew, and whose ports are looked at."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from mainstay.core.names import stack_scope
from mainstay.runtime import effects
from mainstay.runtime.base import LogPolicy, PortHolder, ProcessId, RuntimeUnavailableError, UnitSpec
from mainstay.runtime.process import cgroups, members, proc, records
from mainstay.runtime.process.ending import ended
from mainstay.runtime.process.holders import Holders
from mainstay.runtime.process.runtime import ProcessRuntime
from mainstay.runtime.process.stacklogs import StackLogs
from mainstay.runtime.process.unitdir import ScopeDir, stack_of

ANSWER_SECONDS = 2.0
ANSWERED_SECONDS = 1.0
"""As long is an answer good while the process lives: a stack asks at every pass, twenty times a second as it starts."""
PREFIX = "stack-"  # of names.stack_scope
TRASH = ".gone-"


class StackScope(ProcessRuntime):
    """Implements StackRuntime."""

    def __init__(
        self,
        home: Path,
        key: tuple[str, str],
        *,
        home_id: str,
        extra_env: Mapping[str, str] | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """`on_change` is called when a unit or the supervisor may have changed."""
        super().__init__(home, stack_scope(*key), home_id=home_id, extra_env=extra_env)
        self.key = key
        self._watch.on_change = on_change
        self._scope.also = self.record_owner
        self._rotator = self._logs = StackLogs(self._dir)
        self._holders = Holders(self._dir, home_id, self._scans, self._observer)

    async def start_up(self) -> None:
        """See ProcessRuntime. Whose scope it is comes first: what has no owner's name is never listed."""
        try:
            await asyncio.to_thread(write_key, self._dir, self.key)
            await super().start_up()
        except OSError as error:
            raise RuntimeUnavailableError(f"the scope can't be opened: {error}") from error

    def exists(self) -> bool:
        """Whether its directory is there."""
        return os.path.isdir(self._dir.path)

    def record_owner(self) -> None:
        """Write down whose scope this is, unless that is there."""
        if not os.path.exists(f"{self._dir.path}/stack"):
            write_key(self._dir, self.key)

    # -- the supervisor --------------------------------------------------------------------------

    async def supervisor(self) -> ProcessId | None:
        """See StackRuntime."""
        if self._scope.answered(ANSWERED_SECONDS) or await self._scope.answers(ANSWER_SECONDS):
            return self._scope.process
        return None

    async def end_supervisor(self, *, seconds: float, force: bool = False) -> None:
        """See StackRuntime."""
        try:
            async with ended(self._scope, self._scans, seconds=seconds, force=force):
                pass
        except OSError as error:
            raise RuntimeUnavailableError(f"the supervisor can't be ended: {error}") from error

    async def ensure_supervisor(self) -> None:
        """See StackRuntime."""
        if await self.supervisor() is not None:
            return
        if await self._scope.ensure():
            self._watch.renewed()

    # -- ports -----------------------------------------------------------------------------------

    async def holders(self, ports: Iterable[int]) -> Sequence[PortHolder]:
        """See StackRuntime."""
        try:
            return await self._holders.look(ports)
        except OSError as error:
            raise RuntimeUnavailableError(f"the ports can't be looked at: {error}") from error

    async def end_holders(self, ports: Collection[int], *, force: bool = False) -> None:
        """See StackRuntime."""
        try:
            await self._holders.end(ports, force=force)
        except OSError as error:
            raise RuntimeUnavailableError(f"the ports can't be looked at: {error}") from error

    # -- logs ------------------------------------------------------------------------------------

    def keep_logs(self, policy: LogPolicy) -> None:
        """See StackRuntime."""
        self._logs.follow(policy)

    async def start(self, spec: UnitSpec) -> None:
        """See Runtime."""
        await super().start(spec)
        self._logs.wake()

    async def remove(self, name: str, owner_uid: str) -> None:
        """See Runtime."""
        await super().remove(name, owner_uid)
        self._logs.wake()

    # -- the end ---------------------------------------------------------------------------------

    async def dissolve(self) -> None:
        """End the supervisor and remove the directory. Raises RuntimeUnavailableError while units live.

        What is gone already is removed. They are looked for again when nobody can start one any more: supervisord may have been about to.
        """
        await self._refuse_living()
        try:
            async with ended(self._scope, self._scans, seconds=ANSWER_SECONDS):
                await self._refuse_living()
                try:
                    await asyncio.to_thread(self._discard)
                finally:
                    self._scope.removed = not self.exists()
        except OSError as error:
            raise RuntimeUnavailableError(f"the scope can't be removed: {error}") from error

    async def _refuse_living(self) -> None:
        scan = await self._scans.fresh()
        living = sorted(set((await asyncio.to_thread(members.of_scope, self._dir, scan)).values()))
        if living:
            raise RuntimeUnavailableError(f"units of {'/'.join(self.key)} still live: {', '.join(living)}")

    def _discard(self) -> None:
        if not self.exists():
            return
        self._logs.link(None)
        for name in self._dir.unit_names():
            cgroups.discard(self._dir.unit(name).mark, self._home_id)
        above = os.path.dirname(self._dir.path)
        with contextlib.suppress(FileNotFoundError), effects.effect("rename scope directory"):
            os.rename(self._dir.path, f"{above}/{TRASH}{self._dir.name}-{proc.wall_ns()}")
        records.sync_directory(above)


def write_key(directory: ScopeDir, key: tuple[str, str]) -> None:
    """Record whose scope this is, so that it can be listed when its object is gone."""
    os.makedirs(directory.path, mode=0o700, exist_ok=True)
    content = records.encode([("stack", "/".join(key))], "\n")
    if records.write_if_changed(f"{directory.path}/stack", content):
        records.sync_directory(directory.path)
        records.sync_directory(os.path.dirname(directory.path))


def known_scopes(home: Path | str) -> list[tuple[tuple[str, str], str]]:
    """Key and scope of every stack that has one under this home, sorted; no operator is needed."""
    names = [name for name in _entries(home) if name.startswith(PREFIX)]
    return sorted((key, name) for name in names if (key := stack_of(home, name)) is not None)


def sweep_trash(home: Path | str) -> None:
    """Delete what is left of scopes that were removed."""
    for name in _entries(home):
        if name.startswith(TRASH + PREFIX):
            with effects.effect("delete scope directory"):
                shutil.rmtree(f"{home}/scopes/{name}", ignore_errors=True)


def _entries(home: Path | str) -> list[str]:
    try:
        return os.listdir(f"{home}/scopes")
    except OSError:
        return []
