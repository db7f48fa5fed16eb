"""`mainstay logs`: what a run or a task wrote, read from its files; nothing but the files is needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from time import sleep as pause
from typing import IO, Annotated, Optional

import typer

from mainstay.cli.console import fail, note
from mainstay.cli.home import Home
from mainstay.cli.names import Kind, Ref, ref
from mainstay.cli.options import HomeOption, NamespaceOption, home_of
from mainstay.core.names import unit_name
from mainstay.runtime.process.unitdir import ScopeDir

POLL_SECONDS = 0.1
CHUNK = 1 << 16
PARTS = ("operator", "etcd", "kube-apiserver")
"""Of Mainstay itself; a run of such a name comes first."""


def logs(
    name: Annotated[
        str, typer.Argument(help="A run, or job/NAME; operator, etcd or kube-apiserver of Mainstay itself.")
    ],
    task: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Argument(
            help="A task of the job. Without it: a list of those that have logs.", show_default=False
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as it writes, over restarts too.")
    ] = False,
    previous: Annotated[
        bool,
        typer.Option(
            "--previous", "-p", help="What the process, or the attempt, before the present one wrote."
        ),
    ] = False,
    tail: Annotated[int, typer.Option("--tail", help="Lines of each stream; -1 for all.")] = 100,
    system: Annotated[
        bool, typer.Option("--system", help="A part of Mainstay itself, also where a run has its name.")
    ] = False,
    namespace: NamespaceOption = "default",
    home: HomeOption = None,
) -> None:
    """Print what a run or a task wrote: its output here on standard output, its errors on standard error."""
    place = home_of(home)
    one = ref(name)
    if one.kind is Kind.JOB and not system:
        _task_logs(place, namespace, one.name, task, follow, previous, tail)
        return
    if one.kind is Kind.BATCH:
        fail(f"{one} writes nothing itself; its jobs do: mainstay logs job/{one.name}-JOB TASK")
    if task is not None:
        fail(f"{name} is a run and has no tasks; a job is job/{name}")
    directory = _directory(place, one.name, namespace, system=system)
    streams = _streams(directory)
    if previous:
        _previous(place, directory, streams, tail)
        return
    positions = [_print_tail(path, sink, tail) for path, sink in streams]
    if not follow:
        return
    try:
        while True:
            for index, (path, sink) in enumerate(streams):
                positions[index] = _print_new(path, sink, positions[index])
            pause(POLL_SECONDS)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _task_logs(
    home: Home, namespace: str, job: str, task: str | None, follow: bool, previous: bool, tail: int
) -> None:
    from mainstay.cli import tasklogs

    if task is None:
        tasklogs.list_tasks(home, namespace, job)
        return
    directory = tasklogs.log_directory(home, namespace, job, task, previous=previous)
    positions = [_print_tail(path, sink, tail) for path, sink in _streams(directory)]
    if not follow or previous:
        if not any(positions):
            before = [] if previous else tasklogs.attempts_before(home, namespace, job, task)
            tasklogs.tell_silence(directory, before)
        return
    try:
        while True:
            later = tasklogs.newer(
                home, namespace, job, task, directory
            )  # before the last look at the present
            for index, (path, sink) in enumerate(_streams(directory)):
                positions[index] = _print_new(path, sink, positions[index])
            if later is not None:
                directory, positions = later, [0, 0]
                tasklogs.tell_attempt(directory)
            else:
                pause(POLL_SECONDS)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _streams(directory: Path) -> list[tuple[Path, IO[bytes]]]:
    return [(directory / "stdout.log", sys.stdout.buffer), (directory / "stderr.log", sys.stderr.buffer)]


def _directory(home: Home, name: str, namespace: str, *, system: bool) -> Path:
    scope = home.root / "scopes" / ("system" if system else "runs") / "units"
    directory = scope / (name if system else unit_name(namespace, name)) / "log"
    if not directory.is_dir():
        if not system and name in PARTS and (part := _part(home, name)).is_dir():
            note(f"{name} is a part of Mainstay; it writes to {part}")
            return part
        if not system:
            from mainstay.cli import tasklogs

            hint = f"{name} is a job; its tasks write: mainstay logs job/{name}" + _elsewhere(namespace)
            if tasklogs.tasks_of(ScopeDir(home.root, tasklogs.SCOPE), namespace, name):
                fail(hint)
            tasklogs.explain(home, namespace, Ref(Kind.RUN, name), hint=hint)
        there = sorted(d.name for d in scope.iterdir()) if scope.is_dir() else []
        fail(f"{name} has written nothing on this machine (there are logs of: {', '.join(there) or 'none'})")
    return directory


def _part(home: Home, name: str) -> Path:
    """Where a part of Mainstay itself writes."""
    return home.root / "scopes" / "system" / "units" / name / "log"


def _elsewhere(namespace: str) -> str:
    return f" -n {namespace}" if namespace != "default" else ""


def _previous(home: Home, directory: Path, streams: list[tuple[Path, IO[bytes]]], tail: int) -> None:
    scope, unit = directory.parents[2].name, directory.parent.name
    leader = ScopeDir(home.root, scope).unit(unit).leader()
    if leader is None or (leader.previous_pid == 0 and leader.stage == "Exec"):
        fail(f"{unit} had no process before the present one")
    spans = (
        (leader.output_before, leader.output_from),
        (leader.errors_before, leader.errors_from),
    )
    for (path, sink), (before, latest) in zip(streams, spans, strict=True):
        with path.open("rb") as file:
            if leader.stage == "Exec":
                first, end = before, latest
            else:  # between two programs: the latest that ran is the previous one
                first, end = latest, os.fstat(file.fileno()).st_size
            file.seek(first)
            lines = file.read(max(0, end - first)).splitlines(keepends=True)
            sink.writelines(lines if tail < 0 else lines[len(lines) - min(tail, len(lines)) :])
            sink.flush()


def _print_tail(path: Path, sink: IO[bytes], lines: int) -> int:
    """Print the last lines; the position after them."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = 0 if lines < 0 else _start_of_tail(file, size, lines)
            file.seek(start)
            sink.write(file.read(size - start))
            sink.flush()
            return size
    except FileNotFoundError:
        return 0


def _start_of_tail(file: IO[bytes], size: int, lines: int) -> int:
    """Return where the last `lines` lines begin, reading backwards."""
    found, position = 0, size
    for block_start, block in _blocks_backwards(file, size):
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            position = block_start + at + 1
            if position < size:
                found += 1
            if found >= lines:
                return position
    return 0


def _blocks_backwards(file: IO[bytes], size: int) -> Iterator[tuple[int, bytes]]:
    end = size
    while end > 0:
        start = max(0, end - CHUNK)
        file.seek(start)
        yield start, file.read(end - start)
        end = start


def _print_new(path: Path, sink: IO[bytes], position: int) -> int:
    """Print what was added since; from the start where the file was rotated under us."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < position:
                position = 0
            if size > position:
                file.seek(position)
                sink.write(file.read(size - position))
                sink.flush()
            return size
    except FileNotFoundError:
        return 0
