"""What a rung gives, how it declines, and how found programs are checked."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mainstay.controlplane import versions

Report = Callable[[str], None]
"""Takes one line of progress for a person to read."""

PROGRAMS = ("etcd", "kube-apiserver", "kubectl")


class RungFailedError(Exception):
    """This rung can't help here; the message says why, and where there is one, the way out."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Three programs that were seen to run, and the rung they came from."""

    etcd: Path
    kube_apiserver: Path
    kubectl: Path
    rung: str
    version: str


def inspect(programs: dict[str, Path], rung: str) -> Binaries:
    """Run each program's version command; RungFailedError if one doesn't run or is too old."""
    for name in PROGRAMS:
        if not os.access(programs[name], os.X_OK):
            raise RungFailedError(f"no executable {name} at {programs[name]}")
    _output(programs["etcd"], "--version")
    _output(programs["kubectl"], "version", "--client")
    text = _output(programs["kube-apiserver"], "--version")
    version = versions.parse(text)
    if version is None:
        raise RungFailedError(f"{programs['kube-apiserver']} tells no released version: {text[:80]!r}")
    if version.release < versions.OLDEST_MINOR:
        oldest = ".".join(str(part) for part in versions.OLDEST_MINOR)
        raise RungFailedError(f"{programs['kube-apiserver']} is {version}; Mainstay needs v{oldest} or newer")
    return Binaries(
        etcd=programs["etcd"],
        kube_apiserver=programs["kube-apiserver"],
        kubectl=programs["kubectl"],
        rung=rung,
        version=str(version),
    )


def _output(program: Path, *args: str) -> str:
    try:
        done = subprocess.run(
            [program, *args],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.defpath, "HOME": "/nonexistent"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RungFailedError(f"{program} doesn't run: {error}") from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RungFailedError(f"{program} {args[0]} failed: {lines[-1] if lines else done.returncode}")
    return done.stdout
