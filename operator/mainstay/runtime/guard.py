"""Runs one command, and ends whatever it started: run as a script, `guard.py COMMAND...`, with a pipe as stdin.

When the command ends, or nobody holds the other end of the pipe any more, because its holder closed it or was killed,
every descendant is killed, also one that left the command's session. Only then this ends, with the command's exit
code; 128 + n if signal n ended it, 127 or 126 if it can't be executed. It starts with every command, so it imports little.
"""

import os
import select
import sys
from _ctypes import call_function, dlopen, dlsym

SIGKILL = 9
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
CONTROL = 0


def main(argv: list[str]) -> int:
    """The exit code."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # whoever loses its parent becomes our child, and can be found
    guard = os.getpid()
    leader = os.fork()
    if leader == 0:
        os._exit(become(argv, guard))
    watched = select.poll()
    watched.register(CONTROL, select.POLLIN)
    watched.register(os.pidfd_open(leader), select.POLLIN)
    watched.poll()
    return end(leader)


def become(argv: list[str], guard: int) -> int:
    """In the child: be the command. Returns only when it can't be executed."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, SIGKILL)
        if os.getppid() != guard:
            return 126
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(argv[0], argv)  # noqa: S606 - a shell would be one more process
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        os.write(2, f"cannot run {argv[0]!r}: {why}\n".encode(errors="replace"))
        return 127 if isinstance(error, FileNotFoundError) else 126


def end(leader: int) -> int:
    """Kill and reap until there is no child left; the leader's exit code."""
    for kill in (os.kill, os.killpg):
        try:  # noqa: SIM105 - contextlib costs more than all of this
            kill(leader, SIGKILL)  # not reaped yet: neither number can be another's
        except OSError:
            pass
    status = 0
    while True:
        for child in children():
            os.kill(child, SIGKILL)
        try:
            pid, how = os.waitpid(-1, 0)  # a grandchild becomes a child when one ends: looked at again
        except ChildProcessError:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if pid == leader:
            status = how


def children() -> list[int]:
    """Our children, ended ones too; nobody else reaps them."""
    me = str(os.getpid())
    try:
        with open(f"/proc/{me}/task/{me}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and parent(pid) == me]


def parent(pid: str) -> str:
    """Its parent; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[1]
    except OSError:
        return ""


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process."""
    libc = dlopen(None, 0)  # type: ignore[arg-type]
    call_function(dlsym(libc, "prctl"), (option, value, 0, 0, 0))


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
