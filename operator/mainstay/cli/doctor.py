"""`mainstay doctor`: what is wrong here and what to do about it, as a checklist."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from mainstay.cli.console import out
from mainstay.cli.options import (
    ContextOption,
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    target_of,
)
from mainstay.cli.words import count, print_as


def doctor(
    remove_orphans: Annotated[
        bool,
        typer.Option(
            "--remove-orphans",
            help="End the units on this machine that have no object (TERM, then KILL), remove their files and give their "
            "ports back. Each object is asked for once more before; nothing is ended if the cluster is not this home's.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --remove-orphans: don't ask.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With --remove-orphans: say each step.")
    ] = False,
    namespace: NamespaceOption = "default",
    output: OutputOption = None,
    home: HomeOption = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Check everything: control plane, operator, supervisors, objects, assets, units, ports, disk; exit code 1 if something is wrong."""
    target = target_of(home, namespace, kubeconfig, context)
    from mainstay.cli import checks, examination

    if remove_orphans:
        examination.remove(target, yes=yes, verbose=verbose)
        return
    found: list[checks.Finding] = []
    asyncio.run(examination.examine(target, found, tell=output is None))
    if output is not None:
        print_as(checks.summary(found), output)
    bad = sum(one.mark is checks.Mark.WRONG for one in found)
    if bad and output is None:
        out.print()
        out.print(f"{bad} of {count(len(found), 'check')} found something wrong")
    raise typer.Exit(1 if bad else 0)
