"""The one place where text from outside becomes text of ``haproxy.cfg``. Nothing else may put a string there."""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import re

from shoal.errors import ShoalError
from shoal.wire.policy import NAME, TEXT_CHARACTERS_MAX, TOKEN

WORD_CHARACTERS_MAX = 120
OCTETS_MAX = 2_000
_PLAIN = re.compile(r"[A-Za-z0-9_.:-]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.:-]")
_MADE = "._."
"""Stands in every identifier that is not the text itself, and in no other: so the two kinds never meet."""
READABLE_CHARACTERS_MAX = 40
NAMES_KEPT = 8192
"""Each reading of HAProxy's figures asks for the names of all backends and servers again."""


class Unrenderable(ShoalError):
    """The text can't stand in a configuration; the part it belongs to is set aside with this reason."""

    status = 400


@functools.lru_cache(NAMES_KEPT)
def word(text: str) -> str:
    """An identifier (proxy, server, file). Different texts never get the same one, whatever they hold.

    A plain text (a uuid, an address, a host name) stands for itself; any other gets a readable rest and its digest.
    """
    if _PLAIN.fullmatch(text) and len(text) <= WORD_CHARACTERS_MAX and _MADE not in text and text[0].isalnum():
        return text
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=12).hexdigest()
    return f"x{_UNSAFE.sub('_', text)[:READABLE_CHARACTERS_MAX]}{_MADE}{digest}"


@functools.lru_cache(NAMES_KEPT)
def backend_name(service: str, pool: str) -> str:
    """Of a pool as a virtual service uses it. Different pairs never get the same one."""
    if ":" in service + pool:
        return f"be_{word(f'{len(service)}/{service}/{pool}')}"
    return f"be_{word(service)}:{word(pool)}"


def quoted(text: str) -> str:
    """One argument, taken literally: single quotes, in which HAProxy interprets nothing (configuration manual 2.2).

    Raises Unrenderable for control characters (a line break would end the directive) and for over-long text.
    """
    _bounded(text)
    for character in text:
        if ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 or character in "\u2028\u2029":
            raise Unrenderable(f"The text {text[:40]!r} holds the control character {character!r}.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unrenderable("The text is not valid Unicode.") from None
    return "'" + text.replace("'", "'\\''") + "'"


def _bounded(text: str) -> None:
    if len(text) > TEXT_CHARACTERS_MAX:
        raise Unrenderable(f"The text has {len(text)} characters; at most {TEXT_CHARACTERS_MAX} are taken.")


def format_text(text: str) -> str:
    """The text as a part of an argument where HAProxy expands ``%``: literally. The whole argument is to be `quoted`."""
    return text.replace("%", "%%")


def format_quoted(text: str) -> str:
    """One argument where HAProxy expands ``%``: the same text, literally."""
    return quoted(format_text(text))


def body(text: str) -> str:
    """One argument of several lines, taken literally. Raises Unrenderable as `quoted` does, for other control characters."""
    parts = re.split(r"([\n\r\t])", text)
    escapes = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    _bounded(text)
    return "".join(escapes.get(part) or (quoted(part) if part else "") for part in parts) or quoted("")


def token(text: str) -> str:
    """A header name or an HTTP method (RFC 9110, 5.6.2). Raises Unrenderable on anything else."""
    if not TOKEN.fullmatch(text):
        raise Unrenderable(f"{text[:40]!r} is no header name or method.")
    return quoted(text)


def argument(name: str) -> str:
    """The name of a header or cookie, also in the brackets of a sample. Raises Unrenderable on what has no place there."""
    if not NAME.fullmatch(name):
        raise Unrenderable(f"{name[:40]!r} is no name for it: only letters, digits, '_', '.' and '-' can be in a name.")
    return name


def address(text: str) -> str:
    """An IPv4 address, or an IPv6 address in brackets. Raises Unrenderable on anything else, scope ids too."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        raise Unrenderable(f"{text[:40]!r} is no IP address.") from None
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.scope_id is not None:  # Python takes any text for one
        raise Unrenderable(f"{text[:40]!r} has a scope; an address of the data network has none.")
    return f"[{parsed}]"


def within(number: int, least: int, most: int) -> int:
    """The number, or the bound that it is beyond: what HAProxy takes at that place."""
    return min(max(least, int(number)), most)


def octets(text: str) -> str:
    """Any text, control characters too, as the hexadecimal digits HAProxy's ``binary`` forms take.

    Raises Unrenderable for over-long text.
    """
    data = text.encode(errors="replace")
    if not data or len(data) > OCTETS_MAX:
        raise Unrenderable(f"The text has {len(data)} octets; 1 to {OCTETS_MAX} are taken.")
    return data.hex()
