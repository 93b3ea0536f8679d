"""LDAP: a bind, and a search that must succeed. By ldap3, in a thread: it waits for sockets."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from shoal.wire.monitors import Monitor, MonitorTls, Search

from .connection import Wrong, context

FILTER = "(objectClass=*)"
ENTRIES_MAX = 1


async def ldap(monitor: Monitor, address: str, port: int, tls: MonitorTls | None) -> None:
    """Raises Wrong, OSError."""
    await asyncio.to_thread(_look, monitor, address, port, tls)


def _look(monitor: Monitor, address: str, port: int, tls: MonitorTls | None) -> None:
    import ldap3  # few engines need it
    from ldap3.core.exceptions import LDAPException

    asks = monitor.asks
    if not isinstance(asks, Search):
        raise Wrong("the monitor names no base_dn")
    seconds = max(1, monitor.timeout_s)
    wrapped = _tls(tls) if tls is not None else None
    server = ldap3.Server(
        address, port, use_ssl=tls is not None, tls=wrapped, connect_timeout=seconds, get_info=ldap3.NONE
    )
    connection = ldap3.Connection(
        server, monitor.user or None, monitor.password or None, receive_timeout=seconds, auto_referrals=False
    )
    try:
        if not connection.bind():
            raise Wrong(f"the bind is refused: {connection.result['description']}")
        connection.search(
            asks.base,
            asks.filter or FILTER,
            {"one": ldap3.LEVEL, "sub": ldap3.SUBTREE}.get(asks.scope, ldap3.BASE),
            attributes=list(asks.attributes) or ldap3.NO_ATTRIBUTES,
            size_limit=ENTRIES_MAX,
            time_limit=seconds,
        )
        result = connection.result["description"]
        if result not in ("success", "sizeLimitExceeded"):
            raise Wrong(f"the search ends with {result}")
        if not connection.response:
            raise Wrong("the search finds nothing")
    except LDAPException as error:
        raise Wrong(str(error)[:200]) from None
    finally:
        if connection.socket is not None:
            connection.socket.close()


@functools.cache
def _class() -> type[Any]:
    import ldap3

    class Wrapped(ldap3.Tls):  # type: ignore[misc]
        """The agent's own context: ldap3's knows no addresses in certificates, and no SNI."""

        wanted: MonitorTls

        def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
            connection.socket = context(self.wanted).wrap_socket(
                connection.socket, server_hostname=self.wanted.server_name, do_handshake_on_connect=do_handshake
            )

    return Wrapped


def _tls(tls: MonitorTls) -> Any:
    made = _class()()
    made.wanted = tls
    return made
