"""The metrics clients ask for by name (reference: api.md 7), and how each is made of what the rings hold.

Names are those Avi clients use wherever Shoal measures the same thing; what only Shoal has begins with ``shoal.``.
A rate over a slot that is covered in part is that of the covered part.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shoal.wire.latency import BUCKETS, percentile_us

from .metrics import time_series
from .rings import Window

RESPONSES = tuple(f"responses_{n}xx" for n in range(1, 6))
FAILED = ("responses_4xx", "responses_5xx")
SERVICE, POOL, ENGINE, CONTROLLER = "virtualservice", "pool", "serviceengine", "controller"
ENTITY_TYPES = {
    SERVICE: "VSERVER_METRICS_ENTITY",
    POOL: "POOL_METRICS_ENTITY",
    ENGINE: "SE_METRICS_ENTITY",
    CONTROLLER: "CONTROLLER_METRICS_ENTITY",
}
PER_SECOND, BITS, BYTES, MS = "PER_SECOND", "BITS_PER_SECOND", "BYTES_PER_SECOND", "MILLISECONDS"
PERCENT, COUNT, SIZE = "PERCENT", "METRIC_COUNT", "BYTES"
Value = Callable[[Window], float | None]
"""None: nothing is known."""


class Metric(msgspec.Struct, frozen=True):
    name: str
    kind: str
    """The type of entity it belongs to."""
    units: str
    description: str
    value: Value


def _rate(*names: str, times: float = 1.0) -> Value:
    return lambda window: window.rate(*names) * times


def _gauge_beside(name: str, known: str) -> Value:
    """Nothing where the other one is 0."""
    return lambda window: window.rate(name) if window.total(known) else None


def _total(*names: str) -> Value:
    return lambda window: window.total(*names)


def _top(name: str) -> Value:
    return lambda window: window.top(name)


def _share(part: tuple[str, ...], whole: tuple[str, ...]) -> Value:
    """Percent; 0 of nothing is 0."""

    def value(window: Window) -> float:
        total = window.total(*whole)
        return 100 * window.total(*part) / total if total else 0.0

    return value


def _mean(amount: str, count: str) -> Value:
    def value(window: Window) -> float:
        total = window.total(count)
        return window.total(amount) / total if total else 0.0

    return value


def _used(free: str, whole: str) -> Value:
    def value(window: Window) -> float:
        total = window.total(whole)
        return 100 * (1 - window.total(free) / total) if total else 0.0

    return value


def _percentile(share: float) -> Value:
    def value(window: Window) -> float | None:
        counts = times(window)
        return percentile_us(counts, share) / 1000 if any(counts) else None

    return value


TIMES = tuple(time_series(bucket) for bucket in range(BUCKETS))


def times(window: Window) -> list[float]:
    """How many requests took how long, by bucket of `shoal.wire.latency`."""
    return window.times(TIMES)


def _side(kind: str, l4: str, l7: str, whose: str) -> list[Metric]:
    """What a virtual service has towards its clients a pool has towards its servers."""
    rows: list[tuple[str, str, str, Value]] = [
        (f"{l4}.avg_bandwidth", BITS, "both directions", _rate("bytes_in", "bytes_out", times=8)),
        (f"{l4}.avg_rx_bytes", BYTES, f"from {whose if kind == SERVICE else 'clients'}", _rate("bytes_in")),
        (f"{l4}.avg_tx_bytes", BYTES, "the other way", _rate("bytes_out")),
        (f"{l4}.avg_rx_pkts", PER_SECOND, "UDP: as avg_rx_bytes", _rate("packets_in")),
        (f"{l4}.avg_tx_pkts", PER_SECOND, "UDP: the other way", _rate("packets_out")),
        (f"{l4}.avg_complete_conns", PER_SECOND, "connections and UDP flows, counted as they come", _rate("connections")),
        (f"{l4}.avg_new_established_conns", PER_SECOND, "connections that came", _rate("connections")),
        (f"{l4}.sum_finished_conns", COUNT, "connections in the step", _total("connections")),
        (f"{l4}.avg_open_conns", COUNT, "open connections, mean", _rate("open")),
        (f"{l4}.max_open_conns", COUNT, "open connections, largest reading", _top("open_max")),
        (f"{l4}.avg_errored_connections", PER_SECOND, "broken requests and failed connections", _rate("errors")),
        (f"{l7}.avg_total_requests", PER_SECOND, "requests", _rate("requests")),
        (f"{l7}.sum_total_requests", COUNT, "requests in the step", _total("requests")),
        (f"{l7}.avg_complete_responses", PER_SECOND, "responses", _rate(*RESPONSES)),
        (f"{l7}.sum_total_responses", COUNT, "responses in the step", _total(*RESPONSES)),
        (f"{l7}.avg_error_responses", PER_SECOND, "responses 4xx and 5xx", _rate(*FAILED)),
        (f"{l7}.pct_response_errors", PERCENT, "of responses: 4xx and 5xx", _share(FAILED, RESPONSES)),
        *(
            (f"{l7}.avg_resp_{n}xx", PER_SECOND, f"responses {n}xx", _rate(f"responses_{n}xx"))
            for n in range(1, 6)
        ),
        (f"{l7}.avg_client_txn_latency", MS, "a whole session", _mean("total_ms", "timed")),
        (f"{l7}.avg_resp_latency", MS, "a server's response", _mean("response_ms", "timed")),
        (f"{l7}.avg_conn_latency", MS, "the connection to a server", _mean("connect_ms", "timed")),
        (f"{l7}.avg_queue_latency", MS, "waiting for a server", _mean("queue_ms", "timed")),
        (f"{l7}.avg_retries", PER_SECOND, "connections to servers tried again", _rate("retries")),
    ]  # fmt: skip
    took = "a whole request" if kind == SERVICE else "a server's response, to its first byte"
    rows += [
        (f"shoal.{l7}_latency_p{p}", MS, f"{p} % of requests took no longer: {took} (sampled)", _percentile(p / 100))
        for p in (50, 90, 95, 99)
    ]
    return [Metric(name, kind, units, text, value) for name, units, text, value in rows]


def _capacity() -> list[Metric]:
    """Of pools with ``capacity_estimation``; nothing before the first of its servers has shown its own."""
    rows = (
        ("avg_est_capacity", "est_capacity", "what its servers that are up can take in time"),
        ("avg_available_capacity", "free_capacity", "what they can take beside what they have"),
    )
    return [
        Metric(f"l4_server.{name}", POOL, PER_SECOND, f"{text} (estimated)", _gauge_beside(series, "est_capacity"))
        for name, series, text in rows
    ]


def _engine() -> list[Metric]:
    rows: list[tuple[str, str, str, Value]] = [
        ("se_stats.avg_cpu_usage", PERCENT, "of one core: all processes of the engine", _rate("cpu_ms", times=0.1)),
        ("se_stats.avg_mem_usage", PERCENT, "of the machine: the engine's processes", _share(("memory",), ("machine_memory",))),
        ("se_stats.avg_connections", COUNT, "open connections, mean", _rate("open")),
        ("se_stats.max_connections", COUNT, "open connections, largest reading", _top("open_max")),
        ("se_if.avg_bandwidth", BITS, "eth0, both directions", _rate("rx_bytes", "tx_bytes", times=8)),
        ("se_if.avg_rx_bytes", BYTES, "eth0", _rate("rx_bytes")),
        ("se_if.avg_tx_bytes", BYTES, "eth0", _rate("tx_bytes")),
        ("se_if.avg_rx_pkts", PER_SECOND, "eth0", _rate("rx_packets")),
        ("se_if.avg_tx_pkts", PER_SECOND, "eth0", _rate("tx_packets")),
        ("se_if.avg_rx_pkts_dropped", PER_SECOND, "eth0, and the kernel's errors", _rate("rx_drops", "rx_errors")),
        ("se_if.avg_tx_pkts_dropped", PER_SECOND, "eth0, and the kernel's errors", _rate("tx_drops", "tx_errors")),
        ("shoal.haproxy_cpu", PERCENT, "of one core: HAProxy, old workers too", _rate("haproxy_cpu_ms", times=0.1)),
        ("shoal.haproxy_idle", PERCENT, "HAProxy's own Idle_pct", _rate("idle_percent")),
        ("shoal.machine_cpu", PERCENT, "of all cores of the machine", _share(("machine_busy_ms",), ("machine_ms",))),
        ("shoal.machine_mem", PERCENT, "of the machine's memory, all that is not available", _used("machine_memory_free", "machine_memory")),
        ("shoal.memory", SIZE, "the engine's processes", _rate("memory")),
        ("shoal.tcp_opens", PER_SECOND, "connections opened and accepted", _rate("tcp_active_opens", "tcp_passive_opens")),
        ("shoal.tcp_retransmits", PER_SECOND, "segments sent again", _rate("tcp_retransmits")),
        ("shoal.pct_tcp_retransmits", PERCENT, "of the segments sent", _share(("tcp_retransmits",), ("tcp_segments_out",))),
        ("shoal.tcp_listen_drops", PER_SECOND, "connections dropped by a full backlog", _rate("tcp_listen_drops")),
    ]  # fmt: skip
    return [Metric(name, ENGINE, units, text, value) for name, units, text, value in rows]


def _controller() -> list[Metric]:
    rows: list[tuple[str, str, str, Value]] = [
        ("controller_stats.avg_cpu_usage", PERCENT, "of one core: the controller", _rate("cpu_ms", times=0.1)),
        ("controller_stats.avg_mem_usage", PERCENT, "of the machine", _share(("memory",), ("machine_memory",))),
        ("shoal.controller_memory", SIZE, "the controller", _rate("memory")),
        ("shoal.engines_heard", COUNT, "engines that send counters", _rate("engines")),
    ]
    return [Metric(name, CONTROLLER, units, text, value) for name, units, text, value in rows]


METRICS = {
    metric.name: metric
    for metric in (
        *_side(SERVICE, "l4_client", "l7_client", "clients"),
        *_side(POOL, "l4_server", "l7_server", "servers"),
        *_capacity(),
        *_engine(),
        *_controller(),
    )
}
"""Name -> metric. A pool's are kept of each of its servers too."""
