"""Health scores out of what is measured, configured and reported. What is only known as of now (the state, servers that
are down, engines that lack) counts in the newest span alone; a certificate counts in all."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from shoal.objects.views import AnalyticsProfile, VirtualService, uuid_of, view

from . import health
from .certificates import TIME
from .clock import Clock
from .health import Loss, Score, Traffic, Usual
from .log_policy import BLOCKS, analytics_profile
from .metric_ids import ENGINE, POOL, RESPONSES, SERVICE, times
from .metrics import Metrics
from .pool_groups import default_pools
from .rings import Window
from .view import View

Document = dict[str, Any]
KINDS = (SERVICE, POOL, ENGINE)
"""Types that have a score."""
UP = "OPER_UP"
IDLE = ("OPER_UNUSED",)
"""States in which nothing is asked of it: nothing is wrong."""
SPAN_S = 300
KEPT_S = 10.0
"""So long a score of now is given again: dashboards ask for all of them."""
KEPT_MAX = 30_000
SECONDS_PER_DAY = 86_400


class Reports(Protocol):
    def summary(self, type: str, uuid: str) -> Document: ...


class HealthScores:
    def __init__(self, metrics: Metrics, documents: View, runtime: Reports, clock: Clock) -> None:
        self._metrics = metrics
        self._documents = documents
        self._runtime = runtime
        self._clock = clock
        self._kept: dict[tuple[str, str], tuple[float, Score]] = {}

    def now(self, kind: str, uuid: str) -> Score:
        """Of the last 5 minutes."""
        at = self._clock.monotonic()
        known = self._kept.get((kind, uuid))
        if known is not None and at - known[0] < KEPT_S:
            return known[1]
        found = self._score(kind, uuid, self._window(kind, uuid), newest=True)
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[kind, uuid] = at, found
        return found

    def course(
        self, kind: str, uuid: str, step_s: int, *, start: float | None, stop: float | None, limit: int
    ) -> list[tuple[float, Score | None]]:
        """(begin, score) of slots as `Metrics.read` has them; None where nothing is known. The newest is known."""
        windows = self._metrics.read(kind, uuid, step_s, start=start, stop=stop, limit=limit)
        found: list[tuple[float, Score | None]] = [
            (w.at, self._score(kind, uuid, w, newest=False) if w.seconds else None) for w in windows
        ]
        if windows and stop is None:
            found[-1] = windows[-1].at, self._score(kind, uuid, windows[-1], newest=True)
        return found

    def _window(self, kind: str, uuid: str) -> Window | None:
        found = self._metrics.read(kind, uuid, SPAN_S, limit=2)
        known = [window for window in found if window.seconds]
        return known[-1] if known else None

    def _score(self, kind: str, uuid: str, window: Window | None, *, newest: bool) -> Score:
        document = self._documents.get(kind, uuid) or {}
        profile = analytics_profile(self._documents, str(document.get("analytics_profile_ref", "")))
        runtime = self._runtime.summary(kind, uuid) if newest else {}
        state = str(runtime.get("oper_status", {}).get("state", UP))
        if state != UP and state not in IDLE:
            reasons = runtime.get("oper_status", {}).get("reason") or [state]
            return Score(performance=0.0, reasons=tuple(str(reason) for reason in reasons[:1]))
        if kind == ENGINE:
            return health.scored((100.0, []), profile, resources=_engine(window))
        traffic = _traffic(window, profile)
        anomaly = health.unusual(self._usual(kind, uuid, window))
        if kind == POOL:
            limits = profile.apdex_server_response_threshold, profile.apdex_server_response_tolerated_factor
            servers = health.missing(
                int(runtime.get("num_servers_up", 0)), int(runtime.get("num_servers_enabled", 0)), "servers are down"
            )
            return health.scored(health.performance(traffic, *limits), profile, resources=[servers], anomaly=anomaly)
        limits = profile.apdex_response_threshold, profile.apdex_response_tolerated_factor
        return health.scored(
            health.performance(traffic, *limits, profile.hs_performance_boost),
            profile,
            resources=list(self._resources(document, runtime, window)),
            anomaly=anomaly,
            security=list(self._certificates(document, profile)),
        )

    def _usual(self, kind: str, uuid: str, window: Window | None) -> list[Usual]:
        rings = self._metrics.rings(kind, uuid)
        if rings is None or window is None:
            return []
        requests, timed = window.total("requests"), window.total("timed")
        return [
            Usual("connections/s", window.rate("connections"), rings.course("connections")),
            Usual("mean ms", window.total("total_ms") / timed if timed else 0.0, rings.course("total_ms", "timed")),
            Usual(
                "5xx share",
                window.total("responses_5xx") / requests if requests else 0.0,
                rings.course("responses_5xx", "requests"),
            ),
        ]

    def _resources(self, document: Document, runtime: Document, window: Window | None) -> Iterable[Loss]:
        """Of a virtual service: its pool's servers, its engines."""
        if runtime:
            pools = [self._runtime.summary(POOL, pool) for pool in default_pools(self._documents, document)]
            up, enabled = (sum(int(one.get(f"num_servers_{what}", 0)) for one in pools) for what in ("up", "enabled"))
            yield health.missing(up, enabled, "servers are down")
        for vip in runtime.get("vip_summary", ()):
            there, wanted = int(vip.get("num_se_assigned", 0)), int(vip.get("num_se_requested", 0))
            yield health.missing(there, wanted, "engines are missing")
            for engine in vip.get("service_engine", ()):
                yield from _engine(self._window(ENGINE, str(engine.get("uuid", ""))))

    def _certificates(self, document: Document, profile: AnalyticsProfile) -> Iterable[Loss]:
        if not document:
            return
        service = view(document, VirtualService)
        if not any(port.enable_ssl for port in service.services):
            return
        for reference in service.ssl_key_and_certificate_refs:
            found = self._documents.get("sslkeyandcertificate", uuid_of(reference)) or {}
            body: Mapping[str, Any] = found.get("certificate") or {}
            days = _days_left(str(body.get("not_after", "")), self._clock.now())
            if days is not None:
                yield health.certificate(
                    days, profile, self_signed=bool(body.get("self_signed")), name=str(found.get("name", ""))
                )


def _traffic(window: Window | None, profile: AnalyticsProfile) -> Traffic:
    if window is None:
        return Traffic()
    responses = window.total(*RESPONSES)
    if not responses:  # a TCP or UDP service
        return Traffic(requests=window.total("connections"), failed=window.total("errors"))
    blocks = [BLOCKS[name] for name in profile.resp_code_block if name in BLOCKS]
    failed = 0.0 if any(500 in block for block in blocks) else window.total("responses_5xx")
    return Traffic(requests=responses, failed=failed, times=tuple(times(window)))


def _engine(window: Window | None) -> list[Loss]:
    if window is None or not window.seconds:
        return []
    threads, whole = window.total("threads"), window.total("machine_memory")
    cpu = window.total("haproxy_cpu_ms") / 1000 / threads if threads else 0.0
    memory = 1 - window.total("machine_memory_free") / whole if whole else 0.0
    return [health.pressure(cpu, "HAProxy's CPU"), health.pressure(memory, "the machine's memory")]


def _days_left(not_after: str, now: float) -> float | None:
    try:
        end = datetime.datetime.strptime(not_after, TIME).replace(tzinfo=datetime.UTC).timestamp()
    except ValueError:
        return None
    return (end - now) / SECONDS_PER_DAY
