"""The internal certificate authority: who is who between controller, engines and API.

EC P-256 throughout. Controllers carry the URI SAN ``shoal://controller``, engines ``shoal://engine/<id>``; the names
in them are what both sides check (RFC 5280 4.2.1.6), not host names.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shoal import whole_file
from shoal.clouds.protocol import Identity
from shoal.errors import Invalid, NotReady
from shoal.wire.tls import CONTROLLER_URI, ENGINE_URI, JOIN_URI, show

CA_DAYS = 3650
LEAF_DAYS = 365
"""One year for now: leaves are not renewed while they run; an engine gets a new one when it is made anew."""
CA_LIFETIME, LEAF_LIFETIME = datetime.timedelta(days=CA_DAYS), datetime.timedelta(days=LEAF_DAYS)
JOIN_LIFETIME = datetime.timedelta(minutes=30)
"""Longer than making an engine and its first contact may take by the vendor's timers (900 and 480 s)."""
RENEW_DAYS = 30
"""A file certificate with less life than this left is made anew at the next start."""
BACKDATE = datetime.timedelta(minutes=5)
"""Clocks of engines may be behind."""
COMMON_NAME_CHARACTERS_MAX = 64  # RFC 5280, ub-common-name

_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
_SERVER = ExtendedKeyUsageOID.SERVER_AUTH


