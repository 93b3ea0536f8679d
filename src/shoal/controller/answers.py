"""What engines answer by themselves: from a cache, and with error pages. From profiles to `shoal.wire.policy`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from shoal.objects.views import uuid_of
from shoal.wire import policy

from .policies import text_test
from .protocols import Documents

Document = Mapping[str, Any]
BYTES_PER_MB = 1_000_000
CACHE_MB_DEFAULT, CACHE_MB_MAX = 64, 1024
"""``max_cache_size`` 0 is the former; an engine has other uses for its memory, too."""
OBJECT_BYTES_DEFAULT = 4_194_304
CONTENT_TYPES = {"ERROR_PAGE_FORMAT_HTML": "text/html", "ERROR_PAGE_FORMAT_JSON": "application/json"}


def cache_of(documents: Documents, profile: Document) -> policy.Cache | None:
    """``profile``: the ``http_profile`` of an application profile."""
    wanted = profile.get("cache_config") or {}
    if not wanted.get("enabled"):
        return None
    size = wanted.get("max_cache_size") or CACHE_MB_DEFAULT * BYTES_PER_MB
    megabytes = min(max(1, size // BYTES_PER_MB), CACHE_MB_MAX)
    most = min(wanted.get("max_object_size", OBJECT_BYTES_DEFAULT), megabytes * BYTES_PER_MB // 2)
    never = wanted.get("uri_non_cacheable")
    return policy.Cache(
        megabytes=megabytes,
        object_bytes_max=most,
        object_bytes_min=min(wanted.get("min_object_size", 100), most),
        default_s=wanted.get("default_expire", 600),
        unsaid=wanted.get("aggressive", False),
        queries=wanted.get("query_cacheable", False),
        never=(text_test(documents, never, "path"),) if never else (),
        types=tuple(_types(documents, wanted, "mime_types_list", "mime_types_group_refs")),
        other_types=tuple(_types(documents, wanted, "mime_types_block_lists", "mime_types_block_group_refs")),
        ignores_clients=wanted.get("ignore_request_cache_control", False),
        age=wanted.get("age_header", True),
        date=wanted.get("date_header", True),
        tells=wanted.get("xcache_header", True),
    )


def _types(documents: Documents, wanted: Document, listed: str, groups: str) -> Iterator[str]:
    yield from wanted.get(listed) or ()
    for reference in wanted.get(groups) or ():
        group = documents.get("stringgroup", uuid_of(reference)) or {}
        yield from (pair["key"] for pair in group.get("kv") or ())


def error_pages(documents: Documents, reference: str) -> tuple[policy.ErrorPage, ...]:
    """Of an error page profile, in the order of their index."""
    profile = documents.get("errorpageprofile", uuid_of(reference)) if reference else None
    pages = sorted((profile or {}).get("error_pages") or (), key=lambda page: page.get("index", 0))
    found = []
    for page in pages:
        body = documents.get("errorpagebody", uuid_of(page.get("error_page_body_ref", ""))) or {}
        statuses = tuple(statuses_of(page.get("match") or {}))
        if page.get("enable", True) and statuses and (body or page.get("error_redirect")):
            found.append(
                policy.ErrorPage(
                    statuses=statuses,
                    content_type=CONTENT_TYPES[body.get("format", "ERROR_PAGE_FORMAT_HTML")],
                    body=body.get("error_page_body", ""),
                    redirect=page.get("error_redirect", ""),
                )
            )
    return tuple(found)


def statuses_of(match: Document) -> Iterable[int]:
    """The errors that engines answer with, of those that an ``HTTPStatusMatch`` names."""
    named = set(match.get("status_codes") or ())
    ranges = [range(one["begin"], one["end"] + 1) for one in match.get("ranges") or ()]
    wanted = match.get("match_criteria", "IS_IN") == "IS_IN"
    return (s for s in policy.ERRORS if (s in named or any(s in one for one in ranges)) == wanted)
