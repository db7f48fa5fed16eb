"""The parts of the embedded control plane as data: what to run, and how to ask whether it is ready.

Nothing here starts a process. The parts are long-running units like any other; whoever supervises them
gives each an environment of nothing but `Part.env` and the usual HOME and PATH, because etcd reads every
ETCD_* variable it finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mainstay.controlplane import files, kubeconfig, pki, ports
from mainstay.controlplane.pki import Pki, pki_of
from mainstay.controlplane.ports import Ports
from mainstay.controlplane.rungs.base import Binaries

ETCD = "etcd"
KUBE_APISERVER = "kube-apiserver"

ETCD_QUOTA_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class HttpsProbe:
    """A GET that answers 200 when the part is ready; without the client certificate it is refused."""

    url: str
    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Part:
    """One program of the control plane."""

    name: str
    argv: tuple[str, ...]
    ready: HttpsProbe
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A home that is ready to have its parts started."""

    ports: Ports
    renewed: frozenset[str]  # certificates made anew; "ca", "etcd/ca" or "sa" in it asks for a restart
    parts: tuple[Part, Part]  # etcd first: the API server waits for it


def prepare(home: Path, binaries: Binaries) -> Prepared:
    """Complete everything on disk that the parts need, and return them. Idempotent; for each `up`."""
    files.private_directory(home)
    files.private_directory(data_directory(home))
    renewed = pki.ensure(home)
    chosen = ports.ensure(home)
    kubeconfig.write_kubeconfigs(home, chosen.apiserver)
    return Prepared(chosen, renewed, parts(home, chosen, binaries))


def data_directory(home: Path) -> Path:
    """Return where etcd keeps everything; copying it while etcd is stopped is a backup."""
    return home / "etcd"


def parts(home: Path, chosen: Ports, binaries: Binaries) -> tuple[Part, Part]:
    """Return etcd and kube-apiserver, in the order to start them."""
    return (
        etcd(home, chosen, binaries.etcd),
        kube_apiserver(home, chosen, binaries.kube_apiserver),
    )


def etcd(home: Path, chosen: Ports, program: Path) -> Part:
    """Describe etcd: one member, on the loopback, closed to whoever has no certificate, fsync kept on."""
    certificates = pki_of(home)
    client_url = f"https://127.0.0.1:{chosen.etcd}"
    peer_url = f"https://127.0.0.1:{chosen.etcd_peer}"
    authority = certificates.certificate("etcd/ca")
    certificate, key = certificates.certificate("etcd/server"), certificates.key("etcd/server")
    return Part(
        name=ETCD,
        argv=(
            str(program),
            "--name=mainstay",
            f"--data-dir={data_directory(home)}",
            f"--listen-client-urls={client_url}",
            f"--advertise-client-urls={client_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=mainstay={peer_url}",
            "--client-cert-auth",
            f"--trusted-ca-file={authority}",
            f"--cert-file={certificate}",
            f"--key-file={key}",
            "--peer-client-cert-auth",
            f"--peer-trusted-ca-file={authority}",
            f"--peer-cert-file={certificate}",
            f"--peer-key-file={key}",
            # kube-apiserver compacts every five minutes; this is for what it leaves behind while away.
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=1h",
            f"--quota-backend-bytes={ETCD_QUOTA_BYTES}",
            "--logger=zap",
            "--log-level=warn",
        ),
        env={"GOGC": "50"},
        ready=HttpsProbe(
            f"{client_url}/readyz",
            authority,
            certificates.certificate("etcd/client"),
            certificates.key("etcd/client"),
        ),
    )


def kube_apiserver(home: Path, chosen: Ports, program: Path) -> Part:
    """Describe kube-apiserver: on the loopback, client certificates only, RBAC, made small."""
    certificates = pki_of(home)
    return Part(
        name=KUBE_APISERVER,
        argv=(
            str(program),
            *_storage_flags(certificates, chosen),
            "--bind-address=127.0.0.1",
            f"--secure-port={chosen.apiserver}",
            # Told, not found out: a laptop without a network has no address to find.
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={certificates.certificate('apiserver')}",
            f"--tls-private-key-file={certificates.key('apiserver')}",
            f"--client-ca-file={certificates.certificate('ca')}",
            "--anonymous-auth=false",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={certificates.service_account_public_key}",
            f"--service-account-signing-key-file={certificates.key('sa')}",
            f"--service-cluster-ip-range={pki.SERVICE_CIDR}",
            # It waits for accounts and tokens that only a controller-manager makes.
            "--disable-admission-plugins=ServiceAccount",
            "--event-ttl=1h",
            "--profiling=false",
            "--v=1",
        ),
        # GOGC keeps it small at rest. The limit is a bound for bad days: one near the live heap (160 MiB with a
        # few thousand objects in motion) made it spend 40 % of a core on collecting garbage.
        env={"GOGC": "40", "GOMEMLIMIT": "400MiB"},
        ready=api_probe(home, chosen),
    )


def api_probe(home: Path, chosen: Ports) -> HttpsProbe:
    """Return the question "is the API server ready?", asked as the admin."""
    certificates = pki_of(home)
    return HttpsProbe(
        f"https://127.0.0.1:{chosen.apiserver}/readyz",
        certificates.certificate("ca"),
        certificates.certificate("admin"),
        certificates.key("admin"),
    )


def _storage_flags(certificates: Pki, chosen: Ports) -> tuple[str, ...]:
    return (
        f"--etcd-servers=https://127.0.0.1:{chosen.etcd}",
        f"--etcd-cafile={certificates.certificate('etcd/ca')}",
        f"--etcd-certfile={certificates.certificate('etcd/client')}",
        f"--etcd-keyfile={certificates.key('etcd/client')}",
    )
