"""Rate limits of virtual services and of their application profiles, as rules an engine carries out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from shoal.wire import policy
from shoal.wire.policy import NAME

from .policies import exceeding
from .protocols import Documents

Document = Mapping[str, Any]
PERIOD_S_MAX = 86_400
BY_HEADER = "http_header_rate_limits"
PROFILE = ("dos_rl_profile", "rl_profile")
"""Where an application profile has its limits."""


class Kind(NamedTuple):
    """What a field limits: of each client, of each path, or of all together."""

    field: str
    of_connections: bool
    by_client: bool = False
    by_path: bool = False
    failed: bool = False
    strangers: bool = False


OF_SERVICE = (Kind("connections_rate_limit", True), Kind("requests_rate_limit", False))
OF_PROFILE = (
    Kind("client_ip_connections_rate_limit", True, by_client=True),
    Kind("client_ip_requests_rate_limit", False, by_client=True),
    Kind("uri_requests_rate_limit", False, by_path=True),
    Kind("client_ip_to_uri_requests_rate_limit", False, by_client=True, by_path=True),
    Kind("client_ip_failed_requests_rate_limit", False, by_client=True, failed=True),
    Kind("uri_failed_requests_rate_limit", False, by_path=True, failed=True),
    Kind("client_ip_to_uri_failed_requests_rate_limit", False, by_client=True, by_path=True, failed=True),
    Kind("client_ip_scanners_requests_rate_limit", False, by_client=True, strangers=True),
    Kind("uri_scanners_requests_rate_limit", False, by_path=True, strangers=True),
    Kind("http_header_rate_limits", False),
)
PER_SECOND = (
    Kind("max_rps_cip", False, by_client=True),
    Kind("max_rps_uri", False, by_path=True),
    Kind("max_rps_cip_uri", False, by_client=True, by_path=True),
    Kind("max_rps_unknown_cip", False, by_client=True, strangers=True),
    Kind("max_rps_unknown_uri", False, by_path=True, strangers=True),
    Kind("max_bad_rps_cip", False, by_client=True, failed=True),
    Kind("max_bad_rps_uri", False, by_path=True, failed=True),
    Kind("max_bad_rps_cip_uri", False, by_client=True, by_path=True, failed=True),
)
"""Fields of an ``http_profile`` that say how many there may be in a second; 0 = any number."""
TOO_MANY = {"type": "RL_ACTION_LOCAL_RSP", "status_code": "HTTP_LOCAL_RESPONSE_STATUS_CODE_429"}


def limits_of(documents: Documents, service: str, application: str, *, http: bool) -> tuple[policy.Rule, ...]:
    """``service`` and ``application``: uuids; requests are of ``http`` services only."""
    document = documents.get("virtualservice", service) or {}
    found = [*_of_each_client(document)]
    profiles = documents.get("applicationprofile", application) or {}
    for kind, profile in (
        *given(document, OF_SERVICE),
        *given(_in_profile(profiles), OF_PROFILE),
    ):
        if kind.of_connections or http:
            found.append(_rule(kind, profile))
    return (*found, *_per_second(profiles.get("http_profile") or {})) if http else tuple(found)


def _per_second(profile: Document) -> Iterator[policy.Rule]:
    for kind in PER_SECOND:
        if count := profile.get(kind.field, 0):
            yield _rule(kind, {"rate_limiter": {"count": count, "period": 1}, "action": TOO_MANY})


def _of_each_client(document: Document) -> Iterator[policy.Rule]:
    if most := document.get("max_cps_per_client"):
        limit = policy.Limit(
            count=most, by_client=True, punishes=document.get("limit_doser", False), then=policy.Drop()
        )
        yield policy.Rule(name="max_cps_per_client", phase=policy.ADMISSION, actions=(limit,))


def problems(document: Document, kinds: tuple[Kind, ...]) -> Iterator[tuple[str, str, Any]]:
    """(path, why, value) of what can't be."""
    above = f"{'.'.join(PROFILE)}." if kinds is OF_PROFILE else ""
    for kind, profile in given(_in_profile(document) if above else document, kinds):
        period = profile["rate_limiter"]["period"]
        if period > PERIOD_S_MAX:
            yield f"{above}{kind.field}.rate_limiter.period", f"must be 1..{PERIOD_S_MAX}", period
        if kind.field == BY_HEADER and not any(map(NAME.fullmatch, _named(profile))):
            why = "must name the http_header or http_cookie that is counted by: letters, digits, '_', '.' and '-'"
            yield f"{above}{kind.field}", why, profile.get("http_header") or profile.get("http_cookie")


