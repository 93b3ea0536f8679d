"""TLS between engine and controller: 1.3, both sides prove themselves with certificates of the internal CA.

Names are URI SANs (``shoal://controller``, ``shoal://engine/<id>``), not host names: an engine may reach its controller
by any address.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from pathlib import Path

from shoal.errors import Forbidden, NotReady

CONTROLLER_URI = "shoal://controller"
ENGINE_URI = "shoal://engine/"
JOIN_URI = "shoal://join/"
"""Of a certificate that is good for one thing: to have an engine's own key certified, once."""
_SCHEME = "shoal://"


def engine_context(directory: Path | str, key: str = "key.pem", certificate: str = "certificate.pem") -> ssl.SSLContext:
    """The engine's side, from its key, its certificate and ``ca.pem`` in its directory.

    It verifies that the controller's certificate is of that CA; that it is a controller's is checked by
    `shoal.wire.channel.connect` with `peer_identity`. Raises `NotReady`, naming the directory.
    """
    where = Path(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(where / "ca.pem")
        context.load_cert_chain(where / certificate, where / key)
    except OSError as error:  # ssl.SSLError is one
        raise NotReady(
            f"The engine's identity in {where} can't be used: {key}, {certificate} and ca.pem must be there "
            f"and belong together ({error}).",
            hint="Make the engine anew.",
        ) from error
    return context


def show(context: ssl.SSLContext, pem: str) -> None:
    """The other end is shown this certificate. ``pem``: with its chain and its key. The library reads files only: it gets one
    in memory, that nobody else sees. Raises ssl.SSLError."""
    handle = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(handle, pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def fingerprint(der: bytes | None) -> str:
    """SHA-256 of a certificate, in hexadecimal; "" for none."""
    return hashlib.sha256(der).hexdigest() if der else ""


def fingerprint_of_pem(pem: bytes) -> str:
    return fingerprint(ssl.PEM_cert_to_DER_cert(pem.decode())) if pem else ""


def peer_identity(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> str:
    """The one ``shoal://...`` URI SAN of the peer's verified certificate. Raises `Forbidden` without exactly one."""
    certificate = ssl_object.getpeercert() or {}
    names = certificate.get("subjectAltName", ())
    found = [
        entry[1]
        for entry in names
        if len(entry) == 2 and entry[0] == "URI" and isinstance(entry[1], str) and entry[1].startswith(_SCHEME)
    ]
    if len(found) != 1:
        raise Forbidden(
            f"The peer's certificate carries {len(found)} {_SCHEME} names instead of one.",
            hint="It was not issued by this Shoal.",
        )
    return found[0]
