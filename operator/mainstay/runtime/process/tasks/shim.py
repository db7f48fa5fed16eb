"""The shim: one small process over each attempt of a task, from its claim to the record of how it ended.

1. `lock` is taken; whoever lives of the unit holds it, so it is also the proof that nobody does;
2. `attempt-N` is made by mkdir: an attempt is claimed once, ever, also across a power cut;
3. the program is started below us, with the lock, in a session and with logs of its own;
4. we are its subreaper: orphans stay our descendants, so that we know when nothing of it lives;
5. the timeout is kept here, with or without an operator;
6. `attempt-N/exit` says how it ended: durable, before anything that it left is ended.

A copy of this file lives in each scope, next to the fence's. It is imported once, by the fork server, and
works in bytes with C modules only, as the fence does.
"""

import errno
import fcntl
import posix
import time
from _signal import (  # type: ignore[import-not-found]
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    pidfd_send_signal,
    pthread_sigmask,
    signal,
    sigtimedwait,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mainstay.runtime.process import fence
    from mainstay.runtime.process.tasks import record
else:
    import fence
    import record

SIGHUP, SIGINT, SIGTERM, SIGCHLD = 1, 2, 15, 17
SHUTDOWN_SECONDS = 0.1  # who TERMs everybody reaches us about when he reaches the program
LOCK_SECONDS = 0.2  # somebody may only be asking whether it is held, or be on the way out
LOOK_SECONDS = (
    60.0  # sigtimedwait doesn't count sleep of the machine: a timeout is that late at most after it
)
IDLE_SECONDS = 3600.0


class Left(Exception):  # noqa: N818 - an answer, not an error
    """This attempt is not ours to run: one word says why."""


class Shim(fence.Fence):
    """One attempt of one task."""

    def __init__(self, unit: bytes, attempt: bytes) -> None:
        super().__init__(unit)
        self.number = attempt
        self.attempt = self.path(b"attempt-" + attempt)
        self.spec: fence.Record = {}
        self.argv: list[bytes] = []
        self.env: dict[bytes, bytes] = {}
        self.program = 0
        self.since = 0.0
        self.childless = False
        self.told_to_end = False
        self.ended: fence.Record = {}
        self.outputs: bytes | None = None

    # -- the claim -------------------------------------------------------------------------------

    def claim(self) -> None:
        """Take the lock, read the spec, make the attempt's directory. Raises Left."""
        self.take_lock()
        try:
            self.spec, self.argv, self.env = self.read_spec()
        except fence.Refused:
            raise Left("spec") from None
        given = self.path(b"inputs-" + self.number)
        if self.spec.get(b"attempt") != self.number or (b"given" in self.spec and not fence.exists(given)):
            raise Left("spec")
        if self.stopped():
            raise Left("stop")
        if any(other >= int(self.number) for other in attempts(self.unit)):
            raise Left("attempt")
        if self.earlier_lives():
            raise Left("lock")
        other_user = b"uid" in self.spec
        try:
            posix.mkdir(self.attempt, 0o711 if other_user else 0o700)
        except FileExistsError:
            raise Left("attempt") from None
        record.sync(self.unit)  # else a power cut could take the claim back, and keep what the program did
        if self.number == b"1":
            record.sync(self.path(b".."))
        self.since = fence.boottime()
        if other_user:
            posix.chmod(self.attempt, 0o711)  # whatever the umask
            posix.mkdir(self.io(b""), 0o700)
            posix.chown(self.io(b""), int(self.spec[b"uid"]), int(self.spec[b"gid"]))
        if b"given" in self.spec:
            if other_user:
                posix.chown(given, int(self.spec[b"uid"]), int(self.spec[b"gid"]))
            posix.rename(given, self.io(b"inputs.json"))

    def stopped(self) -> bool:
        """Whether a stop was begun, by an operator or with `mainstay stop --offline`."""
        return fence.exists(self.path(b"stop")) or fence.exists(self.path(b"held"))

    def earlier_lives(self) -> bool:
        """Whether the program of an earlier attempt lives, though it let go of the lock and its shim is dead."""
        before = dict(fence.entries(fence.read(self.path(b"leader")), b"\n"))
        pid = before.get(b"pid", b"")
        if not pid.isdigit() or before.get(b"boot") != self.boot:
            return False
        return fence.start_ticks(pid) == before.get(b"ticks")

    def io(self, name: bytes) -> bytes:
        """A file the program is given. Another user's lie in a directory of its own: ours are out of its reach."""
        return self.attempt + (b"/user/" if b"uid" in self.spec else b"/") + name

    def take_lock(self) -> None:
        """Hold `lock` of the directory that is there now, not of one that was just removed."""
        path = self.path(b"lock")
        try:
            self.lock = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise Left("removed") from None
        until = fence.boottime() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
                if fence.boottime() > until:
                    raise Left("lock") from None
            time.sleep(0.002)
        try:
            same = posix.stat(path).st_ino == posix.fstat(self.lock).st_ino
        except FileNotFoundError:
            same = False
        if not same:
            raise Left("removed")

    def release(self) -> None:
        """Let go of the lock."""
        if self.lock >= 0:
            posix.close(self.lock)

    # -- the program -----------------------------------------------------------------------------

    def start(self) -> None:
        """Fork the program. From here on our own death costs the outcome, never a second run."""
        for number in (SIGHUP, SIGINT):
            signal(number, SIG_IGN)
        signal(SIGTERM, self.note_term)  # a machine that shuts down TERMs everybody: we stay to write it down
        pthread_sigmask(SIG_BLOCK, (SIGCHLD,))
        signal(SIGCHLD, SIG_DFL)
        fence.prctl(fence.PR_SET_CHILD_SUBREAPER, 1)
        shim = self.pid, self.ticks
        self.program = posix.fork()
        if self.program == 0:
            posix._exit(self.run_program(*shim))  # noqa: SLF001 - os is not imported

    def note_term(self, *_: object) -> None:
        """Somebody wants all to end: how the program ends now is not its own doing."""
        self.told_to_end = True

    def run_program(self, shim: bytes, shim_ticks: bytes) -> int:
        """In the child: tell who we are and become the program. Returns the exit code of a refusal."""
        try:
            signal(SIGTERM, SIG_DFL)
            posix.setsid()
            self.pid, self.ticks = b"%d" % posix.getpid(), fence.start_ticks(b"self")
            self.open_attempt_logs()
            self.leader = {
                b"pid": self.pid,
                b"ticks": self.ticks,
                b"boot": self.boot,
                b"stage": b"Exec",
                b"attempt": self.number,
                b"started": b"%.3f" % time.time(),
                b"since": b"%.3f" % self.since,
                b"owner": self.spec.get(b"owner", b""),
                b"inputs": self.spec.get(b"inputs", b""),
                b"port": self.spec.get(b"port", b""),
                b"shim": shim,
                b"shim_ticks": shim_ticks,
            }
            self.write_leader()
            # A stop that was begun before the record told of us has nobody to TERM but relies on this look;
            # and what nobody will write down is better not begun.
            if self.stopped() or posix.getppid() != int(shim):
                self.withdraw()
                posix.kill(int(self.pid), SIGTERM)
            self.become(self.spec, self.argv, self.env)
        except Exception as error:
            code = fence.complain(self.argv, error)
            self.withdraw()
            return code
        return 126

    def withdraw(self) -> None:
        """Say that the program was not executed."""
        self.leader[b"stage"] = b"Refused"
        try:
            self.write_leader()
        except OSError:
            return

    def open_attempt_logs(self) -> None:
        """The attempt's own files as stdout and stderr."""
        for target, name in ((1, b"/stdout.log"), (2, b"/stderr.log")):
            flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC
            fd = posix.open(self.attempt + name, flags, 0o600)
            posix.dup2(fd, target)
            posix.close(fd)

    # -- its end ---------------------------------------------------------------------------------

    def watch(self) -> None:
        """Until the program has ended, within its timeout; then write it down and end what it left."""
        limit, grace = fence.number(self.spec, b"timeout"), fence.number(self.spec, b"grace")
        told = 0.0
        while (status := self.reap()) is None:
            now = fence.boottime()
            due = (told + grace if told else self.since + limit) if limit else now + IDLE_SECONDS
            if now < due:
                sigtimedwait((SIGCHLD,), min(due - now, LOOK_SECONDS if limit else IDLE_SECONDS))
            elif not told:
                told = now
                posix.kill(self.program, SIGTERM)
                posix.kill(self.program, fence.SIGCONT)
            else:
                self.kill_all()
                sigtimedwait((SIGCHLD,), 0.05)
        self.note_end(status, timed_out=told > 0)
        alone = not self.remnants()
        self.write_exit(clean=alone)
        if not alone:
            self.end_processes(self.remnants)
            self.write_exit(clean=True)

    def reap(self) -> int | None:
        """Take every child that ended; the program's wait status if it was among them."""
        found = None
        self.childless = False
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                self.childless = True
                return found
            if pid == 0:
                return found
            if pid == self.program:
                found = status

    def kill_all(self) -> None:
        """KILL every descendant of ours, proven again behind its pidfd."""
        fds = {}
        for pid in self.remnants():
            try:
                fds[pid] = posix.pidfd_open(int(pid))
            except OSError:
                continue
        still = set(self.remnants())
        for pid, fd in fds.items():
            if pid in still:
                try:  # noqa: SIM105 - contextlib is not loaded
                    pidfd_send_signal(fd, fence.SIGKILL)
                except OSError:
                    pass
            posix.close(fd)

    def remnants(self) -> list[bytes]:
        """Descendants that live, but for what is another unit's or another scope's. Free when there is no child."""
        if self.program and self.childless:
            return []
        children: dict[bytes, list[bytes]] = {}
        for pid in posix.listdir(b"/proc"):
            if pid.isdigit():
                line = fence.read(b"/proc/" + pid + b"/stat")
                fields = line[line.rfind(b")") + 2 :].split(None, 2)
                if len(fields) > 1 and fields[0] not in (b"Z", b"X"):
                    children.setdefault(fields[1], []).append(pid)
        found = []
        below = children.get(b"%d" % posix.getpid(), [])
        while below:
            pid = below.pop()
            if self.foreign(pid):
                continue
            found.append(pid)
            below += children.get(pid, [])
        return found

    def foreign(self, pid: bytes) -> bool:
        """Whether it belongs to a scope or unit that a program of ours started: an operator may be a task."""
        if pid == b"%d" % self.program:
            return False
        environ = b"\0" + fence.read(b"/proc/" + pid + b"/environ")
        if b"\0MAINSTAY_SCOPE=" in environ:
            return True
        mine = b"\0MAINSTAY_NAME=" + self.spec.get(b"name", b"") + b"\0"
        return b"\0MAINSTAY_NAME=" in environ and mine not in environ

    # -- the record ------------------------------------------------------------------------------

    def note_end(self, status: int, *, timed_out: bool) -> None:
        """What the record will say, for good."""
        if posix.WIFSIGNALED(status) and posix.WTERMSIG(status) == SIGTERM and not timed_out:
            until = fence.boottime() + SHUTDOWN_SECONDS
            while not self.told_to_end and fence.boottime() < until:
                time.sleep(0.005)
        uid = int(self.spec[b"uid"]) if b"uid" in self.spec else None
        self.outputs, problem = record.read_outputs(self.io(b"outputs.json"), uid)
        self.ended = {
            b"code": b"%d" % posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else b"",
            b"signal": b"%d" % posix.WTERMSIG(status) if posix.WIFSIGNALED(status) else b"",
            b"owner": self.spec.get(b"owner", b""),
            b"ended": b"%.3f" % time.time(),
            b"timed_out": b"%d" % timed_out,
            b"interrupted": b"%d" % (self.told_to_end or fence.exists(self.path(b"stop"))),
            b"problem": problem.encode(),
            b"outputs": b"" if self.outputs is None else b"%d" % len(self.outputs),
        }

    def write_exit(self, *, clean: bool) -> None:
        """Put the record on disk; it differs only in whether something still lives."""
        record.write_exit(self.attempt, self.ended | {b"clean": b"%d" % clean}, self.outputs)


def attempts(unit: bytes) -> list[int]:
    """Numbers of the attempts that were claimed."""
    found = (name[8:] for name in posix.listdir(unit) if name.startswith(b"attempt-"))
    return [int(number) for number in found if number.isdigit()]
