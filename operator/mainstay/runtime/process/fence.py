"""The fence: what stands between supervisord and a user's program, in the very process that becomes it.

It is the last line of "at most one tree per unit", and needs nothing but files and processes:

1. one fence of a unit at a time (`fence.lock`, released by exec);
2. a leader that still lives is waited for, whatever else an earlier leader left is ended;
3. `lock` is taken and inherited by the program: held as long as the program, or a child that kept it, lives;
4. while `stop`, `paused` or `held` exists it waits; after a crash it waits out the backoff;
5. `spec` is read, the process is dressed as it says, `leader` tells who it is, and it becomes the program.

A copy of this file lives in each scope, so removing the package breaks no restart. It starts with every
program, so it imports C modules only and works in bytes: `import os` and `import json` would cost more than all it does.
"""

import errno
import fcntl
import posix
import sys
import time
from _signal import (  # type: ignore[import-not-found]
    SIG_DFL,
    SIG_SETMASK,
    pidfd_send_signal,
    pthread_sigmask,
    signal,
)

SIGKILL, SIGTERM, SIGCONT, SIGSTOP = 9, 15, 18, 19
RLIMIT_NOFILE = 7
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MARKERS = (b"stop", b"paused", b"held")
TERM_SECONDS = 2.0  # for what an earlier leader left
CLEAN_SECONDS = 10.0  # for how long `start`'s word that nothing was left is good
POLL_SECONDS = 0.1

Record = dict[bytes, bytes]
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Find = Callable[[], list[bytes]]


def boottime() -> float:
    """Seconds since boot, sleep included; never jumps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read(path: bytes) -> bytes:
    """A whole file; empty if it can't be read."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    chunks = []
    try:
        while chunk := posix.read(fd, 1 << 20):
            chunks.append(chunk)
    except OSError:
        return b""
    finally:
        posix.close(fd)
    return b"".join(chunks)


def entries(raw: bytes, separator: bytes) -> list[tuple[bytes, bytes]]:
    """The entries of a record; none if it is torn."""
    parts = raw.split(separator)
    if len(parts) < 2 or parts[-2] != b"end=":
        return []
    pairs = (part.partition(b"=") for part in parts[:-2])
    return [(key, value) for key, _, value in pairs]


def number(record: Record, key: bytes) -> float:
    """A number of a record, 0 if it is missing."""
    try:
        return float(record.get(key, b"0"))
    except ValueError:
        return 0.0


def exists(path: bytes) -> bool:
    """Whether something has this name."""
    try:
        posix.lstat(path)
    except OSError:
        return False
    return True


def start_ticks(pid: bytes) -> bytes:
    """Start time of a living process in ticks since boot; empty if it has ended."""
    line = read(b"/proc/" + pid + b"/stat")
    fields = line[line.rfind(b")") + 2 :].split(None, 20)
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return b""
    return fields[19]


def wait_fds(fds: list[int], seconds: float | None) -> None:
    """Until all these pidfds tell of an exit, or the time is up."""
    import select

    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    left = len(fds)
    until = None if seconds is None else boottime() + seconds
    while left and (until is None or until > boottime()):
        for fd, _ in poll.poll(None if until is None else max(1, int((until - boottime()) * 1000))):
            poll.unregister(fd)
            left -= 1


