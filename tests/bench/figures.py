"""What a measurement is, how it is told, and the targets it is held to."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Sample:
    """Values of one quantity, in one unit."""

    values: tuple[float, ...]
    unit: str

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{number(self.median)} {self.unit}"
        low, high = min(self.values), max(self.values)
        return f"{number(low)} / {number(self.median)} / {number(high)} {self.unit}"


@dataclass(frozen=True)
class Figure:
    """One line of the table. `limit` is what the machine could do without us, `peer` who else does the job."""

    name: str
    what: str
    ours: Sample
    limit: Sample | None = None
    peer: Sample | None = None
    target: float | None = None  # at most this, of the median
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.ours.median <= self.target

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"met": self.met, "median": self.ours.median}


def sample(values: Iterable[float], unit: str) -> Sample:
    return Sample(tuple(values), unit)


def number(value: float) -> str:
    """Three digits that matter."""
    if value == 0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"{time.strftime('%H:%M:%S')} [load {os.getloadavg()[0]:.2f}] {text}", file=sys.stderr, flush=True)


def show(figures: Iterable[Figure]) -> None:
    """Print the table; a figure of several values is min / median / max."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("what", "ours", "limit", "peer", "target", "met?"):
        table.add_column(column, overflow="fold")
    for one in figures:
        target = "" if one.target is None else f"≤ {number(one.target)} {one.ours.unit}"
        met = {None: "", True: "yes", False: "NO"}[one.met]
        table.add_row(one.what, str(one.ours), str(one.limit or ""), str(one.peer or ""), target, met)
        for key, value in one.notes.items():
            table.add_row(f"[dim]  {key}[/dim]", f"[dim]{value}[/dim]")
    Console(width=max(110, Console().width)).print(table)
