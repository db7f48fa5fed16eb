"""The system scope: etcd, kube-apiserver and the operator, kept alive like any other unit."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mainstay
from mainstay.api.program import RestartPolicy
from mainstay.cli.home import Home
from mainstay.core.unit import GONE, LIVE, Unit, UnitSpec, UnitState
from mainstay.runtime.process import ProcessStacks, known_scopes
from mainstay.runtime.process.runtime import ProcessRuntime
from mainstay.runtime.process.tasks import ProcessTaskRuntime

OPERATOR = "operator"
PLANE = ("etcd", "kube-apiserver")
GRACE_SECONDS = 35.0
_RESTART = RestartPolicy(initial_backoff_seconds=0.5, max_backoff_seconds=30)


class PartFailedError(Exception):
    """A part of the system did not come up; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Program:
    """One part of the system."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    version: str = ""

    @property
    def hash(self) -> str:
        """Changes when the part must be started anew."""
        text = "\0".join((*self.argv, *(f"{k}={v}" for k, v in sorted(self.env.items())), self.version))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def runtime(home: Home, scope: str = "system") -> ProcessRuntime:
    """Return the runtime of a scope of this home."""
    return ProcessRuntime(
        home.root, scope, home_id=home.identity(), extra_env={"PATH": os.environ.get("PATH", os.defpath)}
    )


def stacks(home: Home) -> ProcessStacks:
    """Return the scopes of stacks of this home."""
    return ProcessStacks(
        home.root, home_id=home.identity(), extra_env={"PATH": os.environ.get("PATH", os.defpath)}
    )


def scopes(home: Home) -> list[str]:
    """Return every scope of programs that are the user's: of runs, of tasks, and of each stack."""
    return ["runs", "jobs", *(scope for _, scope in known_scopes(home.root))]


def task_runtime(home: Home) -> ProcessTaskRuntime:
    """Return the runtime of tasks of this home."""
    return ProcessTaskRuntime(
        home.root, home_id=home.identity(), extra_env={"PATH": os.environ.get("PATH", os.defpath)}
    )


def operator_program(home: Home, kubeconfig: Path, *, embedded: bool) -> Program:
    """Return the operator as a part of the system. A changed package is a changed part."""
    argv = [sys.executable, "-m", "mainstay.cli.main", "operator", "--home", str(home.root)]
    argv += ["--kubeconfig", str(kubeconfig), "--embedded" if embedded else "--impersonate"]
    argv += ["--health", "127.0.0.1:0"]
    package = Path(mainstay.__file__).parent
    newest = max(int(f.stat().st_mtime) for f in package.rglob("*.py"))
    env = {k: v for k, v in os.environ.items() if k in ("LANG", "TZ", "PATH")}
    return Program(OPERATOR, tuple(argv), env, version=f"{mainstay.__version__}-{newest}")


async def ensure(system: ProcessRuntime, program: Program) -> bool:
    """Make the part live as declared; True if it had to be started. A changed one is stopped first, a paused one goes on."""
    unit = await system.observe(program.name)
    if unit.state in LIVE and unit.inputs_hash == program.hash and unit.state is not UnitState.STOPPING:
        if unit.state is UnitState.PAUSED or (unit.leader is not None and halted(unit.leader.pid)):
            await system.resume(program.name)
        return False
    if unit.state in LIVE:
        await end(system, program.name)
    await system.start(
        UnitSpec(
            name=program.name,
            owner_uid=program.name,
            attempt=unit.attempt + 1,
            argv=program.argv,
            inputs_hash=program.hash,
            env=dict(program.env),
            restart=_RESTART,
            grace_seconds=GRACE_SECONDS,
        )
    )
    return True


def halted(pid: int) -> bool:
    """Whether that process was stopped by a signal, whatever those that it started do."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


async def end(system: ProcessRuntime, name: str) -> None:
    """Stop a part: TERM, its grace period, then force. Returns when nothing of it lives."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (unit := await system.observe(name)).state not in GONE:
        force = time.monotonic() > deadline
        if unit.state is not UnitState.STOPPING or force:
            await system.stop(name, grace_seconds=GRACE_SECONDS, force=force)
        await asyncio.sleep(0.02)


async def operator_works(system: ProcessRuntime, home: Home, timeout: float) -> Unit:
    """Return once the operator has learned everything and works; PartFailedError after the timeout."""
    deadline = time.monotonic() + timeout
    while True:
        unit = await system.observe(OPERATOR)
        try:
            pid = int(home.operator_ready.read_text())
        except (FileNotFoundError, ValueError):
            pid = 0
        if unit.leader is not None and unit.leader.pid == pid:
            return unit
        if time.monotonic() > deadline or unit.restarts > 2:
            raise PartFailedError("the operator does not work:\n" + "\n".join(last_lines(home, OPERATOR)))
        await asyncio.sleep(0.03)


def supervisor_pid(home: Home, scope: str) -> int | None:
    """Return the pid of a scope's supervisord, which holds the scope's lock while it lives; None if none does."""
    directory = home.root / "scopes" / scope
    try:
        with (directory / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except FileNotFoundError:
        return None
    except BlockingIOError:
        try:
            return int((directory / "supervisord.pid").read_text())
        except (OSError, ValueError):
            return None


def lives(home: Home, scope: str) -> bool:
    """Whether anything of a scope runs: its supervisord, or a unit that outlived it."""
    from mainstay.runtime.process import brake

    if supervisor_pid(home, scope) is not None:
        return True
    return any(unit.state != "Exited" for unit in brake.list_units(home.root, scope))


def logs(home: Home, name: str, scope: str = "system") -> list[Path]:
    """Return the log files of a part."""
    directory = home.root / "scopes" / scope / "units" / name / "log"
    return [directory / "stderr.log", directory / "stdout.log"]


def last_lines(home: Home, name: str, count: int = 15) -> list[str]:
    """Return the last lines a part wrote to standard error."""
    try:
        return logs(home, name)[0].read_text(errors="replace").splitlines()[-count:]
    except OSError:
        return []
