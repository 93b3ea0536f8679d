"""What is in a certificate, whether a key belongs to it, and how long it lasts (RFC 5280)."""

from __future__ import annotations

import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

Document = dict[str, Any]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
SERVED = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)
TIME = "%Y-%m-%d %H:%M:%S"
WARN_DAYS = 30
DAYS_SHOWN = (1, 3650)
"""The range of the model's ``days_until_expire``."""
SUBJECT = {
    "common_name": NameOID.COMMON_NAME,
    "country": NameOID.COUNTRY_NAME,
    "email_address": NameOID.EMAIL_ADDRESS,
    "locality": NameOID.LOCALITY_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "organization_unit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "state": NameOID.STATE_OR_PROVINCE_NAME,
}
CURVES = ("SECP256R1", "SECP384R1", "SECP521R1")
KEY_BITS = (1024, 2048, 3072, 4096)


class Unreadable(Exception):
    """The reason, for a person; never a part of the key."""


def certificate(pem: str) -> x509.Certificate:
    """The first certificate of a PEM text; what follows is its chain. Raises Unreadable."""
    try:
        found = x509.load_pem_x509_certificates(pem.encode())[0]
        found.public_key()
        found.subject, found.issuer  # noqa: B018 - read lazily, and malformed ones show only then
        return found
    except (ValueError, UnicodeEncodeError, UnsupportedAlgorithm):
        raise Unreadable("is no certificate in PEM") from None


def certificates(pem: str) -> list[x509.Certificate]:
    """All certificates of a PEM text, at least one. Raises Unreadable."""
    first = certificate(pem)
    return [first, *x509.load_pem_x509_certificates(pem.encode())[1:]]


def revocation_list(pem: str) -> x509.CertificateRevocationList:
    """Raises Unreadable."""
    try:
        found = x509.load_pem_x509_crl(pem.encode())
        found.issuer  # noqa: B018 - read lazily, and a malformed one shows only then
        return found
    except (ValueError, UnicodeEncodeError, UnsupportedAlgorithm):
        raise Unreadable("is no certificate revocation list in PEM") from None


def described_list(found: x509.CertificateRevocationList) -> Document:
    """The members of the model's ``CRL`` that follow from it."""
    until = found.next_update_utc
    names = _name(found.issuer)
    return {
        "distinguished_name": names["distinguished_name"],
        "common_name": names.get("common_name", ""),
        "last_update": found.last_update_utc.strftime(TIME),
        "next_update": until.strftime(TIME) if until else "",
        "fingerprint": f"SHA1 Fingerprint={found.fingerprint(hashes.SHA1()).hex(':').upper()}",
    }


def private_key(pem: str, passphrase: str) -> PrivateKey:
    """Raises Unreadable."""
    try:
        data, secret = pem.encode(), passphrase.encode() or None
        if "ENCRYPTED" not in pem:
            secret = None
        key = serialization.load_pem_private_key(data, secret)
    except TypeError:
        raise Unreadable("is encrypted, and key_passphrase is missing") from None
    except (ValueError, UnicodeEncodeError, UnsupportedAlgorithm):
        why = "is no private key in PEM" + (", or key_passphrase is not its passphrase" if passphrase else "")
        raise Unreadable(why) from None
    if not isinstance(key, SERVED):
        raise Unreadable("must be an RSA or elliptic curve key")
    return key


def plain_pem(key: PrivateKey) -> str:
    """PKCS #8, not encrypted: an engine has nobody to ask for a passphrase."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def belong_together(found: x509.Certificate, key: PrivateKey) -> bool:
    return found.public_key() == key.public_key()


def described(found: x509.Certificate) -> Document:
    """The members of the model's ``certificate`` that follow from it; the remaining days are `remaining`'s."""
    algorithm = found.signature_hash_algorithm
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = [str(name.value) for name in extension.value]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    public = found.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    document: Document = {
        "subject": _name(found.subject),
        "issuer": _name(found.issuer),
        "not_before": found.not_valid_before_utc.strftime(TIME),
        "not_after": found.not_valid_after_utc.strftime(TIME),
        "serial_number": str(found.serial_number),
        "fingerprint": f"SHA1 Fingerprint={found.fingerprint(hashes.SHA1()).hex(':').upper()}",
        "signature_algorithm": algorithm.name if algorithm else found.signature_algorithm_oid._name,
        "self_signed": found.subject == found.issuer,
        "public_key": public.decode(),
        "version": str(found.version.value + 1),
    }
    return document | ({"subject_alt_names": names} if names else {})


def key_params(found: x509.Certificate) -> Document:
    """The model's ``key_params``; empty for a kind of key that it has no words for."""
    key = found.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in KEY_BITS:
        exponent = key.public_numbers().e
        rsa_params = {"key_size": f"SSL_KEY_{key.key_size}_BITS", "exponent": exponent}
        return {"algorithm": "SSL_KEY_ALGORITHM_RSA", "rsa_params": rsa_params} if exponent < 2**32 else {}
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name.upper() in CURVES:
        return {
            "algorithm": "SSL_KEY_ALGORITHM_EC",
            "ec_params": {"curve": f"SSL_KEY_EC_CURVE_{key.curve.name.upper()}"},
        }
    return {}


def remaining(not_after: str, now: float) -> Document:
    """``days_until_expire`` and ``expiry_status`` at this moment, for a ``not_after`` as `described` writes it."""
    end = time_of(not_after)
    if end is None:
        return {}
    days = int((end - now) // 86_400)
    state = "EXPIRED" if end <= now else "EXPIRY_WARNING" if days < WARN_DAYS else "GOOD"
    low, high = DAYS_SHOWN
    return {"days_until_expire": max(low, min(high, days)), "expiry_status": f"SSL_CERTIFICATE_{state}"}


def time_of(text: str) -> float | None:
    """Seconds since the epoch of a time as `described` writes it; None for anything else."""
    try:
        return datetime.datetime.strptime(text, TIME).replace(tzinfo=datetime.UTC).timestamp()
    except ValueError:
        return None


def _name(name: x509.Name) -> Document:
    parts = {field: name.get_attributes_for_oid(oid) for field, oid in SUBJECT.items()}
    found: Document = {field: str(values[0].value) for field, values in parts.items() if values}
    return {**found, "distinguished_name": name.rfc4514_string()}
