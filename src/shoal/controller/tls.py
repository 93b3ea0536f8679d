"""SSL profiles as engines take them."""

from __future__ import annotations

from shoal.objects import views
from shoal.wire.desired import Tls

VERSIONS = {
    "SSL_VERSION_TLS1": "TLSv1.0",
    "SSL_VERSION_TLS1_1": "TLSv1.1",
    "SSL_VERSION_TLS1_2": "TLSv1.2",
    "SSL_VERSION_TLS1_3": "TLSv1.3",
}
"""In their order; SSL 3 is in no OpenSSL that is supported."""
CIPHERS_DEFAULT = "AES:3DES:RC4"
"""The schema's: what it says is not what its owner means, so OpenSSL's own list is taken."""
SUITES_DEFAULT = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
SUITES = (*SUITES_DEFAULT.split(":"), "TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256")
"""RFC 8446, appendix B.4."""


def tls_of(profile: views.SslProfile | None) -> Tls:
    if profile is None:
        return Tls()
    accepted = [VERSIONS[one.type] for one in profile.accepted_versions if one.type in VERSIONS]
    return Tls(
        version_min=min(accepted, default=""),
        version_max=max(accepted, default=""),
        ciphers="" if profile.accepted_ciphers == CIPHERS_DEFAULT else profile.accepted_ciphers,
        suites="" if profile.ciphersuites == SUITES_DEFAULT else profile.ciphersuites,
        client_order=profile.prefer_client_cipher_ordering,
    )
