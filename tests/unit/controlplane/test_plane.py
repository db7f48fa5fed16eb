"""Ports, kubeconfigs and the argv of the parts."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from mainstay.controlplane import kubeconfig, pki, plane, ports
from mainstay.controlplane.rungs.base import Binaries

BINARIES = Binaries(Path("/b/etcd"), Path("/b/kube-apiserver"), Path("/b/kubectl"), "test", "v1.36.3")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    pki.ensure(tmp_path / "home")
    return tmp_path / "home"


@contextmanager
def listening(port: int, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """Hold a port, as a stranger or with a certificate."""
    with socket.create_server(("127.0.0.1", port)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                    if tls:
                        tls.wrap_socket(connection, server_side=True).close()
                    connection.close()
                except OSError:
                    if server.fileno() == -1 or stop.is_set():
                        return

        stop = threading.Event()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def as_server(home: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.pki_of(home).certificate(name), pki.pki_of(home).key(name))
    return context


def test_ports_are_kept(home: Path):
    first = ports.ensure(home)
    assert ports.ensure(home) == first == ports.load(home)
    assert len({first.apiserver, first.etcd, first.etcd_peer}) == 3
    assert all(ports.FIRST <= port <= ports.LAST for port in (first.apiserver, first.etcd, first.etcd_peer))


def test_a_port_that_a_stranger_holds_is_replaced_alone(home: Path):
    first = ports.ensure(home)
    with listening(first.apiserver):
        second = ports.ensure(home)
    assert second.apiserver != first.apiserver
    assert (second.etcd, second.etcd_peer) == (first.etcd, first.etcd_peer)


def test_our_own_server_on_our_port_is_no_stranger(home: Path):
    first = ports.ensure(home)
    with (
        listening(first.apiserver, as_server(home, "apiserver")),
        listening(first.etcd, as_server(home, "etcd/server")),
    ):
        assert ports.ensure(home) == first


def test_another_homes_server_is_a_stranger(home: Path, tmp_path: Path):
    pki.ensure(other := tmp_path / "other")
    first = ports.ensure(home)
    with listening(first.apiserver, as_server(other, "apiserver")):
        assert ports.ensure(home).apiserver != first.apiserver


def test_a_copied_home_does_not_take_the_originals_server_for_its_own(home: Path, tmp_path: Path):
    first = ports.ensure(home)
    shutil.copytree(home, tmp_path / "copy")
    with listening(first.apiserver, as_server(home, "apiserver")):
        assert ports.ensure(tmp_path / "copy").apiserver != first.apiserver
        assert ports.ensure(home) == first


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"ports": {"apiserver": "x"}}',
        b'{"ports": {}, "home": 1}',
        b'{"ports": {"apiserver": 70000}, "home": "/"}',
        b'{"ports": {"apiserver": 20001, "etcd": 20001}, "home": "/"}',
        b'{"ports": {"other": 20001}, "home": "/"}',
    ],
)
def test_a_damaged_record_is_made_anew(home: Path, content: bytes):
    (home / ports.FILE).write_bytes(content)
    assert ports.load(home) is None
    assert ports.ensure(home) == ports.load(home)


def test_a_port_of_a_closed_connection_is_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # the side that closes first is left in TIME_WAIT
        client.close()
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_no_free_port_is_told(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ports, "is_free", lambda _: False)
    with pytest.raises(ports.NoFreePortError, match="20000"):
        ports.ensure(home)


def test_kubeconfigs_are_closed_complete_and_rewritten_only_when_something_changed(home: Path):
    assert kubeconfig.write_kubeconfigs(home, 20001) == {"kubeconfig", "operator.kubeconfig"}
    assert kubeconfig.write_kubeconfigs(home, 20001) == frozenset()
    assert kubeconfig.write_kubeconfigs(home, 20002) == {"kubeconfig", "operator.kubeconfig"}
    written = yaml.safe_load((home / "operator.kubeconfig").read_bytes())
    assert (home / "operator.kubeconfig").stat().st_mode & 0o777 == 0o600
    assert written["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:20002"
    key = base64.b64decode(written["users"][0]["user"]["client-key-data"])
    assert key == pki.pki_of(home).key("operator").read_bytes()


def test_a_home_is_prepared_once_and_for_all(tmp_path: Path):
    first = plane.prepare(tmp_path / "home", BINARIES)
    again = plane.prepare(tmp_path / "home", BINARIES)
    assert first.renewed
    assert not again.renewed
    assert (again.ports, again.parts) == (first.ports, first.parts)
    assert (
        json.loads((tmp_path / "home" / "controlplane.json").read_bytes())["ports"]["etcd"]
        == first.ports.etcd
    )


def test_nothing_listens_beyond_the_loopback_and_nothing_is_open():
    home, chosen = Path("/home/me/.mainstay"), ports.Ports(20001, 20002, 20003)
    etcd, api = plane.parts(home, chosen, BINARIES)
    for flag in (*etcd.argv, *api.argv):
        assert "://" not in flag or "://127.0.0.1:" in flag or "service-account-issuer" in flag
    assert {"--client-cert-auth", "--peer-client-cert-auth"} < set(etcd.argv)
    assert {"--bind-address=127.0.0.1", "--anonymous-auth=false", "--authorization-mode=RBAC"} < set(api.argv)
    assert not [flag for flag in etcd.argv if "no-fsync" in flag]
    assert api.env == {"GOGC": "40", "GOMEMLIMIT": "400MiB"}
    assert [part.name for part in (etcd, api)] == ["etcd", "kube-apiserver"]


def test_no_secret_is_in_any_argv(tmp_path: Path):
    prepared = plane.prepare(tmp_path, BINARIES)
    told = " ".join(flag for part in prepared.parts for flag in part.argv)
    for key in tmp_path.rglob("*.key"):
        assert key.read_text().splitlines()[1] not in told
