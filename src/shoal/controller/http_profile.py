"""From the HTTP part of an application profile to `shoal.wire.policy.Http`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shoal.objects.views import uuid_of
from shoal.wire import policy

from .policies import VARIABLES, networks_of
from .protocols import Documents

Document = Mapping[str, Any]
XFF = {"REPLACE_XFF_HEADERS": "replace", "APPEND_TO_THE_XFF_HEADER": "append", "ADD_NEW_XFF_HEADER": "add"}
COMPRESSED = ("text/html", "text/plain", "text/css", "text/xml", "application/javascript", "application/json")
"""What AUTO_COMPRESSION compresses where no string group says otherwise."""
SECONDS_PER_DAY = 86_400
NO_CLIENT_CERTIFICATE = "SSL_CLIENT_CERTIFICATE_NONE"
BODY_TIMEOUT_MS = 30_000
HEADER_KB, HEAD_KB, RESPONSE_HEAD_KB, HEADERS = 12, 48, 48, 256
REQUESTS = 100
"""The schema's defaults. Where nobody asked for anything else, heads have HAProxy's buffer, and connections last: that they end
after so many requests is another product's way of freeing memory."""
UNLIMITED_HEADERS = 4096
ADDRESSES = {
    "ip_addrs": "addrs",
    "ip_addr_prefixes": "prefixes",
    "ip_addr_ranges": "ranges",
    "ip_addrs_ref": "group_refs",
}
"""Of a compression filter, by what an address match calls them."""


def http_of(documents: Documents, profile: Document) -> policy.Http:
    """``profile``: the ``http_profile`` of an application profile."""
    streams = profile.get("http2_profile") or {}
    return policy.Http(
        forwarded_for=profile.get("xff_alternate_name", "X-Forwarded-For") if profile.get("xff_enabled", True) else "",
        forwarded_for_update=XFF[profile.get("xff_update", "REPLACE_XFF_HEADERS")],
        forwarded_proto=profile.get("x_forwarded_proto_enabled", False),
        true_client=_true_client(profile),
        fingerprints=profile.get("collect_client_tls_fingerprint", False),
        checks_name=not profile.get("disable_sni_hostname_check", False),
        to_https=profile.get("http_to_https", False),
        hsts_s=profile.get("hsts_max_age", 365) * SECONDS_PER_DAY if profile.get("hsts_enabled") else 0,
        hsts_subdomains=profile.get("hsts_subdomains_enabled", True),
        secure_cookies=profile.get("secure_cookie_enabled", False),
        http_only_cookies=profile.get("httponly_enabled", False),
        https_redirects=profile.get("server_side_redirect_to_https", False),
        body_kb_max=profile.get("client_max_body_size", 0),
        head_timeout_ms=profile.get("client_header_timeout", 10_000),
        body_timeout_ms=profile.get("client_body_timeout", BODY_TIMEOUT_MS),
        waits_for_body=profile.get("enable_request_body_buffering", False),
        continues=profile.get("respond_with_100_continue", True),
        dots_in_names=profile.get("allow_dots_in_header_name", False),
        accel_headers=profile.get("pass_through_x_accel_headers", False),
        keepalive_header=profile.get("keepalive_header", False),
        keepalive_of_server=profile.get("use_app_keepalive_timeout", False),
        requests_max=_unless(profile.get("max_keepalive_requests", REQUESTS), REQUESTS),
        streams_max=streams.get("max_http2_concurrent_streams_per_connection", 0),
        window_kb=streams.get("http2_initial_window_size", 0),
        **_sizes(profile),
        reuse=profile.get("connection_multiplexing_enabled", True),
        websockets=profile.get("websockets_enabled", True),
        forbidden=tuple(_forbidden(profile)),
        client_headers=tuple(_client_headers(profile)),
        **_compression(documents, profile.get("compression_profile") or {}),
    )


def _unless(value: int, default: int) -> int:
    return 0 if value == default else value


