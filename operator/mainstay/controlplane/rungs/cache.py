"""Rung 3: what an earlier download or build left in the cache, one directory per version.

A directory counts only if its marker, written last, is there and every file has the size it tells. The
checksums in the marker are compared on request only (`verify`): reading 190 MB takes half a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mainstay.controlplane import files, versions
from mainstay.controlplane.rungs.base import PROGRAMS, Binaries, RungFailedError, inspect
from mainstay.controlplane.versions import Version

NAME = "cache"
MARKER = "complete.json"


def obtain(cache: Path, *, verify: bool = False) -> Binaries:
    """Take the pinned version from the cache, else the newest patch of its minor."""
    complete = {
        version
        for path in cache.glob("v*")
        if (version := versions.parse(path.name)) and str(version) == path.name and is_complete(path)
    }
    version = versions.best(complete)
    if version is None:
        raise RungFailedError(f"no complete {versions.KUBERNETES} (or patch of it) in {cache}")
    directory = cache / str(version)
    if verify and (damaged := damaged_files(directory)):
        raise RungFailedError(f"{', '.join(damaged)} in {directory} changed since the install; delete it")
    return inspect({name: directory / name for name in PROGRAMS}, NAME)


def is_complete(directory: Path) -> bool:
    """Tell whether an install of `directory` was finished and no file was truncated since."""
    try:
        marker = _marker(directory)
        return all((directory / name).stat().st_size == marker[name]["size"] for name in PROGRAMS)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def damaged_files(directory: Path) -> list[str]:
    """Name the programs whose checksum is not the marker's."""
    marker = _marker(directory)
    return [name for name in PROGRAMS if sha256(directory / name) != marker[name]["sha256"]]


@contextmanager
def staging(cache: Path) -> Iterator[Path]:
    """Lend a directory on the cache's file system; whatever is not installed from it is deleted.

    The caller holds the cache's lock, so what an earlier, killed call left behind is deleted too.
    """
    cache.mkdir(parents=True, exist_ok=True)
    for abandoned in cache.glob(".staging-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix=".staging-", dir=cache))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def install(cache: Path, staged: Path, rung: str, *, expected: Version) -> Binaries:
    """Check the three programs in `staged`, mark them complete and move them into the cache in one rename."""
    for name in PROGRAMS:
        (staged / name).chmod(0o755)
        with (staged / name).open("rb") as program:
            os.fsync(program.fileno())
    found = inspect({name: staged / name for name in PROGRAMS}, rung)
    if found.version != str(expected):
        raise RungFailedError(f"kube-apiserver says it is {found.version}, not {expected}; not installed")
    marker = {
        name: {"size": (staged / name).stat().st_size, "sha256": sha256(staged / name)} for name in PROGRAMS
    }
    staged.chmod(0o755)
    files.write(staged / MARKER, json.dumps(marker, indent=2).encode() + b"\n", files.PUBLIC)
    target = cache / found.version
    if target.exists():
        shutil.rmtree(target)
    os.rename(staged, target)
    files.sync_directory(cache)
    etcd, kube_apiserver, kubectl = (target / name for name in PROGRAMS)
    return Binaries(etcd, kube_apiserver, kubectl, rung=rung, version=found.version)


def sha256(path: Path) -> str:
    """Return the file's checksum in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _marker(directory: Path) -> Any:
    return json.loads((directory / MARKER).read_bytes())