class Refused(Exception):  # noqa: N818 - it ends the process; its exit code says how
    """The program can't be started as declared: exit code and a sentence."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Fence:
    """One start of one unit."""

    def __init__(self, unit: bytes) -> None:
        self.unit = unit
        self.pid = str(posix.getpid()).encode()
        self.ticks = start_ticks(b"self")
        self.boot = read(b"/proc/sys/kernel/random/boot_id").strip()
        self.leader: Record = {}
        self.lock = -1

    def path(self, name: bytes) -> bytes:
        """A file of the unit."""
        return self.unit + b"/" + name

    def run(self) -> None:
        """Wait for our turn, then become the program. Returns only by raising."""
        prctl(PR_SET_PDEATHSIG, SIGTERM)  # a fence without its supervisord would wait for nobody
        leave_session()
        self.open_logs()
        lock = posix.open(self.path(b"fence.lock"), posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = self.wait_for_earlier_leader()
        self.begin_record(before)
        self.end_remnants(before)
        earlier = dict(self.leader)
        while True:
            self.wait_held_or_backing_off()
            spec = self.read_spec()
            self.record_exec(spec[0], earlier)
            if not self.held():
                break
        prctl(PR_SET_PDEATHSIG, 0)
        # Orphans among our descendants stay our descendants; kept over exec.
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.become(*spec)

    # -- files -----------------------------------------------------------------------------------

    def open_logs(self) -> None:
        """Our own files, never supervisord's pipes: they break when it dies."""
        null = posix.open(b"/dev/null", posix.O_RDWR)
        posix.dup2(null, 0)
        try:  # noqa: SIM105 - contextlib costs more than this whole function
            posix.mkdir(self.path(b"log"), 0o700)
        except OSError:
            pass
        for target, name in ((1, b"log/stdout.log"), (2, b"log/stderr.log")):
            try:
                flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT
                fd = posix.open(self.path(name), flags, 0o600)
            except OSError:
                fd = null
            posix.dup2(fd, target)
            if fd > 2 and fd != null:
                posix.close(fd)
        if null > 2:
            posix.close(null)

    def write_leader(self) -> None:
        """Replace the record; it speaks of this boot only, so it needs no fsync."""
        temp = self.path(b"leader." + self.pid)
        fd = posix.open(temp, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
        lines = b"".join(key + b"=" + value + b"\n" for key, value in self.leader.items())
        posix.write(fd, lines + b"end=\n")
        posix.close(fd)
        posix.rename(temp, self.path(b"leader"))

    def held(self) -> bool:
        """Whether a marker tells us to wait."""
        return any(exists(self.path(marker)) for marker in MARKERS)

    def read_spec(self) -> tuple[Record, list[bytes], dict[bytes, bytes]]:
        """What to become: read last, so that a changed spec is used."""
        spec: Record = {}
        argv: list[bytes] = []
        env: dict[bytes, bytes] = {}
        for key, value in entries(read(self.path(b"spec")), b"\0"):
            if key == b"a":
                argv.append(value)
            elif key == b"e":
                name, _, content = value.partition(b"=")
                env[name] = content
            else:
                spec[key] = value
        if not argv:
            raise Refused(126, "its spec file is missing or damaged; it must be defined again")
        return spec, argv, env

    # -- one tree --------------------------------------------------------------------------------

    def wait_for_earlier_leader(self) -> Record:
        """The record of the latest leader, once no process of that record lives."""
        while True:
            before = dict(entries(read(self.path(b"leader")), b"\n"))
            pid = before.get(b"pid", b"")
            if not pid.isdigit() or pid == self.pid or before.get(b"boot") != self.boot:
                return before
            try:
                fd = posix.pidfd_open(int(pid))
            except OSError:
                return before
            if start_ticks(pid) == before.get(b"ticks"):
                wait_fds([fd], None)
            posix.close(fd)
            if start_ticks(pid) != before.get(b"ticks"):
                return before

    def begin_record(self, before: Record) -> None:
        """Write down that we stand here now, with what must outlive the record before."""
        same_boot = before.get(b"boot") == self.boot
        ran = before.get(b"stage") == b"Exec"
        self.leader = {
            b"pid": self.pid,
            b"ticks": self.ticks,
            b"boot": self.boot,
            b"stage": b"Waiting",
            b"attempt": before.get(b"attempt", b"0"),
            b"restarts": before.get(b"restarts", b"0"),
            b"streak": before.get(b"streak", b"0") if same_boot else b"0",
            b"until": before.get(b"until", b"0") if same_boot else b"0",
            b"since": before.get(b"since", b"0") if same_boot else b"0",
            b"started": before.get(b"started", b"0"),
            b"owner": before.get(b"owner", b""),
            b"inputs": before.get(b"inputs", b""),
            b"port": before.get(b"port", b""),
            b"previous": before.get(b"pid", b"") if ran else before.get(b"previous", b""),
            b"errors": before.get(b"errors", b"0"),
            b"output": before.get(b"output", b"0"),
        }
        self.count_crash(ran and same_boot)

    def count_crash(self, ran: bool) -> None:
        """Backoff of our own, within one attempt: supervisord's is linear, and ends in giving up."""
        spec = dict(entries(read(self.path(b"spec")), b"\0"))
        if spec.get(b"attempt") != self.leader[b"attempt"]:
            self.leader.update({b"streak": b"0", b"until": b"0"})
        elif ran:
            first, most = number(spec, b"initial"), number(spec, b"max")
            now = boottime()
            lived_long = now - number(self.leader, b"since") > most
            streak = 1 if lived_long else int(number(self.leader, b"streak")) + 1
            delay = min(most, first * 2.0 ** min(streak - 1, 60))
            self.leader.update({b"streak": b"%d" % streak, b"until": b"%.3f" % (now + delay)})

    def end_remnants(self, before: Record) -> None:
        """Take `lock`; before that end what an earlier leader left: it holds the lock or has our mark."""
        spec = dict(entries(read(self.path(b"spec")), b"\0"))
        clean = number(spec, b"clean")
        known_clean = 0 < boottime() - clean < CLEAN_SECONDS and (
            before.get(b"boot") != self.boot or number(before, b"since") < clean
        )
        if not known_clean:
            self.write_leader()
            self.end_processes(lambda: self.marked(spec))
        self.lock = posix.open(self.path(b"lock"), posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
            else:
                return
            self.write_leader()
            self.end_processes(self.lock_holders)
            time.sleep(0.005)  # somebody may only be asking whether it is held

    def others(self) -> list[bytes]:
        """Every pid except ours and our ancestors'."""
        kin = {self.pid}
        pid = self.pid
        while pid not in (b"0", b"1", b""):
            line = read(b"/proc/" + pid + b"/stat")
            fields = line[line.rfind(b")") + 2 :].split(None, 2)
            pid = fields[1] if len(fields) > 1 else b""
            kin.add(pid)
        return [name for name in posix.listdir(b"/proc") if name.isdigit() and name not in kin]

    def marked(self, spec: Record) -> list[bytes]:
        """Processes that carry this unit's mark, or were seen to belong to it before."""
        home = spec.get(b"unit", b"").partition(b"/")[0]
        unit = b"\0MAINSTAY_UNIT=" + home + b"/"
        name = b"\0MAINSTAY_NAME=" + spec.get(b"name", b"") + b"\0"
        strays = set(read(self.path(b"strays")).split(b"\n"))
        found = []
        for pid in self.others():
            environ = b"\0" + read(b"/proc/" + pid + b"/environ")
            ours = bool(home) and unit in environ and name in environ
            if ours or (strays and b"%s %s %s" % (pid, start_ticks(pid), self.boot) in strays):
                found.append(pid)
        return found

    def lock_holders(self) -> list[bytes]:
        """Processes that inherited `lock`."""
        mine = posix.fstat(self.lock)
        found = []
        for pid in self.others():
            try:
                fds = posix.listdir(b"/proc/" + pid + b"/fd")
            except OSError:
                continue
            for fd in fds:
                try:
                    seen = posix.stat(b"/proc/" + pid + b"/fd/" + fd)
                except OSError:
                    continue
                if seen.st_ino == mine.st_ino and seen.st_dev == mine.st_dev:
                    if opened_for_writing(pid, fd):
                        found.append(pid)
                    break
        return found

    def end_processes(self, find: "Find") -> None:
        """TERM, a moment, KILL; until `find` finds none. Pids are proven again behind their pidfd."""
        deadline = boottime() + TERM_SECONDS
        told: set[bytes] = set()
        while pids := find():
            fds = {}
            for pid in pids:
                try:
                    fds[pid] = posix.pidfd_open(int(pid))
                except OSError:
                    continue
            still = set(find())
            late = boottime() > deadline
            for pid, fd in fds.items():
                if pid in still and (late or pid not in told):
                    told.add(pid)
                    for signum in (SIGKILL,) if late else (SIGTERM, SIGCONT):
                        try:
                            pidfd_send_signal(fd, signum)
                        except OSError:
                            break
            wait_fds(list(fds.values()), 1.0 if late else max(0.01, deadline - boottime()))
            for fd in fds.values():
                posix.close(fd)

    # -- waiting ---------------------------------------------------------------------------------

    def wait_held_or_backing_off(self) -> None:
        """Until no marker holds us and the delay is over."""
        while True:
            if self.held():
                stage = b"Held"
            elif number(self.leader, b"until") > boottime() and self.same_attempt():
                stage = b"Backoff"
            else:
                return
            if self.leader[b"stage"] != stage:
                self.leader[b"stage"] = stage
                self.write_leader()
            left = number(self.leader, b"until") - boottime() if stage == b"Backoff" else POLL_SECONDS
            time.sleep(max(0.001, min(POLL_SECONDS, left)))

    def same_attempt(self) -> bool:
        """Whether the delay is for the attempt that is wanted now: a new one starts at once."""
        spec = dict(entries(read(self.path(b"spec")), b"\0"))
        return spec.get(b"attempt") == self.leader[b"attempt"]

    def record_exec(self, spec: Record, earlier: Record) -> None:
        """Write down what we are about to be. Markers are looked at once more after this."""
        same = spec.get(b"attempt") == earlier[b"attempt"]
        restarts = int(number(earlier, b"restarts"))
        again = same and number(earlier, b"streak") > 0
        self.leader.update(
            {
                b"stage": b"Exec",
                b"attempt": spec.get(b"attempt", b"0"),
                b"restarts": b"%d" % (restarts + 1 if again else restarts if same else 0),
                b"started": b"%.3f" % time.time(),
                b"since": b"%.3f" % boottime(),
                b"owner": spec.get(b"owner", b""),
                b"inputs": spec.get(b"inputs", b""),
                b"port": spec.get(b"port", b""),
                b"errors_before": earlier[b"errors"],
                b"errors": b"%d" % posix.fstat(2).st_size,
                b"output_before": earlier[b"output"],
                b"output": b"%d" % posix.fstat(1).st_size,
            }
        )
        self.write_leader()

    # -- becoming the program --------------------------------------------------------------------

    def become(self, spec: Record, argv: list[bytes], env: dict[bytes, bytes]) -> None:
        """Dress as the spec says and exec."""
        self.limit(spec)
        if b"uid" in spec:
            posix.setgroups([int(group) for group in spec[b"groups"].split(b",") if group])
            posix.setgid(int(spec[b"gid"]))
            posix.setuid(int(spec[b"uid"]))
        posix.umask(int(spec.get(b"umask", b"077"), 8))
        cwd = spec.get(b"cwd", b"/")
        try:
            posix.chdir(cwd)
        except OSError as error:
            raise Refused(126, f"its working directory {text(cwd)}: {reason(error)}") from None
        for signum in range(1, 65):
            if signum not in (SIGKILL, SIGSTOP, 32, 33):
                try:  # noqa: SIM105
                    signal(signum, SIG_DFL)
                except (OSError, ValueError):
                    pass
        pthread_sigmask(SIG_SETMASK, ())
        posix.set_inheritable(self.lock, True)
        execute(argv, env)

    def limit(self, spec: Record) -> None:
        """Cgroups, descriptors, priority: enforced, or the program isn't started."""
        for directory in spec.get(b"cgroups", b"").split(b"\n"):
            if directory:
                try:
                    fd = posix.open(directory + b"/cgroup.procs", posix.O_WRONLY | posix.O_CLOEXEC)
                    posix.write(fd, self.pid)
                    posix.close(fd)
                except OSError as error:
                    raise Refused(126, f"its cgroup {text(directory)}: {reason(error)}") from None
        try:
            files, soft = spec.get(b"nofile"), posix.environ.get(b"MAINSTAY_NOFILE")
            if files or soft:
                import resource

                hard = resource.getrlimit(RLIMIT_NOFILE)[1]
                both = (int(files), int(files)) if files else (int(soft or 0), hard)
                resource.setrlimit(RLIMIT_NOFILE, both)
            if b"nice" in spec:
                posix.setpriority(posix.PRIO_PROCESS, 0, int(spec[b"nice"]))
        except (OSError, ValueError) as error:
            raise Refused(126, f"its limits: {error}") from None


def opened_for_writing(pid: bytes, fd: bytes) -> bool:
    """As who inherited the lock has it; who opened it to read only asks, or makes a backup."""
    _, _, rest = read(b"/proc/" + pid + b"/fdinfo/" + fd).partition(b"flags:")
    flags = rest.split(None, 1)
    return bool(flags) and int(flags[0], 8) & 3 == posix.O_RDWR


def leave_session() -> None:
    """Into a session of our own.

    In supervisord's, its death would have the kernel wake and hang up whoever is stopped: a paused bot would
    end, or run on. supervisord has made us lead a group, and leaders can't setsid: first into its group.
    """
    try:
        posix.setpgid(0, posix.getpgid(posix.getppid()))
        posix.setsid()
    except OSError:
        return


def prctl(option: int, value: int) -> None:
    """Best effort: without it the unit lacks a comfort, not its safety."""
    try:
        import _ctypes

        libc = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
        _ctypes.call_function(_ctypes.dlsym(libc, "prctl"), (option, value, 0, 0, 0))
    except Exception:
        return


def execute(argv: list[bytes], env: dict[bytes, bytes]) -> None:
    """Become the program; a failure is a sentence and the exit code a shell would give."""
    name = argv[0]
    if b"/" in name:
        candidates = [name]
    else:
        path = env.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin")
        candidates = [(directory or b".") + b"/" + name for directory in path.split(b":")]
    worst = errno.ENOENT
    for candidate in candidates:
        try:
            posix.execve(candidate, argv, env)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = error.errno or worst
                if error.errno == errno.EACCES and len(candidates) == 1 and is_directory(candidate):
                    raise Refused(126, "it is a directory") from None
        except ValueError as error:
            raise Refused(126, str(error)) from None
    if worst == errno.ENOENT:
        where = "no such file" if b"/" in name else "no such file in PATH"
        raise Refused(127, where)
    if worst == errno.EACCES:
        raise Refused(126, "it is not executable")
    if worst == errno.ENOEXEC:
        raise Refused(126, "it is neither a program nor a script with a #! line")
    raise Refused(126, posix.strerror(worst))


def is_directory(path: bytes) -> bool:
    """Whether this is a directory."""
    try:
        return posix.stat(path).st_mode & 0o170000 == 0o040000
    except OSError:
        return False


def text(raw: bytes) -> str:
    """For a sentence."""
    return raw.decode("utf-8", "replace")


def reason(error: OSError) -> str:
    """The kernel's words."""
    return posix.strerror(error.errno or 0)


def complain(argv: list[bytes], error: Exception) -> int:
    """Say on stderr why the program can't be started; the exit code that goes with it."""
    if isinstance(error, Refused):
        what = f"'{text(argv[0])}'" if argv else "this unit"
        sentence, code = f"cannot start {what}: {error}", error.code
    else:
        sentence, code = f"cannot start this unit: {type(error).__name__}: {error}", 126
    posix.write(2, f"mainstay: {sentence}\n".encode("utf-8", "replace"))
    return code


def main(directory: str) -> None:
    """Run the fence of one unit directory; never returns."""
    fence = Fence(directory.encode("utf-8", "surrogateescape"))
    code = 126
    try:
        fence.run()
    except Exception as error:
        argv = [v for k, v in entries(read(fence.path(b"spec")), b"\0") if k == b"a"]
        code = complain(argv, error)
    posix._exit(code)  # noqa: SLF001 - os is not imported


if __name__ == "__main__":
    main(sys.argv[1])
