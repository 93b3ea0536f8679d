"""Certificates and keys in the forms that clients give: PEM, DER or PKCS #12 in base64. All become PEM."""

from __future__ import annotations

import base64
import binascii

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from .certificates import SERVED, Unreadable, plain_pem

BEGIN = "-----BEGIN "


def certificate_pem(text: str) -> str:
    """Of base64 of PEM or DER. Raises Unreadable."""
    data = _decoded(text)
    if data.lstrip().startswith(BEGIN.encode()):
        return _text(data)
    try:
        return x509.load_der_x509_certificate(data).public_bytes(serialization.Encoding.PEM).decode()
    except ValueError:
        raise Unreadable("holds no certificate, neither in PEM nor in DER") from None


def key_pem(text: str, passphrase: str) -> str:
    """Of base64 of PEM or DER. Raises Unreadable."""
    data = _decoded(text)
    if data.lstrip().startswith(BEGIN.encode()):
        return _text(data)
    try:
        key = serialization.load_der_private_key(data, passphrase.encode() or None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unreadable("holds no private key that key_passphrase opens, neither in PEM nor in DER") from None
    if not isinstance(key, SERVED):
        raise Unreadable("must be an RSA or elliptic curve key")
    return plain_pem(key)


def opened(text: str, passphrase: str) -> tuple[str, str]:
    """(key, certificate and chain) of PKCS #12 in base64. Raises Unreadable."""
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(_decoded(text), passphrase.encode() or None)
    except (ValueError, UnsupportedAlgorithm):
        why = "is no PKCS #12 file in base64" + (", or key_passphrase is not its passphrase" if passphrase else "")
        raise Unreadable(why if passphrase else f"{why}, or it needs key_passphrase") from None
    if not isinstance(key, SERVED) or certificate is None:
        raise Unreadable("must hold an RSA or elliptic curve key and its certificate")
    chain = (certificate, *others)
    return plain_pem(key), "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in chain)


def is_pem(text: str) -> bool:
    """What is stored already is in PEM, whatever form it was given in."""
    return text.lstrip().startswith(BEGIN)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable("is no base64") from None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Unreadable("is no text") from None
