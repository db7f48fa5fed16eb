"""Rung 1: the directory that KUBEBUILDER_ASSETS names, as envtest has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mainstay.controlplane.rungs.base import PROGRAMS, Binaries, RungFailedError, inspect

NAME = "KUBEBUILDER_ASSETS"


def obtain(environ: Mapping[str, str]) -> Binaries:
    """Take the three programs from the named directory."""
    directory = environ.get(NAME)
    if not directory:
        raise RungFailedError("not set; it may name a directory with etcd, kube-apiserver and kubectl")
    return inspect({name: Path(directory).absolute() / name for name in PROGRAMS}, NAME)
