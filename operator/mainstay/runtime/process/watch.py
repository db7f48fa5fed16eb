"""Wake-ups: a pidfd per leader, inotify per unit directory, and an eye on supervisord itself.

supervisord notices an exit up to a second late; the kernel tells us at once, and one call then makes it look.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass

from mainstay.runtime.base import ProcessId, RuntimeUnavailableError
from mainstay.runtime.process import proc, rpc
from mainstay.runtime.process.scope import Scope
from mainstay.runtime.process.unitdir import UNIT_NAME

IN_MOVED_TO, IN_DELETE, IN_MOVED_FROM, IN_CREATE = 0x80, 0x200, 0x40, 0x100
IN_ONLYDIR, IN_IGNORED, IN_Q_OVERFLOW = 0x01000000, 0x8000, 0x4000
TOLD = {b"leader", b"paused", b"held", b"stop", b"run", b"spec"}
PING_SECONDS = 5.0
LOOK_SECONDS = 1.0


class Inotify:
    """Changes of names in directories, through the event loop. Without inotify: silent, and `works` is False."""

    def __init__(self, told: Callable[[str, bytes], None], overflow: Callable[[], None]) -> None:
        self._told = told
        self._overflow = overflow
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._keys: dict[int, str] = {}
        self.works = self._fd >= 0
        if self.works:
            asyncio.get_running_loop().add_reader(self._fd, self._read)

    def add(self, key: str, path: str) -> bool:
        """Watch a directory; idempotent. False if it can't be watched."""
        if not self.works:
            return False
        mask = IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | IN_ONLYDIR
        watch = self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask)
        if watch < 0:
            return False
        self._keys[watch] = key
        return True

    def close(self) -> None:
        """Stop watching."""
        if self.works:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self.works = False

    def _read(self) -> None:
        try:
            raw = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        position = 0
        while position < len(raw):
            watch, mask, _, length = struct.unpack_from("iIII", raw, position)
            name = raw[position + 16 : position + 16 + length].rstrip(b"\0")
            position += 16 + length
            if mask & IN_Q_OVERFLOW:
                self._overflow()
            elif mask & IN_IGNORED:
                self._keys.pop(watch, None)
            elif watch in self._keys:
                self._told(self._keys[watch], name)


@dataclass(slots=True)
class Watched:
    """A process and the pidfd that tells of its end."""

    process: ProcessId
    fd: int