def untaken(document: Document, kinds: tuple[Kind, ...]) -> list[str]:
    """One sentence for each limit that acts otherwise than it says."""
    found = []
    if kinds is OF_SERVICE and document.get("limit_doser") and not document.get("max_cps_per_client"):
        found.append("limit_doser has no effect without max_cps_per_client.")
    for kind, profile in given(_in_profile(document) if kinds is OF_PROFILE else document, kinds):
        action = (profile.get("action") or {}).get("type", "RL_ACTION_NONE")
        if kind.of_connections and action in ("RL_ACTION_LOCAL_RSP", "RL_ACTION_REDIRECT"):
            found.append(f"{kind.field}: a connection can't be answered; what exceeds the limit is reset.")
        elif action == "RL_ACTION_NONE":
            found.append(f"{kind.field} has the action {action}: what exceeds it is served all the same.")
    if kinds is OF_PROFILE:
        found += _too_many(document)
    return found


def _too_many(profile: Document) -> Iterator[str]:
    """What its limits count by: one that counts by the same thing as another takes no more, unless their periods differ."""
    rules = [_rule(kind, one) for kind, one in given(_in_profile(profile), OF_PROFILE) if not kind.of_connections]
    keys = set()
    for rule in (*rules, *_per_second(profile.get("http_profile") or {})):
        limit = rule.actions[0]
        assert isinstance(limit, policy.Limit)
        keys.add((limit.by_client, limit.by_path, limit.header, limit.cookie, limit.period_s))
    if len(keys) > policy.LIMITS_MAX:
        count = f"{policy.LIMITS_MAX} of {len(keys)} kinds of limits act"
        yield f"{count}: engines count a request for so many at most. The last ones are passed over, see the runtime's notes."


def _named(profile: Document) -> tuple[str, str]:
    """(header, cookie) that is counted by; the header goes first."""
    header = profile.get("http_header") or ""
    return header, "" if header else profile.get("http_cookie") or ""


def given(document: Document, kinds: tuple[Kind, ...]) -> Iterator[tuple[Kind, Document]]:
    for kind in kinds:
        found = document.get(kind.field) or {}
        for profile in found if isinstance(found, list) else [found]:
            if profile.get("rate_limiter"):
                yield kind, profile


def _in_profile(document: Document) -> Document:
    for name in PROFILE:
        document = document.get(name) or {}
    return document


def _rule(kind: Kind, profile: Document) -> policy.Rule:
    action, limiter = profile.get("action") or {}, profile["rate_limiter"]
    header, cookie = _named(profile) if kind.field == BY_HEADER else ("", "")
    limit = policy.Limit(
        count=limiter["count"],
        period_s=limiter["period"],
        burst=limiter.get("burst_sz", 0),
        by_client=kind.by_client,
        by_path=kind.by_path,
        header=header,
        cookie=cookie,
        failed=kind.failed,
        strangers=kind.strangers,
        then=_refused(action) if kind.of_connections else exceeding(action),
    )
    phase = policy.ADMISSION if kind.of_connections else policy.SECURITY
    return policy.Rule(name=kind.field, phase=phase, actions=(limit,))


def _refused(action: Document) -> policy.Drop | policy.Close | None:
    match action.get("type", "RL_ACTION_NONE"):
        case "RL_ACTION_NONE":
            return None
        case "RL_ACTION_DROP_CONN":
            return policy.Drop()
    return policy.Close()
