"""How long a client's connection may be idle, from the profiles of its virtual service. Pure."""

from __future__ import annotations

from shoal.objects.views import HttpProfile, TcpFastPathProfile, TcpProxyProfile, Transport

MS_PER_S = 1000
INFINITE_S = 86_400
"""Stands for "infinite": what is silent for a day is gone."""


def client_idle_s(http: HttpProfile | None, transport: Transport | None) -> int:
    """``http``: of a service that speaks HTTP; there it is the time between two requests, and within one."""
    if http is not None:
        return max(1, http.keepalive_timeout // MS_PER_S)
    transport = transport or Transport()
    if transport.type == "PROTOCOL_TYPE_TCP_FAST_PATH":
        return (transport.tcp_fast_path_profile or TcpFastPathProfile()).session_idle_timeout or INFINITE_S
    return (transport.tcp_proxy_profile or TcpProxyProfile()).idle_connection_timeout or INFINITE_S
