"""Texts replaced in the bodies of servers' answers: a filter in Lua, ``rewriting.lua``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from shoal.wire.policy import REWRITTEN_OCTETS_MAX, REWRITTEN_PAIRS_MAX, Http

from . import answers
from .escape import Unrenderable, quoted

SCRIPT = Path(__file__).with_name("rewriting.lua")
GZIP = r"^gzip\s*(;\s*q=(1(\.0*)?|0?\.[0-9]*[1-9][0-9]*))?$"
"""What says of itself that gzip is welcome (RFC 9110, 12.5.3)."""


def engine_wide() -> Iterator[str]:
    """Lines of the section ``global``."""
    yield f"lua-load-per-thread {quoted(str(SCRIPT))}"


def filters(service: str, http: Http) -> Iterator[str]:
    """Lines of a frontend. What is kept for others is kept as the server sent it, what is compressed is the changed text. Raises
    Unrenderable."""
    wanted = http.rewriting
    if wanted is None:
        return
    if not wanted.types or not 0 < len(wanted.pairs) <= REWRITTEN_PAIRS_MAX:
        raise Unrenderable(f"There are 1 to {REWRITTEN_PAIRS_MAX} texts to replace, and types of content to look in.")
    pairs = (f"{_hexadecimal(search)}:{_hexadecimal(to, least=0)}" for search, to in wanted.pairs)
    if http.cache is not None:
        yield f"filter cache {answers.cache_name(service)}"
    yield f"filter lua.rewriting {_listed(map(_hexadecimal, wanted.types))} {_listed(pairs)}"
    if http.compress:
        yield "filter compression"


def requests(http: Http) -> Iterator[str]:
    """Lines of a frontend: servers must not compress what is to be changed. Whether the engine may, is still looked at."""
    if http.rewriting is not None:
        unless = f" unless {{ req.hdr(accept-encoding) -m reg -i {quoted(GZIP)} }}" if http.compress else ""
        yield f"http-request del-header Accept-Encoding{unless}"


def _listed(texts: Iterable[str]) -> str:
    return ",".join(texts)


def _hexadecimal(text: str, least: int = 1) -> str:
    data = text.encode(errors="replace")
    if not least <= len(data) <= REWRITTEN_OCTETS_MAX:
        raise Unrenderable(
            f"The text {text[:40]!r} has {len(data)} octets; {least} to {REWRITTEN_OCTETS_MAX} are taken."
        )
    return data.hex()
