"""One command, run to its end within a time, in a session of its own, with its processes gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ERRORS = 4096
"""Bytes of stderr that are kept: the last."""
_CHUNK = 65536
_GUARD = (sys.executable, "-I", "-S", "-B", str(Path(__file__).with_name("guard.py")))
_GUARD_SECONDS = 5.0
"""For how long a guard may end processes; only one that the kernel can't end, or somebody stopped, takes longer."""

_ending: set[asyncio.Task[None]] = set()


class CommandError(Exception):
    """It could not be run, took too long, or wrote too much: in words that name the program alone."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    """Its exit code; 128 + n if signal n ended it."""
    output: bytes
    errors: bytes
    """The last of its stderr."""

    @property
    def last_line(self) -> str:
        """The last line of stderr that says something."""
        lines = self.errors.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str,
    seconds: float,
    most_bytes: int = 0,
    user: tuple[int, int, Sequence[int]] | None = None,
    guarded: bool = False,
) -> Ended:
    """Run it to its end. Raises CommandError.

    `most_bytes` of stdout are kept, and more are an error; with 0 nobody reads it. When this returns, raises, or is
    cancelled, the command's process group is gone. With `guarded` so is everything else that it started, and all of
    that goes too when this process is killed; it costs the start of a Python, about 10 ms of CPU.
    """
    command = _Command(argv, env, cwd, most_bytes, user, guarded=guarded)
    try:
        async with asyncio.timeout(seconds):
            await command.over
    except TimeoutError:
        raise CommandError(f"{argv[0]!r} took longer than {seconds:g} s") from None
    finally:
        task = asyncio.create_task(command.end())
        _ending.add(task)
        task.add_done_callback(_ending.discard)
        await asyncio.shield(task)  # cancelled once more, it still comes to its end
    return command.result()


class _Command:
    """A command that runs. It is reaped by `end` alone: until then its number is nobody else's."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        most_bytes: int,
        user: tuple[int, int, Sequence[int]] | None,
        *,
        guarded: bool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._name, self._most = argv[0], most_bytes
        self._output, self._errors = bytearray(), bytearray()
        self._control: int | None = None
        uid, gid, groups = user or (None, None, None)
        stdin: int = subprocess.DEVNULL
        try:
            if guarded:
                stdin, self._control = os.pipe()
            self._process = subprocess.Popen(
                [*_GUARD, *argv] if guarded else argv,
                env=env,
                cwd=cwd,
                user=uid,
                group=gid,
                extra_groups=groups,
                start_new_session=True,
                stdin=stdin,
                stdout=subprocess.PIPE if most_bytes else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        except (OSError, ValueError) as error:
            self._release()
            raise CommandError(self._why(error)) from None
        finally:
            if stdin >= 0:
                os.close(stdin)
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError as error:
            self._release()
            self._process.kill()
            self._process.communicate()
            raise CommandError(self._why(error)) from None
        self.over: asyncio.Future[None] = self._loop.create_future()
        """Done when it has ended, or wrote too much."""
        self._exit: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._exited)
        self._pipes: dict[int, Callable[[bytes], None]] = {}
        for stream, take in ((self._process.stdout, self._take), (self._process.stderr, self._take_error)):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._pipes[stream.fileno()] = take
                self._loop.add_reader(stream.fileno(), self._read, stream.fileno())

    async def end(self) -> None:
        """Kill what lives, reap, and read what is left."""
        if self._control is not None:
            self._release()
            await asyncio.wait([self._exit], timeout=_GUARD_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(
                self._process.pid, signal.SIGKILL
            )  # our own child, not yet reaped: its group is its own
        await self._exit
        self._process.wait()
        os.close(self._pidfd)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                for _ in range(self._most // _CHUNK + 2):  # a pipe holds less; who escaped may go on writing
                    if not self._read(stream.fileno()):
                        break
                self._loop.remove_reader(stream.fileno())
                stream.close()

    def result(self) -> Ended:
        """How it ended. Raises CommandError."""
        if self._too_much:
            raise CommandError(f"{self._name!r} wrote more than {self._most} bytes")
        code = self._process.returncode
        return Ended(code if code >= 0 else 128 - code, bytes(self._output), bytes(self._errors))

    @property
    def _too_much(self) -> bool:
        return len(self._output) > self._most

    def _why(self, error: Exception) -> str:
        where = getattr(error, "filename", None)
        place = f" in {where}" if where and where not in (self._name, _GUARD[0]) else ""
        return f"cannot run {self._name!r}{place}: {getattr(error, 'strerror', None) or error}"

    def _release(self) -> None:
        """Let go of the pipe: a guard begins to end everything."""
        if self._control is not None:
            os.close(self._control)
            self._control = None

    def _exited(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._exit.set_result(None)
        self._done()

    def _done(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def _read(self, fd: int) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(fd)
            return False
        self._pipes[fd](data)
        return True

    def _take(self, data: bytes) -> None:
        if not self._too_much:
            self._output += data[: self._most + 1]
        if self._too_much:
            self._done()

    def _take_error(self, data: bytes) -> None:
        self._errors += data
        del self._errors[:-ERRORS]
