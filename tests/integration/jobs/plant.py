"""`mainstay up` in a home of its own, with jobs, for tests that kill parts of it."""

from __future__ import annotations

import os
import shutil
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.integration.jobs.judge import Journal, needed
from tests.integration.jobs.workshop import Desk, completed, directories, ladder, tasks_of
from tests.integration.runs.house import OPERATOR, PATIENCE, House
from tests.support.stage import Object, eventually, marked, mortal_home, own_ports, start_ticks

from mainstay.cli import system as parts
from mainstay.runtime.process.tasks.files import attempts, exit_record
from mainstay.runtime.process.unitdir import ScopeDir

PARTS = ("supervisord", "fork server", "shim", "program", "system")


class Plant(House):
    """A home that is up, seen from its jobs."""

    @property
    def desk(self) -> Desk:
        return Desk("default", self.judge, self.client, lambda: self.said(OPERATOR))

    @property
    def journal(self) -> Journal:
        return Journal(self.judge)

    # --- processes

    def parts(self) -> dict[str, set[int]]:
        """Every process of this home, by what it is."""
        found: dict[str, set[int]] = defaultdict(set)
        for pid, *_ in marked(self.home_id, "MAINSTAY_UNIT", "MAINSTAY_SCOPE"):
            with suppress(OSError):
                environ = b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
                scope = f"\0MAINSTAY_SCOPE={self.home_id}/jobs\0".encode()
                if b"\0MAINSTAY_NAME=jobs/" in environ:
                    kind = "program"
                elif scope not in environ:
                    kind = "system"
                elif b"import forkserver" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    kind = "supervisord"
                else:
                    kind = "shim" if os.getsid(pid) == pid else "fork server"
                found[kind].add(pid)
        return found

    def only(self, kind: str) -> int:
        """The pid of the fork server, or of the supervisord of jobs."""

        def look() -> int | None:
            found = self.parts()[kind]
            return next(iter(found)) if len(found) == 1 else None

        return int(eventually(look, kind, PATIENCE))

    def kill_parts(self, *kinds: str) -> None:
        """Kill all of these, again and again until none is left."""
        for _ in range(200):
            found = self.parts()
            if not any(found[kind] for kind in kinds):
                return
            for kind in kinds:
                for pid in found[kind]:
                    with suppress(OSError, AssertionError):
                        self.kill(pid)
        raise AssertionError(f"they keep coming back: {self.parts()}")

    def leader(self, job: str, task: str) -> dict[str, str]:
        """What the latest attempt wrote about itself."""
        text = Path(f"{self.root}/scopes/jobs/units/default.{job}_{task}/leader").read_text()
        return dict(line.partition("=")[::2] for line in text.splitlines())

    def change_boot(self) -> None:
        """As if everything on disk were of the boot before."""
        for name in ("leader", "stop"):
            for file in (self.root / "scopes").glob(f"*/units/*/{name}"):
                lines = file.read_text().splitlines()
                boot = "boot=00000000-1111-2222-3333-444444444444"
                file.write_text("".join((boot if x.startswith("boot=") else x) + "\n" for x in lines))

    # --- jobs

    def begin(self, name: str, *waits_for: str, **shape: float) -> tuple[Object, str]:
        """A ladder under way, once these tasks have begun; its spec and uid."""
        spec = ladder(self.judge, **{"sleep": 0.5, **shape})  # type: ignore[arg-type]
        uid = self.desk.create(name, spec)["metadata"]["uid"]
        self.began(uid, *waits_for)
        return spec, uid

    def began(self, uid: str, *tasks: str) -> None:
        for task in tasks:
            eventually(
                lambda t=task: self.journal.begun(uid, t), f"{task} has begun: {self.said(OPERATOR)}", 60
            )

    def completes(
        self, name: str, spec: Object, again: dict[str, int] | None = None, *, keep: bool = False
    ) -> Object:
        """Completed with nothing done twice; `again` says how often tasks were cut off. Then delete it."""
        again = again or {}
        obj = self.desk.until(name, completed, PATIENCE)
        uid = obj["metadata"]["uid"]
        cut = frozenset((task, n + 1) for task, count in again.items() for n in range(count))
        if wrong := self.journal.verdict(obj, needed(spec), cut):
            raise AssertionError(f"{wrong}\n{tasks_of(obj)}\n{self.said(OPERATOR)}")
        got = {task: status["attempt"] for task, status in tasks_of(obj).items()}
        wanted = {task: 1 + again.get(task, 0) for task in got}
        assert got == wanted, f"{tasks_of(obj)}\n{self.said(OPERATOR)}"
        for task, attempt in got.items():
            begun = self.journal.begun(uid, task)
            assert begun == list(range(1, attempt + 1)), f"{task} began {begun}"
            unit = ScopeDir(self.root, "jobs").unit(f"default.{name}_{task}")
            records = {n: exit_record(unit, n) for n in attempts(unit)}
            assert [n for n, r in records.items() if r is not None and r.code == 0] == [attempt]
        if not keep:
            self.remove(name)
        return obj

    def remove(self, name: str, *, maps_before: frozenset[str] = frozenset()) -> None:
        """Delete it; nothing of it stays but the ConfigMaps that were there before."""
        self.desk.delete(name)
        self.desk.until_gone(name, PATIENCE)
        self.nothing_of(name, maps_before)

    def nothing_of(self, name: str, maps_before: frozenset[str] = frozenset()) -> None:
        assert [d for d in directories(self.root) if f".{name}_" in d] == []
        assert set(self.desk.config_maps(name)) - maps_before == set()
        assert self.programs_of(name) == []

    def programs_of(self, name: str) -> list[int]:
        return [pid for pid in self.parts()["program"] if f".{name}_" in self.unit_of(pid)]

    @staticmethod
    def unit_of(pid: int) -> str:
        with suppress(OSError):
            environ = Path(f"/proc/{pid}/environ").read_text()
            return dict(e.partition("=")[::2] for e in environ.split("\0")).get("MAINSTAY_NAME", "")
        return ""

    def complaints(self) -> str:
        """What the operators said that is no mere news."""
        texts = (path.read_text() for path in parts.logs(self.home, OPERATOR) if path.exists())
        lines = [line for text in texts for line in text.splitlines()]
        return "\n".join([line for line in lines if " I mainstay" not in line][-40:])

    def replaced(self, part: str, before: int | None) -> None:
        eventually(lambda: self.part(part) not in (None, before), f"a new {part}", PATIENCE)


@contextmanager
def plant() -> Iterator[Plant]:
    """A house without bots. Leaves no process and no file."""
    home_id = "j" + os.urandom(4).hex()
    with mortal_home(home_id) as root:
        one = Plant(root, home_id, own_ports(10, base=14000))
        try:
            one.up()
            yield one
        finally:
            one.mainstay("down", check=False)
            left = {kind: pids for kind, pids in one.parts().items() if pids}
            shutil.rmtree(root, ignore_errors=True)
        assert left == {}, f"processes outlived the plant: {left}"


__all__ = ["Plant", "plant", "signal", "start_ticks"]
