"""The life of one scope's supervisord: at most one, detached from us, replaced when it is dead or hung."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import py_compile
import shlex
import signal
import sys
from collections.abc import Callable

from mainstay.runtime import effects
from mainstay.runtime.base import ProcessId, RuntimeUnavailableError
from mainstay.runtime.process import fence, members, proc, records
from mainstay.runtime.process.lost import end_lost
from mainstay.runtime.process.rpc import Supervisor
from mainstay.runtime.process.unitdir import ScopeDir

SOCKET_LIMIT = 100  # bytes; the kernel's is 108, and supervisord binds `<path>.<pid>` for a moment
START_SECONDS = 20.0
HUNG_SECONDS = 10.0
YOUNG_SECONDS = 5.0  # by then it has opened its socket
LAUNCHER = os.path.join(os.path.dirname(__file__), "launcher.py")

CONF = """\
; Written by Mainstay. Paths are relative to this directory: nothing a person says is in this file.
[unix_http_server]
file=supervisor.sock
chmod=0600

[supervisord]
nodaemon=true
silent=true
user={uid}
umask=077
logfile=supervisord.log
logfile_maxbytes=10MB
logfile_backups=3
pidfile=supervisord.pid
childlogdir=log
nocleanup=true
minfds=16
minprocs=1

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[include]
files=conf.d/*.conf
"""

PROGRAM = """\
[program:{name}]
command=/bin/sh units/{name}/run
autostart=false
autorestart={autorestart}
exitcodes=0
startsecs=0
startretries=1000000000
stopsignal=TERM
stopwaitsecs=1000000000
stopasgroup=false
killasgroup=false
stdout_logfile=NONE
stderr_logfile=NONE
"""

AUTORESTART = {"Always": "true", "OnFailure": "unexpected", "Never": "false"}


class Scope:
    """One supervisord and the directory it works in."""

    def __init__(self, directory: ScopeDir, home_id: str, programs: str = "") -> None:
        """`programs`: sections of programs that belong to the scope itself, not to a unit."""
        self.dir = directory
        self._conf = CONF.format(uid=os.getuid()) + programs
        self.home_id = home_id
        self.mark = f"{home_id}/{directory.name}"  # MAINSTAY_SCOPE
        self.supervisor = Supervisor(directory.socket)
        self.process: ProcessId | None = None  # supervisord, once seen
        self.answered_at = float("-inf")  # by the clock of proc.boottime
        self.ensuring = asyncio.Lock()  # held while it is launched, or ended
        self.unwanted = 0  # how many are about to end it: who starts it or waits for it gives way to them
        self.removed = False  # its directory, by us: nobody makes it anew
        self.also: Callable[[], None] | None = None  # writes what else belongs to the scope's files
        self.python = os.path.realpath(sys.executable)
        self.fence_module = ""

    # -- files -----------------------------------------------------------------------------------

    def write_files(self) -> None:
        """Make the directories, supervisord's configuration and our copy of the fence."""
        size = len(os.fsencode(self.dir.socket))
        if size > SOCKET_LIMIT:
            raise RuntimeUnavailableError(
                f"the path of supervisord's socket has {size} bytes, at most {SOCKET_LIMIT} work: "
                f"{self.dir.socket}. Set MAINSTAY_HOME to a shorter path"
            )
        for path in (
            self.dir.path,
            self.dir.conf_d,
            self.dir.units,
            f"{self.dir.path}/log",
            f"{self.dir.path}/__pycache__",
        ):
            os.makedirs(path, mode=0o700, exist_ok=True)
        if self.also is not None:
            self.also()
        records.sweep(self.dir.conf_d)
        source = records.read(fence.__file__) or b""
        self.fence_module = "fence_" + hashlib.sha256(source).hexdigest()[:12]
        target = f"{self.dir.path}/{self.fence_module}.py"
        if records.write_if_changed(target, source):
            with contextlib.suppress(OSError, py_compile.PyCompileError):
                py_compile.compile(target, doraise=True)  # else each start would compile it again: 5 ms
        records.write_if_changed(f"{self.dir.path}/supervisord.conf", self._conf.encode())
        records.sync_directory(self.dir.path)

    def run_text(self, unit_path: str) -> bytes:
        """What /bin/sh runs for a unit: constant for the unit's life, until the fence is upgraded."""
        code = f"import sys; sys.path.insert(0, sys.argv[1]); import {self.fence_module} as f; f.main(sys.argv[2])"
        words = [self.python, "-I", "-S", "-c", code, self.dir.path, unit_path]
        return f"exec {shlex.join(words)}\n".encode()

    # -- supervisord -----------------------------------------------------------------------------

    async def ensure(self) -> bool:
        """Have a supervisord that answers, and its files: somebody may have deleted them. True if it is a new one."""
        async with self.ensuring:
            if await self.answers():
                return False
            self._give_way()
            try:
                await asyncio.to_thread(self.write_files)
                return await self._have_new()
            except OSError as error:
                raise RuntimeUnavailableError(f"the supervisor can't be started: {error}") from error

    async def _have_new(self) -> bool:
        """Launch one, unless another operator has just done so. True if we did."""
        deadline = proc.boottime() + START_SECONDS
        while True:
            self._give_way()
            lock = self.try_lock()
            if lock is not None:
                await self._launch(lock)
                break
            if await self.answers() or await self._end_holder():
                return False
            if proc.boottime() > deadline:
                raise RuntimeUnavailableError(f"the lock {self.dir.lock} is held by an unknown process")
        await self._wait_answer(deadline)
        return True

    def _give_way(self) -> None:
        if self.removed:
            raise RuntimeUnavailableError("the scope was removed")
        if self.unwanted:
            raise RuntimeUnavailableError("supervisord is being ended")

    async def answers(self, timeout: float = 5.0) -> bool:
        """Whether supervisord answers now; `process` is then the one that did."""
        if not os.path.exists(self.dir.socket):
            return False
        if self.process is not None and (seen := proc.look(self.process)) is not None and seen.state in "Tt":
            return False
        try:
            pid = await self.supervisor.call("supervisor.getPID", timeout=timeout)
        except RuntimeUnavailableError:
            return False
        self.process = proc.identify(int(pid))
        self.answered_at = proc.boottime()
        return self.process is not None

    def answered(self, age: float) -> bool:
        """Whether the very supervisord that answered in the last `age` seconds is there and executes."""
        seen = proc.look(self.process)
        well = seen is not None and not seen.stopped and os.path.exists(self.dir.socket)
        return well and proc.boottime() - self.answered_at < age

    async def _end_holder(self) -> bool:
        """KILL who holds the lock without answering: TERM would make it stop its programs.

        True if, after all, it answers: another operator may just have launched it.
        """
        holder = self.holder()
        if holder is None:
            await asyncio.sleep(0.05)  # a launcher between fork and exec, or one that has just ended
            return False
        patience = proc.boottime() + HUNG_SECONDS
        while (seen := proc.look(holder)) is not None and seen.state not in "Tt":
            if await self.answers(timeout=2.0):
                return True
            self._give_way()
            age = proc.boottime() - seen.start_ticks / os.sysconf("SC_CLK_TCK")
            grown = age > YOUNG_SECONDS or holder == self.process  # it had its socket, and lost it
            if proc.boottime() > patience or (grown and not os.path.exists(self.dir.socket)):
                break
            await asyncio.sleep(0.05)
        proc.send(holder, signal.SIGKILL)
        while proc.look(holder) is not None:
            await asyncio.sleep(0.005)
        return False

    def holder(self) -> ProcessId | None:
        """Who holds the scope's lock: supervisord or a launcher, proven by the open file and by its mark.

        Without that mark it is another operator, which has the lock for a moment when it launches or looks.
        """
        try:
            lock = os.stat(self.dir.lock)
        except OSError:
            return None
        candidates = []
        hint = records.read(f"{self.dir.path}/supervisord.pid") or b""
        if hint.strip().isdigit():
            candidates.append(int(hint))
        for pid in [*candidates, *proc.pids()]:
            if pid != os.getpid() and proc.holds_file(pid, lock.st_dev, lock.st_ino):
                found = proc.identify(pid)
                ours = proc.environ(pid).get(members.SCOPE, "").endswith(f"/{self.dir.name}")
                if found is not None and ours and proc.holds_file(pid, lock.st_dev, lock.st_ino):
                    return found
        return None

    def try_lock(self) -> int | None:
        """The scope's lock, for the caller to close; None while somebody holds it."""
        lock = os.open(self.dir.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return None
        return lock

    def _lock_is_free(self) -> bool:
        """Whether nobody holds the scope's lock: who was launched has ended."""
        lock = os.open(self.dir.lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(lock)
        return True

    async def _launch(self, lock: int) -> None:
        kept = ("HOME", "USER", "LOGNAME", "PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
        env = {name: os.environ[name] for name in kept if name in os.environ}
        env["MAINSTAY_SCOPE"] = self.mark
        try:
            await end_lost(self.mark, self.dir.lock)
            with effects.effect("launch supervisord"):
                launcher = await asyncio.create_subprocess_exec(
                    self.python, "-I", "-S", LAUNCHER, str(lock), self.dir.path, sys.executable,
                    pass_fds=(lock,), env=env, stdin=asyncio.subprocess.DEVNULL,
                )  # fmt: skip
                code = await launcher.wait()
        except OSError as error:
            raise RuntimeUnavailableError(f"supervisord can't be launched: {error}") from error
        finally:
            os.close(lock)
        if code != 0:
            raise RuntimeUnavailableError(f"supervisord's launcher ended with code {code}")

    async def _wait_answer(self, deadline: float) -> None:
        while not await self.answers(timeout=2.0):
            if self._lock_is_free() and not await self.answers(timeout=2.0):
                errors = records.read(f"{self.dir.path}/supervisord.err") or b""
                lines = errors.decode(errors="replace").strip().splitlines()
                raise RuntimeUnavailableError(
                    f"supervisord ended at once: {lines[-1] if lines else 'no reason'}"
                )
            if proc.boottime() > deadline:
                raise RuntimeUnavailableError(f"supervisord did not answer within {START_SECONDS:.0f} s")
            self._give_way()
            await asyncio.sleep(0.01)

    async def shut_down(self) -> None:
        """End supervisord gracefully. Its units must be gone: it would TERM them."""
        if not await self.answers():
            await end_lost(self.mark, self.dir.lock)
            return
        process = self.process
        with effects.effect("supervisord shutdown"):
            await self.supervisor.call("supervisor.shutdown")
        deadline = proc.boottime() + 10
        while proc.look(process) is not None and proc.boottime() < deadline:
            await asyncio.sleep(0.02)
        if process is not None and proc.look(process) is not None:
            proc.send(process, signal.SIGKILL)
        await end_lost(self.mark, self.dir.lock)
