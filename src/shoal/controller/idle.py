"""How long a client's connection may be idle, from the profiles of its virtual service. Pure."""

from __future__ import annotations

from shoal.objects.views import HttpProfile, Transport

MS_PER_S = 1000
INFINITE_S = 86_400
"""Stands for "infinite": what is silent for a day is gone."""


def http_idle_s(profile: HttpProfile) -> int:
    """Between two requests, and within one."""
    return max(1, profile.keepalive_timeout // MS_PER_S)


def tcp_idle_s(transport: Transport) -> int:
    if transport.type == "PROTOCOL_TYPE_TCP_FAST_PATH" and transport.tcp_fast_path_profile is not None:
        return transport.tcp_fast_path_profile.session_idle_timeout or INFINITE_S
    proxy = transport.tcp_proxy_profile
    return (proxy.idle_connection_timeout if proxy is not None else 600) or INFINITE_S
