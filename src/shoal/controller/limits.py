"""Rate limits of virtual services and of their application profiles, as rules an engine carries out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from shoal.wire import policy

from .policies import exceeding
from .protocols import Documents

Document = Mapping[str, Any]
PERIOD_S_MAX = 86_400
PROFILE = ("dos_rl_profile", "rl_profile")
"""Where an application profile has its limits."""


class Kind(NamedTuple):
    """What a field limits: of each client, of each path, or of all together."""

    field: str
    of_connections: bool
    by_client: bool = False
    by_path: bool = False


OF_SERVICE = (Kind("connections_rate_limit", True), Kind("requests_rate_limit", False))
OF_PROFILE = (
    Kind("client_ip_connections_rate_limit", True, by_client=True),
    Kind("client_ip_requests_rate_limit", False, by_client=True),
    Kind("uri_requests_rate_limit", False, by_path=True),
    Kind("client_ip_to_uri_requests_rate_limit", False, by_client=True, by_path=True),
)


def limits_of(documents: Documents, service: str, application: str, *, http: bool) -> tuple[policy.Rule, ...]:
    """``service`` and ``application``: uuids; requests are of ``http`` services only."""
    found = []
    for kind, profile in (
        *given(documents.get("virtualservice", service) or {}, OF_SERVICE),
        *given(_in_profile(documents.get("applicationprofile", application) or {}), OF_PROFILE),
    ):
        if kind.of_connections or http:
            found.append(_rule(kind, profile))
    return tuple(found)


def problems(document: Document, kinds: tuple[Kind, ...]) -> Iterator[tuple[str, str, Any]]:
    """(path, why, value) of what can't be."""
    above = f"{'.'.join(PROFILE)}." if kinds is OF_PROFILE else ""
    for kind, profile in given(_in_profile(document) if above else document, kinds):
        period = profile["rate_limiter"]["period"]
        if period > PERIOD_S_MAX:
            yield f"{above}{kind.field}.rate_limiter.period", f"must be 1..{PERIOD_S_MAX}", period


def untaken(document: Document, kinds: tuple[Kind, ...]) -> list[str]:
    """One sentence for each limit that acts otherwise than it says."""
    found = []
    for kind, profile in given(_in_profile(document) if kinds is OF_PROFILE else document, kinds):
        action = (profile.get("action") or {}).get("type", "RL_ACTION_NONE")
        if kind.of_connections and action in ("RL_ACTION_LOCAL_RSP", "RL_ACTION_REDIRECT"):
            found.append(f"{kind.field}: a connection can't be answered; what exceeds the limit is reset.")
        elif action == "RL_ACTION_NONE":
            found.append(f"{kind.field} has the action {action}: what exceeds it is served all the same.")
    return found


def given(document: Document, kinds: tuple[Kind, ...]) -> Iterator[tuple[Kind, Document]]:
    for kind in kinds:
        profile = document.get(kind.field) or {}
        if profile.get("rate_limiter"):
            yield kind, profile


def _in_profile(document: Document) -> Document:
    for name in PROFILE:
        document = document.get(name) or {}
    return document


def _rule(kind: Kind, profile: Document) -> policy.Rule:
    action, limiter = profile.get("action") or {}, profile["rate_limiter"]
    limit = policy.Limit(
        count=limiter["count"],
        period_s=limiter["period"],
        burst=limiter.get("burst_sz", 0),
        by_client=kind.by_client,
        by_path=kind.by_path,
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
