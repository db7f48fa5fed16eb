"""Rung 4: the envtest release of kubernetes-sigs/controller-tools, a tarball of exactly our three programs.

The index is a YAML file:

    releases:
      v1.36.0:
        envtest-v1.36.0-linux-amd64.tar.gz:
          hash: <SHA-512 of the tarball, hexadecimal>
          selfLink: https://...

Nothing is unpacked before its sum matched, and nothing is installed but the three programs by name.
"""

from __future__ import annotations

import platform
import re
import shutil
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from mainstay.controlplane import download, versions
from mainstay.controlplane.rungs import cache
from mainstay.controlplane.rungs.base import PROGRAMS, Binaries, Report, RungFailedError
from mainstay.controlplane.versions import Version

NAME = "envtest release"
INDEX = "https://raw.githubusercontent.com/kubernetes-sigs/controller-tools/HEAD/envtest-releases.yaml"
INDEX_VARIABLE = "MAINSTAY_ENVTEST_INDEX"

_INSIDE = PurePosixPath("controller-tools/envtest")
_SHA512 = re.compile(r"[0-9a-f]{128}")
_LARGEST_PROGRAM = 1024**3
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Release:
    """One tarball of the index."""

    version: Version
    url: str
    sha512: str


def obtain(where: Path, report: Report, environ: Mapping[str, str]) -> Binaries:
    """Download, verify, unpack and install the pinned version, else the newest patch of its minor."""
    url = environ.get(INDEX_VARIABLE) or INDEX
    try:
        release = choose(download.small(url), this_platform())
        if url.startswith("https:") and not release.url.startswith("https:"):
            raise RungFailedError(f"the index links to {release.url}, which is not https")
        report(f"downloading {release.version} from {release.url}")
        tarball = download.resumable(release.url, release.sha512, where / "downloads", report)
    except download.DownloadError as error:
        raise RungFailedError(str(error)) from error
    with cache.staging(where) as staged:
        try:
            unpack(tarball, staged)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise RungFailedError(f"can't unpack {release.url}: {error}") from error
        finally:
            tarball.unlink(missing_ok=True)
        return cache.install(where, staged, NAME, expected=release.version)


def this_platform() -> str:
    """Return "linux-amd64" and so on; RungFailedError where no such release exists."""
    machine = _MACHINES.get(platform.machine().lower())
    if machine is None or sys.platform not in {"linux", "darwin"}:
        raise RungFailedError(f"no release for {sys.platform} on {platform.machine()}")
    return f"{sys.platform}-{machine}"


def choose(index: bytes, machine: str) -> Release:
    """Pick the release for `machine` ("linux-amd64") from an index; RungFailedError says what is wrong."""
    try:
        listed: Any = yaml.safe_load(index)
        releases: dict[Version, tuple[str, str]] = {}
        for text, archives in listed["releases"].items():
            version = versions.parse(text)
            entry = archives.get(f"envtest-{text}-{machine}.tar.gz") if archives else None
            if version and str(version) == text and entry:
                releases[version] = (str(entry["selfLink"]), str(entry["hash"]).lower())
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise RungFailedError(f"the index has an unknown shape ({type(error).__name__}: {error})") from error
    version = versions.best(set(releases))
    if version is None:
        newest = max(releases, default="none")
        raise RungFailedError(
            f"the index has no {versions.KUBERNETES} (or patch of it) for {machine}; newest: {newest}"
        )
    url, sha512 = releases[version]
    if not _SHA512.fullmatch(sha512):
        raise RungFailedError(f"the index gives {version} a hash that is no SHA-512")
    return Release(version, url, sha512)


def unpack(tarball: Path, target: Path) -> None:
    """Copy the three programs out of the tarball; RungFailedError if it holds anything that shouldn't be there.

    Names, modes, owners and links of the archive are never used: a program goes to `target` under our own name.
    """
    missing = set(PROGRAMS)
    with tarfile.open(tarball, "r:gz") as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            if member.isdir() and (name == _INSIDE or name in _INSIDE.parents):
                continue
            if not member.isreg() or name.parent != _INSIDE or member.size > _LARGEST_PROGRAM:
                raise RungFailedError(
                    f"the tarball holds {member.name!r}, which doesn't belong there; refused"
                )
            if name.name not in missing:
                continue
            content = archive.extractfile(member)
            if content is None:
                continue
            with content, (target / name.name).open("wb") as program:
                shutil.copyfileobj(content, program, 1024 * 1024)
            missing.discard(name.name)
    if missing:
        raise RungFailedError(f"the tarball lacks {', '.join(sorted(missing))}")
