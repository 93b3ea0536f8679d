"""``GET /metrics``: the engines' totals in Prometheus' text format. Who may read it logs in as for the rest of the API
(basic authentication, which Prometheus speaks); the tenant header narrows it in the same way.

Totals are per engine and begin at zero when an engine's agent does, as Prometheus' counters may.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shoal.wire.counters import Counters, Counts, EngineCounts

CONTENT_TYPE = CONTENT_TYPE_LATEST
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
PHASES = {"queue": "queue_ms", "connect": "connect_ms", "response": "response_ms", "total": "total_ms"}
GAUGES = {
    "open_connections": ("open", 1.0, "Open connections."),
    "memory_bytes": ("memory", 1.0, "Memory of the engine's processes."),
    "machine_memory_free_bytes": ("machine_memory_free", 1.0, "Memory of its machine that is available."),
}
TOTALS = {
    "cpu_seconds": ("cpu_ms", 1e-3, "CPU of the engine's processes."),
    "haproxy_cpu_seconds": ("haproxy_cpu_ms", 1e-3, "CPU of its HAProxy."),
    "receive_bytes": ("rx_bytes", 1.0, "eth0"),
    "transmit_bytes": ("tx_bytes", 1.0, "eth0"),
    "receive_packets": ("rx_packets", 1.0, "eth0"),
    "transmit_packets": ("tx_packets", 1.0, "eth0"),
    "receive_drops": ("rx_drops", 1.0, "eth0"),
    "transmit_drops": ("tx_drops", 1.0, "eth0"),
    "tcp_retransmits": ("tcp_retransmits", 1.0, "TCP segments sent again."),
    "tcp_listen_drops": ("tcp_listen_drops", 1.0, "Connections dropped by a full backlog."),
}


class Names(msgspec.Struct, frozen=True):
    """uuid -> name, of what the caller may see. ``inside``: the engines whose own figures are his business, too."""

    engines: Mapping[str, str]
    services: Mapping[str, str]
    pools: Mapping[str, str]
    inside: Set[str]


def text(counted: Mapping[str, Counters], names: Names) -> bytes:
    """``counted``: engine -> its last message. May run in another thread: it only reads values."""
    registry = CollectorRegistry()
    registry.register(_Once(list(_families(counted, names))))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(counted: Mapping[str, Counters], names: Names) -> Iterator[Metric]:
    seen = {engine: message for engine, message in sorted(counted.items()) if engine in names.engines}
    whole = {engine: message for engine, message in seen.items() if engine in names.inside}
    yield from _engines([(names.engines[engine], message.engine) for engine, message in whole.items()])
    services, servers = [], []
    for engine, message in seen.items():
        sums: dict[tuple[str, str], list[int]] = {}
        for service in message.services:
            if service.id in names.services:
                services.append(([names.services[service.id], service.id, names.engines[engine]], service.counts))
            used = ((pool.id, *one) for pool in service.pools if pool.id in names.pools for one in pool.servers)
            for pool, name, counts in used:
                values, before = msgspec.structs.astuple(counts), sums.get((pool, name))
                sums[pool, name] = [a + b for a, b in zip(before or [0] * len(values), values, strict=True)]
        for (pool, name), figures in sums.items():
            servers.append(([names.pools[pool], pool, name, names.engines[engine]], Counts(*figures)))
    yield from _counts("shoal_virtualservice", ["virtualservice", "uuid", "serviceengine"], services)
    yield from _counts("shoal_server", ["pool", "pool_uuid", "server", "serviceengine"], servers)


def _engines(rows: list[tuple[str, EngineCounts]]) -> Iterator[Metric]:
    for name, (field, factor, words) in GAUGES.items():
        gauge = GaugeMetricFamily(f"shoal_serviceengine_{name}", words, labels=["serviceengine"])
        for engine, counts in rows:
            gauge.add_metric([engine], getattr(counts, field) * factor)
        yield gauge
    for name, (field, factor, words) in TOTALS.items():
        total = CounterMetricFamily(f"shoal_serviceengine_{name}", words, labels=["serviceengine"])
        for engine, counts in rows:
            total.add_metric([engine], getattr(counts, field) * factor)
        yield total


def _counts(prefix: str, labels: list[str], rows: list[tuple[list[str], Counts]]) -> Iterator[Metric]:
    gauge = GaugeMetricFamily(f"{prefix}_open_connections", "Open connections.", labels=labels)
    for values, counts in rows:
        gauge.add_metric(values, counts.open)
    yield gauge
    for name in ("connections", "requests", "errors", "retries"):
        total = CounterMetricFamily(f"{prefix}_{name}", f"All {name}.", labels=labels)
        for values, counts in rows:
            total.add_metric(values, getattr(counts, name))
        yield total
    packets = CounterMetricFamily(
        f"{prefix}_udp_packets", "UDP packets from (in) and to (out) clients.", labels=[*labels, "way"]
    )
    responses = CounterMetricFamily(f"{prefix}_responses", "HTTP responses by class.", labels=[*labels, "code"])
    octets = CounterMetricFamily(
        f"{prefix}_bytes", "Payload of TCP, IP packets of UDP, from (in) and to (out) clients.", labels=[*labels, "way"]
    )
    times = CounterMetricFamily(
        f"{prefix}_session_seconds", "Time of sessions by phase; divide by sessions_timed.", labels=[*labels, "phase"]
    )
    timed = CounterMetricFamily(f"{prefix}_sessions_timed", "Sessions in session_seconds.", labels=labels)
    for values, counts in rows:
        for code in CLASSES:
            responses.add_metric([*values, code], getattr(counts, f"responses_{code}"))
        octets.add_metric([*values, "in"], counts.bytes_in)
        octets.add_metric([*values, "out"], counts.bytes_out)
        packets.add_metric([*values, "in"], counts.packets_in)
        packets.add_metric([*values, "out"], counts.packets_out)
        for phase, field in PHASES.items():
            times.add_metric([*values, phase], getattr(counts, field) / 1000)
        timed.add_metric(values, counts.timed)
    yield from (responses, octets, packets, times, timed)
