"""stop and release: by the API, or with nothing but files and processes (the brake)."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from mainstay.cli.console import fail, note, out
from mainstay.cli.home import Home
from mainstay.cli.options import (
    ContextOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    home_of,
    target_of,
)
from mainstay.cli.verbs import DryRunOption, TimeoutOption, WaitOption, set_state
from mainstay.core.names import unit_name

SCOPE = "runs"
OptionalNames = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time
    typer.Argument(help="Names of StrategyRuns.", metavar="NAME...", show_default=False),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every run on this machine, in every namespace.")]


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
        set_state(target_of(home, namespace, kubeconfig, context), names, "Stopped", wait, timeout, dry_run)
        return
    if dry_run:
        fail("--dry-run doesn't go with --offline: the brake is no change of an object")
    from mainstay.runtime.process import brake

    place = home_of(home)
    for unit in _units(place, names, everything, namespace):
        note(f"stopping {unit}")
        ended = brake.stop_offline(place.root, SCOPE, unit)
        if not ended:
            fail(f"{unit}: some of its processes can't be ended; `mainstay status` shows them")
        out.print(f"{unit} stopped and held, its port is given back; `mainstay release` lets it run again")


def release(
    names: OptionalNames = None,
    everything: AllOption = False,
    namespace: NamespaceOption = "default",
    home: HomeOption = None,
) -> None:
    """Lift the brake of `stop --offline`: the run goes back to what its spec asks."""
    from mainstay.runtime.process import brake

    place = home_of(home)
    for unit in _units(place, names, everything, namespace):
        if brake.release(place.root, SCOPE, unit):
            out.print(f"{unit} released")
        elif not everything:
            note(f"{unit} was not held")


def _units(home: Home, names: list[str] | None, everything: bool, namespace: str) -> list[str]:
    from mainstay.runtime.process import brake

    known = [unit.name for unit in brake.list_units(home.root, SCOPE)]
    if everything:
        return known
    if not names:
        fail("name at least one run, or say --all")
    wanted = [unit_name(namespace, name.rpartition("/")[2]) for name in names]
    for unit in wanted:
        if unit not in known:
            there = ", ".join(known) or "none"
            fail(f"no run {unit} on this machine (in {home.root} there are: {there})")
    return wanted
