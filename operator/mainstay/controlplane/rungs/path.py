"""Rung 2: programs that are installed on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from mainstay.controlplane.rungs.base import PROGRAMS, Binaries, RungFailedError, inspect

NAME = "PATH"


def obtain(environ: Mapping[str, str]) -> Binaries:
    """Take the three programs from PATH; all of them must be there, so that their versions go together."""
    found = {name: shutil.which(name, path=environ.get("PATH", "")) for name in PROGRAMS}
    if missing := [name for name, where in found.items() if where is None]:
        raise RungFailedError(f"{', '.join(missing)} not on PATH")
    return inspect({name: Path(where) for name, where in found.items() if where}, NAME)
