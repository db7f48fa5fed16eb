"""Logs of tasks: each attempt of a task keeps its own, below the unit's directory."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mainstay.cli.cluster import Target, connection, missing
from mainstay.cli.console import fail, note, show, table
from mainstay.cli.home import Home
from mainstay.cli.names import Kind, Ref
from mainstay.cli.words import age
from mainstay.core.names import task_key, task_unit
from mainstay.runtime.process.tasks import files
from mainstay.runtime.process.tasks.observe import living
from mainstay.runtime.process.unitdir import ScopeDir, UnitDir
from mainstay.shell.kube import JOBS, Object, path

SCOPE = "jobs"
ANSWER_SECONDS = 3.0
"""How long the API server is given to explain what the files can't."""


def log_directory(home: Home, namespace: str, job: str, task: str, *, previous: bool) -> Path:
    """Directory of the latest attempt's logs, or of the one before; ends the command if there is none."""
    scope = ScopeDir(home.root, SCOPE)
    known = tasks_of(scope, namespace, job)
    if task not in known:
        explain(home, namespace, Ref(Kind.JOB, job), task)
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
        explain(home, namespace, Ref(Kind.JOB, job))
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


def explain(home: Home, namespace: str, wanted: Ref, task: str = "", *, hint: str = "") -> None:
    """Where the API answers and knows better than the files why there is nothing: end the command with that."""
    target = Target(home, namespace)
    if target.config_file is None and not target.named:
        return

    async def look() -> str:
        async with connection(target) as kube:
            if hint and await kube.get(path(JOBS, namespace, wanted.name)) is not None:
                return hint
            obj = await kube.get(path(wanted.kind.plural, namespace, wanted.name))
            return await missing(kube, target, wanted) if obj is None else _no_task(target, obj, task)

    try:
        words = asyncio.run(asyncio.wait_for(look(), ANSWER_SECONDS))
    except Exception:  # the files are all there is
        return
    if words:
        fail(words)


def _no_task(target: Target, job: Object, name: str) -> str:
    """What of that name the job has instead of a task; empty if it is one, or nothing was named."""
    one = f"job/{job['metadata']['name']}"
    tasks: list[str] = []
    groups: dict[str, tuple[str, list[str]]] = {}
    for step in job["spec"]["steps"]:
        by_phase = {p["name"]: [t["name"] for t in p["tasks"]] for p in step.get("phases") or []}
        inner = [task for of_phase in by_phase.values() for task in of_phase]
        tasks += inner or ([] if step.get("action") else [step["name"]])
        groups |= {phase: ("phase", of_phase) for phase, of_phase in by_phase.items()}
        groups[step["name"]] = ("step" if inner else "user action", inner)
    if not name or name in tasks:
        return ""
    what, inner = groups.get(name, ("", []))
    if inner:
        return f"{name} is a {what} of {one}; its tasks: {', '.join(inner)}"
    if what:
        return f"{name} is a {what} of {one} and writes nothing\n  {target.say(f'input {one} {name}')}"
    return f"{one} has no task {name}; it has: {', '.join(tasks) or 'none'}"


def tell_silence(directory: Path, attempts: list[int]) -> None:
    """Say on standard error that there is nothing to print; `attempts` are those before."""
    number = directory.name.removeprefix(files.PREFIX)
    more = f"; attempt {attempts[-1]}: -p" if attempts else ""
    note(f"attempt {number} wrote nothing{more}")


def attempts_before(home: Home, namespace: str, job: str, task: str) -> list[int]:
    """Numbers of the attempts before the latest."""
    return files.attempts(ScopeDir(home.root, SCOPE).unit(task_unit(namespace, job, task)))[:-1]


def _row(task: str, unit: UnitDir) -> dict[str, Any] | None:
    seen = files.read(unit)
    directory = files.log_directory(unit)
    if seen is None or directory is None or not seen.attempt:
        return None
    place = Path(directory)
    end = seen.exit
    if end is None:
        runs = seen.leader is not None and living(seen.leader.process)
        at = seen.leader.started_at if seen.leader is not None else place.stat().st_mtime
        return {"task": task, "attempt": seen.attempt, "path": place, "at": at, "failed": False,
                "end": "runs" if runs else "its end was not seen"}  # fmt: skip
    words = f"signal {end.signal}" if end.signal is not None else f"exit code {end.code}"
    words += ", timed out" if end.timed_out else ""
    failed = end.code != 0
    return {
        "task": task,
        "attempt": seen.attempt,
        "path": place,
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
