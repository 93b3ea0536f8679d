"""What a TCP proxy profile asks of clients' and servers' connections, as far as HAProxy has it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from shoal.wire.desired import Listener, Service

from .escape import within

ALIVE_S_MAX = 86_400
"""A connection whose both ends answer keep-alive may be silent for so long."""
PROBE_EVERY_S, PROBES = 10, 3
"""Who does not answer so many is gone."""
SEGMENT_MIN, SEGMENT_MAX = 512, 9000
DSCP_MAX = 63
IDLE_S_MAX = 2_000_000
"""HAProxy counts milliseconds in 31 bits."""


def front(service: Service) -> Iterator[str]:
    """Lines of the frontend; the first are its time-outs."""
    idle_s = within(service.client_idle_s, 1, IDLE_S_MAX)
    if service.mode != "http" and service.keepalive:
        yield f"timeout client {max(idle_s, ALIVE_S_MAX)}s"
        yield from _probes("clitcpka", idle_s)
        yield from () if service.keepalive_halves else (f"timeout client-fin {idle_s}s",)
    else:
        yield f"timeout client {idle_s}s"
    if service.dscp > 0:
        yield f"tcp-request connection set-tos {within(service.dscp, 1, DSCP_MAX) << 2}"


def back(service: Service) -> Iterator[str]:
    own = service.server_idle_s > 0
    idle_s = within(service.server_idle_s if own else service.client_idle_s, 1, IDLE_S_MAX)
    if service.mode != "http" and (service.server_keepalive if own else service.keepalive):
        yield f"timeout server {max(idle_s, ALIVE_S_MAX)}s"
        yield from _probes("srvtcpka", idle_s)
        yield from () if service.keepalive_halves else (f"timeout server-fin {idle_s}s",)
    else:
        yield f"timeout server {idle_s}s"


def bind(listener: Listener) -> str:
    """Arguments of a bind line."""
    text = f" mss {within(listener.mss, SEGMENT_MIN, SEGMENT_MAX)}" if listener.mss > 0 else ""
    return text + (f" tcp-ut {within(listener.unheard_ms, 1, IDLE_S_MAX * 1000)}ms" if listener.unheard_ms > 0 else "")


def _probes(option: str, idle_s: int) -> Iterator[str]:
    yield f"option {option}"
    yield f"{option}-idle {idle_s}s"
    yield f"{option}-intvl {PROBE_EVERY_S}s"
    yield f"{option}-cnt {PROBES}"
