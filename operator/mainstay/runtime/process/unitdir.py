"""The files of one scope and of one unit: the contract between operator, supervisord, fence and program.

Whoever crashes, these files say what was wanted and what was seen; every reader and writer goes through here.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from mainstay.core.names import stack_scope
from mainstay.runtime import effects
from mainstay.runtime.base import ProcessId
from mainstay.runtime.process import proc, records

UNIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
SCOPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Leader:
    """What the fence wrote about the process that is, or was last, the unit's leader."""

    process: ProcessId
    stage: str  # Waiting | Held | Backoff | Exec
    attempt: int = 0
    restarts: int = 0
    started_at: float | None = None  # wall clock
    owner_uid: str = ""
    inputs_hash: str = ""
    port: int | None = None
    previous_pid: int = 0  # of the program before this one
    errors_from: int = 0  # offset in stderr.log where this program's lines begin
    errors_before: int = 0  # the same of the program before
    output_from: int = 0  # the same for stdout.log
    output_before: int = 0


@dataclass(frozen=True, slots=True)
class StopMarker:
    """A stop that was begun."""

    boot_id: str
    since: float  # CLOCK_BOOTTIME of the first TERM
    grace: float
    deleting: bool
    told: tuple[int, int] = (0, 0)  # pid and start ticks of the leader that got its TERM and CONT


@dataclass(frozen=True, slots=True)
class Spec:
    """The part of `spec` that others than the fence read."""

    owner_uid: str
    attempt: int
    port: int | None
    inputs_hash: str
    unit: str  # MAINSTAY_UNIT
    grace: float
    policy: str
    cwd: str
    env: dict[str, str]
    user: tuple[int, int, tuple[int, ...]] | None
    cgroups: tuple[str, ...]
    assets: tuple[str, ...] = ()


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


