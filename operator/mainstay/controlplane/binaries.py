"""The ladder: where etcd, kube-apiserver and kubectl come from. The first rung that works wins.

A cluster that the user names stands above all of this and is decided by the command line; here are
KUBEBUILDER_ASSETS, PATH, our cache, the envtest release, and a build from Go modules.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mainstay.controlplane import versions
from mainstay.controlplane.rungs import build, cache, environment, path, release
from mainstay.controlplane.rungs.base import Binaries, Report, RungFailedError

__all__ = ["Binaries", "NoBinariesError", "RungFailedError", "cache_directory", "obtain"]


class NoBinariesError(Exception):
    """No rung worked; the message lists each with its reason, and what the user can do."""

    def __init__(self, failures: Mapping[str, str]) -> None:
        super().__init__(_advice(failures))
        self.failures = dict(failures)


def cache_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Return `$XDG_CACHE_HOME/mainstay/controlplane`, by default under ~/.cache."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "mainstay" / "controlplane"


def obtain(
    cache_dir: Path | None = None,
    report: Report = lambda _: None,
    environ: Mapping[str, str] | None = None,
) -> Binaries:
    """Return three programs that run, fetching or building them if nothing on this machine has them.

    Blocks: an instant where they are found, half a minute for a download, about five minutes for a build. Both
    take up where an interrupted call left off. Raises NoBinariesError; KeyboardInterrupt ends what it started.
    """
    environ = os.environ if environ is None else environ
    where = cache_dir or cache_directory(environ)
    failures: dict[str, str] = {}
    at_hand: dict[str, Callable[[], Binaries]] = {
        environment.NAME: lambda: environment.obtain(environ),
        path.NAME: lambda: path.obtain(environ),
        cache.NAME: lambda: cache.obtain(where),
    }
    if found := _first(at_hand, failures):
        return found
    to_get: dict[str, Callable[[], Binaries]] = {
        cache.NAME: lambda: cache.obtain(where),  # again: whoever held the lock may have filled it
        release.NAME: lambda: release.obtain(where, report, environ),
        build.NAME: lambda: build.obtain(where, report, environ),
    }
    try:
        with _only_one(where, report):
            if found := _first(to_get, failures, report):
                return found
    except OSError as error:
        failures[cache.NAME] = str(error)
    raise NoBinariesError(failures)


def _first(
    rungs: Mapping[str, Callable[[], Binaries]], failures: dict[str, str], report: Report | None = None
) -> Binaries | None:
    for name, rung in rungs.items():
        try:
            return rung()
        except (RungFailedError, OSError) as error:
            failures[name] = str(error)
            if report and name != cache.NAME:
                report(f"{name}: {error}")
    return None


@contextmanager
def _only_one(where: Path, report: Report) -> Iterator[None]:
    """Hold the cache's lock, so that two `up`s don't fetch or build the same thing twice."""
    where.mkdir(parents=True, exist_ok=True)
    with (where / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another Mainstay is getting the control plane; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _advice(failures: Mapping[str, str]) -> str:
    tried = "\n".join(f"  {name}: {reason}" for name, reason in failures.items())
    return (
        f"No control plane ({versions.KUBERNETES}) could be found, downloaded or built:\n{tried}\n"
        "Any one of these helps:\n"
        "  use a cluster you have: mainstay up --kubeconfig FILE\n"
        "  put etcd, kube-apiserver and kubectl on PATH, or in a directory that KUBEBUILDER_ASSETS names\n"
        "  connect this machine to the internet (or set MAINSTAY_ENVTEST_INDEX, HTTPS_PROXY), then try again\n"
        "  install Go, or: pip install 'mainstay[go]'"
    )
