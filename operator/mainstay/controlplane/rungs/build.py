"""Rung 5: build from Go modules. Needs a module proxy and about five minutes; needs no C compiler.

Two small modules of ours (modules/) pin Kubernetes and etcd; they are apart because etcd would raise
Kubernetes' own dependencies. Go keeps every finished package, so a build that was interrupted goes on where
it stopped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from mainstay.controlplane import versions
from mainstay.controlplane.rungs import cache, toolchain
from mainstay.controlplane.rungs.base import Binaries, Report, RungFailedError

NAME = "build from Go modules"
MODULES = Path(__file__).parent.parent / "modules"
REPORT_SECONDS = 10.0
COLD_BUILD_BYTES = 4 * 10**9
"""Measured: 2.6 GB of Go's build cache, 0.8 GB of modules, 0.4 GB of programs and toolchain."""

_VERSION = "k8s.io/component-base/version"
KUBERNETES_COMMANDS = ("k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kubectl")
ETCD_COMMAND = "go.etcd.io/etcd/server/v3"


def obtain(where: Path, report: Report, environ: Mapping[str, str]) -> Binaries:
    """Build the pinned version into the cache."""
    began = time.monotonic()
    go = toolchain.find(where, report, environ)
    report(
        f"building the control plane with {go}: about five minutes the first time on two cores; "
        "if you interrupt it, the next try goes on where it stopped"
    )
    where.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(where).free) < COLD_BUILD_BYTES:
        report(f"only {free / 1e9:.1f} GB are free; a cold build writes {COLD_BUILD_BYTES / 1e9:.0f} GB")
    pinned = versions.PINNED
    stamp = (
        f"-X {_VERSION}.gitVersion={pinned} "
        f"-X {_VERSION}.gitMajor={pinned.major} -X {_VERSION}.gitMinor={pinned.minor}"
    )
    env = toolchain.environment(environ)
    with cache.staging(where) as staged:
        build = (go, "build", "-v", "-trimpath")
        _run(
            [*build, "-ldflags", "-s -w", "-o", staged / "etcd", ETCD_COMMAND],
            MODULES / "etcd",
            env,
            report,
            "etcd",
        )
        _run(
            [*build, "-ldflags", f"-s -w {stamp}", "-o", f"{staged}/", *KUBERNETES_COMMANDS],
            MODULES / "kubernetes",
            env,
            report,
            "kube-apiserver and kubectl",
        )
        found = cache.install(where, staged, NAME, expected=pinned)
    report(f"built {found.version} in {time.monotonic() - began:.0f} s")
    return found


def _run(argv: list[str | Path], directory: Path, env: Mapping[str, str], report: Report, what: str) -> None:
    """Run Go and tell how far it is; the compilers it started end with it, whatever ends us."""
    began = told = time.monotonic()
    with subprocess.Popen(
        argv,
        cwd=directory,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        progress = _Progress(process)
        try:
            while process.poll() is None:
                time.sleep(0.1)
                if time.monotonic() - told >= REPORT_SECONDS:
                    told = time.monotonic()
                    report(f"  {what}: {progress.line()}, {told - began:.0f} s so far")
        finally:
            _end_group(process)
            progress.join()
    if process.returncode != 0:
        raise RungFailedError(f"go build of {what} failed: {' | '.join(progress.last) or process.returncode}")


class _Progress(threading.Thread):
    """Counts what `go build -v` names: modules downloaded, packages compiled."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True, name="go-build")
        self.last: deque[str] = deque(maxlen=3)
        self._process = process
        self._modules = 0
        self._packages = 0
        self.start()

    def run(self) -> None:
        """Read to the end, so that Go never waits for us."""
        for line in self._process.stderr or ():
            if line.startswith("go: downloading "):
                self._modules += 1
                continue
            self._packages += 1
            self.last.append(line.strip())

    def line(self) -> str:
        """Tell where it is."""
        if self._packages:
            return f"{self._packages} packages compiled"
        return f"{self._modules} modules downloaded"


def _end_group(process: subprocess.Popen[str]) -> None:
    """End Go and its compilers if they still run; a session of their own makes them one group."""
    if process.poll() is not None:
        return
    for number, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return
