"""What the user sees: steps as they happen, tables, and errors with a way out. Colours only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from mainstay.cli import called


class Speaker(Console):
    """Says our commands as the user calls us."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, with each command as it has to be said."""
        super().print(*map(_spoken, objects), **options)


def _spoken(words: Any) -> Any:
    if isinstance(words, str):
        return called.spoken(words)
    if isinstance(words, Text) and (told := called.spoken(words.plain)) != words.plain:
        words = words.copy()
        words.plain = told
    return words


out = Speaker(highlight=False, soft_wrap=True)
err = Speaker(stderr=True, highlight=False, soft_wrap=True)

NEXT, MESSAGE = "NEXT", "MESSAGE"
GAP = 3
USAGE = 2
"""Exit code of wrong usage."""
BELOW = "    "
LEAST_MESSAGE = 24


def fail(message: str, code: int = 1) -> NoReturn:
    """End the command: what went wrong and what to do, on standard error."""
    err.print(Text("error: ", style="bold red") + Text(message))
    raise typer.Exit(code)


def misuse(message: str) -> NoReturn:
    """End the command: it was said in a way that means nothing, whatever there is."""
    fail(message, USAGE)


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


@dataclass(slots=True)
class Rows:
    """A table in kubectl's manner: no lines, upper-case heads. Only MESSAGE is ever cut, and that on a terminal only."""

    columns: tuple[str, ...]
    rows: list[list[Text]] = field(default_factory=list)
    least: int = LEAST_MESSAGE
    """Columns that a message needs beside the rest of its row; with fewer it gets a line of its own."""

    def add_row(self, *cells: str | Text) -> None:
        """One row; texts are shown as they are."""
        self.rows.append([_spoken(cell if isinstance(cell, Text) else Text(cell)) for cell in cells])

    def without(self, *columns: str) -> Rows:
        """The same table without these columns."""
        kept = [at for at, column in enumerate(self.columns) if column not in columns]
        rows = [[row[at] for at in kept] for row in self.rows]
        return Rows(tuple(self.columns[at] for at in kept), rows, self.least)

    def lines(self, width: int | None) -> Iterator[Text]:
        """Lines of a terminal of that width; None: as wide as it needs to be."""
        if width is not None:
            empty = [c for at, c in enumerate(self.columns) if not any(row[at].plain for row in self.rows)]
            seen = self.without(*empty) if self.rows else self
            yield from seen.fitted(width)
        else:
            yield from self._laid((), None)

    def fitted(self, width: int) -> Iterator[Text]:
        """Commands, then messages, get a line of their own where a row has no room for them."""
        apart: list[str] = []
        for column, least in ((NEXT, 0), (MESSAGE, self.least)):
            others = [c for c in self.columns if c not in apart and (c != MESSAGE or column == MESSAGE)]
            wide = sum(min(self._width(c), least) if c == MESSAGE else self._width(c) for c in others)
            if column in self.columns and wide + GAP * (len(others) - 1) > width:
                apart.append(column)
        yield from self._laid(apart, width)

    def _width(self, column: str) -> int:
        at = self.columns.index(column)
        return max(len(column), *(row[at].cell_len for row in self.rows)) if self.rows else len(column)

    def _laid(self, apart: Sequence[str], width: int | None) -> Iterator[Text]:
        inline = [at for at, column in enumerate(self.columns) if column not in apart]
        sizes = {at: self._width(self.columns[at]) for at in inline}
        heads = [Text(column, style="bold") for column in self.columns]
        for row in (heads, *self.rows):
            line = Text()
            for at in inline:
                room = None if width is None or self.columns[at] != MESSAGE else width - line.cell_len
                line += _cut(row[at], room)
                if at != inline[-1]:
                    line += Text(" " * (sizes[at] - row[at].cell_len + GAP))
            line.rstrip()
            yield line
            if row is heads:
                continue
            for column in reversed(apart):  # what is wrong, then what to do
                cell = row[self.columns.index(column)]
                if cell.plain:
                    room = None if width is None or column != MESSAGE else width - len(BELOW)
                    yield Text(BELOW) + _cut(cell, room)


def _cut(text: Text, room: int | None) -> Text:
    if room is None or text.cell_len <= room:
        return text
    short = text.copy()
    short.truncate(max(room, 1), overflow="ellipsis")
    return short


def table(*columns: str, least: int = LEAST_MESSAGE) -> Rows:
    """Return an empty table; a message that has fewer columns than `least`, and needs more, gets a line of its own."""
    return Rows(columns, least=least)


def show(made: Rows) -> None:
    """Print a table; on a pipe as wide as it needs to be."""
    for line in made.lines(out.width if sys.stdout.isatty() else None):
        out.print(line)
