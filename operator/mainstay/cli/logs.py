"""`mainstay logs`: what a run, a task or a service wrote, read from its files; nothing but the files is needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from time import sleep as pause
from typing import IO, Annotated, Optional

import typer

from mainstay.cli import stacklogs
from mainstay.cli.cluster import Target, this_machine
from mainstay.cli.console import fail, misuse, note
from mainstay.cli.home import Home
from mainstay.cli.names import WORK, Kind, Ref, ref
from mainstay.cli.options import ContextOption, HomeOption, KubeconfigOption, NamespaceOption, home_of
from mainstay.cli.tails import POLL_SECONDS, print_files, print_new, print_tail
from mainstay.core.names import unit_name
from mainstay.runtime.process.unitdir import ScopeDir

TAIL = 100
PARTS = ("operator", "etcd", "kube-apiserver")
"""Of Mainstay itself; a run of such a name comes first."""


def logs(
    name: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Argument(
            help="A run, job/NAME, stack/NAME or stack/NAME/SERVICE; operator, etcd or kube-apiserver of Mainstay "
            "itself.",
            show_default=False,
        ),
    ] = None,
    part: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            metavar="[TASK|SERVICE]",
            help="A task of the job; without it, a list of those that have logs. A service of the stack; without it, "
            "all of them, each line after its service's name.",
            show_default=False,
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
    tail: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            "--tail",
            help="Lines of each stream; -1 for all. Default: 100, and 10 for all services of a stack.",
            show_default=False,
        ),
    ] = None,
    supervisor: Annotated[
        bool,
        typer.Option(
            "--supervisor", help="What the stack's supervisord wrote; without a name that of the runs."
        ),
    ] = False,
    system: Annotated[
        bool, typer.Option("--system", help="A part of Mainstay itself, also where a run has its name.")
    ] = False,
    namespace: NamespaceOption = "default",
    home: HomeOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Print what a run, a task or a service wrote: its output here on standard output, its errors on standard error."""
    place = home_of(home)
    this_machine(Target(place, namespace, kubeconfig, context), "logs are files")
    lines = TAIL if tail is None else tail
    if supervisor:
        _supervisor(place, namespace, name, lines, follow=follow)
        return
    if name is None:
        misuse("name what to read the logs of: a run, job/NAME or stack/NAME")
    name, service = stacklogs.split(name)
    if service is not None and part is not None:
        fail(f"one service: {service} or {part}")
    part = service or part
    one = ref(name, (*WORK, Kind.STACK))
    if one.kind is Kind.JOB and not system:
        _task_logs(place, namespace, one.name, part, follow, previous, lines)
        return
    if one.kind is Kind.BATCH:
        fail(f"{one} writes nothing itself; its jobs do: mainstay logs job/{one.name}-JOB TASK")
    if not system and (one.kind is Kind.STACK or _is_stack(place, namespace, one.name)):
        if part is None and not previous:
            stacklogs.all_services(place, namespace, one.name, tail, follow=follow)
            return
        if part is None:
            fail(f"of which service? mainstay logs -p stack/{one.name}/SERVICE")
        directory = stacklogs.one_service(place, namespace, one.name, part)
    else:
        if part is not None:
            stacklogs.refuse_task(name, part)
        directory = _directory(place, one.name, namespace, system=system)
    streams = _streams(directory)
    if previous:
        _previous(place, directory, streams, lines)
        return
    print_files(streams, lines, follow=follow)


def _supervisor(home: Home, namespace: str, name: str | None, tail: int, *, follow: bool) -> None:
    if name is None or name in ("runs", "jobs", "system"):
        scope = ScopeDir(home.root, name or "runs")
        stacklogs.supervisor(scope, f"the scope of {scope.name}", tail, follow=follow)
        return
    one = ref(stacklogs.split(name)[0], (*WORK, Kind.STACK))
    if one.kind is Kind.JOB or one.kind is Kind.BATCH:
        fail("jobs share a supervisor: mainstay logs --supervisor jobs")
    if one.kind is Kind.RUN and not _is_stack(home, namespace, one.name):
        fail("runs share a supervisor: mainstay logs --supervisor; that of a stack: stack/NAME --supervisor")
    scope = stacklogs.scope_of(home, namespace, one.name)
    stacklogs.supervisor(scope, f"stack/{one.name} in namespace {namespace}", tail, follow=follow)


def _is_stack(home: Home, namespace: str, name: str) -> bool:
    """Whether a bare name is no run's but a stack's."""
    run = home.root / "scopes" / "runs" / "units" / unit_name(namespace, name)
    return not run.is_dir() and name not in PARTS and stacklogs.here(home, namespace, name)


def _task_logs(
    home: Home, namespace: str, job: str, task: str | None, follow: bool, previous: bool, tail: int
) -> None:
    from mainstay.cli import tasklogs

    if task is None:
        tasklogs.list_tasks(home, namespace, job)
        return
    directory = tasklogs.log_directory(home, namespace, job, task, previous=previous)
    positions = [print_tail(path, sink, tail) for path, sink in _streams(directory)]
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
                positions[index] = print_new(path, sink, positions[index])
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
