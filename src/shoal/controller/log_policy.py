"""From AnalyticsPolicy and AnalyticsProfile to what an engine logs of a virtual service's requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shoal.objects import views
from shoal.objects.views import uuid_of, view
from shoal.wire.client_logs import LogPolicy

from .protocols import Documents

ERROR_CODES = range(400, 600)
BLOCKS = {"AP_HTTP_RSP_4XX": range(400, 500), "AP_HTTP_RSP_5XX": range(500, 600)}
SECONDS_PER_MINUTE = 60


def analytics_profile(documents: Documents, reference: str) -> views.AnalyticsProfile:
    """The one referred to, or what a fresh one says."""
    document = documents.get("analyticsprofile", uuid_of(reference)) if reference else None
    return view(document, views.AnalyticsProfile) if document is not None else views.AnalyticsProfile()


def log_policy(documents: Documents, service: views.VirtualService, pools: Iterable[str] = ()) -> LogPolicy | None:
    """None where the profile turns analytics of virtual services off. ``pools``: by uuid, those it may use."""
    profile = analytics_profile(documents, service.analytics_profile_ref)
    if not profile.enable_vs_analytics:
        return None
    asked = service.analytics_policy or views.AnalyticsPolicy()
    full = asked.full_client_logs or views.FullClientLogs()
    until = 0
    if full.enabled and full.duration:
        document = documents.get("virtualservice", service.uuid) or {}
        until = int(document.get("_last_modified", 0)) // 1_000_000 + full.duration * SECONDS_PER_MINUTE
    collected = profile.client_log_config or views.ClientLogConfiguration()
    return LogPolicy(
        slow_ms=profile.apdex_response_threshold,
        every_slow=(asked.metrics_realtime_update is not None and asked.metrics_realtime_update.enabled)
        or any(_is_exact(documents, pool) for pool in pools),
        accepted=accepted(profile),
        significant=collected.enable_significant_log_collection,
        significant_per_s=asked.significant_log_throttle,
        full=full.enabled,
        full_until=until,
        full_per_s=full.throttle,
        headers=asked.all_headers,
    )


def _is_exact(documents: Documents, pool: str) -> bool:
    asked = (documents.get("pool", pool) or {}).get("analytics_policy") or {}
    return bool(asked.get("enable_realtime_metrics", False))


def accepted(profile: views.AnalyticsProfile) -> tuple[int, ...]:
    """Statuses from 400 on that are no errors."""

    def named() -> Iterator[int]:
        yield from profile.exclude_http_error_codes
        for one in profile.ranges:
            yield from range(max(one.begin, ERROR_CODES.start), min(one.end + 1, ERROR_CODES.stop))
        for block in profile.resp_code_block:
            yield from BLOCKS.get(block, ())

    return tuple(sorted({code for code in named() if code in ERROR_CODES}))
