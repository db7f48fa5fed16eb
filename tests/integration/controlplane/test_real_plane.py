"""The embedded control plane as a user gets it: real etcd, real kube-apiserver."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import astuple
from pathlib import Path

import pytest
from tests.support.plane import RealPlane, plane, start_plane

from mainstay.controlplane import plane as parts_of
from mainstay.controlplane.ready import NotReadyError, is_ready, wait_ready

__all__ = ["plane"]


def config_map(plane: RealPlane, name: str) -> None:
    plane.kubectl("create", "configmap", name, "--from-literal=key=value")


def names(plane: RealPlane) -> list[str]:
    found = json.loads(plane.kubectl("get", "configmaps", "-o", "json"))
    return [item["metadata"]["name"] for item in found["items"]]


def test_the_admin_may_do_everything(plane: RealPlane):
    assert plane.kubectl("auth", "can-i", "*", "*").strip() == "yes"


def test_the_operator_is_known(plane: RealPlane):
    as_operator = f"--kubeconfig={plane.operator_kubeconfig}"
    who = json.loads(plane.kubectl(as_operator, "auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert who["username"] == "mainstay-operator"
    assert "mainstay:operators" in who["groups"]
    assert plane.kubectl(as_operator, "auth", "can-i", "*", "*", check=False).strip() == "no"


def test_nobody_reads_etcd_without_a_certificate_of_its_own_authority(plane: RealPlane):
    etcd, api = (part.ready for part in plane.prepared.parts)
    url = etcd.url.replace("/readyz", "/version")
    anonymous = ssl.create_default_context(cafile=str(etcd.ca))
    as_admin = ssl.create_default_context(cafile=str(etcd.ca))
    as_admin.load_cert_chain(api.certificate, api.key)
    for context in (anonymous, as_admin):
        with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
            urllib.request.urlopen(url, context=context, timeout=5)


def test_nobody_is_served_without_a_certificate(plane: RealPlane):
    probe = plane.prepared.parts[1].ready
    anonymous = ssl.create_default_context(cafile=str(probe.ca))
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(probe.url, context=anonymous, timeout=5)


def test_validating_admission_policies_are_served(plane: RealPlane):
    served = plane.kubectl("api-versions").split()
    assert "admissionregistration.k8s.io/v1" in served


def test_everything_private_is_closed_to_others(plane: RealPlane):
    open_to_others = [
        path
        for path in plane.home.rglob("*")
        if path.stat().st_mode & 0o077 and path.suffix not in {".crt", ".pub", ".log"}
    ]
    assert open_to_others == []


def test_what_is_stored_survives_a_kill_of_each_part(plane: RealPlane):
    config_map(plane, "kept")
    plane.restart_apiserver()
    assert "kept" in names(plane)
    plane.kill_etcd()
    plane.start_etcd()
    plane.wait_ready()
    assert "kept" in names(plane)


def test_two_homes_side_by_side_and_a_restored_snapshot(plane: RealPlane, tmp_path: Path):
    with start_plane(tmp_path / "home") as other:
        config_map(other, "mine")
        assert "mine" not in names(plane)

        other.snapshot_etcd(tmp_path / "snapshot")
        config_map(other, "later")
        other.restore_etcd(tmp_path / "snapshot")
        assert "mine" in names(other)
        assert "later" not in names(other)


def test_ports_taken_while_it_was_down_are_moved_and_the_data_stays(plane: RealPlane, tmp_path: Path):
    with start_plane(tmp_path / "home") as first:
        config_map(first, "mine")
        before = first.prepared.ports
    with (
        socket.create_server(("127.0.0.1", before.apiserver)),
        socket.create_server(("127.0.0.1", before.etcd)),
        socket.create_server(("127.0.0.1", before.etcd_peer)),
        start_plane(tmp_path / "home") as second,
    ):
        after = second.prepared.ports
        assert not {*astuple(before)} & {*astuple(after)}
        assert "mine" in names(second)
        assert parts_of.prepare(tmp_path / "home", plane.binaries).ports == after, "our own hold them now"


async def test_a_wait_in_vain_tells_the_last_log_lines(tmp_path: Path, plane: RealPlane):
    prepared = parts_of.prepare(tmp_path / "never-started", plane.binaries)
    log = tmp_path / "etcd.log"
    log.write_text("first\nopen /data: permission denied\n")
    told: list[str] = []
    with pytest.raises(NotReadyError, match="permission denied"):
        await wait_ready(
            prepared.parts[1].ready,
            timeout=0.2,
            progress=told.append,
            logs={"etcd": [log, tmp_path / "none"]},
        )
    assert told == ["not listening yet"]


def test_nothing_outlives_a_killed_test_run(tmp_path: Path):
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.support.plane import RealPlane\n"
        f"plane = RealPlane(Path({str(tmp_path / 'home')!r}))\n"
        "plane.start_etcd()\n"
        "print(plane.pid('etcd'), flush=True)\n"
        "time.sleep(60)\n"
    )
    search = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
    ) as runner:
        assert runner.stdout is not None
        pid = int(runner.stdout.readline())
        runner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "etcd outlived its starter"
        time.sleep(0.02)


async def test_the_plane_may_be_driven_from_an_event_loop_and_its_threads(plane: RealPlane):
    await asyncio.to_thread(plane.restart_apiserver)
    assert await is_ready(plane.prepared.parts[1].ready)
