"""Wake-ups of tasks: a pidfd on each live shim, or on what it left when it was killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mainstay.runtime.base import ProcessId
from mainstay.runtime.process import proc
from mainstay.runtime.process.scope import Scope
from mainstay.runtime.process.tasks.files import task_leader
from mainstay.runtime.process.watch import Inotify, Watch, Watched


class TaskWatch(Watch):
    """As Watch, for tasks: an exit costs no call, and the shim tells of it."""

    def __init__(self, scope: Scope, ended: Callable[[str], None]) -> None:
        super().__init__(scope, self.followed, ended, self._nothing)

    async def _nothing(self) -> None:
        """A new supervisord starts the fork server by itself."""

    def start(self) -> None:
        """Begin to watch supervisord. Who lives already is followed by whoever finds out."""
        self._inotify = Inotify(self._file_changed, self.tell_all)
        self._inotify.add("", self._scope.dir.path)
        self._spawn(self._guard(), "watch supervisord of tasks")

    def followed(self) -> list[str]:
        """Units of which we hold a live process."""
        return list(self._leaders)

    def follows(self, name: str) -> bool:
        """Whether we hold a live process of this unit."""
        return name in self._leaders

    def follow(self, name: str, pid: int = 0) -> None:
        """Watch this shim; without a pid the recorded one, or the leader if it is dead."""
        if not pid and name in self._leaders:
            return
        process = proc.identify(pid) if pid else self._recorded(name)
        if process is not None:
            self.follow_process(name, process)
        elif pid:
            self._leader_ended(name, None)

    def follow_process(self, name: str, process: ProcessId) -> None:
        """Watch exactly this process for the unit, instead of the one before."""
        self.forget(name)
        fd = proc.open_pidfd(process)
        if fd is None:
            self._leader_ended(name, None)
            return
        watched = Watched(process, fd)
        self._leaders[name] = watched
        asyncio.get_running_loop().add_reader(fd, self._leader_ended, name, watched)

    def _recorded(self, name: str) -> ProcessId | None:
        leader = task_leader(self._scope.dir.unit(name))
        candidates = (leader.shim, leader.process) if leader is not None else ()
        return next((one for one in candidates if proc.look(one) is not None), None)

    def _leader_ended(self, name: str, watched: Watched | None) -> None:
        if watched is not None:
            self._release(watched)
            if self._leaders.get(name) is watched:
                del self._leaders[name]
        self.tell(name)
        self._ended(name)
