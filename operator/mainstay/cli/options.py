"""Options that many commands share."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from mainstay.cli import called
from mainstay.cli.cluster import Target
from mainstay.cli.console import fail, misuse
from mainstay.cli.home import Home, HomeError
from mainstay.cli.words import FORM

HomeOption = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time
    typer.Option(
        "--home",
        help="Mainstay's home. Default: $MAINSTAY_HOME, or mainstay below ${XDG_STATE_HOME:-~/.local/state}.",
        show_default=False,
    ),
]


def _namespace(context: typer.Context, value: str) -> str:
    """As kubectl's plugin: without -n the namespace of kubectl's context."""
    said = context.get_parameter_source("namespace")
    if not called.plugin() or (said is not None and said.name != "DEFAULT"):
        return value
    return called.namespace(context.params.get("kubeconfig"), context.params.get("context"))


NamespaceOption = Annotated[
    str, typer.Option("--namespace", "-n", help="Namespace of the object.", callback=_namespace)
]
AllNamespacesOption = Annotated[
    bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.", show_default=False)
]
KubeconfigOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--kubeconfig", help="Talk to this cluster instead of the home's.", show_default=False),
]
ContextOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--context", help="Context of the kubeconfig.", show_default=False),
]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the state is reached.")]
NoWaitOption = Annotated[
    bool, typer.Option("--wait", help="Follow until it is reached, with progress.", show_default=False)
]
TimeoutOption = Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.")]
NoTimeoutOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--timeout",
        help="Seconds to wait at most. Default: 60 for runs and stacks, no limit for jobs.",
        show_default=False,
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print what it would do instead of doing it: the equivalent YAML.",
        show_default=False,
    ),
]


def _form(value: str | None) -> str | None:
    if value not in (None, "json", "yaml"):
        misuse(f"--output {value} is unknown; it is json or yaml")
    return value


OutputOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--output", "-o", help="json or yaml instead of a table.", show_default=False, callback=_form
    ),
]
DryRunOutputOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--output",
        "-o",
        help="With --dry-run: yaml or json. Default: yaml.",
        show_default=False,
        callback=_form,
    ),
]


def dry(dry_run: bool, output: str | None) -> bool:
    """Take in how --dry-run prints, and return `dry_run`; ends the command for a form without it."""
    if output is not None and not dry_run:
        misuse("--output goes with --dry-run: it says how the object is printed")
    FORM.set(output)
    return dry_run


def home_of(explicit: str | None) -> Home:
    """Return the home, or end the command."""
    try:
        return Home.resolve(explicit)
    except HomeError as error:
        fail(str(error))


def target_of(home: str | None, namespace: str, kubeconfig: str | None, context: str | None) -> Target:
    """Return what a command is about."""
    return Target(home_of(home), namespace, kubeconfig, context)
