"""Becomes the supervisord of one scope: detached, holding the scope's lock, with nothing of ours inherited.

Run as a script by the base interpreter: `launcher.py LOCK_FD SCOPE_DIRECTORY PYTHON`. The lock was taken by
whoever started it, and lives in the inherited descriptor: as long as this process lives, nobody else starts
a second supervisord on the scope (two on one scope run every program twice).
"""

import os
import resource
import signal
import sys
from _ctypes import call_function, dlopen, dlsym

PR_SET_CHILD_SUBREAPER = 36
LOCK_FD = 3  # low: supervisord closes 3..minfds in each child
MOST_FILES = 65536  # supervisord keeps three pipes per program


def main(lock: int, scope: str, python: str) -> None:
    """Fork, so that nobody must wait for it; then become supervisord."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir(scope)
    os.umask(0o077)
    null = os.open("/dev/null", os.O_RDWR)
    errors = os.open("supervisord.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    keep = os.dup(lock)
    high = os.open("/dev/null", os.O_RDWR)
    safe = [os.dup2(fd, high + 1 + index) for index, fd in enumerate((null, errors, keep))]
    for target, source in enumerate((safe[0], safe[1], safe[1], safe[2])):
        os.dup2(source, target, inheritable=True)
    os.closerange(LOCK_FD + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    libc = dlopen(None, 0)  # type: ignore[arg-type]
    call_function(dlsym(libc, "prctl"), (PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if number not in (32, 33):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    if soft < wanted:
        os.environ["MAINSTAY_NOFILE"] = str(soft)  # what the fence gives back to each program
    os.execv(  # noqa: S606 - a shell would be one more process
        python, [python, "-P", "-m", "supervisor.supervisord", "-c", "supervisord.conf"]
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
