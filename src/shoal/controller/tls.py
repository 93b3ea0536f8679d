"""TLS as engines take it: SSL profiles, and who verifies whom."""

from __future__ import annotations

from shoal.objects import views
from shoal.objects.views import uuid_of
from shoal.wire.desired import SUITES, SUITES_DEFAULT, TLS_VERSIONS, ClientCertificates, ServerTls, Tls, Trust

from . import key_exchange

NO_CLIENT_CERTIFICATE = "SSL_CLIENT_CERTIFICATE_NONE"

VERSIONS = dict(zip((f"SSL_VERSION_TLS1{minor}" for minor in ("", "_1", "_2", "_3")), TLS_VERSIONS, strict=True))
CIPHERS_DEFAULT = "AES:3DES:RC4"
"""The schema's: what it says is not what its owner means, so OpenSSL's own list is taken."""


def tls_of(profile: views.SslProfile | None, *, of_clients: bool = False) -> Tls:
    """``of_clients``: of the side that they come to, which gives tickets and says the parameters of key exchange."""
    if profile is None:
        return Tls(tickets=of_clients)
    accepted = versions(profile)
    return Tls(
        version_min=min(accepted, default=""),
        version_max=max(accepted, default=""),
        ciphers=":".join(named_ciphers(profile)) or _unless(profile.accepted_ciphers, CIPHERS_DEFAULT),
        suites=":".join(named_suites(profile)) or _unless(profile.ciphersuites, SUITES_DEFAULT),
        client_order=profile.prefer_client_cipher_ordering,
        curves="" if profile.ec_named_curve == "auto" else profile.ec_named_curve,
        early_data=profile.enable_early_data,
        session_s=profile.ssl_session_timeout,
        resumes=profile.enable_ssl_session_reuse,
        tickets=of_clients and profile.enable_ssl_session_reuse,
        dh=key_exchange.parameters(profile.dhparam) if of_clients else "",
    )


def _unless(text: str, default: str) -> str:
    return "" if text == default else text


def versions(profile: views.SslProfile) -> list[str]:
    """Those accepted. Whose ciphers are listed by name has only versions that one of them is for."""
    accepted = [VERSIONS[one.type] for one in profile.accepted_versions if one.type in VERSIONS]
    listed = named_ciphers(profile), named_suites(profile)
    if not any(listed) or not accepted:
        return accepted
    newest = TLS_VERSIONS[-1]
    return [one for one in accepted if listed[1 if one == newest else 0] or _says_itself(profile, one == newest)]


def _says_itself(profile: views.SslProfile, newest: bool) -> bool:
    """Whether the text beside the list says which ciphers there are for TLS 1.3, or for the versions before."""
    text = (
        _unless(profile.ciphersuites, SUITES_DEFAULT) if newest else _unless(profile.accepted_ciphers, CIPHERS_DEFAULT)
    )
    return bool(text)


def named_ciphers(profile: views.SslProfile) -> list[str]:
    """Of ``cipher_enums``, as OpenSSL calls them, up to TLS 1.2; they count where no text says otherwise."""
    if _says_itself(profile, newest=False):
        return []
    return [_openssl(name) for name in profile.cipher_enums if name not in SUITES]


def named_suites(profile: views.SslProfile) -> list[str]:
    return [] if _says_itself(profile, newest=True) else [name for name in profile.cipher_enums if name in SUITES]


def _openssl(name: str) -> str:
    """``TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA`` is ``ECDHE-RSA-AES128-SHA``."""
    exchange, _, rest = name.removeprefix("TLS_").partition("_WITH_")
    rest = rest.replace("3DES_EDE_CBC", "DES-CBC3").replace("AES_", "AES").replace("_CBC", "")
    return f"{'' if exchange == 'RSA' else f'{exchange}-'}{rest}".replace("_", "-")


def trust_of(profile: views.PkiProfile) -> Trust:
    lists = [one.body for one in profile.crls] if profile.crl_check else []
    return Trust(
        id=profile.uuid,
        name=profile.name,
        authorities=_joined([one.certificate for one in profile.ca_certs]),
        revoked=_joined(lists),
    )


def _joined(texts: list[str]) -> str:
    return "".join(f"{text.strip()}\n" for text in texts if text.strip())


def tls_as_client(pool: views.Pool) -> bool:
    """Whether the port that a client came to says if servers are spoken to by TLS."""
    return pool.use_service_port and pool.use_service_ssl_mode


def may_speak(pool: views.Pool) -> bool:
    """Whether servers are spoken to by TLS, at some ports at least."""
    return bool(pool.ssl_profile_ref) or tls_as_client(pool)


def server_tls(
    pool: views.Pool, profile: views.SslProfile | None, authorities: views.PkiProfile | None
) -> ServerTls | None:
    """None where the pool does not speak TLS.

    HAProxy checks a verified server's certificate for the name that it tells the server. So a name that need not be checked
    is told only where it is given, or where nothing is verified.
    """
    if not may_speak(pool):
        return None
    checked = pool.host_check_enabled and authorities is not None
    told = pool.server_name if pool.sni_enabled else ""
    expected = told or next(iter(pool.domain_name), pool.server_name) if checked else told
    tells = ""
    if pool.sni_enabled and expected:
        tells = "name"
    elif pool.sni_enabled and (checked or authorities is None):
        tells = "host"
    trust = trust_of(authorities) if authorities is not None else None
    return ServerTls(
        tls=tls_of(profile),
        trust=trust.id if trust else "",
        revoked=bool(trust and trust.revoked),
        certificate=uuid_of(pool.ssl_key_and_certificate_ref),
        tells=tells,
        name=expected,
    )


def client_certificates(
    mode: str, authorities: views.PkiProfile | None, *, lenient: bool = False
) -> ClientCertificates | None:
    """``mode``: one of the schema's ``SSL_CLIENT_CERTIFICATE_*``. ``lenient``: a bad certificate will do."""
    if mode == NO_CLIENT_CERTIFICATE or authorities is None:
        return None
    return ClientCertificates(
        trust=authorities.uuid,
        revoked=bool(trust_of(authorities).revoked),
        required=mode == "SSL_CLIENT_CERTIFICATE_REQUIRE",
        lenient=lenient,
        leaf_only=authorities.validate_only_leaf_crl,
    )


def names_not_checked(pool: views.Pool) -> tuple[str, str]:
    """(what can't be done as the pool asks, what is done otherwise than it asks), each "" for nothing."""
    if not may_speak(pool) or not pool.pki_profile_ref:
        lacking = "pki_profile_ref" if may_speak(pool) else "ssl_profile_ref"
        return "", f"host_check_enabled has no effect without {lacking}." if pool.host_check_enabled else ""
    told = pool.server_name if pool.sni_enabled else ""
    if not pool.host_check_enabled:
        if told:
            return "", f"Certificates of servers must be for {told}: what is told to servers (SNI) is checked as well."
        if pool.sni_enabled:
            return "", "Servers are told no name (SNI): it would be checked, and host_check_enabled is false."
        return "", ""
    if told and pool.domain_name and told not in pool.domain_name:
        return "the name that servers are told (server_name) is what their certificates are checked for", ""
    if not told and len(pool.domain_name) > 1:
        return "", f"Certificates of servers are checked for {pool.domain_name[0]} only, the first domain_name."
    if not pool.sni_enabled and not pool.domain_name and not pool.server_name:
        return "without sni_enabled the name to check must be given", ""
    return "", ""
