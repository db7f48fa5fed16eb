"""The ladder: which rung wins, and what is said when none does."""

from __future__ import annotations

import fcntl
import threading
import time
from pathlib import Path

import pytest
from tests.unit.controlplane.release_server import VERSION, program, put_programs, release_server, tarball

from mainstay.controlplane import versions
from mainstay.controlplane.binaries import NoBinariesError, cache_directory, obtain
from mainstay.controlplane.rungs import build, cache
from mainstay.controlplane.rungs.base import Binaries, RungFailedError
from mainstay.controlplane.versions import PINNED

NOWHERE = "http://127.0.0.1:9/index.yaml"


def cached(root: Path, version: str = VERSION) -> Path:
    with cache.staging(root) as staged:
        put_programs(staged, version)
        return cache.install(root, staged, "test", expected=versions.parse(version)).etcd.parent


@pytest.fixture(autouse=True)
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count builds instead of building."""
    calls: list[str] = []

    def fake(*_: object) -> Binaries:
        calls.append("build")
        raise RungFailedError("no Go here")

    monkeypatch.setattr(build, "obtain", fake)
    return calls


def test_the_rungs_are_tried_in_order(tmp_path: Path):
    assets = put_programs(tmp_path / "assets")
    path = put_programs(tmp_path / "path")
    cached(tmp_path / "cache")
    everything = {
        "KUBEBUILDER_ASSETS": str(assets),
        "PATH": f"{path}:/bin",
        "MAINSTAY_ENVTEST_INDEX": NOWHERE,
    }
    taken = []
    for gone in (None, "KUBEBUILDER_ASSETS", "PATH"):
        everything.pop(gone or "", None)
        taken.append(obtain(tmp_path / "cache", environ=everything).rung)
    assert taken == ["KUBEBUILDER_ASSETS", "PATH", "cache"]


def test_a_rung_that_does_not_run_is_passed_over(tmp_path: Path):
    broken = put_programs(tmp_path / "broken")
    (broken / "etcd").write_text("#!/bin/sh\necho no such library >&2\nexit 127\n")
    cached(tmp_path / "cache")
    assert obtain(tmp_path / "cache", environ={"KUBEBUILDER_ASSETS": str(broken)}).rung == "cache"


@pytest.mark.parametrize("version", ["v1.29.9", "v0.0.0-master+$Format:%H$", "v1.36.0-alpha.1"])
def test_an_api_server_too_old_or_unreleased_is_passed_over(tmp_path: Path, version: str):
    assets = put_programs(tmp_path / "assets", version)
    cached(tmp_path / "cache")
    assert obtain(tmp_path / "cache", environ={"KUBEBUILDER_ASSETS": str(assets)}).rung == "cache"


def test_an_unreachable_index_falls_to_the_build_at_once(tmp_path: Path, built: list[str]):
    lines: list[str] = []
    began = time.monotonic()
    with pytest.raises(NoBinariesError):
        obtain(tmp_path, lines.append, {"MAINSTAY_ENVTEST_INDEX": NOWHERE})
    assert time.monotonic() - began < 3
    assert built == ["build"]
    assert "refused" in lines[0]


def test_when_all_fail_each_is_told_with_a_way_out(tmp_path: Path):
    with pytest.raises(NoBinariesError) as caught:
        obtain(tmp_path, environ={"MAINSTAY_ENVTEST_INDEX": NOWHERE})
    told = str(caught.value)
    for part in (
        "KUBEBUILDER_ASSETS: not set",
        "PATH: etcd, kube-apiserver, kubectl not on PATH",
        "cache: no complete v1.36.3",
        "envtest release: http://127.0.0.1:9",
        "build from Go modules: no Go here",
        "pip install 'mainstay[go]'",
        "--kubeconfig",
    ):
        assert part in told


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NoBinariesError, match="File exists"):
        obtain(tmp_path / "file", environ={})


@pytest.mark.parametrize("harm", ["no marker", "half a marker", "truncated program", "program gone"])
def test_an_incomplete_cache_is_not_used_and_is_replaced(tmp_path: Path, harm: str):
    directory = cached(tmp_path)
    match harm:
        case "no marker":
            (directory / cache.MARKER).unlink()
        case "half a marker":
            (directory / cache.MARKER).write_bytes(b'{"etcd": {"si')
        case "truncated program":
            (directory / "etcd").write_bytes(b"#!/bin/sh\n")
        case "program gone":
            (directory / "kubectl").unlink()
    with pytest.raises(RungFailedError):
        cache.obtain(tmp_path)
    with release_server() as server:
        server.add(tarball())
        assert (
            obtain(tmp_path, environ={"MAINSTAY_ENVTEST_INDEX": server.index_url}).rung == "envtest release"
        )
    assert cache.obtain(tmp_path).version == VERSION


def test_a_changed_program_of_the_same_size_is_found_on_request(tmp_path: Path):
    directory = cached(tmp_path)
    (directory / "etcd").write_bytes(program().replace(b"exit 0", b"exit 9"))
    with pytest.raises(RungFailedError, match=r"etcd in .* changed"):
        cache.obtain(tmp_path, verify=True)


def test_the_cache_gives_a_patch_of_the_pinned_minor_and_no_other(tmp_path: Path):
    cached(tmp_path, "v1.35.9")
    with pytest.raises(RungFailedError):
        cache.obtain(tmp_path)
    cached(tmp_path, "v1.36.1")
    assert cache.obtain(tmp_path).version == "v1.36.1"


def test_two_at_once_download_once(tmp_path: Path):
    told: list[str] = []
    with release_server() as server:
        server.add(tarball())
        environ = {"MAINSTAY_ENVTEST_INDEX": server.index_url}
        with (tmp_path / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            threads = [
                threading.Thread(target=obtain, args=(tmp_path, told.append, environ)) for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            while len(told) < 2:
                time.sleep(0.005)
        for thread in threads:
            thread.join(20)
        assert len(server.ranges) == 1
    assert told[0].startswith("another Mainstay")


def test_what_a_killed_call_left_is_cleared(tmp_path: Path):
    put_programs(tmp_path / ".staging-old")
    cached(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [VERSION]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CACHE_HOME": "/var/c"}, "/var/c/mainstay/controlplane"),
        ({"XDG_CACHE_HOME": "relative"}, str(Path.home() / ".cache/mainstay/controlplane")),
        ({}, str(Path.home() / ".cache/mainstay/controlplane")),
    ],
)
def test_the_cache_is_where_the_desktop_says(environ: dict[str, str], expected: str):
    assert str(cache_directory(environ)) == expected


def test_one_version_is_pinned_everywhere():
    module = (build.MODULES / "kubernetes" / "go.mod").read_text()
    assert f"k8s.io/kubernetes {PINNED}" in module
    assert f"k8s.io/api v0.{PINNED.minor}.{PINNED.patch}" in module
    assert str(PINNED) == versions.KUBERNETES
