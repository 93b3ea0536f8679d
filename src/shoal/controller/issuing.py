"""Keys, signing requests (RFC 2986) and self-signed certificates that the controller makes."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from .certificates import KEY_BITS, SUBJECT, PrivateKey, plain_pem

Document = Mapping[str, Any]
CURVES: dict[str, ec.EllipticCurve] = {
    "SECP256R1": ec.SECP256R1(),
    "SECP384R1": ec.SECP384R1(),
    "SECP521R1": ec.SECP521R1(),
}
BITS_DEFAULT = 2048
BACKDATED = datetime.timedelta(hours=1)
"""For clients whose clock is behind."""
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


class Unmakeable(Exception):
    """``path`` below the model's ``certificate``, and the reason for a person."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(why)
        self.path = path


def new_key(params: Document) -> str:
    """A private key in PEM by the model's ``key_params``; an RSA key takes up to seconds."""
    key: PrivateKey
    if params.get("algorithm") == "SSL_KEY_ALGORITHM_EC":
        curve = str((params.get("ec_params") or {}).get("curve", "")).removeprefix("SSL_KEY_EC_CURVE_")
        key = ec.generate_private_key(CURVES.get(curve, CURVES["SECP256R1"]))
    else:
        size = str((params.get("rsa_params") or {}).get("key_size", ""))
        bits = next((one for one in KEY_BITS if size == f"SSL_KEY_{one}_BITS"), BITS_DEFAULT)
        key = rsa.generate_private_key(65537, bits)
    return plain_pem(key)


def signing_request(body: Document, key: PrivateKey) -> str:
    """In PEM, for the names in the model's ``certificate``. The one that is there already stays, if it says the same: who signs
    may have it. Raises Unmakeable."""
    subject, names = _subject(body), list(_names(body))
    before = body.get("certificate_signing_request") or ""
    if before and _says(before, subject, names, key):
        return str(before)
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, _hash(key)).public_bytes(serialization.Encoding.PEM).decode()


def is_for(request: str, key: PrivateKey) -> bool:
    """Whether a signing request in PEM is one, for this key."""
    try:
        return x509.load_pem_x509_csr(request.encode()).public_key() == key.public_key()
    except (ValueError, UnicodeEncodeError):
        return False


def self_signed(body: Document, key: PrivateKey, days: int, now: datetime.datetime) -> str:
    """A certificate in PEM, for the names in the model's ``certificate``. Raises Unmakeable."""
    subject, names = _subject(body), list(_names(body))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, _hash(key)).public_bytes(serialization.Encoding.PEM).decode()


def host_names(body: Document) -> list[str]:
    """The host names a certificate is to be for, each once, the common name first. Raises Unmakeable."""
    return [name.value for name in _names(body) if isinstance(name, x509.DNSName)]


def _says(pem: str, subject: x509.Name, names: list[x509.GeneralName], key: PrivateKey) -> bool:
    try:
        found = x509.load_pem_x509_csr(pem.encode())
        same = found.subject == subject and found.public_key() == key.public_key()
    except ValueError:
        return False
    try:
        listed = list(found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, ValueError):
        listed = []
    return same and listed == names


def _subject(body: Document) -> x509.Name:
    given = body.get("subject") or {}
    if not given.get("common_name"):
        raise Unmakeable("subject.common_name", "required for a signing request, and missing")
    parts = []
    for field, oid in SUBJECT.items():
        if given.get(field):
            try:
                parts.append(x509.NameAttribute(oid, str(given[field])))
            except ValueError as error:
                raise Unmakeable(f"subject.{field}", f"can't stand in a certificate: {error}") from None
    return x509.Name(parts)


def _names(body: Document) -> Iterable[x509.GeneralName]:
    """The alternative names, and before them the common name where it is a host's: clients look at no other (RFC 9525)."""
    common = str((body.get("subject") or {}).get("common_name", ""))
    listed = [str(name) for name in body.get("subject_alt_names") or ()]
    given = [common, *listed] if _HOST.fullmatch(common) else listed
    for index, name in enumerate(dict.fromkeys(given)):
        try:
            yield _general(name)
        except ValueError:
            where = listed.index(name) if name in listed else index
            raise Unmakeable(f"subject_alt_names[{where}]", "is no host name, address or mail address") from None


def _general(name: str) -> x509.GeneralName:
    """Raises ValueError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.RFC822Name(name) if "@" in name else x509.DNSName(name)


def _hash(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
