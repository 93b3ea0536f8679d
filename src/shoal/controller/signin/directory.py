"""LDAP: whether a password is right, and which groups the person is in. Blocking: runs in a thread."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ldap3
import msgspec
from ldap3.core.exceptions import LDAPBindError, LDAPException
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import escape_rdn

from shoal.errors import NotReady

log = logging.getLogger("shoal.signin")

WITHIN_S = 5
"""For a connection, and for each answer."""
GROUPS_MAX = 500
TLS = "AUTH_LDAP_SECURE_USE_LDAPS"
SCOPES = {"AUTH_LDAP_SCOPE_BASE": "BASE", "AUTH_LDAP_SCOPE_ONE": "LEVEL", "AUTH_LDAP_SCOPE_SUBTREE": "SUBTREE"}
Settings = Mapping[str, Any]


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever an outside system says it is. ``groups``: names or DNs; ``attributes`` by lower-case name."""

    name: str
    full_name: str = ""
    email: str = ""
    groups: tuple[str, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = {}


def authenticated(settings: Settings, authorities: Sequence[str], name: str, password: str) -> Person | None:
    """``settings``: LdapAuthSettings, secrets opened; ``authorities``: PEM of the CAs of the servers' certificates, none =
    the machine's. None: no such person, or another password. Raises NotReady when no server can be asked."""
    if not name or not password:
        return None  # an empty password would be an anonymous bind, which succeeds (RFC 4513, 5.1.2)
    failures = []
    for server in settings["server"]:
        try:
            return _Asking(settings, _server(settings, server, authorities)).person(name, password)
        except (LDAPException, OSError) as error:
            log.warning("LDAP server %s: %s", server, error)
            failures.append(f"{server}: {type(error).__name__}")
    raise NotReady(f"No LDAP server can be asked ({', '.join(failures)}).", hint="Check the AuthProfile.")


def _server(settings: Settings, host: str, authorities: Sequence[str]) -> ldap3.Server:
    secure = settings.get("security_mode", TLS) == TLS
    tls = _Tls(validate=ssl.CERT_REQUIRED, ca_certs_data="\n".join(authorities) or None)
    return ldap3.Server(
        host,
        port=int(settings.get("port", 389)),
        use_ssl=secure,
        tls=tls if secure else None,
        connect_timeout=WITHIN_S,
        get_info=ldap3.NONE,
    )


class _Tls(ldap3.Tls):  # type: ignore[misc]
    """The standard library's own checks: ldap3's knows no addresses in certificates, and no SNI."""

    def wrap_socket(self, connection: ldap3.Connection, do_handshake: bool = False) -> None:
        context = ssl.create_default_context(cadata=self.ca_certs_data)
        connection.socket = context.wrap_socket(
            connection.socket, server_hostname=connection.server.host, do_handshake_on_connect=do_handshake
        )


class _Asking:
    def __init__(self, settings: Settings, server: ldap3.Server) -> None:
        self._settings = settings
        self._server = server

    def person(self, name: str, password: str) -> Person | None:
        if bind := self._settings.get("user_bind"):
            return self._by_template(bind, name, password)
        directory = self._settings.get("settings") or {}
        with self._bound(directory["admin_bind_dn"], directory["password"]) as connection:
            found = self._search_user(connection, directory, name)
            if found is None:
                return None
            dn, attributes = found
            if not self._opens(dn, password):
                return None
            return self._person(name, attributes, self._groups(connection, directory, dn, name))

    def _by_template(self, bind: Settings, name: str, password: str) -> Person | None:
        token = bind.get("token") or "<user>"
        dn = bind["dn_template"].replace(token, escape_rdn(name))
        if not self._opens(dn, password):
            return None
        with self._bound(dn, password) as connection:
            connection.search(dn, "(objectClass=*)", ldap3.BASE, attributes=ldap3.ALL_ATTRIBUTES, time_limit=WITHIN_S)
            attributes = _texts(connection.response[0]["attributes"]) if connection.response else {}
        return self._person(name, attributes, attributes.get("memberof", ()))

    @contextlib.contextmanager
    def _bound(self, dn: str, password: str) -> Iterator[ldap3.Connection]:
        """Raises LDAPException where the DN does not open with the password."""
        with self._connection(dn, password) as connection:
            if not connection.bind():
                raise LDAPBindError(f"{dn} is refused")
            yield connection

    def _opens(self, dn: str, password: str) -> bool:
        with self._connection(dn, password) as connection:
            return bool(connection.bind())

    @contextlib.contextmanager
    def _connection(self, dn: str, password: str) -> Iterator[ldap3.Connection]:
        connection = ldap3.Connection(
            self._server, dn, password, receive_timeout=WITHIN_S, read_only=True, auto_referrals=False
        )
        try:
            yield connection
        finally:
            socket = connection.socket
            with contextlib.suppress(LDAPException, OSError):
                connection.unbind()
            if socket is not None:
                socket.close()  # which ldap3 does not always do

    def _search_user(
        self, connection: ldap3.Connection, directory: Settings, name: str
    ) -> tuple[str, dict[str, tuple[str, ...]]] | None:
        base = directory.get("user_search_dn") or self._settings.get("base_dn", "")
        scope = SCOPES[directory.get("user_search_scope", "AUTH_LDAP_SCOPE_ONE")]
        wanted = f"({directory['user_id_attribute']}={escape_filter_chars(name)})"
        connection.search(base, wanted, scope, attributes=ldap3.ALL_ATTRIBUTES, size_limit=2, time_limit=WITHIN_S)
        entries = [entry for entry in connection.response or () if entry.get("type") == "searchResEntry"]
        if len(entries) != 1:  # none, or it does not say who is meant
            return None
        return entries[0]["dn"], _texts(entries[0]["attributes"])

    def _groups(self, connection: ldap3.Connection, directory: Settings, dn: str, name: str) -> tuple[str, ...]:
        base = directory.get("group_search_dn")
        if not base:
            return ()
        member = dn if directory.get("group_member_is_full_dn", True) else name
        attribute = directory.get("group_member_attribute", "member")
        wanted = f"(&{directory.get('group_filter', '(objectClass=*)')}({attribute}={escape_filter_chars(member)}))"
        scope = SCOPES[directory.get("group_search_scope", "AUTH_LDAP_SCOPE_SUBTREE")]
        connection.search(base, wanted, scope, attributes=["cn"], size_limit=GROUPS_MAX, time_limit=WITHIN_S)
        return tuple(e["dn"] for e in connection.response or () if e.get("type") == "searchResEntry")

    def _person(self, name: str, attributes: Mapping[str, tuple[str, ...]], groups: Sequence[str]) -> Person:
        def first(setting: str, usual: str) -> str:
            return next(iter(attributes.get(str(self._settings.get(setting, usual)).lower(), ())), "")

        return Person(
            name=name,
            full_name=first("full_name_attribute", "name"),
            email=first("email_attribute", "email"),
            groups=tuple(groups),
            attributes=attributes,
        )


def _texts(attributes: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, values in attributes.items():
        listed = values if isinstance(values, list) else [values]
        found[name.lower()] = tuple(v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in listed)
    found.pop("userpassword", None)
    return found