class Watch:
    """Everything that may change a unit without us, as a stream of names."""

    def __init__(
        self,
        scope: Scope,
        all_names: Callable[[], list[str]],
        ended: Callable[[str], None],
        replaced: Callable[[], Awaitable[None]],
    ) -> None:
        self._scope = scope
        self._ended = ended
        self._replaced = replaced
        self._all_names = all_names
        self._queues: set[asyncio.Queue[str]] = set()
        self._pending: dict[asyncio.Queue[str], set[str]] = {}
        self._leaders: dict[str, Watched] = {}
        self._supervisord: Watched | None = None
        self._inotify: Inotify | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._new = False  # a new supervisord has not been looked after yet
        self.on_change: Callable[[], None] | None = None  # of any unit, or of supervisord itself

    # -- the stream ------------------------------------------------------------------------------

    async def changes(self) -> AsyncIterator[str]:
        """Names that may have changed; a name waiting to be read isn't repeated."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._queues.add(queue)
        self._pending[queue] = set()
        try:
            while True:
                name = await queue.get()
                self._pending[queue].discard(name)
                yield name
        finally:
            self._queues.discard(queue)
            self._pending.pop(queue, None)

    def tell(self, name: str) -> None:
        """This unit may have changed."""
        self._told()
        for queue in self._queues:
            if name not in self._pending[queue]:
                self._pending[queue].add(name)
                queue.put_nowait(name)

    def tell_all(self) -> None:
        """Any unit may have changed, or supervisord: that is told even if there are no units."""
        self._told()
        for name in self._all_names():
            self.tell(name)

    def _told(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def renewed(self) -> None:
        """Somebody has started a new supervisord: look after it as if the guard had."""
        self._new = True
        self._wake.set()

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch: supervisord, the directories and every living leader."""
        self._inotify = Inotify(self._file_changed, self.tell_all)
        self._follow_scope()
        for name in self._scope.dir.unit_names():
            self.follow(name)
        self._spawn(self._guard(), "watch supervisord")

    def _follow_scope(self) -> None:
        """Watch the scope's own directories; again when they were deleted and made anew."""
        if self._inotify is not None:
            self._inotify.add("", self._scope.dir.path)
            self._inotify.add("conf.d", self._scope.dir.conf_d)
            self._inotify.add("units", self._scope.dir.units)

    async def close(self) -> None:
        """End our tasks and descriptors; processes are not touched."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if self._inotify is not None:
            self._inotify.close()
        for watched in [*self._leaders.values(), *([self._supervisord] if self._supervisord else [])]:
            self._release(watched)
        self._leaders.clear()
        self._supervisord = None
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, coroutine: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- leaders ---------------------------------------------------------------------------------

    def follow(self, name: str, pid: int = 0) -> None:
        """Watch the unit's directory, and this process or the recorded leader."""
        unit = self._scope.dir.unit(name)
        if self._inotify is not None:
            self._inotify.add("unit:" + name, unit.path)
        leader = unit.leader()
        process = leader.process if leader is not None and proc.look(leader.process) is not None else None
        if process is None and pid:
            process = proc.identify(pid)
        if process is None:
            return
        present = self._leaders.get(name)
        if present is not None:
            if present.process == process:
                return
            self._release(present)
            del self._leaders[name]
        fd = proc.open_pidfd(process)
        if fd is None:
            self._leader_ended(name, None)
            return
        watched = Watched(process, fd)
        self._leaders[name] = watched
        asyncio.get_running_loop().add_reader(fd, self._leader_ended, name, watched)

    def forget(self, name: str) -> None:
        """The unit was removed."""
        if (watched := self._leaders.pop(name, None)) is not None:
            self._release(watched)

    def alive(self, name: str, process: ProcessId) -> bool:
        """Whether we hold a pidfd of this process that has told of no exit yet."""
        watched = self._leaders.get(name)
        return watched is not None and watched.process == process

    def _release(self, watched: Watched) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            asyncio.get_running_loop().remove_reader(watched.fd)
            os.close(watched.fd)

    def _leader_ended(self, name: str, watched: Watched | None) -> None:
        if watched is not None:
            self._release(watched)
            if self._leaders.get(name) is watched:
                del self._leaders[name]
        self.tell(name)
        self._spawn(self._reap(name), f"reap {name}")

    async def _reap(self, name: str) -> None:
        """Each call makes supervisord reap, and the one after it start again; then watch the new process."""
        for _ in range(3):
            try:
                info = await self._scope.supervisor.info(name)
            except RuntimeUnavailableError:
                return
            pid = int(info["pid"]) if info is not None else 0
            if pid and proc.identify(pid) is not None:
                self.follow(name, pid)
                break
            if info is None or info["state"] in (rpc.STOPPED, rpc.FATAL):  # nothing starts it by itself
                self._ended(name)
                break
        else:
            self._ended(name)
        self.tell(name)

    # -- files -----------------------------------------------------------------------------------

    def _file_changed(self, key: str, name: bytes) -> None:
        match key:
            case "":
                if name == b"supervisor.sock":
                    self._wake.set()
            case "conf.d" | "units":
                unit = os.fsdecode(name).removesuffix(".conf")
                if UNIT_NAME.fullmatch(unit) and not unit.endswith(".tmp"):
                    if key == "units" and os.path.isdir(f"{self._scope.dir.units}/{unit}"):
                        self.follow(unit)
                    self.tell(unit)
            case _:
                unit = key.removeprefix("unit:")
                if name in TOLD:
                    if name == b"leader":
                        self.follow(unit)
                    self.tell(unit)

    # -- supervisord -----------------------------------------------------------------------------

    async def _guard(self) -> None:
        """Have a supervisord that answers, always: dead, hung, stopped or without a socket it is replaced."""
        last_ping = proc.boottime()
        delay = 0.05
        while True:
            self._watch_supervisord()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            healthy = self._looks_healthy()
            if healthy and not self._new and proc.boottime() - last_ping < PING_SECONDS:
                continue
            last_ping = proc.boottime()
            try:
                self._new = await self._scope.ensure() or self._new
                if self._new:
                    self._follow_scope()
                    self.tell_all()
                    for name in self._all_names():
                        self.follow(name)
                    await self._replaced()
                    self._new = False
                delay = 0.05
            except Exception:
                await asyncio.sleep(delay)
                delay = min(5.0, delay * 2)
                last_ping = 0.0

    def _looks_healthy(self) -> bool:
        seen = proc.look(self._scope.process)
        return seen is not None and seen.state not in "Tt" and os.path.exists(self._scope.dir.socket)

    def _watch_supervisord(self) -> None:
        process = self._scope.process
        if process is None or (self._supervisord is not None and self._supervisord.process == process):
            return
        if self._supervisord is not None:
            self._release(self._supervisord)
            self._supervisord = None
        fd = proc.open_pidfd(process)
        if fd is None:
            self._wake.set()
            return
        watched = Watched(process, fd)
        self._supervisord = watched
        asyncio.get_running_loop().add_reader(fd, self._supervisord_ended, watched)

    def _supervisord_ended(self, watched: Watched) -> None:
        self._release(watched)
        if self._supervisord is watched:
            self._supervisord = None
        self._told()
        self._wake.set()
