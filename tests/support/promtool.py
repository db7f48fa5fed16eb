"""The real promtool, for tests of rules and dashboards: what is on PATH, else what was built into the cache.

    from tests.support.promtool import promtool   # the fixture: a Path

A test never builds. `python -m tests.support.prepare` (what `make test` begins with) does, from the Go module that
promtool_module/ pins, through the module proxy. It is built without service discovery, which promtool needs for
nothing that is asked here and which is most of Prometheus' dependencies.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from mainstay.controlplane import binaries
from mainstay.controlplane.rungs import build, toolchain
from mainstay.controlplane.rungs.base import Report

__all__ = ["NoPromtoolError", "find", "obtain", "promtool"]

MODULE = Path(__file__).parent / "promtool_module"
COMMAND = "github.com/prometheus/prometheus/cmd/promtool"
TAGS = "remove_all_sd"
COLD_BUILD_BYTES = 2 * 10**9
"""Measured: 0.85 GB of Go's build cache, 0.95 GB of modules, 0.05 GB of program."""


class NoPromtoolError(Exception):
    """There is none; the message says what helps."""


def version() -> str:
    """Return the pinned version of Prometheus' module, as in v0.315.0 (which is Prometheus 3.15.0)."""
    found = re.search(
        r"^\s*github\.com/prometheus/prometheus (v\S+)", (MODULE / "go.mod").read_text(), re.MULTILINE
    )
    assert found, f"{MODULE}/go.mod does not pin Prometheus"
    return found[1]


def find(environ: Mapping[str, str] | None = None) -> Path:
    """Return a promtool that runs: the one on PATH, else the cached one. NoPromtoolError if there is none."""
    environ = os.environ if environ is None else environ
    tried = []
    named = shutil.which("promtool", path=environ.get("PATH", ""))
    for candidate in (Path(named) if named else None, _cached(environ)):
        if candidate is None or not candidate.exists():
            continue
        if trouble := _trouble(candidate):
            tried.append(f"{candidate}: {trouble}")
            continue
        return candidate
    raise NoPromtoolError(
        f"no promtool on PATH or at {_cached(environ)}{''.join(f'; {one}' for one in tried)}. "
        "`.venv/bin/python -m tests.support.prepare` builds it; it needs a Go module proxy, and takes about two minutes once"
    )


def obtain(report: Report, environ: Mapping[str, str] | None = None) -> Path:
    """Return a promtool that runs, and build it if there is none.

    Blocks: an instant where there is one, about two minutes for a build on two cores. Raises NoPromtoolError or
    RungFailedError; KeyboardInterrupt ends the compilers too, and the next try goes on where this one stopped.
    """
    environ = os.environ if environ is None else environ
    try:
        return find(environ)
    except NoPromtoolError:
        pass
    where = binaries.cache_directory(environ)
    with binaries._only_one(where, report):
        try:
            return find(environ)  # again: whoever held the lock may have built it
        except NoPromtoolError:
            pass
        _build(where, report, environ)
    return find(environ)


def _build(where: Path, report: Report, environ: Mapping[str, str]) -> None:
    began = time.monotonic()
    go = toolchain.find(where, report, environ)
    target = _cached(environ)
    target.parent.mkdir(parents=True, exist_ok=True)
    report(f"building promtool {version()} with {go}: about two minutes the first time on two cores")
    if (free := shutil.disk_usage(where).free) < COLD_BUILD_BYTES:
        report(f"only {free / 1e9:.1f} GB are free; a cold build writes {COLD_BUILD_BYTES / 1e9:.1f} GB")
    with tempfile.TemporaryDirectory(prefix=".staging-", dir=target.parent) as staged:
        made = Path(staged) / "promtool"
        stamp = f"-s -w -X github.com/prometheus/common/version.Version={version()[1:]}"
        argv = [go, "build", "-v", "-trimpath", "-tags", TAGS, "-ldflags", stamp, "-o", made, COMMAND]
        build._run(argv, MODULE, toolchain.environment(environ), report, "promtool")
        os.replace(made, target)
    report(f"built promtool in {time.monotonic() - began:.0f} s")


def _cached(environ: Mapping[str, str]) -> Path:
    return binaries.cache_directory(environ).parent / "promtool" / version() / "promtool"


def _trouble(program: Path) -> str | None:
    """Say why it does not run, if it does not."""
    try:
        done = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=20,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else f"--version exits with {done.returncode}"


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The program; the test that needs it fails, in words, where there is none."""
    words = ""
    try:
        return find()
    except NoPromtoolError as error:
        words = str(error)
    pytest.fail(words, pytrace=False)
