"""What an engine is to do with a pool beside balancing: who comes back to which server, limits, and when all are down."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from shoal.objects import views
from shoal.wire import policy
from shoal.wire.desired import COOKIES, RETRIED_STATUSES, SERVER_NAME, Persistence, Retry, with_port

SECONDS_PER_MINUTE = 60
WHEN_DOWN = {"HM_DOWN_CONTINUE_PERSISTENT_SERVER": "stay", "HM_DOWN_ABORT_CONNECTION": "refuse"}
RAMPED = (
    "LB_ALGORITHM_LEAST_CONNECTIONS",
    "LB_ALGORITHM_LEAST_LOAD",
    "LB_ALGORITHM_FASTEST_RESPONSE",
    "LB_ALGORITHM_FEWEST_TASKS",
)
"""Algorithms that would send all new connections to a server that has none yet."""
UNLIMITED = 1_000_000_000
"""The schema's default of ``rate_limiter.count``."""
NAME_CHARACTERS_MAX = 110
LETTERS_MAX = 12
"""That are spelt in both ways: 4,096 servers may share a name."""


def persistence(profile: views.ApplicationPersistenceProfile) -> Persistence | None:
    """None for the kinds that engines do not have."""
    found = _persistence(profile)
    down = WHEN_DOWN.get(profile.server_hm_down_recovery)
    return msgspec.structs.replace(found, when_down=down) if found and down and found.kind in COOKIES else found


def _persistence(profile: views.ApplicationPersistenceProfile) -> Persistence | None:
    match profile.persistence_type:
        case "PERSISTENCE_TYPE_CLIENT_IP_ADDRESS" | "PERSISTENCE_TYPE_CLIENT_IPV6_ADDRESS":
            address = profile.ip_persistence_profile
            return Persistence(
                kind="client", bits=-1 if address is None or address.ip_mask is None else address.ip_mask
            )
        case "PERSISTENCE_TYPE_HTTP_COOKIE":
            cookie = profile.http_cookie_persistence_profile or views.CookiePersistence()
            seconds = cookie.timeout * SECONDS_PER_MINUTE if cookie.is_persistent_cookie else 0
            return Persistence(kind="cookie", name=cookie.cookie_name, timeout_s=seconds, http_only=cookie.http_only)
        case "PERSISTENCE_TYPE_APP_COOKIE":
            app = profile.app_cookie_persistence_profile
            return Persistence(kind="app_cookie", name=app.prst_hdr_name) if app and app.prst_hdr_name else None
        case "PERSISTENCE_TYPE_CUSTOM_HTTP_HEADER":
            header = profile.hdr_persistence_profile
            return Persistence(kind="header", name=header.prst_hdr_name) if header and header.prst_hdr_name else None
    return None


def balance(pool: views.Pool) -> dict[str, Any]:
    """The members of `wire.Pool` that say which servers are chosen, and for what."""
    idle, fields = pool.conn_pool_properties, pool.http2_properties
    return {
        "field_octets_max": fields.max_http2_header_field_size if fields and pool.enable_http2 else 0,
        "rate": _rate(pool.max_conn_rate_per_server),
        "servers_min": max(1, pool.min_servers_up),
        "ramp_s": pool.connection_ramp_duration * SECONDS_PER_MINUTE if pool.lb_algorithm in RAMPED else 0,
        "feedback_s": pool.fewest_tasks_feedback_delay,
        "affinity": max(1, pool.lb_algorithm_core_nonaffinity),
        "known_by_address": pool.ignore_server_port,
        "admits_kept": pool.server_disable_type == "ALLOW_NEW_CONNECTION_IF_PERSISTENCE_PRESENT",
        "idle_max": idle.upstream_connpool_server_max_cache if idle else 0,
        "idle_ms": idle.upstream_connpool_conn_idle_tmo if idle else 0,
    }


def _rate(profile: views.RateProfile | None) -> policy.Limit | None:
    limiter = profile.rate_limiter if profile else None
    if limiter is None or limiter.count >= UNLIMITED:
        return None
    return policy.Limit(count=limiter.count, period_s=limiter.period, burst=limiter.burst_sz)


# --- names ---


