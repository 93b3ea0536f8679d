"""OCSP (RFC 6960): what to ask an authority's responder of a certificate, and whether its answer may be believed. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from .certificates import TIME, Unreadable, certificates

SKEW = datetime.timedelta(minutes=5)
"""That clocks may differ."""


class Disbelieved(Exception):
    """``status`` is one of the model's ``ocsp_error_status`` without its prefix; the text is for a person."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """``der`` is what clients get; times in seconds since the epoch, ``until`` 0 where none is said. ``serial`` and ``issuer``
    (SHA-1 of its key, in hexadecimal) say whose it is."""

    der: bytes
    serial: str
    issuer: str
    status: str
    since: float
    until: float
    revoked_at: float = 0.0
    reason: str = ""


def pair(chain: str) -> tuple[x509.Certificate, x509.Certificate]:
    """A certificate, and who issued it, out of the PEM of the certificate and its chain. Raises Disbelieved."""
    try:
        own, *others = certificates(chain)
    except Unreadable as error:
        raise Disbelieved("PARSE_CERT", f"the certificate {error}") from None
    try:
        if own.subject == own.issuer:
            raise Disbelieved("SELFSIGNED", "it is self-signed")
        for other in others:
            if other.subject == own.issuer:
                return own, other
    except ValueError:  # names are read only now
        raise Disbelieved("PARSE_CERT", "its chain can't be read") from None
    raise Disbelieved("CACERT", "its issuer's certificate is not in its chain: give it in certificate or by ca_certs")


def responders(own: x509.Certificate) -> list[str]:
    """URLs that a certificate names."""
    try:
        access = own.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    ways = (one for one in access if one.access_method == AuthorityInformationAccessOID.OCSP)
    return [
        way.access_location.value for way in ways if isinstance(way.access_location, x509.UniformResourceIdentifier)
    ]


def request(own: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """SHA-1 names the certificate here, as all responders take it (RFC 5019, 2.1.1); nothing depends on its strength."""
    built = ocsp.OCSPRequestBuilder().add_certificate(own, issuer, hashes.SHA1()).build()
    return built.public_bytes(serialization.Encoding.DER)


def read(der: bytes, own: x509.Certificate, issuer: x509.Certificate, now: datetime.datetime) -> Answer:
    """Raises Disbelieved."""
    try:
        found = ocsp.load_der_ocsp_response(der)
        if found.response_status != ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise Disbelieved("HTTP_RESP", f"the responder says {found.response_status.name}")
        single = next((one for one in found.responses if one.serial_number == own.serial_number), None)
        if single is None or single.issuer_key_hash != _key_hash(own, issuer, single.hash_algorithm):
            raise Disbelieved("HTTP_RESP", "the answer is about another certificate")
        if not any(_signed(found, by) for by in _signers(found, issuer, now)):
            raise Disbelieved("HTTP_RESP", "the answer is not signed by the issuer, nor by whom it lets sign")
    except (ValueError, UnsupportedAlgorithm):
        raise Disbelieved("HTTP_RESP", "the answer is no OCSP response") from None
    until, revoked = single.next_update_utc, single.revocation_time_utc
    if single.this_update_utc > now + SKEW or (until is not None and until <= now):
        raise Disbelieved(
            "HTTP_RESP", f"the answer is for {_time(single.this_update_utc.timestamp())} on, until {until}"
        )
    return Answer(
        der=der,
        serial=str(own.serial_number),
        issuer=_key_hash(own, issuer, hashes.SHA1()).hex(),
        status=single.certificate_status.name,
        since=single.this_update_utc.timestamp(),
        until=until.timestamp() if until else 0.0,
        revoked_at=revoked.timestamp() if revoked else 0.0,
        reason=single.revocation_reason.name.upper() if single.revocation_reason else "",
    )


def is_about(answer: Answer, own: x509.Certificate, issuer: x509.Certificate) -> bool:
    return (answer.serial, answer.issuer) == (str(own.serial_number), _key_hash(own, issuer, hashes.SHA1()).hex())


def shown(answer: Answer, url: str) -> dict[str, Any]:
    """The model's ``ocsp_response_info``."""
    document: dict[str, Any] = {
        "cert_status": f"OCSP_CERTSTATUS_{answer.status}",
        "ocsp_resp_from_responder_url": url,
        "ocsp_response": answer.der.hex(),
        "this_update": _time(answer.since),
        "next_update": _time(answer.until) if answer.until else "",
    }
    if answer.revoked_at:
        document["revocation_time"] = _time(answer.revoked_at)
        document["revocation_reason"] = f"OCSP_REVOCATION_REASON_{answer.reason or 'UNSPECIFIED'}"
    return document


def _time(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime(TIME)


def _key_hash(own: x509.Certificate, issuer: x509.Certificate, algorithm: hashes.HashAlgorithm) -> bytes:
    return ocsp.OCSPRequestBuilder().add_certificate(own, issuer, algorithm).build().issuer_key_hash


def _signers(found: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime.datetime) -> Iterator[x509.Certificate]:
    yield issuer
    for one in found.certificates:
        try:
            usage = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            one.verify_directly_issued_by(issuer)
        except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
            continue
        if ExtendedKeyUsageOID.OCSP_SIGNING in usage and one.not_valid_before_utc <= now <= one.not_valid_after_utc:
            yield one


def _signed(found: ocsp.OCSPResponse, by: x509.Certificate) -> bool:
    key, digest = by.public_key(), found.signature_hash_algorithm
    signature, data = found.signature, found.tbs_response_bytes
    try:
        if isinstance(key, rsa.RSAPublicKey) and digest is not None:
            key.verify(signature, data, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey) and digest is not None:
            key.verify(signature, data, ec.ECDSA(digest))
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, data)
        else:
            return False
    except InvalidSignature:
        return False
    return True
