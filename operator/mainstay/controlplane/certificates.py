"""Making and judging X.509 certificates; which ones the control plane has is told in pki.py."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = dt.timedelta(days=3650)
LEAF_LIFE = dt.timedelta(days=365)
RENEW_BEFORE = dt.timedelta(days=30)
BACKDATED = dt.timedelta(days=1)
"""A clock that is set back must not make a fresh certificate "not yet valid"."""

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate names and what it may be used for. Kubernetes reads O as groups, CN as the user."""

    common_name: str
    organizations: tuple[str, ...] = ()
    usages: tuple[x509.ObjectIdentifier, ...] = (CLIENT,)
    hosts: tuple[str, ...] = ()

    def name(self) -> x509.Name:
        """Return the distinguished name."""
        groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in self.organizations]
        return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, self.common_name)])

    def alternatives(self) -> list[x509.GeneralName]:
        """Return the hosts as a certificate lists them: addresses apart from names."""
        return [_alternative(host) for host in self.hosts]


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        """Return the certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """Return the unencrypted private key in PEM (PKCS 8)."""
        return private_pem(self.key)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return an unencrypted private key in PEM (PKCS 8)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public half in PEM."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Parse a private key; ValueError if it is damaged or of another kind."""
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic-curve key")  # noqa: TRY004 - damaged content, not a wrong argument
    return key


def load_pair(certificate: bytes, key: bytes) -> Pair:
    """Parse both halves; ValueError if either is damaged or they don't belong together."""
    pair = Pair(x509.load_pem_x509_certificate(certificate), load_key(key))
    if pair.certificate.public_key() != pair.key.public_key():
        raise ValueError("certificate and key do not belong together")
    return pair


def authority(name: str, now: dt.datetime) -> Pair:
    """Make a self-signed authority that may sign leaves only."""
    key = new_key()
    subject = Subject(name).name()
    builder = (
        _builder(subject, subject, key, now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def leaf(subject: Subject, issuer: Pair, now: dt.datetime) -> Pair:
    """Make a certificate for `subject`, signed by `issuer`."""
    key = new_key()
    builder = (
        _builder(subject.name(), issuer.certificate.subject, key, now, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(subject.usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    )
    if subject.hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(subject.alternatives()), critical=False)
    return Pair(builder.sign(issuer.key, hashes.SHA256()), key)


def lasts(certificate: x509.Certificate, now: dt.datetime) -> bool:
    """Tell whether it is valid now and for RENEW_BEFORE longer."""
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc - RENEW_BEFORE


def fits(pair: Pair, subject: Subject, issuer: Pair) -> bool:
    """Tell whether `pair` says exactly what `subject` asks and was signed by `issuer`."""
    try:
        pair.certificate.verify_directly_issued_by(issuer.certificate)
        usages = pair.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return (
        pair.certificate.subject == subject.name()
        and set(usages) == set(subject.usages)
        and _alternatives(pair.certificate) == subject.alternatives()
    )


def _alternatives(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    life: dt.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
