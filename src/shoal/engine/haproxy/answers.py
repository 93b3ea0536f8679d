"""What HAProxy answers by itself: from its cache, and with error pages. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from shoal.wire.policy import PAGE_OCTETS_MAX, Cache, ErrorPage

from .escape import Unrenderable, quoted, within, word
from .rules import condition

KEPT = "txn.kept"
"""Set for requests whose answers may come out of the cache, and go into it."""
AGE_S_MAX = 31_536_000
OURS = "X-Shoal-Error"
"""Marks an answer of HAProxy's own on its way out."""
MAY = "{ res.fhdr(cache-control) -m found }"
HOW_LONG = "max-age no-cache no-store private"
REDIRECT_STATUS = 302


def cache_name(service: str) -> str:
    return f"cache_{word(service)}"


def cache_section(service: str, cache: Cache) -> str:
    lines = [
        f"cache {cache_name(service)}",
        f"total-max-size {within(cache.megabytes, 1, 4095)}",
        f"max-object-size {within(cache.object_bytes_max, 1, cache.megabytes * 500_000)}",
        f"max-age {AGE_S_MAX}",
        "process-vary on",
    ]
    return "\n    ".join(lines) + "\n"


def cache_lines(service: str, cache: Cache) -> Iterator[str]:
    """Of the frontend, behind all that may refuse or redirect a request. Raises Unrenderable."""
    name, kept = cache_name(service), f"{{ var({KEPT}) -m bool }}"
    but = "".join(f" !{condition(test)}" for test in cache.never) + ("" if cache.queries else " !{ query -m len gt 0 }")
    yield f"http-request set-var({KEPT}) bool(true) if METH_GET{but}"
    if cache.ignores_clients:
        yield from (f"http-request del-header {header} if {kept}" for header in ("Cache-Control", "Pragma"))
    yield f"http-request cache-use {name} if {kept}"
    lasting = f"max-age={within(cache.default_s, 1, AGE_S_MAX)}"
    unsaid = f"!{{ res.fhdr(cache-control) -m sub -i -- {HOW_LONG} }} !{{ res.hdr(expires) -m found }}"
    yield f"http-response set-header Cache-Control '%[res.fhdr(cache-control)], {lasting}' if {kept} {MAY} {unsaid}"
    if cache.unsaid:
        yield f"http-response set-header Cache-Control {lasting} if {kept} !{MAY} !{{ res.hdr(expires) -m found }}"
    if cache.date:
        yield f"http-response set-header Date %[date,http_date] if {kept} !{{ res.hdr(date) -m found }}"
    store = f"http-response cache-store {name} if {kept}"
    if cache.object_bytes_min > 0:
        store += f" !{{ res.hdr(content-length) -m int lt {int(cache.object_bytes_min)} }}"
    for types, negation in ((cache.types, ""), (cache.other_types, "!")):
        if types:
            store += f" {negation}{{ res.hdr(content-type) -m beg -i -- {' '.join(map(_type, types))} }}"
    yield f"{store} {MAY}"
    yield f"{store} {{ res.hdr(expires) -m found }} !{MAY}"
    if cache.tells:
        yield "http-after-response set-header X-Cache HIT if { res.cache_hit -m bool }"
    if not cache.age:
        yield "http-after-response del-header Age if { res.cache_hit -m bool }"


def _type(text: str) -> str:
    """``image/*`` stands for all that begin so."""
    return quoted(text.removesuffix("*").strip())


def pages(errors: Sequence[ErrorPage]) -> dict[str, str]:
    """Name of a file -> what is in it. Raises Unrenderable."""
    for page in errors:
        if len(page.body.encode(errors="replace")) > PAGE_OCTETS_MAX:
            raise Unrenderable(f"An error page has more than {PAGE_OCTETS_MAX} octets.")
    return {_name(page.body): page.body for page in errors if not page.redirect}


def _name(body: str) -> str:
    return hashlib.blake2b(body.encode(errors="replace"), digest_size=12).hexdigest() + ".page"


def error_lines(errors: Sequence[ErrorPage], folder: str) -> Iterator[str]:
    """Of the frontend. ``folder``: where the files of `pages` are. Raises Unrenderable."""
    chosen: dict[int, ErrorPage] = {}
    for page in errors:
        for status in page.statuses:
            chosen.setdefault(status, page)
    redirects: dict[str, list[int]] = {}
    for status, page in chosen.items():
        if page.redirect:
            redirects.setdefault(page.redirect, []).append(status)
            yield f"http-error status {int(status)} content-type text/plain string '-' hdr {OURS} {int(status)}"
        elif page.body:
            source = quoted(f"{folder}/{_name(page.body)}")
            yield f"http-error status {int(status)} content-type {quoted(page.content_type)} file {source}"
    for target, statuses in redirects.items():
        ours = f"{{ res.hdr({OURS}) -m str {' '.join(map(str, statuses))} }}"
        yield f"http-after-response set-header Location {quoted(target.replace('%', '%%'))} if {ours}"
        yield f"http-after-response set-status {REDIRECT_STATUS} if {ours}"
    if redirects:
        yield f"http-after-response del-header {OURS}"
