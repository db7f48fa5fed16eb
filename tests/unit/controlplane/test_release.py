"""The download rung: what it installs, and above all what it refuses to install."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.unit.controlplane.release_server import (
    PROGRAMS,
    VERSION,
    ReleaseServer,
    program,
    release_server,
    tarball,
)

from mainstay.controlplane.binaries import NoBinariesError, obtain
from mainstay.controlplane.rungs import build, release
from mainstay.controlplane.rungs.base import RungFailedError

INSIDE = "controller-tools/envtest"
GOOD = {f"{INSIDE}/{name}": program() for name in PROGRAMS}


@pytest.fixture
def server() -> Iterator[ReleaseServer]:
    with release_server() as running:
        yield running


@pytest.fixture(autouse=True)
def no_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RungFailedError("not in this test")

    monkeypatch.setattr(build, "obtain", refuse)


def get(cache: Path, server: ReleaseServer, report=lambda _: None):
    return obtain(cache, report, {"PATH": "", "MAINSTAY_ENVTEST_INDEX": server.index_url})


def refused(cache: Path, server: ReleaseServer) -> str:
    """Return why the release was refused, having seen that nothing of it was kept."""
    with pytest.raises(NoBinariesError) as caught:
        get(cache, server)
    assert [path for path in cache.rglob("*") if path.is_file() and path.name != ".lock"] == []
    return caught.value.failures[release.NAME]


def test_a_good_release_is_installed_once(tmp_path: Path, server: ReleaseServer):
    server.add(tarball())
    lines: list[str] = []
    first = get(tmp_path, server, lines.append)
    assert (first.rung, first.version) == (release.NAME, VERSION)
    assert first.etcd.read_bytes() == program()
    assert any(VERSION in line for line in lines)

    second = get(tmp_path, server)
    assert second.rung == "cache"
    assert second.kubectl == first.kubectl
    assert len(server.ranges) == 1


def test_a_wrong_sum_is_refused(tmp_path: Path, server: ReleaseServer):
    server.add(tarball(), sha512="0" * 128)
    assert "SHA-512" in refused(tmp_path, server)


def test_a_cut_download_is_resumed_within_one_call(tmp_path: Path, server: ReleaseServer):
    server.add(tarball())
    server.cut_after = [1000, 2000]
    assert get(tmp_path, server).version == VERSION
    assert server.ranges == [None, "bytes=1000-", "bytes=3000-"]


def test_a_download_that_was_given_up_is_resumed_by_the_next_call(tmp_path: Path, server: ReleaseServer):
    server.add(tarball())
    server.cut_after = [5000, 0, 0, 0]
    with pytest.raises(NoBinariesError, match="goes on at"):
        get(tmp_path, server)
    server.ranges.clear()
    assert get(tmp_path, server).version == VERSION
    assert server.ranges == ["bytes=5000-"]


def test_a_server_without_ranges_sends_all_again(tmp_path: Path, server: ReleaseServer):
    server.add(tarball())
    server.cut_after, server.ignores_ranges = [5000], True
    assert get(tmp_path, server).version == VERSION


def test_a_complete_part_is_not_fetched_again(tmp_path: Path, server: ReleaseServer):
    server.add(content := tarball())
    sha512 = next(iter(server.releases[VERSION].values()))["hash"]
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / f"{sha512[:32]}.part").write_bytes(content)
    assert get(tmp_path, server).version == VERSION


@pytest.mark.parametrize(
    "name",
    ["../../escaped", "/tmp/escaped", f"{INSIDE}/../../escaped", f"{INSIDE}/sub/etcd", "other/etcd"],
)
def test_a_member_outside_its_folder_is_refused(tmp_path: Path, server: ReleaseServer, name: str):
    server.add(tarball({name: b"#!/bin/sh\n", **GOOD}))
    assert "refused" in refused(tmp_path / "cache", server)
    assert not (tmp_path / "escaped").exists()


def test_a_link_is_refused(tmp_path: Path, server: ReleaseServer):
    server.add(tarball(GOOD, links={f"{INSIDE}/etcd": "/bin/sh"}))
    assert "refused" in refused(tmp_path, server)


def test_a_missing_program_is_named(tmp_path: Path, server: ReleaseServer):
    server.add(tarball({name: content for name, content in GOOD.items() if "kubectl" not in name}))
    assert "lacks kubectl" in refused(tmp_path, server)


def test_what_is_no_tarball_is_refused(tmp_path: Path, server: ReleaseServer):
    server.add(b"<html>log in to the hotel's network</html>")
    assert "can't unpack" in refused(tmp_path, server)


def test_a_program_of_another_version_is_refused(tmp_path: Path, server: ReleaseServer):
    server.add(tarball({**GOOD, f"{INSIDE}/kube-apiserver": program("v1.31.0")}))
    assert "not v1.36.3" in refused(tmp_path, server)


@pytest.mark.parametrize(
    ("index", "why"),
    [
        (b"<html>", "unknown shape"),
        (b"releases: 3", "unknown shape"),
        (b"releases: {v1.36.3: {envtest-v1.36.3-linux-amd64.tar.gz: {hash: ab}}}", "unknown shape"),
        (b"[\x00", "unknown shape"),
        (b"releases: {}", "newest: none"),
        (b"releases: {v1.36.3: {envtest-v1.36.3-linux-amd64.tar.gz: {hash: ab, selfLink: x}}}", "no SHA-512"),
        (
            b"releases: {v1.36.3: {envtest-v1.36.3-darwin-arm64.tar.gz: {hash: ab, selfLink: x}}}",
            "newest: none",
        ),
    ],
)
def test_an_index_that_is_none_is_told(index: bytes, why: str):
    with pytest.raises(RungFailedError, match=why):
        release.choose(index, "linux-amd64")


@pytest.mark.parametrize(
    ("listed", "chosen"),
    [
        (["v1.36.3", "v1.36.9"], "v1.36.3"),
        (["v1.36.0", "v1.36.2", "v1.37.0"], "v1.36.2"),
        (["v1.36.10", "v1.36.9"], "v1.36.10"),
        (["v1.36.4-rc.0", "v1.36.1"], "v1.36.1"),
    ],
)
def test_the_pinned_version_or_a_patch_of_it_is_chosen(listed: list[str], chosen: str):
    archive = {"hash": "a" * 128, "selfLink": "https://example.org/x"}
    index = {"releases": {each: {f"envtest-{each}-linux-arm64.tar.gz": archive} for each in listed}}
    assert str(release.choose(yaml.safe_dump(index).encode(), "linux-arm64").version) == chosen


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_only_http_is_fetched(tmp_path: Path, server: ReleaseServer, url: str):
    server.add(tarball(), url=url)
    assert "only http" in refused(tmp_path, server)