def _sizes(profile: Document) -> dict[str, Any]:
    header = profile.get("client_max_header_size", HEADER_KB)
    head = profile.get("client_max_request_size", HEAD_KB)
    headers = profile.get("max_header_count", HEADERS)
    return {
        "header_kb_max": _unless(header, HEADER_KB),
        "head_kb_max": head if header > HEADER_KB else _unless(head, HEAD_KB),
        "response_head_kb_max": _unless(profile.get("max_response_headers_size", RESPONSE_HEAD_KB), RESPONSE_HEAD_KB),
        "headers_max": headers or UNLIMITED_HEADERS,
    }


def _true_client(profile: Document) -> policy.TrueClient | None:
    if not profile.get("use_true_client_ip"):
        return None
    wanted = profile.get("true_client_ip") or {}
    position = wanted.get("index_in_header", 1)
    return policy.TrueClient(
        header=next(iter(wanted.get("headers") or ()), "X-Forwarded-For"),
        position=-position if wanted.get("direction", "LEFT") == "RIGHT" else position,
    )


def _compression(documents: Documents, wanted: Document) -> dict[str, Any]:
    if not wanted.get("compression"):
        return {}
    group = documents.get("stringgroup", uuid_of(wanted.get("compressible_content_ref", ""))) or {}
    custom = wanted.get("type") == "CUSTOM_COMPRESSION"
    return {
        "compress": tuple(pair["key"] for pair in group.get("kv") or ()) or COMPRESSED,
        "compress_alone": wanted.get("remove_accept_encoding_header", True),
        "compress_for": tuple(_filters(documents, wanted)) if custom else None,
    }


def addresses_of(compression_filter: Document) -> dict[str, Any]:
    """The same as a match on addresses."""
    found = {ours: compression_filter.get(theirs) for theirs, ours in ADDRESSES.items()}
    return found | {"group_refs": [found["group_refs"]] if found["group_refs"] else []}


def _filters(documents: Documents, wanted: Document) -> Iterator[policy.Compressing]:
    """Both the client's address and its name must fit, where both are given; ``match`` is about the address."""
    for one in sorted(wanted.get("filter") or (), key=lambda one: one["index"]):
        tests, elsewhere = [], one.get("match") == "IS_NOT_IN"
        if any(one.get(field) for field in ADDRESSES):
            values = tuple(networks_of(documents, addresses_of(one)))
            if not values and not elsewhere:  # it is nobody's
                continue
            tests += [policy.Test(of="client", values=values, negated=elsewhere)] if values else []
        devices = documents.get("stringgroup", uuid_of(one.get("devices_ref") or "")) or {}
        names = (*(one.get("user_agent") or ()), *(pair["key"] for pair in devices.get("kv") or ()))
        if names:
            tests.append(policy.Test(of="header", name="User-Agent", how="contains", values=names))
        yield policy.Compressing(tests=tuple(tests), compresses=one.get("level") != "NO_COMPRESSION")


def _client_headers(profile: Document) -> Iterator[policy.Header]:
    """Of an ``http_profile`` that asks for client certificates."""
    if profile.get("ssl_client_certificate_mode", NO_CLIENT_CERTIFICATE) == NO_CLIENT_CERTIFICATE:
        return
    for one in (profile.get("ssl_client_certificate_action") or {}).get("headers") or ():
        name, variable = one.get("request_header", ""), VARIABLES.get(one.get("request_header_value", ""), "")
        if name and variable and variable != "header":
            yield policy.Header(action="replace", name=name, variable=variable)


def _forbidden(profile: Document) -> Iterator[str]:
    """The same headers, where who sends one is to be cut off: only an engine may say such things."""
    action = profile.get("ssl_client_certificate_action") or {}
    if action.get("close_connection") and profile["ssl_client_certificate_mode"] != NO_CLIENT_CERTIFICATE:
        yield from (one["request_header"] for one in action.get("headers") or () if one.get("request_header"))
