"""What the user sees: steps as they happen, tables, and errors with a way out. Colours only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def fail(message: str, code: int = 1) -> NoReturn:
    """End the command: what went wrong and what to do, on standard error."""
    err.print(Text("error: ", style="bold red") + Text(message))
    raise typer.Exit(code)


def note(message: str) -> None:
    """One line beside the result, on standard error."""
    err.print(Text(message, style="dim"))


@contextmanager
def step(title: str) -> Iterator[None]:
    """Show that something goes on, and how long it took once it is done."""
    began = time.monotonic()
    if err.is_terminal:
        with err.status(title):
            yield
    else:
        yield
    seconds = time.monotonic() - began
    err.print(Text("✓ ", style="green") + Text(f"{title} ({seconds:.1f} s)"))


def table(*columns: str) -> Table:
    """Return an empty table in kubectl's manner: no lines, upper-case heads."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in columns:
        if column == columns[-1] and out.is_terminal:
            made.add_column(column, no_wrap=True, ratio=1, overflow="ellipsis")  # the one that may be cut
        else:
            made.add_column(column, no_wrap=True)
    made.expand = out.is_terminal
    return made


def show(made: Table) -> None:
    """Print a table; on a pipe as wide as it needs to be."""
    console = out if out.is_terminal else Console(width=240, highlight=False, file=sys.stdout)
    console.print(made)
