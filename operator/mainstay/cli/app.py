"""The command line: every verb, and nothing but the verbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

import mainstay
from mainstay.cli.answer import input_
from mainstay.cli.assets import assets
from mainstay.cli.brake import release, stop
from mainstay.cli.crds import crds
from mainstay.cli.doctor import doctor
from mainstay.cli.jobstate import cancel
from mainstay.cli.logs import logs
from mainstay.cli.operator import operator
from mainstay.cli.ports import ports
from mainstay.cli.resume import resume
from mainstay.cli.rollback import rollback
from mainstay.cli.stackverbs import OLDER, flush, restart
from mainstay.cli.status import env, status
from mainstay.cli.up import down, up
from mainstay.cli.verbs import pause, run, start
from mainstay.cli.verify import verify

app = typer.Typer(
    name="mainstay",
    help="Declare what should run; every restart and every resume is just re-reconciliation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mainstay {mainstay.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Declare what should run; every restart and every resume is just re-reconciliation."""


_NAMES: dict[Callable[..., None], str] = {input_: "input"}
_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "On this machine": (up, down, status, ports, doctor, verify, env),
    "Runs, jobs and stacks": (start, pause, resume, logs),
    "Runs and stacks": (stop, release, restart),
    "Stacks": (flush,),
    "Runs": (run, rollback),
    "Jobs": (input_, cancel),
    "Assets": (assets,),
    "Clusters": (operator, crds),
}

for panel, commands in _PANELS.items():
    for command in commands:
        app.command(_NAMES.get(command), rich_help_panel=panel)(command)
for word, command in OLDER.items():
    app.command(word, hidden=True)(command)
