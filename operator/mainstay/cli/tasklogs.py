"""Logs of tasks: each attempt of a task keeps its own, below the unit's directory."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mainstay.cli.console import fail, note, show, table
from mainstay.cli.home import Home
from mainstay.cli.words import age
from mainstay.core.names import task_key, task_unit
from mainstay.runtime.process.tasks import files
from mainstay.runtime.process.tasks.observe import living
from mainstay.runtime.process.unitdir import ScopeDir, UnitDir

SCOPE = "jobs"


def log_directory(home: Home, namespace: str, job: str, task: str, *, previous: bool) -> Path:
    """Directory of the latest attempt's logs, or of the one before; ends the command if there is none."""
    scope = ScopeDir(home.root, SCOPE)
    known = tasks_of(scope, namespace, job)
    if task not in known:
        fail(
            f"task {task} of job/{job} has written nothing on this machine "
            f"(there are logs of: {', '.join(known) or 'none'})"
        )
    found = files.log_directory(known[task], back=1 if previous else 0)
    if found is None:
        words = "had no attempt before the latest one" if previous else "was not started yet"
        fail(f"task {task} of job/{job} {words}")
    return Path(found)


def tasks_of(scope: ScopeDir, namespace: str, job: str) -> dict[str, UnitDir]:
    """Tasks of a job that left files, by name."""
    found = {}
    for name in scope.unit_names():
        owner, of_job, task = task_key(name)
        if (owner, of_job) == (namespace, job) and name == task_unit(namespace, job, task):
            found[task] = scope.unit(name)
    return found


def list_tasks(home: Home, namespace: str, job: str) -> None:
    """Print the tasks that have logs, what failed first, then the latest."""
    known = tasks_of(ScopeDir(home.root, SCOPE), namespace, job)
    rows = [row for task, unit in known.items() if (row := _row(task, unit)) is not None]
    if not rows:
        fail(f"no task of job/{job} in namespace {namespace} has written anything on this machine")
    rows.sort(key=lambda row: (not row["failed"], -row["at"]))
    made = table("TASK", "ATTEMPT", "STDOUT", "STDERR", "AGE", "END")
    for row in rows:
        since = datetime.fromtimestamp(row["at"], UTC).isoformat()
        sizes = [_size(row["path"] / name) for name in ("stdout.log", "stderr.log")]
        made.add_row(row["task"], str(row["attempt"]), *sizes, age(since), row["end"])
    show(made)
    extra = f" -n {namespace}" if namespace != "default" else ""
    note(f"mainstay logs job/{job} {rows[0]['task']}{extra}")


def _row(task: str, unit: UnitDir) -> dict[str, Any] | None:
    seen = files.read(unit)
    directory = files.log_directory(unit)
    if seen is None or directory is None or not seen.attempt:
        return None
    path = Path(directory)
    end = seen.exit
    if end is None:
        runs = seen.leader is not None and living(seen.leader.process)
        at = seen.leader.started_at if seen.leader is not None else path.stat().st_mtime
        return {"task": task, "attempt": seen.attempt, "path": path, "at": at, "failed": False,
                "end": "runs" if runs else "its end was not seen"}  # fmt: skip
    words = f"signal {end.signal}" if end.signal is not None else f"exit code {end.code}"
    words += ", timed out" if end.timed_out else ""
    failed = end.code != 0
    return {
        "task": task,
        "attempt": seen.attempt,
        "path": path,
        "at": end.ended_at,
        "failed": failed,
        "end": words,
    }


def _size(path: Path) -> str:
    try:
        size = path.stat().st_size
    except OSError:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size} {unit}"
        size //= 1024
    return f"{size} GiB"


def newer(home: Home, namespace: str, job: str, task: str, present: Path) -> Path | None:
    """The directory of a later attempt than `present`."""
    unit = ScopeDir(home.root, SCOPE).unit(task_unit(namespace, job, task))
    found = files.log_directory(unit)
    return Path(found) if found is not None and Path(found) != present else None


def tell_attempt(path: Path) -> None:
    """Say on standard error that another attempt writes from here on."""
    sys.stdout.flush()
    note(f"--- attempt {path.name.removeprefix(files.PREFIX)}")
