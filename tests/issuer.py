"""A certificate authority for tests: issues and revokes; OpenSSL answers OCSP for it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import subprocess
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import httpx
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from shoal.controller import ocsp

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = datetime.timedelta(days=1)


def exchange_parameters(group: str) -> str:
    """Of finite-field key exchange, in PEM: one of RFC 7919's groups, ``ffdhe2048``."""
    command = ["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", f"group:{group}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


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
        self, name: str, *names: str, days: int = 30, responder: str = "", old: bool = False, kind: str = "ec"
    ) -> Issued:
        """For ``name`` and further ``names`` (addresses too); ``old``: it has ended."""
        key: Key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self.subject, key.public_key(), days=-1 if old else days)
        builder = builder.add_extension(x509.SubjectAlternativeName(list(_names((name, *names)))), critical=False)
        if responder:
            access = x509.AccessDescription(
                AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(responder)
            )
            builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        form = serialization.PrivateFormat.PKCS8
        private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        return Issued(_pem(builder.sign(self.key, hashes.SHA256())), private)

    def sign(self, request: str) -> str:
        """A certificate in PEM for a signing request."""
        asked = x509.load_pem_x509_csr(request.encode())
        assert asked.is_signature_valid
        builder = _builder(asked.subject, self.subject, asked.public_key(), days=30)
        for extension in asked.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        return _pem(builder.sign(self.key, hashes.SHA256()))

    @contextlib.asynccontextmanager
    async def responder(
        self, folder: Path, port: int, *issued: Issued, revoked: Issued | None = None
    ) -> AsyncIterator[str]:
        """OpenSSL's OCSP responder for these; its URL."""
        form = serialization.PrivateFormat.PKCS8
        key = self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        (folder / "ca.pem").write_text(self.pem + key)
        lines = []
        for one in (*issued, *([revoked] if revoked else [])):
            end, serial = one.parsed.not_valid_after_utc.strftime("%y%m%d%H%M%SZ"), f"{one.parsed.serial_number:X}"
            at = one.parsed.not_valid_before_utc.strftime("%y%m%d%H%M%SZ,keyCompromise") if one is revoked else ""
            even = serial.zfill(len(serial) + len(serial) % 2)
            lines.append(f"{'R' if at else 'V'}\t{end}\t{at}\t{even}\tunknown\t/CN=x\n")
        (folder / "index.txt").write_text("".join(lines))
        command = ("openssl", "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "ca.pem", "-nmin", "300")
        process = await asyncio.create_subprocess_exec(
            *command, "-port", str(port), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(10):
                said = await process.stdout.readline()
            assert said.startswith(b"ACCEPT"), said
            yield f"http://127.0.0.1:{port}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

    async def answer(self, folder: Path, issued: Issued, port: int = 9890) -> bytes:
        """What its responder says of a certificate of its own, in DER."""
        async with self.responder(folder, port, issued) as url, httpx.AsyncClient() as http:
            reply = await http.post(url, content=ocsp.request(issued.parsed, self.parsed))
        return reply.content

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
