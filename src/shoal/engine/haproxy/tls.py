"""TLS in ``haproxy.cfg``: what bind and server lines say of it. Pure."""

from __future__ import annotations

import functools
import hashlib
import ssl
from collections.abc import Iterator

from shoal.wire.desired import (
    CURVES,
    DH_PARAMETERS,
    SERVER_NAME,
    SUITES,
    TLS_VERSIONS,
    ClientCertificates,
    Pool,
    Service,
    Tls,
)

from .escape import Unrenderable, quoted, word

HOST = "req.hdr(host),host_only"
VERIFIED_S_MAX = 300
LEAF_ONLY = "3,11,12,23"
"""Errors above the leaf that are passed over: no list of the issuer's issuer, it is not valid yet or any more, it names the
issuer (``X509_V_ERR_*``: UNABLE_TO_GET_CRL, CRL_NOT_YET_VALID, CRL_HAS_EXPIRED, CERT_REVOKED)."""


_ANY = " ca-ignore-err all crt-ignore-err all"
"""What does not verify is served all the same."""


def certificate_file(id: str, dh: str = "") -> str:
    """Below `render.certificates_folder`, which relative names are below. HAProxy takes parameters of key exchange (``dh``) with a
    certificate: with each it is another file."""
    if not dh:
        return f"{word(id)}.pem"
    digest = hashlib.blake2b(dh.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"{word(f'{id}/dh/{digest}')}.pem"


def authorities_file(id: str) -> str:
    return f"{word(id)}.ca"


def tickets_file(service: str) -> str:
    return f"{word(service)}.tickets"


def revoked_file(id: str) -> str:
    return f"{word(id)}.crl"


def bind(service: Service, port: int, folder: str, *, http2: bool) -> str:
    """What follows the address of a TLS port. ``folder``: of the files, for the one that HAProxy looks for nowhere else. Raises
    Unrenderable."""
    if not service.certificates:
        raise Unrenderable(f"Port {port} has TLS and the virtual service no certificate.")
    if service.tls.dh and not DH_PARAMETERS.fullmatch(service.tls.dh):
        raise Unrenderable("The parameters of key exchange (dhparam) are none in PEM.")
    text = " ssl" + "".join(f" crt {quoted(certificate_file(id, service.tls.dh))}" for id in service.certificates)
    if service.mode == "http":
        text += f" alpn {'h2,http/1.1' if http2 else 'http/1.1'}"
    text += _accepted(service.tls) + (" prefer-client-ciphers" if service.tls.client_order else "")
    if service.tls.curves:
        text += f" curves {_curves(service.tls.curves)}"
    text += " allow-0rtt" if service.tls.early_data and service.mode == "http" else ""
    text += "" if service.tls.resumes else " no-tls-tickets"
    text += f" tls-ticket-keys {quoted(f'{folder}/{tickets_file(service.id)}')}" if service.tls.tickets else ""
    return text + (_clients(service.client_certificates) if service.client_certificates else "")


def _accepted(tls: Tls) -> str:
    found = ""
    for bound, version in (("ssl-min-ver", tls.version_min), ("ssl-max-ver", tls.version_max)):
        if version and version not in TLS_VERSIONS:
            raise Unrenderable(f"There is no TLS version {version[:40]!r}.")
        found += f" {bound} {version}" if version else ""
    if tls.ciphers:
        if not _known(tls.ciphers):
            raise Unrenderable(f"OpenSSL knows none of the ciphers {tls.ciphers[:40]!r}.")
        found += f" ciphers {quoted(tls.ciphers)}"
    suites = [suite for suite in tls.suites.split(":") if suite]
    if unknown := [suite for suite in suites if suite not in SUITES]:
        raise Unrenderable(f"{unknown[0][:40]!r} is no TLS 1.3 cipher suite.")
    if suites:
        found += f" ciphersuites {quoted(':'.join(suites))}"
    return found


@functools.lru_cache(maxsize=100)
def _known(ciphers: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(ciphers)
    except (ssl.SSLError, ValueError):
        return False
    return True


def _curves(text: str) -> str:
    unknown = next((name for name in text.split(":") if name not in CURVES), None)
    if unknown is not None:
        raise Unrenderable(f"OpenSSL knows no curve {unknown[:40]!r}.")
    return text


def early(tls: Tls) -> Iterator[str]:
    """Lines of an HTTP frontend: whoever recorded early data could send it again, so only what is safe to repeat is taken
    before the handshake is done."""
    if tls.early_data:
        yield "http-request wait-for-handshake unless METH_GET"


def session_s(service: Service) -> int:
    """How long sessions of a virtual service may be resumed; 0 = it has none, or does not say. Who shows a certificate is
    looked at anew before long: a resumed session is not."""
    if not service.terminates_tls or not service.tls.resumes:
        return 0
    given = [one.session_s for one in service.spoken if one.session_s > 0]
    wanted = min(given, default=0)
    return min(wanted or VERIFIED_S_MAX, VERIFIED_S_MAX) if service.client_certificates is not None else wanted


def _trust(id: str, revoked: bool) -> str:
    text = f" ca-file {quoted(authorities_file(id))}"
    return text + (f" crl-file {quoted(revoked_file(id))}" if revoked else "")


def _clients(wanted: ClientCertificates) -> str:
    if not wanted.trust:
        raise Unrenderable("Clients are asked for certificates, and nobody may issue them.")
    if wanted.required:
        text = " verify required" + _trust(wanted.trust, wanted.revoked)
        if wanted.lenient:
            return text + _ANY
        return text + (f" ca-ignore-err {LEAF_ONLY}" if wanted.revoked and wanted.leaf_only else "")
    return " verify optional" + _trust(wanted.trust, wanted.revoked) + _ANY


def server(pool: Pool) -> str:
    """What a server line says of TLS; "" without. Raises Unrenderable."""
    wanted = pool.tls
    if wanted is None:
        return ""
    text = " ssl" + (f" verify required{_trust(wanted.trust, wanted.revoked)}" if wanted.trust else " verify none")
    text += _accepted(wanted.tls)
    text += f" crt {quoted(certificate_file(wanted.certificate))}" if wanted.certificate else ""
    if wanted.tells == "name":
        text += f" sni {quoted(f'str({_name(wanted.name)})')}"
    elif wanted.tells == "host":
        text += f" sni {HOST}"
    elif wanted.name:
        text += f" verifyhost {_name(wanted.name)}"
    return text


def check_name(pool: Pool) -> str:
    """The name that health checks tell; "" for none."""
    return _name(pool.tls.name) if pool.tls is not None and pool.tls.tells == "name" else ""


def requests(pool: Pool, *, http: bool) -> Iterator[str]:
    """Lines of the backend. Servers that are verified by the name of each request get none without a name: HAProxy would
    then take any certificate. Raises Unrenderable where that name can't be known."""
    wanted = pool.tls
    if wanted is None or wanted.tells != "host":
        return
    if http and wanted.trust:
        yield f"http-request deny deny_status 400 if !{{ {HOST} -m len gt 0 }}"
    elif wanted.trust:
        why = "The servers' certificates are to be for the host of each request, and a TCP service has no requests: "
        raise Unrenderable(f"{why}give the pool a domain_name or server_name.")


def _name(text: str) -> str:
    if not SERVER_NAME.fullmatch(text):
        raise Unrenderable(f"{text[:40]!r} is no name of a server.")
    return text


def uses(service: Service) -> Iterator[str]:
    """Names of the files that the worker has loaded for a virtual service."""
    for wanted in (pool.tls for pool in service.pools if pool.tls is not None):
        yield from _trust_files(wanted.trust)
        yield certificate_file(wanted.certificate)
    if service.terminates_tls:
        yield from {certificate_file(id, spoken.dh) for spoken in service.spoken for id in service.certificates}
        if service.tls.tickets:
            yield tickets_file(service.id)
        if service.client_certificates is not None:
            yield from _trust_files(service.client_certificates.trust)


def _trust_files(id: str) -> Iterator[str]:
    if id:
        yield from (authorities_file(id), revoked_file(id))
