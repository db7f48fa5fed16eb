"""Certificates: what they say, that they renew, and that a set interrupted anywhere is completed."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from mainstay.controlplane import certificates, files, pki

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
LEAVES = {"apiserver", "admin", "operator", "etcd/server", "etcd/client"}
EVERYTHING = LEAVES | {"ca", "etcd/ca", "sa"}


def certificate(home: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pki.pki_of(home).certificate(name).read_bytes())


def contents(home: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_the_first_call_makes_everything_and_the_second_nothing(tmp_path: Path):
    assert pki.ensure(tmp_path, NOW) == EVERYTHING
    before = contents(tmp_path)
    assert pki.ensure(tmp_path, NOW) == frozenset()
    assert contents(tmp_path) == before


def test_keys_are_closed_to_others_even_if_they_were_opened(tmp_path: Path):
    pki.ensure(tmp_path, NOW)
    pki.pki_of(tmp_path).key("admin").chmod(0o644)
    (tmp_path / "pki").chmod(0o755)
    pki.ensure(tmp_path, NOW)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.key")} == {0o600}
    assert (tmp_path / "pki").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("name", "user", "groups"),
    [
        ("admin", "mainstay-admin", ["system:masters"]),
        ("operator", "mainstay-operator", ["mainstay:operators"]),
        ("etcd/client", "kube-apiserver-etcd-client", []),
    ],
)
def test_clients_are_named_as_kubernetes_reads_them(tmp_path: Path, name: str, user: str, groups: list[str]):
    pki.ensure(tmp_path, NOW)
    subject = certificate(tmp_path, name).subject
    assert [each.value for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [user]
    assert [each.value for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == groups


def test_the_api_server_is_known_by_every_name_it_is_reached_by(tmp_path: Path):
    pki.ensure(tmp_path, NOW)
    names = (
        certificate(tmp_path, "apiserver")
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    assert {str(each) for each in names.get_values_for_type(x509.IPAddress)} == {
        "127.0.0.1",
        "::1",
        "10.96.0.1",
    }
    assert {"localhost", "kubernetes.default.svc"} < set(names.get_values_for_type(x509.DNSName))


def test_no_client_of_the_api_is_a_client_of_etcd(tmp_path: Path):
    pki.ensure(tmp_path, NOW)
    with pytest.raises(ValueError, match="issuer"):
        certificate(tmp_path, "admin").verify_directly_issued_by(certificate(tmp_path, "etcd/ca"))


@pytest.mark.parametrize(
    ("days", "renewed"),
    [(0, set()), (334, set()), (336, LEAVES), (400, LEAVES), (3621, LEAVES | {"ca", "etcd/ca"})],
)
def test_what_has_less_than_thirty_days_is_renewed(tmp_path: Path, days: int, renewed: set[str]):
    pki.ensure(tmp_path, NOW)
    assert pki.ensure(tmp_path, NOW + dt.timedelta(days=days)) == renewed


def test_a_clock_set_back_an_hour_renews_nothing(tmp_path: Path):
    pki.ensure(tmp_path, NOW)
    assert pki.ensure(tmp_path, NOW - dt.timedelta(hours=1)) == frozenset()


@pytest.mark.parametrize(
    ("file", "renewed"),
    [
        ("admin.crt", {"admin"}),
        ("admin.key", {"admin"}),
        ("etcd/server.crt", {"etcd/server"}),
        ("ca.key", {"ca", "apiserver", "admin", "operator"}),
        ("etcd/ca.crt", {"etcd/ca", "etcd/server", "etcd/client"}),
        ("sa.key", {"sa"}),
        ("sa.pub", set()),
    ],
)
@pytest.mark.parametrize("harm", ["gone", "empty", "another's"])
def test_a_damaged_file_is_replaced_with_all_that_hangs_on_it(
    tmp_path: Path, file: str, renewed: set[str], harm: str
):
    pki.ensure(tmp_path, NOW)
    path = tmp_path / "pki" / file
    match harm:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case _ if not file.startswith("sa."):
            (tmp_path / "other").mkdir()
            pki.ensure(tmp_path / "other", NOW)
            path.write_bytes((tmp_path / "other" / "pki" / file).read_bytes())
        case _:
            renewed = set()  # a signing key of one's own is as good as any
    assert pki.ensure(tmp_path, NOW) == renewed
    assert pki.ensure(tmp_path, NOW) == frozenset()


def test_a_certificate_for_other_hosts_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pki.ensure(tmp_path, NOW)
    monkeypatch.setattr(pki, "API_SERVER", certificates.Subject("kube-apiserver", hosts=("127.0.0.1",)))
    assert pki.ensure(tmp_path, NOW) == {"apiserver"}


def test_a_set_interrupted_at_any_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Killed(BaseException):
        pass

    real = files.write

    for survived in range(16):
        home = tmp_path / str(survived)
        left = [survived]

        def write(path: Path, content: bytes, mode: int = 0o600, left: list[int] = left) -> None:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            real(path, content, mode)

        monkeypatch.setattr(files, "write", write)
        try:
            pki.ensure(home, NOW)
        except Killed:
            pass
        else:
            assert survived == 16, "fewer writes than thought"
        monkeypatch.setattr(files, "write", real)
        pki.ensure(home, NOW)
        assert pki.ensure(home, NOW) == frozenset()