class UnitDir:
    """Paths, records and markers of one unit."""

    def __init__(self, scope: ScopeDir, name: str) -> None:
        self.scope = scope
        self.name = name
        self.path = f"{scope.path}/units/{name}"
        self.conf = f"{scope.path}/conf.d/{name}.conf"
        self.data = f"{self.path}/data"
        self.logs = f"{self.path}/log"
        self.stderr = f"{self.logs}/stderr.log"
        self.mark = f"{scope.name}/{name}"  # MAINSTAY_NAME

    def file(self, name: str) -> str:
        """Path of a file in the unit directory."""
        return f"{self.path}/{name}"

    def exists(self) -> bool:
        """Whether there is a directory."""
        return os.path.isdir(self.path)

    def create(self) -> None:
        """Make the directories, 0700."""
        for path in (self.path, self.data, self.logs):
            os.makedirs(path, mode=0o700, exist_ok=True)

    def leader(self) -> Leader | None:
        """The fence's record, None if there is none or it was torn."""
        raw = records.read(self.file("leader"))
        entries = dict(records.decode(raw, "\n") or ()) if raw else {}
        if not entries:
            return None
        get = entries.get
        return Leader(
            process=ProcessId(_integer(get("pid", "")), _integer(get("ticks", "")), get("boot", "")),
            stage=get("stage", "Waiting"),
            attempt=_integer(get("attempt", "")),
            restarts=_integer(get("restarts", "")),
            started_at=_number(get("started", "")) or None,
            owner_uid=get("owner", ""),
            inputs_hash=get("inputs", ""),
            port=_integer(get("port", "")) or None,
            previous_pid=_integer(get("previous", "")),
            errors_from=_integer(get("errors", "")),
            errors_before=_integer(get("errors_before", "")),
            output_from=_integer(get("output", "")),
            output_before=_integer(get("output_before", "")),
        )

    def rebuild_leader(self, leader: Leader) -> None:
        """Write the record again from what the process itself shows, after its directory was lost."""
        entries = [
            ("pid", str(leader.process.pid)),
            ("ticks", str(leader.process.start_ticks)),
            ("boot", leader.process.boot_id),
            ("stage", leader.stage),
            ("attempt", str(leader.attempt)),
            ("restarts", str(leader.restarts)),
            ("started", f"{leader.started_at or 0:.3f}"),
            ("since", f"{leader.process.start_ticks / os.sysconf('SC_CLK_TCK'):.3f}"),
            ("owner", leader.owner_uid),
            ("inputs", leader.inputs_hash),
            ("port", str(leader.port or "")),
        ]
        records.write(self.file("leader"), records.encode(entries, "\n"))

    def spec(self) -> Spec | None:
        """What the unit was declared as, None if there is no whole record."""
        raw = records.read(self.file("spec"))
        entries = records.decode(raw, "\0") if raw else None
        if not entries:
            return None
        get = dict(entries).get
        user = None
        if uid := get("uid"):
            groups = tuple(int(group) for group in get("groups", "").split(",") if group)
            user = (int(uid), int(get("gid", uid)), groups)
        return Spec(
            owner_uid=get("owner", ""),
            attempt=_integer(get("attempt", "")),
            port=_integer(get("port", "")) or None,
            inputs_hash=get("inputs", ""),
            unit=get("unit", ""),
            grace=_number(get("grace", "")),
            policy=get("policy", ""),
            cwd=get("cwd", "/"),
            env=dict(value.partition("=")[::2] for key, value in entries if key == "e"),
            user=user,
            cgroups=tuple(get("cgroups", "").splitlines()),
            assets=tuple(get("assets", "").split()),
        )

    # -- markers ---------------------------------------------------------------------------------

    def marked(self, marker: str) -> bool:
        """Whether `stop`, `paused` or `held` is there."""
        return os.path.lexists(self.file(marker))

    def mark_with(self, marker: str, entries: list[tuple[str, str]]) -> None:
        """Set a marker, on disk when this returns. Makes the directory if somebody deleted it."""
        self.create()
        records.write(self.file(marker), records.encode(entries, "\n"))
        records.sync_directory(self.path)

    def unmark(self, marker: str) -> bool:
        """Remove a marker. False if there was none."""
        if not records.discard(self.file(marker)):
            return False
        records.sync_directory(self.path)
        return True

    def marker(self, marker: str) -> dict[str, str] | None:
        """What a marker says, None if it isn't there. A torn or hand-made one says nothing, but counts."""
        raw = records.read(self.file(marker))
        return None if raw is None else dict(records.decode(raw, "\n") or ())

    def stop_marker(self) -> StopMarker | None:
        """The stop that was begun, if any."""
        seen = self.marker("stop")
        if seen is None:
            return None
        pid, _, ticks = seen.get("told", "").partition(" ")
        return StopMarker(
            boot_id=seen.get("boot", ""),
            since=_number(seen.get("since", "")),
            grace=_number(seen.get("grace", "")),
            deleting=seen.get("deleting") == "1",
            told=(_integer(pid), _integer(ticks)),
        )

    def write_stop(self, marker: StopMarker) -> None:
        """Record a stop, on disk when this returns."""
        self.mark_with(
            "stop",
            [
                ("boot", marker.boot_id),
                ("since", f"{marker.since:.3f}"),
                ("grace", f"{marker.grace:.3f}"),
                ("deleting", "1" if marker.deleting else "0"),
                ("told", f"{marker.told[0]} {marker.told[1]}"),
            ],
        )

    def begin_stop(self, grace: float, *, deleting: bool) -> StopMarker:
        """Record a stop unless one is recorded: its clock started with the first, and isn't reset."""
        present = self.stop_marker()
        if present is None or present.boot_id != proc.boot_id():
            marker = StopMarker(proc.boot_id(), proc.boottime(), grace, deleting)
        else:
            marker = replace(present, deleting=present.deleting or deleting)
        if marker != present:
            self.write_stop(marker)
        return marker

    def delete(self) -> None:
        """Remove program section and directory. An interrupted delete leaves a directory no one lists."""
        records.discard(self.conf)
        trash = f"{self.scope.path}/units/.gone-{self.name}"
        shutil.rmtree(trash, ignore_errors=True)
        if self.exists():
            with effects.effect("remove unit directory"):
                os.rename(self.path, trash)
                shutil.rmtree(trash, ignore_errors=True)


def stack_of(home: Path | str, scope: str) -> tuple[str, str] | None:
    """(namespace, name) of the stack whose scope this is, as its record says; None if none says so."""
    if not SCOPE_NAME.fullmatch(scope):
        return None
    raw = records.read(f"{home}/scopes/{scope}/stack") or b""
    namespace, _, stack = dict(records.decode(raw, "\n") or ()).get("stack", "").partition("/")
    return (namespace, stack) if stack and stack_scope(namespace, stack) == scope else None


class ScopeDir:
    """Paths of one scope: one supervisord and its units."""

    def __init__(self, home: Path | str, name: str) -> None:
        if not SCOPE_NAME.fullmatch(name):
            raise ValueError(f"scope names are letters, digits, '.', '_' and '-', not {name!r}")
        self.home = os.path.abspath(home)
        self.name = name
        self.path = f"{self.home}/scopes/{name}"
        self.socket = f"{self.path}/supervisor.sock"
        self.lock = f"{self.path}/lock"
        self.log = f"{self.path}/supervisord.log"
        self.conf_d = f"{self.path}/conf.d"
        self.units = f"{self.path}/units"

    def unit(self, name: str) -> UnitDir:
        """Files of one unit. Raises ValueError for a name that can't be a file's and a program's."""
        if not UNIT_NAME.fullmatch(name):
            raise ValueError(f"unit names are letters, digits, '.', '_' and '-', not {name!r}")
        return UnitDir(self, name)

    def unit_names(self) -> list[str]:
        """Units that have a directory, sorted."""
        try:
            return sorted(name for name in os.listdir(self.units) if UNIT_NAME.fullmatch(name))
        except FileNotFoundError:
            return []
