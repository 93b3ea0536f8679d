"""What an engine has counted: monotonic totals, sent every `INTERVAL_S`. A message that is lost costs nothing: the next
one's totals hold what it held. Fields go as arrays, by position."""

from __future__ import annotations

import msgspec

from shoal.wire.latency import Buckets

INTERVAL_S = 5.0
SERVERS_MAX = 10_000
"""Servers named in one message; the totals of further ones are left out (virtual services have no such bound: an
engine serves at most ``max_vs_per_se`` of them)."""


class Counts(msgspec.Struct, frozen=True, array_like=True):
    """Totals of a virtual service (seen at its frontend) or of a server, since ``epoch`` began.

    ``open`` is the moment's figure. ``connections``: for a server the sessions given to it; UDP's are its flows.
    ``bytes``: payload of TCP, whole IP packets of UDP; ``packets`` are counted of UDP only. ``errors``: requests or
    responses that were broken, connections to servers that failed. The ``_ms`` are sums over ``timed`` sessions: means
    HAProxy gives of its last 1,024 ones, times the sessions that came since the reading before.
    """

    open: int = 0
    connections: int = 0
    requests: int = 0
    responses_1xx: int = 0
    responses_2xx: int = 0
    responses_3xx: int = 0
    responses_4xx: int = 0
    responses_5xx: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    errors: int = 0
    retries: int = 0
    queue_ms: int = 0
    connect_ms: int = 0
    response_ms: int = 0
    total_ms: int = 0
    timed: int = 0
    packets_in: int = 0
    packets_out: int = 0


class PoolCounts(msgspec.Struct, frozen=True, array_like=True):
    """One pool as a virtual service uses it; ``servers``: (name, counts). ``responses``: (server, requests by how long
    the server took to begin its response, to the millisecond), an estimate as `ServiceCounts.latency` is."""

    id: str
    servers: tuple[tuple[str, Counts], ...] = ()
    responses: tuple[tuple[str, Buckets], ...] = ()


class ServiceCounts(msgspec.Struct, frozen=True, array_like=True):
    """One virtual service on this engine.

    ``latency``: requests by how long they took, seen by the client, from the request's head to the response's end. An
    estimate: failed and slow requests all, the others by a sample, times what one of it stands for (`LogPolicy`). Totals.
    """

    id: str
    counts: Counts
    pools: tuple[PoolCounts, ...] = ()
    latency: Buckets = ()


class EngineCounts(msgspec.Struct, frozen=True, array_like=True):
    """The engine's processes, the machine it is on, its data interface and its TCP (of its network namespace).

    CPU in ms, memory in bytes. ``machine_ms`` counts each of the machine's cores. The first line are figures of the
    moment, the others totals.
    """

    open: int = 0
    memory: int = 0
    machine_memory: int = 0
    machine_memory_free: int = 0
    threads: int = 1
    cores: int = 1
    idle_percent: int = 0
    """HAProxy's own ``Idle_pct``."""
    cpu_ms: int = 0
    haproxy_cpu_ms: int = 0
    machine_busy_ms: int = 0
    machine_ms: int = 0
    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_drops: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_drops: int = 0
    tcp_active_opens: int = 0
    tcp_passive_opens: int = 0
    tcp_segments_out: int = 0
    tcp_retransmits: int = 0
    tcp_listen_drops: int = 0


class VipPackets(msgspec.Struct, frozen=True, array_like=True):
    """What came to a VIP's addresses here and left from them: packets of any protocol that this engine served itself
    (those it only forwards to other engines of the VIP are not in it)."""

    id: str
    packets: int = 0


class Counters(msgspec.Struct, frozen=True, kw_only=True, tag="counters"):
    """``epoch`` names one life of the agent: totals of another one begin anew. ``number`` counts the messages of it,
    ``at_ms`` is when it was read, on the engine's monotonic clock, since the epoch's begin."""

    epoch: str
    number: int
    at_ms: int
    engine: EngineCounts
    services: tuple[ServiceCounts, ...] = ()
    vips: tuple[VipPackets, ...] = ()
