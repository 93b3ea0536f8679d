"""Sentences that several modules make alike."""

from __future__ import annotations

from collections.abc import Iterable


def alternatives(ways: Iterable[str]) -> str:
    """``Raise max_se to 5, or max_vs_per_se to 9, or lower buffer_se to 0.`` of imperatives; "" for none."""
    text, last = "", ""
    for way in ways:
        verb, _, rest = way.partition(" ")
        text += f", or {rest if verb == last else way}" if text else way
        last = verb
    return f"{text[0].upper()}{text[1:]}." if text else ""
