"""A certificate authority for tests: issues, revokes, and answers OCSP."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = datetime.timedelta(days=1)


class Issued(msgspec.Struct, frozen=True):
    """A certificate and its key, in PEM. ``pem`` holds both."""

    certificate: str
    key: str

    @property
    def pem(self) -> str:
        return self.certificate + self.key

    @property
    def parsed(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.encode())

    def write(self, path: Path) -> Path:
        path.write_text(self.pem)
        return path


class Issuer:
    """``above`` issued it; it issued itself when there is none."""

    def __init__(self, name: str, above: Issuer | None = None) -> None:
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = above or self
        builder = _builder(self.subject, signer.subject, self.key.public_key(), days=100)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.parsed = builder.sign(signer.key, hashes.SHA256())
        self.pem = _pem(self.parsed)

    def issue(
        self, name: str, *names: str, days: int = 30, ocsp: str = "", old: bool = False, kind: str = "ec"
    ) -> Issued:
        """For ``name`` and further ``names`` (addresses too); ``old``: it has ended."""
        key: Key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self.subject, key.public_key(), days=-1 if old else days)
        builder = builder.add_extension(x509.SubjectAlternativeName(list(_names((name, *names)))), critical=False)
        if ocsp:
            access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(ocsp))
            builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        form = serialization.PrivateFormat.PKCS8
        private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        return Issued(_pem(builder.sign(self.key, hashes.SHA256())), private)

    def revoked(self, *certificates: x509.Certificate, ended: bool = False) -> str:
        """Its list of these, in PEM."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.subject).last_update(now - 2 * DAY)
        builder = builder.next_update(now - DAY if ended else now + DAY)
        for one in certificates:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(now - DAY)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _builder(subject: x509.Name, issuer: x509.Name, key: object, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    begin, end = now - 3 * DAY, now + days * DAY
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)  # type: ignore[arg-type]
    return builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)


def _names(names: Iterable[str]) -> Iterable[x509.GeneralName]:
    for name in names:
        try:
            yield x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            yield x509.DNSName(name)


def _pem(found: x509.Certificate) -> str:
    return found.public_bytes(serialization.Encoding.PEM).decode()
