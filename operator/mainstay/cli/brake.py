"""stop and release: by the API, or with nothing but files and processes (the brake)."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from mainstay.cli.console import fail, note, out
from mainstay.cli.home import Home
from mainstay.cli.names import Kind, refs, runs
from mainstay.cli.options import (
    ContextOption,
    DryRunOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    TimeoutOption,
    WaitOption,
    home_of,
    target_of,
)
from mainstay.cli.verbs import set_state
from mainstay.core.names import task_key, unit_name

RUNS, JOBS = "runs", "jobs"
OptionalNames = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time
    typer.Argument(
        help="Names of StrategyRuns; with the brake also job/NAME.", metavar="NAME...", show_default=False
    ),
]
AllOption = Annotated[
    bool, typer.Option("--all", help="Every run and every task on this machine, in every namespace.")
]


def stop(
    names: OptionalNames = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            help="The brake: needs only files and processes, works with everything else dead, and holds until "
            "`mainstay release`.",
        ),
    ] = False,
    everything: AllOption = False,
    namespace: NamespaceOption = "default",
    wait: WaitOption = True,
    timeout: TimeoutOption = 60,
    dry_run: DryRunOption = False,
    home: HomeOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Stop runs (spec.state: Stopped); their definition, data and run id stay. With --offline: the brake."""
    if everything and not offline:
        fail("--all goes with --offline; without it, name the runs")
    if not offline:
        if not names:
            fail("name at least one run, for example: mainstay stop my-bot")
        bots = runs(names, "stop")
        set_state(target_of(home, namespace, kubeconfig, context), bots, "Stopped", wait, timeout, dry_run)
        return
    if dry_run:
        fail("--dry-run doesn't go with --offline: the brake is no change of an object")
    from mainstay.runtime.process import brake

    place = home_of(home)
    for scope, unit in _units(place, names, everything, namespace, stop=True):
        note(f"stopping {unit}")
        ended = brake.stop_offline(place.root, scope, unit)
        if not ended:
            fail(f"{unit}: some of its processes can't be ended; `mainstay status` shows them")
        if scope == RUNS:
            told = ", its port is given back; `mainstay release` lets it run again"
        else:
            told = "; `mainstay release` lifts that, and `mainstay resume` goes on with the job"
        out.print(f"{unit} stopped and held{told}")
    if any(one.kind is Kind.JOB for one in refs(names or [])):
        note("its other tasks are not held: where an operator works, `mainstay pause job/NAME` too")


def release(
    names: OptionalNames = None,
    everything: AllOption = False,
    namespace: NamespaceOption = "default",
    home: HomeOption = None,
) -> None:
    """Lift the brake of `stop --offline`: the run goes back to what its spec asks."""
    from mainstay.runtime.process import brake

    place = home_of(home)
    for scope, unit in _units(place, names, everything, namespace, stop=False):
        if brake.release(place.root, scope, unit):
            out.print(f"{unit} released")
        elif not everything:
            note(f"{unit} was not held")


def _units(
    home: Home, names: list[str] | None, everything: bool, namespace: str, *, stop: bool
) -> list[tuple[str, str]]:
    """(scope, unit) of what is named: the runs, and the tasks of jobs that live, or are held."""
    from mainstay.runtime.process import brake

    known = [unit.name for unit in brake.list_units(home.root, RUNS)]
    tasks = [
        unit.name
        for unit in brake.list_units(home.root, JOBS)
        if unit.held is not stop and (unit.state != "Exited" or not stop)
    ]
    if everything:
        return [*((RUNS, unit) for unit in known), *((JOBS, unit) for unit in tasks)]
    if not names:
        fail("name at least one run, or say --all")
    found: list[tuple[str, str]] = []
    for one in refs(names):
        match one.kind:
            case Kind.RUN:
                unit = unit_name(namespace, one.name)
                if unit not in known:
                    there = ", ".join(known) or "none"
                    fail(f"no run {unit} on this machine (in {home.root} there are: {there})")
                found.append((RUNS, unit))
            case Kind.JOB:
                of_job = [unit for unit in tasks if task_key(unit)[:2] == (namespace, one.name)]
                if not of_job:
                    fail(f"no task of {one} {'runs' if stop else 'is held'} on this machine")
                found += [(JOBS, unit) for unit in of_job]
            case Kind.BATCH:
                fail(f"{one}: name its jobs, as job/{one.name}-JOB")
    return found
