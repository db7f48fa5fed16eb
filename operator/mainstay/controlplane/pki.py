"""The certificates of one home, under `<home>/pki`, completed and renewed by `ensure` at every `up`.

Two authorities: one for the API (its server, and the people and parts that speak to it), one for etcd, so
that no API user can ever open the database directly. Keys are 0600 in a 0700 directory.

A certificate is judged by what it says, not by whether its file exists: one that is damaged, half-written,
signed by another authority, for other hosts, or with less than 30 days left is made anew.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mainstay.controlplane import certificates, files
from mainstay.controlplane.certificates import CLIENT, SERVER, Pair, Subject

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SERVICE_CIDR = "10.96.0.0/16"
FIRST_SERVICE_ADDRESS = "10.96.0.1"

API_SERVER = Subject(
    "kube-apiserver",
    usages=(SERVER,),
    hosts=(
        *LOOPBACK,
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        FIRST_SERVICE_ADDRESS,
    ),
)
ADMIN = Subject("mainstay-admin", organizations=("system:masters",))
OPERATOR = Subject("mainstay-operator", organizations=("mainstay:operators",))
ETCD_SERVER = Subject("etcd", usages=(SERVER, CLIENT), hosts=LOOPBACK)
"""etcd uses it as a client too: to itself, through its gRPC gateway."""
ETCD_CLIENT = Subject("kube-apiserver-etcd-client")


@dataclass(frozen=True, slots=True)
class Pki:
    """Where the certificates of one home are."""

    directory: Path

    def certificate(self, name: str) -> Path:
        """Return the certificate's file: "ca", "apiserver", "admin", "operator", "etcd/ca" and so on."""
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Return the private key's file; "sa" is the one that signs service-account tokens."""
        return self.directory / f"{name}.key"

    @property
    def service_account_public_key(self) -> Path:
        """What service-account tokens are verified with."""
        return self.directory / "sa.pub"


def pki_of(home: Path) -> Pki:
    """Return the paths of `home`'s certificates, made or not."""
    return Pki(home / "pki")


def ensure(home: Path, now: dt.datetime | None = None) -> frozenset[str]:
    """Make what is missing, damaged or soon to expire; return the names of what was made anew.

    Idempotent, and safe to kill at any instant: the next call completes the set. A running kube-apiserver
    and etcd pick up new leaves by themselves; where "ca", "etcd/ca" or "sa" is in the answer, they must be
    restarted.
    """
    now = now or dt.datetime.now(dt.UTC)
    pki = pki_of(home)
    files.private_directory(pki.directory)
    files.private_directory(pki.directory / "etcd")
    return frozenset(_ensure_all(pki, now))


def _ensure_all(pki: Pki, now: dt.datetime) -> Iterator[str]:
    leaves = {
        "ca": {"apiserver": API_SERVER, "admin": ADMIN, "operator": OPERATOR},
        "etcd/ca": {"etcd/server": ETCD_SERVER, "etcd/client": ETCD_CLIENT},
    }
    for name, signed in leaves.items():
        issuer = _load(pki, name)
        if issuer is None or not certificates.lasts(issuer.certificate, now):
            issuer = certificates.authority(f"mainstay {name.replace('/', ' ')}", now)
            _store(pki, name, issuer)
            yield name
        for leaf, subject in signed.items():
            pair = _load(pki, leaf)
            if (
                pair
                and certificates.lasts(pair.certificate, now)
                and certificates.fits(pair, subject, issuer)
            ):
                continue
            _store(pki, leaf, certificates.leaf(subject, issuer, now))
            yield leaf
    yield from _ensure_service_account_key(pki)


def _ensure_service_account_key(pki: Pki) -> Iterator[str]:
    """Keep the signing key for ever: a new one would void every token that was issued."""
    path = pki.key("sa")
    try:
        key = certificates.load_key(path.read_bytes())
    except (OSError, ValueError):
        key = certificates.new_key()
        files.write(path, certificates.private_pem(key))
        yield "sa"
    files.write_if_changed(pki.service_account_public_key, certificates.public_pem(key), files.PUBLIC)


def _load(pki: Pki, name: str) -> Pair | None:
    key = pki.key(name)
    with suppress(OSError, ValueError):
        pair = certificates.load_pair(pki.certificate(name).read_bytes(), key.read_bytes())
        if key.stat().st_mode & 0o077:
            key.chmod(files.PRIVATE)
        return pair
    return None


def _store(pki: Pki, name: str, pair: Pair) -> None:
    """Write the key first: a crash in between leaves a pair that doesn't match, which is made anew."""
    files.write(pki.key(name), pair.key_pem())
    files.write(pki.certificate(name), pair.certificate_pem(), files.PUBLIC)
