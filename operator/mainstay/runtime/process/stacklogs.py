"""The logs of a stack: rotated by sizes of its own, with links to them in a directory that the user names."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading

from mainstay.runtime.base import LogPolicy
from mainstay.runtime.process import records
from mainstay.runtime.process.logs import EVERY_SECONDS, Rotator
from mainstay.runtime.process.unitdir import ScopeDir

logger = logging.getLogger(__name__)


class StackLogs(Rotator):
    """As a Rotator, and keeps links. Nothing of the directory is ours but links into our home.

    The directory is remembered in the scope, so that links are removed from it when another one is named while
    we are away. What goes wrong with links is said once, and disturbs nothing.
    """

    def __init__(self, scope: ScopeDir) -> None:
        super().__init__(scope)
        self._dir = scope
        self._record = f"{scope.path}/links"
        self._policy: LogPolicy | None = None
        self._said: set[str] = set()
        self._wake = asyncio.Event()
        self._lock = threading.Lock()

    def follow(self, policy: LogPolicy) -> None:
        """Go by this policy from now on."""
        if policy != self._policy:
            self._policy = policy
            self.size, self.backups = policy.max_bytes, policy.backups
            self.wake()

    def wake(self) -> None:
        """A unit was started or removed: its links are due."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self.once)

    def once(self) -> None:
        """One round over links and logs."""
        if self._policy is not None:
            self.link(self._policy.directory)
        super().once()

    def link(self, directory: str | None) -> None:
        """Have the links in this directory, and in no other."""
        with self._lock:
            try:
                self._link(directory)
            except OSError as error:  # its own words may name a file that is another one each time
                self._say(f"links to logs can't be kept in {directory}: {error.strerror}")
            except ValueError as error:
                self._say(f"links to logs can't be kept in {directory}: {error}")

    def _link(self, directory: str | None) -> None:
        before = os.fsdecode(records.read(self._record) or b"") or None
        if before is not None and before != directory:
            with contextlib.suppress(OSError):
                self._clean(before, {})
            records.discard(self._record)
        if directory is None:
            return
        real = os.path.realpath(directory) + "/"
        if real.startswith(os.path.realpath(f"{self._dir.home}/scopes") + "/"):
            raise ValueError("the files of Mainstay's scopes are there")
        if before != directory:
            records.write(self._record, os.fsencode(directory))
        _make(directory)
        wanted = self._wanted()
        for name, target in wanted.items():
            self._one(f"{directory}/{name}", target)
        self._clean(directory, wanted)

    def _wanted(self) -> dict[str, str]:
        wanted = {"supervisord.log": self._dir.log}
        for name in self._dir.unit_names():
            logs = self._dir.unit(name).logs
            wanted[f"{name}.out.log"] = f"{logs}/stdout.log"
            wanted[f"{name}.err.log"] = f"{logs}/stderr.log"
        return wanted

    def _one(self, path: str, target: str) -> None:
        try:
            present = os.readlink(path)
        except FileNotFoundError:
            present = None
        except OSError:  # no link at all
            present = ""
        if present == target:
            return
        if present is not None:
            if not self._ours(present):
                self._say(f"{path} is none of ours: the log is {target}")
                return
            os.unlink(path)
        try:
            os.symlink(target, path)
        except FileExistsError:  # made by somebody at this moment
            self._say(f"{path} is none of ours: the log is {target}")

    def _ours(self, target: str) -> bool:
        """Whether a link with this target is this stack's, or of a stack that is gone."""
        home = f"{self._dir.home}/scopes/"
        if target.startswith(f"{self._dir.path}/"):
            return True
        scope = target.removeprefix(home).partition("/")[0]
        return target.startswith(home) and not os.path.isdir(home + scope)

    def _clean(self, directory: str, wanted: dict[str, str]) -> None:
        """Remove our links that are not wanted: of units that were removed."""
        for entry in os.scandir(directory):
            if entry.is_symlink() and entry.name not in wanted and entry.name.endswith(".log"):
                target = os.readlink(entry.path)
                if target.startswith(f"{self._dir.path}/"):
                    os.unlink(entry.path)

    def _say(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            logger.warning("%s", message)


def _make(directory: str) -> None:
    """The directory, for everyone to read whatever our umask is."""
    if os.path.isdir(directory):
        return
    above = os.path.dirname(directory)
    if above != directory:
        _make(above)
    os.mkdir(directory)
    os.chmod(directory, 0o755)  # noqa: S103 - what the user named is for everyone to read