def server_name(pool: views.Pool, server: views.PoolServer) -> str:
    """What engines and their figures know it by."""
    return f"{server.ip.addr}:{server.port or pool.default_server_port}"


def told_host(pool: views.Pool) -> str:
    """The one Host header that all servers get; "" = the client's, or each its own (`names_told`)."""
    if not (pool.rewrite_host_header_to_sni and pool.sni_enabled and pool.server_name):
        return ""
    ports = {server.port or pool.default_server_port for server in pool.servers}
    return with_port(pool.server_name, ports.pop(), pool.append_port) if len(ports) == 1 else pool.server_name


def names_told(pool: views.Pool) -> dict[str, str]:
    """Server -> what it gets as Host header, where servers get their own names.

    HAProxy writes there what it knows the server by, and knows no two by one name. So those that share a name are told it
    in different spellings: the case of letters means nothing in a host (RFC 9110, 4.2.3). Empty where that can't be.
    """
    if not pool.servers or not (
        pool.rewrite_host_header_to_server_name or all(server.rewrite_host_header for server in pool.servers)
    ):
        return {}
    found: dict[str, str] = {}
    by_host: dict[str, list[str]] = {}
    for server in pool.servers:
        host = (server.hostname or server.ip.addr).rstrip(".")
        if not can_be_told(host):
            return {}
        port = server.port or pool.default_server_port
        told = host if pool.use_service_port else with_port(host, port, pool.append_port)
        by_host.setdefault(told.lower(), []).append(server_name(pool, server))
    for host, names in by_host.items():
        spelt = itertools.islice(_spellings(host), len(names))
        found.update(zip(sorted(names), spelt, strict=False))
    return found if len(found) == len(pool.servers) else {}


def can_be_told(host: str) -> bool:
    """A name of DNS or an IPv4 address."""
    return len(host) <= NAME_CHARACTERS_MAX and SERVER_NAME.fullmatch(host) is not None


def _spellings(host: str) -> Iterator[str]:
    letters = [at for at, character in enumerate(host) if character.isalpha()]
    for number in range(1 << min(len(letters), LETTERS_MAX)):
        raised = {at for place, at in enumerate(letters) if number >> place & 1}
        yield "".join(c.upper() if at in raised else c for at, c in enumerate(host))


def retry(wanted: views.ServerReselect | None) -> Retry | None:
    """Of the statuses asked for, those that engines can take for no answer."""
    if wanted is None or not wanted.enabled:
        return None
    codes = wanted.svr_resp_code or views.ReselectCodes()
    blocks = [int(block[-3]) for block in codes.resp_code_block]
    asked = {*codes.codes, *(code for one in codes.ranges for code in range(one.begin, one.end + 1))}
    asked |= {code for code in RETRIED_STATUSES if code // 100 in blocks}
    statuses = tuple(code for code in RETRIED_STATUSES if code in asked)
    return Retry(
        times=wanted.num_retries,
        timeout_ms=wanted.retry_timeout,
        statuses=statuses,
        every_method=wanted.retry_nonidempotent,
    )


def without_servers(action: views.FailAction | None) -> policy.Redirect | policy.Respond | policy.Close | None:
    """``FAIL_ACTION_BACKUP_POOL`` is the original's own word for pools of a group: as if there were none."""
    match action:
        case views.FailAction(type="FAIL_ACTION_CLOSE_CONN"):
            return policy.Close()
        case views.FailAction(type="FAIL_ACTION_HTTP_LOCAL_RSP", local_rsp=response):
            response = response or views.FailResponse()
            file = response.file
            return policy.Respond(
                status=int(response.status_code.rpartition("_")[2]),
                content_type=file.content_type if file else "",
                body=file.file_content if file else "",
            )
        case views.FailAction(type="FAIL_ACTION_HTTP_REDIRECT", redirect=views.FailRedirect() as redirect):
            return policy.Redirect(
                status=int(redirect.status_code.rpartition("_")[2]),
                tls=redirect.protocol == "HTTPS",
                host=_text(redirect.host),
                path=_text(redirect.path),
                keep_query=False,
                add_query=redirect.query,
            )
    return None


def _text(text: str) -> tuple[policy.Piece, ...]:
    return (policy.Piece(kind="text", text=text),) if text else ()
