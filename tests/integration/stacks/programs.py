"""The programs of the tests' stacks: they listen or live, and tell on themselves when they are not alone.

Only C modules are imported, so that eight of them start in a blink. What they do when they are asked to end is said by
files in the judge's directory: `NAME.deaf` makes a service ignore SIGTERM, `NAME.mute` makes it start without listening.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Object = dict[str, Any]

_COMMON = """
import _signal, _socket, fcntl, posix, select, sys
env = posix.environ
judge, name = env[b"JUDGE"], env[b"STACK_NAME"] + b"." + env[b"SERVICE_NAME"]
port = int(env.get(b"PORT", b"0"))
def say(file, *words):
    fd = posix.open(judge + b"/" + file, posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT, 0o600)
    posix.write(fd, b" ".join(words) + b"\\n")
    posix.close(fd)
def is_so(what):
    try:
        posix.stat(judge + b"/" + name + b"." + what)
    except OSError:
        return False
    return True
def alone(as_who):
    lock = posix.open(judge + b"/" + as_who + b".lock", posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say(b"violations", b"two processes of", as_who, b"at once, the second as attempt", env[b"ATTEMPT"])
def asked(*_):
    say(b"journal", name, b"stop", env[b"ATTEMPT"], str(posix.getpid()).encode())
    if not is_so(b"deaf"):
        posix._exit(0)
def begin():
    alone(name)
    _signal.signal(_signal.SIGTERM, asked)
    say(b"journal", name, b"start", env[b"ATTEMPT"], str(posix.getpid()).encode())
    sys.stderr.write("started\\n")
    sys.stderr.flush()
def serve():
    server = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen(64)
    poll = select.poll()
    poll.register(server.fileno(), select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == server.fileno():
                poll.register(server._accept()[0], select.POLLIN)
                continue
            try:
                if posix.read(fd, 65536):
                    posix.write(fd, b"HTTP/1.0 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
            except OSError:
                pass
            poll.unregister(fd)
            posix.close(fd)
def live():
    while True:
        _signal.pause()
"""

SERVER = _COMMON + "begin()\nlive() if is_so(b'mute') else serve()\n"
LIVER = _COMMON + "begin()\nlive()\n"
DAEMON = (
    _COMMON
    + """
begin()
if posix.fork() == 0:
    posix.setsid()
    if posix.fork():
        posix._exit(0)
    alone(name + b".daemon")
    serve()
posix.wait()
live()
"""
)
"""It lives, and a daemon of its own that left its session and its parent holds its port."""

FAILING = _COMMON + "begin()\nsys.stderr.write('no licence found\\n')\nsys.stderr.flush()\nposix._exit(3)\n"


def python(program: str) -> list[str]:
    """The command of a program of ours."""
    return [os.path.realpath(sys.executable), "-S", "-I", "-c", program]


def service(
    judge: Path,
    name: str,
    kind: str = "Http",
    port: int | None = None,
    *,
    program: str | None = None,
    after: tuple[str, ...] = (),
    http: bool = False,
    grace: int = 3,
    env: dict[str, str] | None = None,
    **more: Any,
) -> Object:
    """One service of a stack. An Http one answers; a Background one only lives."""
    chosen = program or (SERVER if kind == "Http" else LIVER)
    variables = {"JUDGE": str(judge), **(env or {})}
    body: Object = {
        "command": python(chosen),
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "terminationGracePeriodSeconds": grace,
    }
    if http:
        body["readiness"] = {"http": {"path": "/health"}}
    return {
        "name": name,
        "kind": kind,
        "program": body,
        **({"port": port} if port else {}),
        **({"dependsOn": list(after)} if after else {}),
        **more,
    }


_STRANGER = """
import _signal, _socket, posix, sys
port, deaf = int(sys.argv[1]), sys.argv[2] == "deaf"
def asked(*_):
    posix.write(1, b"asked\\n")
    if not deaf:
        posix._exit(0)
_signal.signal(_signal.SIGTERM, asked)
server = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", port))
server.listen(8)
posix.write(1, b"listens\\n")
while True:
    _signal.pause()
"""

_CLIENT = """
import _signal, _socket, posix, sys
client = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
client.connect(("127.0.0.1", int(sys.argv[1])))
posix.write(1, b"listens\\n")
while True:
    _signal.pause()
"""


class Foreigner:
    """A process of nobody's."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        assert self.line() == "listens\n"

    def line(self) -> str:
        """The next line that it says; empty once it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def ended_by(self) -> int | None:
        """Waits for its end: the signal that ended it; 0 if it ended as it was asked."""
        return -self._process.wait(20)

    def end(self) -> None:
        if self.lives:
            self._process.kill()
        self._process.communicate()


@contextmanager
def stranger(port: int, *, deaf: bool = False) -> Iterator[Foreigner]:
    """A listener of nobody's."""
    with _foreign(_STRANGER, str(port), "deaf" if deaf else "polite") as one:
        yield one


@contextmanager
def client(port: int) -> Iterator[Foreigner]:
    """Somebody who is merely connected."""
    with _foreign(_CLIENT, str(port)) as one:
        yield one


@contextmanager
def _foreign(program: str, *words: str) -> Iterator[Foreigner]:
    process = subprocess.Popen(
        [*python(program), *words],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    one = None
    try:
        one = Foreigner(process)
        yield one
    finally:
        process.kill()
        process.communicate()