class Authority:
    """The CA. Made by `open`; holds the private key, never shows it."""

    def __init__(self, directory: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._directory = directory
        self._key = key
        self._certificate = certificate

    def __repr__(self) -> str:
        return f"Authority({str(self._directory)!r})"

    @classmethod
    def open(cls, directory: Path | str) -> Authority:
        """Read ``ca-key.pem`` and ``ca.pem``, or make them (the directory too; key mode 0600).

        Raises `NotReady`, naming the file, when they can't be read or don't belong together.
        """
        where = Path(directory).absolute()
        key_file, certificate_file = where / "ca-key.pem", where / "ca.pem"
        try:
            where.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not key_file.exists() and not certificate_file.exists():
                _write(key_file, _key_pem(ec.generate_private_key(ec.SECP256R1())))
            loaded = serialization.load_pem_private_key(key_file.read_bytes(), None)
            if not certificate_file.exists() and isinstance(loaded, ec.EllipticCurvePrivateKey):
                # The first start, or one that was cut off here. Never a new key: engines trust the one there is.
                _write(certificate_file, _pem(_authority(loaded)))
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        except OSError as error:
            raise NotReady(
                f"The certificate authority's file {error.filename} can't be used ({error.strerror}).",
                hint="Check the owner and mode, or restore it from the backup.",
            ) from error
        except ValueError as error:
            raise NotReady(
                f"The certificate authority in {where} is damaged ({error}).",
                hint="Restore ca-key.pem and ca.pem from the backup.",
            ) from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.public_key() != certificate.public_key():
            raise NotReady(
                f"{key_file} is not the key of {certificate_file}.", hint="Restore both from the same backup."
            )
        return cls(where, loaded, certificate)

    @property
    def ca_pem(self) -> bytes:
        return _pem(self._certificate)

    def issue_engine(self, engine_id: str, name: str) -> Identity:
        """A key and certificate for one engine (URI SAN ``shoal://engine/<id>``), valid `LEAF_DAYS`."""
        sans: list[x509.GeneralName] = [_uri(f"{ENGINE_URI}{engine_id}")]
        key, certificate = self._issue(name or engine_id, sans, [_CLIENT, _SERVER])
        return Identity(key_pem=key, certificate_pem=certificate, ca_pem=self.ca_pem)

    def issue_join(self, engine_id: str, name: str) -> Identity:
        """A join token: a key and certificate (URI SAN ``shoal://join/<id>``) that open nothing but `sign_engine`'s door,
        and live `JOIN_LIFETIME`. That each is used once, `shoal.controller.joining` sees to."""
        key, certificate = self._issue(name or engine_id, [_uri(f"{JOIN_URI}{engine_id}")], [_CLIENT], JOIN_LIFETIME)
        return Identity(key_pem=key, certificate_pem=certificate, ca_pem=self.ca_pem, joins=True)

    def sign_engine(self, request: bytes, engine_id: str, name: str) -> bytes:
        """PEM of a certificate of this engine for the key of a certificate request (PEM), whose names don't count.

        Raises `Invalid` for what is none, or is of another kind of key than P-256.
        """
        try:
            asked = x509.load_pem_x509_csr(request)
            key = asked.public_key()
            signed = asked.is_signature_valid
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Invalid("it is no certificate request") from None
        if not signed or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Invalid("the certificate request must be for a P-256 key, and signed by it")
        sans: list[x509.GeneralName] = [_uri(f"{ENGINE_URI}{engine_id}")]
        return _pem(self._certified(key, name or engine_id, sans, [_CLIENT, _SERVER], LEAF_LIFETIME))

    def issue_server(self, names: Sequence[str], addresses: Sequence[str]) -> tuple[bytes, bytes]:
        """(key PEM, certificate PEM) of this controller (URI SAN ``shoal://controller``), valid `LEAF_DAYS`.

        Raises `Invalid` for something that is no host name or IP address.
        """
        common_name = names[0] if names else "Shoal controller"
        return self._issue(common_name, _server_sans(names, addresses), [_SERVER, _CLIENT])

    def wire_server_context(self) -> ssl.SSLContext:
        """TLS 1.3 for the engines' listener; a client must show a certificate of this CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.ca_pem.decode())
        key, certificate = self.issue_server([], [])
        show(context, (certificate + key).decode())
        return context

    def api_server_files(
        self, directory: Path | str, names: Sequence[str], addresses: Sequence[str]
    ) -> tuple[Path, Path]:
        """(certificate file, key file) for the API: ``api.pem`` (with the CA), ``api-key.pem``.

        Those there are kept while they are of this CA, match names and addresses, and live `RENEW_DAYS` more.
        """
        where = Path(directory).absolute()
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        certificate_file, key_file = where / "api.pem", where / "api-key.pem"
        if not self._usable(certificate_file, key_file, _server_sans(names, addresses)):
            key, certificate = self.issue_server(names, addresses)
            certificate_file.unlink(missing_ok=True)  # never a new key beside an old certificate
            _write(key_file, key)
            _write(certificate_file, certificate + self.ca_pem)
        return certificate_file, key_file

    def _usable(self, certificate_file: Path, key_file: Path, sans: list[x509.GeneralName]) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            certificate.verify_directly_issued_by(self._certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except Exception:  # missing, cut off, garbled, another CA's: whatever it is, a new one is the answer
            return False
        left = certificate.not_valid_after_utc - _now()
        return (
            key.public_key() == certificate.public_key()
            and set(names) == set(sans)
            and left > datetime.timedelta(days=RENEW_DAYS)
        )

    def _issue(
        self,
        name: str,
        sans: list[x509.GeneralName],
        usages: list[x509.ObjectIdentifier],
        lifetime: datetime.timedelta = LEAF_LIFETIME,
    ) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        return _key_pem(key), _pem(self._certified(key.public_key(), name, sans, usages, lifetime))

    def _certified(
        self,
        key: ec.EllipticCurvePublicKey,
        name: str,
        sans: list[x509.GeneralName],
        usages: list[x509.ObjectIdentifier],
        lifetime: datetime.timedelta,
    ) -> x509.Certificate:
        builder = (
            _builder(name, self._certificate.subject, key, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(leaf=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(sans), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())


def self_signed_default(name: str) -> tuple[bytes, bytes]:
    """(key PEM, certificate PEM) signed by itself, for virtual services that name no certificate; `CA_DAYS`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = (
        _builder(name, subject, key.public_key(), CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(leaf=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_SERVER]), critical=False)
    )
    return _key_pem(key), _pem(builder.sign(key, hashes.SHA256()))


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    # Named after its key: two Shoals on one machine must not look like the same issuer, and a certificate made anew
    # for the same key must.
    name = f"Shoal internal CA {x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]}"
    builder = (
        _builder(name, _subject(name), key.public_key(), CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(leaf=False), critical=True)
    )
    return builder.sign(key, hashes.SHA256())


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: datetime.timedelta
) -> x509.CertificateBuilder:
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:COMMON_NAME_CHARACTERS_MAX])])


def _usage(*, leaf: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=leaf,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not leaf,
        crl_sign=not leaf,
        encipher_only=False,
        decipher_only=False,
    )


def _server_sans(names: Sequence[str], addresses: Sequence[str]) -> list[x509.GeneralName]:
    sans: list[x509.GeneralName] = [_uri(CONTROLLER_URI)]
    for name in dict.fromkeys(names):
        try:
            sans.append(x509.DNSName(name))
        except ValueError:
            raise Invalid(f"{name!r} is no host name a certificate can carry") from None
    for address in dict.fromkeys(addresses):
        try:
            sans.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            raise Invalid(f"{address!r} is no IP address") from None
    return sans


def _uri(value: str) -> x509.UniformResourceIdentifier:
    try:
        return x509.UniformResourceIdentifier(value)
    except ValueError:
        raise Invalid(f"{value!r} is no name a certificate can carry") from None


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(file: Path, content: bytes) -> None:
    whole_file.write(file, content)
    whole_file.flush(file.parent)
