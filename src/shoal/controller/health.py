"""The health score: what a virtual service, a pool or an engine is worth of 100, and what it lost. Pure; the formula for
people is in docs/operations.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from shoal.objects.views import AnalyticsProfile
from shoal.wire.latency import within

PRESSURE_FROM = 0.8
"""A resource that is used less costs nothing; one that is used up costs all."""
SIGMAS = 3.0
"""A measure is out of line when it is so many standard deviations off its mean of a day."""
SPREAD_MIN = 0.1
"""Of the mean: what is steadier than that is taken to spread so much."""
MOMENTS_MIN = 12
"""So many 5-minute slots make a usual course."""
CERTIFICATE_BEST = 5.0
TOLERATED = 0.5


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Points of 100. ``reasons``: a sentence for each that is lost."""

    performance: float
    resources: float = 0.0
    anomaly: float = 0.0
    security: float = 0.0
    reasons: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        return max(0.0, min(100.0, self.performance - self.resources - self.anomaly - self.security))


class Loss(msgspec.Struct, frozen=True):
    """A share 0..1 of what can be lost, and why."""

    share: float
    why: str = ""


NOTHING = Loss(0.0)


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Of one span of time. ``times``: how many requests took how long, by bucket of `shoal.wire.latency`."""

    requests: float = 0.0
    failed: float = 0.0
    times: tuple[float, ...] = ()


class Usual(msgspec.Struct, frozen=True):
    """One measure: now, and its 5-minute values of the last day."""

    name: str
    now: float
    before: tuple[float, ...]


def performance(traffic: Traffic, threshold_ms: int, factor: float, boost: int = 0) -> tuple[float, list[str]]:
    """Apdex (apdex.org) of those that did not fail: within the threshold 1, within ``factor`` times it a half; without
    traffic nothing is wrong."""
    reasons = []
    count = sum(traffic.times)
    satisfied = within(traffic.times, threshold_ms * 1000) if count else 0.0
    tolerated = within(traffic.times, threshold_ms * factor * 1000) - satisfied if count else 0.0
    apdex = (satisfied + TOLERATED * tolerated) / count if count else 1.0
    failed = min(1.0, traffic.failed / traffic.requests) if traffic.requests else 0.0
    if failed >= 0.001:
        reasons.append(f"{100 * failed:.1f} % of {traffic.requests:.0f} failed")
    if apdex < 0.999:
        slow = 100 * (1 - satisfied / count)
        reasons.append(f"{slow:.1f} % took longer than {threshold_ms} ms")
    return min(100.0, 100 * apdex * (1 - failed) + boost), reasons


def pressure(used: float, what: str) -> Loss:
    """``used``: 0..1 of a resource."""
    share = min(1.0, max(0.0, (used - PRESSURE_FROM) / (1 - PRESSURE_FROM)))
    return Loss(share, f"{100 * used:.0f} % of {what} is used") if share else NOTHING


def missing(there: int, wanted: int, what: str) -> Loss:
    if wanted <= 0 or there >= wanted:
        return NOTHING
    return Loss(1 - there / wanted, f"{wanted - there} of {wanted} {what}")


def unusual(measures: Sequence[Usual]) -> Loss:
    """The share of them that is out of line."""
    found = []
    for measure in measures:
        if len(measure.before) < MOMENTS_MIN:
            continue
        mean = math.fsum(measure.before) / len(measure.before)
        variance = math.fsum((value - mean) ** 2 for value in measure.before) / len(measure.before)
        spread = max(math.sqrt(variance), SPREAD_MIN * mean, 1e-9)
        if abs(measure.now - mean) > SIGMAS * spread:
            found.append(f"{measure.name} {measure.now:.4g}, usually {mean:.4g}")
    return Loss(len(found) / len(measures), "unusual: " + ", ".join(found)) if found else NOTHING


def certificate(days_left: float, profile: AnalyticsProfile, *, self_signed: bool, name: str) -> Loss:
    """Of one that clients get."""
    points = profile.hs_security_certscore_gt30d
    why = []
    if days_left <= 30:
        points, end = profile.hs_security_certscore_le30d, f"ends in {days_left:.0f} days"
        if days_left <= 7:
            points = profile.hs_security_certscore_le07d
        if days_left <= 0:
            points, end = profile.hs_security_certscore_expired, "has expired"
        why.append(end)
    if self_signed:
        points -= profile.hs_security_selfsignedcert_penalty
        why.append("is self-signed")
    share = 1 - min(1.0, max(0.0, points / CERTIFICATE_BEST))
    return Loss(share, f"the certificate {name} {' and '.join(why)}") if share else NOTHING


def scored(
    performing: tuple[float, list[str]],
    profile: AnalyticsProfile,
    *,
    resources: Sequence[Loss] = (),
    anomaly: Loss = NOTHING,
    security: Sequence[Loss] = (),
) -> Score:
    """Of several resources and certificates the worst counts."""
    value, reasons = performing
    scarce = max(resources, key=lambda loss: loss.share, default=NOTHING)
    insecure = max(security, key=lambda loss: loss.share, default=NOTHING)
    return Score(
        performance=value,
        resources=profile.hs_max_resources_penalty * scarce.share,
        anomaly=profile.hs_max_anomaly_penalty * anomaly.share,
        security=profile.hs_max_security_penalty * insecure.share,
        reasons=(*reasons, *(loss.why for loss in (scarce, anomaly, insecure) if loss.share)),
    )
