"""How things ended, in sentences for people."""

from __future__ import annotations

from mainstay.core.unit import Unit


def exit_words(unit: Unit) -> str:
    """How the last process ended, with the last lines of its stderr."""
    end = unit.exit
    if end is None or (end.code is None and end.signal is None):
        how = "the process ended, how was not seen"
    elif end.signal is not None:
        how = f"the process was ended by signal {end.signal}"
    else:
        how = f"the process ended with exit code {end.code}"
    said = " | ".join(line.strip() for line in end.last_lines) if end else ""
    return f"{how}, stderr: {said}" if said else how
