"""The one place where text from outside becomes text of ``haproxy.cfg``. Nothing else may put a string there."""

from __future__ import annotations

import ipaddress
import re

from shoal.errors import ShoalError

WORD_CHARACTERS_MAX = 120
TEXT_CHARACTERS_MAX = 2_000
_UNSAFE = re.compile(r"[^A-Za-z0-9_.:-]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Unrenderable(ShoalError):
    """The text can't stand in a configuration; the part it belongs to is set aside with this reason."""

    status = 400


def word(text: str) -> str:
    """An identifier (proxy or server name) from a uuid or an address; anything unusual becomes ``_``."""
    return _UNSAFE.sub("_", text)[:WORD_CHARACTERS_MAX] or "_"


def quoted(text: str) -> str:
    """One argument, taken literally: single quotes, in which HAProxy interprets nothing (configuration manual 2.2).

    Raises Unrenderable for control characters (a line break would end the directive) and for over-long text.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        raise Unrenderable(f"The text has {len(text)} characters; at most {TEXT_CHARACTERS_MAX} are taken.")
    for character in text:
        if ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 or character in "\u2028\u2029":
            raise Unrenderable(f"The text {text[:40]!r} holds the control character {character!r}.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unrenderable("The text is not valid Unicode.") from None
    return "'" + text.replace("'", "'\\''") + "'"


def format_quoted(text: str) -> str:
    """One argument where HAProxy expands ``%``: the same text, literally."""
    return quoted(text.replace("%", "%%"))


def token(text: str) -> str:
    """A header name or an HTTP method (RFC 9110, 5.6.2). Raises Unrenderable on anything else."""
    if not _TOKEN.fullmatch(text) or len(text) > WORD_CHARACTERS_MAX:
        raise Unrenderable(f"{text[:40]!r} is no header name or method.")
    return quoted(text)


def address(text: str) -> str:
    """An IPv4 or IPv6 address. Raises Unrenderable on anything else (names are resolved elsewhere)."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise Unrenderable(f"{text[:40]!r} is no IP address.") from None
