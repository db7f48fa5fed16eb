"""Mainstay's home: where one installation keeps everything it has on this machine."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import mainstay

LONGEST = 60
"""Longest path of a home: a Unix socket below it must fit into 104 characters."""


class HomeError(Exception):
    """The home can't be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below `root`, and what identifies it."""

    root: Path

    @classmethod
    def resolve(cls, explicit: str | None = None) -> Self:
        """Return the home named, or $MAINSTAY_HOME, or `${XDG_STATE_HOME:-~/.local/state}/mainstay`."""
        named = explicit or os.environ.get("MAINSTAY_HOME")
        if named:
            root = Path(named).expanduser()
        else:
            state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
            root = Path(state) / "mainstay"
        root = root.absolute()
        if len(os.fsencode(root)) > LONGEST:
            raise HomeError(
                f"{root} is too long for a home: sockets below it allow {LONGEST} characters. "
                "Set MAINSTAY_HOME to a shorter path."
            )
        return cls(root)

    def create(self) -> None:
        """Make the directory, readable by its owner alone."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def kubeconfig(self) -> Path:
        """The user's kubeconfig, mode 0600."""
        return self.root / "kubeconfig"

    @property
    def operator_kubeconfig(self) -> Path:
        """The operator's own kubeconfig, mode 0600."""
        return self.root / "operator.kubeconfig"

    @property
    def samples(self) -> Path:
        """Programs that the samples run; relative working directories resolve below the home."""
        return self.root / "samples"

    @property
    def bin(self) -> Path:
        """The matching kubectl and its plugin."""
        return self.root / "bin"

    @property
    def operator_ready(self) -> Path:
        """Written by the operator once it works: its pid."""
        return self.root / "operator.ready"

    @property
    def operator_url(self) -> Path:
        """Where the operator serves /metrics, /healthz and /readyz; there while it does."""
        return self.root / "operator.url"

    @property
    def owner(self) -> Path:
        """Which cluster this home belongs to."""
        return self.root / "owner.json"

    @property
    def exists(self) -> bool:
        """It has been used before."""
        return (self.root / "home-id").is_file()

    def identity(self) -> str:
        """Return this home's id, made at first use: it marks our processes, so that homes don't mix them up."""
        path = self.root / "home-id"
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            self.create()
            fresh = path.with_suffix(".tmp")
            fresh.write_text(secrets.token_hex(4) + "\n")
            fresh.rename(path)
            return path.read_text().strip()


def data(name: str) -> Path:
    """Return a directory that ships with Mainstay: crds, policies or samples."""
    package = Path(mainstay.__file__).parent
    shipped = package / "data" / name
    if shipped.is_dir():
        return shipped
    checkout = package.parents[1]
    return checkout / name if name == "crds" else checkout / "manifests" / name
