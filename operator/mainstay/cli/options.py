"""Options that many commands share."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from mainstay.cli.cluster import Target
from mainstay.cli.console import fail
from mainstay.cli.home import Home, HomeError

HomeOption = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time
    typer.Option(
        "--home",
        help="Mainstay's home. Default: $MAINSTAY_HOME, or mainstay below ${XDG_STATE_HOME:-~/.local/state}.",
        show_default=False,
    ),
]
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the object.")]
KubeconfigOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--kubeconfig", help="Talk to this cluster instead of the home's.", show_default=False),
]
ContextOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--context", help="Context of the kubeconfig.", show_default=False),
]
OutputOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--output", "-o", help="json or yaml instead of a table.", show_default=False),
]


def home_of(explicit: str | None) -> Home:
    """Return the home, or end the command."""
    try:
        return Home.resolve(explicit)
    except HomeError as error:
        fail(str(error))


def target_of(home: str | None, namespace: str, kubeconfig: str | None, context: str | None) -> Target:
    """Return what a command is about."""
    return Target(home_of(home), namespace, kubeconfig, context)
