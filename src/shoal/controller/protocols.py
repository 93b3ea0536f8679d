"""Which protocol each port of a virtual service speaks: its own network profile says so, or the service's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from shoal.objects import views
from shoal.objects.views import uuid_of, view

from .idle import INFINITE_S

Document = Mapping[str, Any]
Range = tuple[int, int, str]
"""First port, last port, ``tcp`` or ``udp``."""
SERVED = frozenset(f"PROTOCOL_TYPE_{kind}" for kind in ("TCP_PROXY", "TCP_FAST_PATH", "UDP_FAST_PATH", "UDP_PROXY"))
L2 = "DSR_TYPE_L2"
UDP_IDLE_S = 10
RETRANSMISSIONS, RETRANSMITTED_MS = 8, 200
"""The schema's default; after how long the kernel sends the first again at the earliest."""
FAST = frozenset(f"PROTOCOL_TYPE_{kind}" for kind in ("TCP_FAST_PATH", "UDP_FAST_PATH", "UDP_PROXY"))
"""What the engines' kernel carries, without a proxy."""


class Documents(Protocol):
    def get(self, type: str, uuid: str) -> dict[str, Any] | None: ...


def protocol(profile: Document) -> str:
    """``tcp``, ``udp`` or ``sctp``."""
    return str(profile["profile"]["type"]).removeprefix("PROTOCOL_TYPE_").partition("_")[0].lower()


def fast(profile: Document | None) -> bool:
    """Whether ports with it are on a fast path."""
    return profile is not None and profile["profile"]["type"] in FAST


def kind(profile: Document) -> str:
    """In words: ``UDP``, ``TCP fast path``."""
    named = protocol(profile).upper()
    return f"{named} fast path" if named == "TCP" and fast(profile) else named


def unserved(profile: Document) -> str:
    """Why virtual services can't use this network profile; "" if they can."""
    body = profile["profile"]
    if body["type"] not in SERVED:
        return f"is {protocol(profile).upper()}, which is not served"
    returned = direct_return(profile)
    if returned is not None and (kind := returned.get("dsr_type", "DSR_TYPE_L3")) != L2:
        return f"has a dsr_profile of {kind}, which is not served: set its dsr_type to {L2}"
    snat = (body.get("udp_fast_path_profile") or {}).get("snat")
    if body["type"] == "PROTOCOL_TYPE_UDP_FAST_PATH" and snat is False and returned is None:
        return "sets snat to False without a dsr_profile, which is not served: servers have to answer to the engine"
    return ""


def direct_return(profile: Document | None) -> Document | None:
    """The ``dsr_profile``: how servers answer clients themselves; None: they answer to the engine."""
    if profile is None:
        return None
    body = profile["profile"]
    named = f"{body['type'].removeprefix('PROTOCOL_TYPE_').lower()}_profile"
    found: Document | None = (body.get(named) or {}).get("dsr_profile")
    return found


def mixed(documents: Documents, service: Document) -> str:
    """The protocol, ``TCP`` or ``UDP``, of whose fast ports some have a ``dsr_profile`` and some have none; "" if none."""
    found: dict[str, bool] = {}
    for port in service.get("services", ()):
        profile = profile_of(documents, service, port)
        if profile is not None and fast(profile):
            direct = direct_return(profile) is not None
            if found.setdefault(protocol(profile), direct) != direct:
                return protocol(profile).upper()
    return ""


def profile_of(documents: Documents, service: Document, port: Document) -> dict[str, Any] | None:
    """The network profile of one entry of ``services``."""
    reference = port.get("override_network_profile_ref") or service.get("network_profile_ref") or ""
    return documents.get("networkprofile", uuid_of(reference))


def proxied(documents: Documents, service: views.VirtualService, port: views.Port) -> bool:
    reference = port.override_network_profile_ref or service.network_profile_ref
    return not fast(documents.get("networkprofile", uuid_of(reference)) if reference else None)


def ports_of(documents: Documents, service: Document) -> list[Range]:
    found = []
    for port in service.get("services", ()):
        profile = profile_of(documents, service, port)
        kind = protocol(profile) if profile else "tcp"
        found.append((port["port"], port.get("port_range_end") or port["port"], kind))
    return found


def idle_s(profile: Document | None) -> int:
    """How long a flow of a fast path keeps its server without a packet."""
    if profile is None:
        return UDP_IDLE_S
    body = view(profile, views.NetworkProfile).profile
    if body.type == "PROTOCOL_TYPE_TCP_FAST_PATH":
        return (body.tcp_fast_path_profile or views.TcpFastPathProfile()).session_idle_timeout or INFINITE_S
    found = body.udp_proxy_profile if body.type == "PROTOCOL_TYPE_UDP_PROXY" else body.udp_fast_path_profile
    return found.session_idle_timeout if found else UDP_IDLE_S


def mirrors(profile: Document | None) -> bool:
    """Whether the connections of a TCP fast path are to outlive their engine."""
    found = view(profile, views.NetworkProfile) if profile is not None else None
    return found is not None and found.profile.type == "PROTOCOL_TYPE_TCP_FAST_PATH" and found.connection_mirror


def segment(profile: Document | None) -> int:
    """The largest TCP segment that a proxy takes from clients, in bytes; 0 = as the MTU says."""
    body = view(profile, views.NetworkProfile).profile if profile is not None else views.Transport()
    found = body.tcp_proxy_profile
    if body.type != "PROTOCOL_TYPE_TCP_PROXY" or found is None or found.use_interface_mtu:
        return 0
    return found.max_segment_size


def unheard_ms(profile: Document | None) -> int:
    """How long a proxied client may leave data unacknowledged: the time that so many retransmissions take, each after twice as
    long as the one before. 0 = as the kernel has it: nobody asked for anything else."""
    body = view(profile, views.NetworkProfile).profile if profile is not None else views.Transport()
    found = body.tcp_proxy_profile or views.TcpProxyProfile()
    if body.type != "PROTOCOL_TYPE_TCP_PROXY" or found.max_retransmissions == RETRANSMISSIONS:
        return 0
    return RETRANSMITTED_MS * ((2 << found.max_retransmissions) - 1)


def overlap(ranges: list[Range]) -> str:
    """The first port that two ranges of one protocol share, as `named`; "" if none."""
    last: dict[str, int] = {}
    for low, high, kind in sorted(ranges):
        if low <= last.get(kind, 0):
            return named(low, kind)
        last[kind] = max(last.get(kind, 0), high)
    return ""


def overlap_between(one: list[Range], other: list[Range]) -> str:
    for low, high, kind in one:
        for low2, high2, kind2 in other:
            if kind == kind2 and max(low, low2) <= min(high, high2):
                return named(max(low, low2), kind)
    return ""


def named(port: int, kind: str) -> str:
    return f"port {port}" if kind == "tcp" else f"{kind.upper()} port {port}"
