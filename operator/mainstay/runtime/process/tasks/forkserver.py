"""The fork server: a resident process of the scope that forks one shim per connection, with all modules loaded.

A request is one line, `start ATTEMPT UNIT`; so is the answer: `claimed PID`, `left WHY` or `failed WORDS`.
It holds no state. Killed, its supervisord starts it again; the shims don't notice. The child reads the
request, so that nobody who connects and says nothing keeps the others waiting.
"""

import _ctypes
import gc
import posix
import resource
import select
import sys
from _signal import SIG_DFL, SIG_IGN, signal  # type: ignore[import-not-found]
from _socket import AF_UNIX, SOCK_STREAM, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mainstay.runtime.process import fence
    from mainstay.runtime.process.tasks import shim
else:
    import fence
    import shim

SIGPIPE, SIGTERM, SIGCHLD = 13, 15, 17
BACKLOG = 1024
REQUEST_MILLISECONDS = 5000
CHECK_MILLISECONDS = 60_000
SOCKET = b"tasks.sock"
LOADED = (_ctypes, resource)  # what the fence imports late, here before the first fork


def main(scope: str) -> None:
    """Serve until our socket's name leads to another server. `scope` is the scope's directory."""
    fence.prctl(fence.PR_SET_PDEATHSIG, SIGTERM)
    posix.chdir(scope)
    own_files()
    signal(SIGTERM, SIG_DFL)
    signal(SIGPIPE, SIG_IGN)
    signal(SIGCHLD, SIG_IGN)  # shims are reaped by the kernel
    listener = listen()
    mine = posix.lstat(SOCKET).st_ino
    poll = select.poll()
    poll.register(listener.fileno(), select.POLLIN)
    units = posix.getcwdb() + b"/units/"
    gc.collect()
    gc.disable()
    gc.freeze()
    while True:
        if not poll.poll(CHECK_MILLISECONDS):
            if not fence.exists(SOCKET) or posix.lstat(SOCKET).st_ino != mine:
                return
            continue
        try:
            connection = listener._accept()[0]  # type: ignore[attr-defined]  # noqa: SLF001 - `accept` is socket.py's
        except OSError:
            continue
        try:
            pid = posix.fork()
        except OSError:
            pid = -1  # out of processes: the client sees the connection end, and comes again
        if pid == 0:
            posix.close(listener.fileno())
            posix._exit(serve(connection, units))  # noqa: SLF001 - os is not imported
        posix.close(connection)


def own_files() -> None:
    """Our own files, never supervisord's pipes."""
    null = posix.open(b"/dev/null", posix.O_RDWR)
    flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT
    log = posix.open(b"log/forkserver.log", flags, 0o600)
    for target, source in ((0, null), (1, log), (2, log)):
        posix.dup2(source, target)
    posix.closerange(3, 64)


def listen() -> "socket":
    """The name appears when somebody listens, and replaces a dead server's."""
    temp = SOCKET + b".tmp"
    if fence.exists(temp):
        posix.unlink(temp)
    listener = socket(AF_UNIX, SOCK_STREAM)
    posix.umask(0o077)
    listener.bind(temp)
    listener.listen(BACKLOG)
    posix.rename(temp, SOCKET)
    return listener


def serve(connection: int, units: bytes) -> int:
    """In the child: be the shim of one attempt; our exit code."""
    posix.setsid()
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if not poll.poll(REQUEST_MILLISECONDS):
        return 1
    match posix.read(connection, 1024).split():
        case [b"start", attempt, name] if attempt.isdigit() and b"/" not in name and name[:1] != b".":
            one = shim.Shim(units + name, attempt)
        case _:
            return 1
    try:
        one.claim()
    except shim.Left as left:
        one.release()  # first: who is answered may look at the lock
        answer(connection, f"left {left}")
        return 0
    except Exception as error:
        answer(connection, f"failed {type(error).__name__}: {error}")
        return 1
    answer(connection, f"claimed {posix.getpid()}")
    try:
        one.start()
        one.watch()
    except Exception as error:
        say = f"mainstay: the shim of {one.attempt!r} failed: {type(error).__name__}: {error}\n"
        posix.write(2, say.encode("utf-8", "replace"))
        return 1
    return 0


def answer(connection: int, words: str) -> None:
    """Tell the client, if it still listens, and hang up."""
    try:  # noqa: SIM105 - contextlib is not loaded
        posix.write(connection, words.encode("utf-8", "replace").replace(b"\n", b" ") + b"\n")
    except OSError:
        pass
    posix.close(connection)


if __name__ == "__main__":
    main(sys.argv[1])
