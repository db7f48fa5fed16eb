"""A real etcd and kube-apiserver for tests, started from the very argv that `mainstay up` uses.

    from tests.support.plane import RealPlane, plane   # `plane` is the fixture: one per pytest process

    def test_it(plane: RealPlane) -> None:
        plane.kubectl("get", "namespaces")

A test that kills a part starts it again before it ends (`plane.start_apiserver()`), or takes a plane of its
own with `start_plane(directory)`. Both parts die with the process that started them, however that ends.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mainstay.controlplane.binaries import cache_directory, obtain
from mainstay.controlplane.plane import ETCD, KUBE_APISERVER, Part, data_directory, prepare
from mainstay.controlplane.ready import wait_ready

__all__ = ["RealPlane", "plane", "start_plane"]

_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL: kept through exec
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

_thread = concurrent.futures.ThreadPoolExecutor(1, "real-plane")


def _in_one_thread(function, *args, **options):
    """Call from the one thread that lives as long as we do.

    The death signal follows the thread that started a child, not its process; and a caller may be inside a
    running event loop, where asyncio.run is refused.
    """
    return _thread.submit(function, *args, **options).result()


class RealPlane:
    """One control plane in a home of its own, at ports of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.binaries = obtain(cache_directory(os.environ), report=lambda line: print(line, file=sys.stderr))
        self.prepared = prepare(home, self.binaries)
        self._parts: dict[str, Part] = {part.name: part for part in self.prepared.parts}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def kubeconfig(self) -> Path:
        """The admin's (system:masters)."""
        return self.home / "kubeconfig"

    @property
    def operator_kubeconfig(self) -> Path:
        """The operator's: user mainstay-operator, group mainstay:operators; no rights until RBAC gives some."""
        return self.home / "operator.kubeconfig"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.prepared.ports.apiserver}"

    def start(self) -> None:
        """Start both parts and wait for /readyz."""
        self.start_etcd(wait=False)
        self.start_apiserver()

    def stop(self) -> None:
        """Stop both gently, the API server first. Idempotent."""
        self.stop_apiserver()
        self.stop_etcd()

    def start_etcd(self, *, wait: bool = True) -> None:
        self._start(ETCD, wait=wait)

    def start_apiserver(self, *, wait: bool = True) -> None:
        self._start(KUBE_APISERVER, wait=wait)

    def stop_etcd(self) -> None:
        self._end(ETCD, signal.SIGTERM)

    def stop_apiserver(self) -> None:
        self._end(KUBE_APISERVER, signal.SIGTERM)

    def kill_etcd(self) -> None:
        self._end(ETCD, signal.SIGKILL)

    def kill_apiserver(self) -> None:
        self._end(KUBE_APISERVER, signal.SIGKILL)

    def restart_apiserver(self) -> None:
        """Kill -9, start, wait until ready."""
        self.kill_apiserver()
        self.start_apiserver()

    def wait_ready(self, timeout: float = 60) -> float:
        """Wait for the API server's /readyz; seconds it took."""
        return self._wait(KUBE_APISERVER, timeout)

    def pid(self, name: str) -> int:
        """Return the pid of "etcd" or "kube-apiserver"."""
        return self._running[name].pid

    def snapshot_etcd(self, path: Path) -> None:
        """Copy etcd's data to `path`. Both parts are down meanwhile, and up again afterwards."""
        self._offline(lambda: shutil.copytree(data_directory(self.home), path))

    def restore_etcd(self, path: Path) -> None:
        """Put a snapshot back: resourceVersions go back too, as after any restored backup."""

        def replace() -> None:
            shutil.rmtree(data_directory(self.home))
            shutil.copytree(path, data_directory(self.home))

        self._offline(replace)

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> str:  # noqa: A002
        """Run kubectl as the admin; its standard output. AssertionError with its stderr if it fails."""
        done = subprocess.run(
            [self.binaries.kubectl, f"--kubeconfig={self.kubeconfig}", *args],
            input=input,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": os.defpath, "HOME": str(self.home.parent)},
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def _start(self, name: str, *, wait: bool) -> None:
        assert name not in self._running, f"{name} runs already"
        part = self._parts[name]
        with self.log(name).open("ab") as log:
            self._running[name] = _in_one_thread(
                subprocess.Popen,
                [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *part.argv],
                env={"PATH": os.defpath, "HOME": str(self.home), **part.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self._wait(name, 60)

    def _wait(self, name: str, timeout: float) -> float:
        logs = {each: [self.log(each)] for each in self._parts}
        wait = wait_ready(self._parts[name].ready, timeout=timeout, logs=logs, died=self._died)
        return _in_one_thread(asyncio.run, wait)

    def _died(self) -> str | None:
        for name, process in self._running.items():
            if process.poll() is not None:
                return f"{name} exited with {process.returncode}"
        return None

    def _end(self, name: str, number: signal.Signals) -> None:
        process = self._running.pop(name, None)
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _offline(self, action) -> None:
        self.stop()
        action()
        self.start()


@contextmanager
def start_plane(home: Path) -> Iterator[RealPlane]:
    """Run a private plane, for tests that break it."""
    real = RealPlane(home)
    try:
        real.start()
        yield real
    finally:
        real.stop()


_shared: list[RealPlane] = []


@pytest.fixture(scope="session")
def plane() -> Iterator[RealPlane]:
    """One plane per pytest process (per xdist worker), even if several modules import this fixture."""
    if _shared:
        yield _shared[0]
        return
    directory = Path(tempfile.mkdtemp(prefix="mainstay-plane-"))
    try:
        with start_plane(directory / "home") as real:
            _shared.append(real)
            yield real
    finally:
        _shared.clear()
        shutil.rmtree(directory, ignore_errors=True)
