"""A stage with a fleet, where anything may be killed at any moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.integration.assets.fleet import SHIPS, Fleet, fleet_of
from tests.integration.jobs.judge import programs
from tests.support.plane import RealPlane
from tests.support.stage import Stage, eventually, marked, staged, start_ticks
from tests.support.world import running_world


def killed(pid: int, ticks: int, home_id: str) -> None:
    """kill -9 of the process group that this process leads, or of it alone; seen to have ended."""
    ours = f"={home_id}/".encode()
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            assert ours in Path(f"/proc/{pid}/environ").read_bytes(), f"{pid} is not of this home"
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
    eventually(lambda: start_ticks(pid) != ticks, f"end of {pid}")


class Yard:
    """The stage, and its fleet."""

    def __init__(self, stage: Stage, fleet: Fleet) -> None:
        self.stage = stage
        self.fleet = fleet

    def workers(self, job: str, task: str) -> list[tuple[int, int]]:
        """(pid, start ticks) of each living worker of a task."""
        unit = f"{self.stage.namespace}.{job}_{task}"
        return [(pid, ticks) for pid, ticks, name in programs(self.stage.home_id) if name == unit]

    def kill_worker(self, job: str, task: str) -> None:
        """kill -9 of the worker's process group; its shim lives on, and tells."""
        found = self.workers(job, task)
        assert len(found) == 1, found
        killed(*found[0], self.stage.home_id)

    def kill_processes(self) -> None:
        """kill -9 of supervisord, the fork server, every shim and every worker, until none is left."""
        for _ in range(200):
            found = marked(self.stage.home_id, "MAINSTAY_UNIT", "MAINSTAY_SCOPE")
            if not found:
                return
            for pid, ticks, *_ in found:
                with suppress(OSError):
                    killed(pid, ticks, self.stage.home_id)
        raise AssertionError("they keep coming back")

    def kill_everything(self) -> None:
        """The operator, and all that it ever started."""
        self.stage.crash()
        self.kill_processes()

    @contextmanager
    def away(self) -> Iterator[None]:
        """The operator is down meanwhile."""
        self.stage.crash()
        yield
        self.stage.restart()


@contextmanager
def yard(plane: RealPlane, directory: Path) -> Iterator[Yard]:
    """Leaves no process, no object and no file but the world's."""
    with running_world(directory, f"--ships={SHIPS}") as world, staged(plane, ports=4) as stage:
        yield Yard(stage, fleet_of(stage, world))
