"""Lists of networks that a condition names (`shoal.wire.policy.Test.lists`): what a country has, or whoever sends spam, by a
database. And ranges of addresses, as it takes to make them.

A list is a part of the desired state whose id is its hash: many rules share one, and what has changed is another part.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterable, Iterator, Sequence

import msgspec

Range = tuple[int, int]
"""First and last address, as numbers."""
BITS = {4: 32, 6: 128}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
KIND = "networks"
"""Part ids are ``networks/<hash>``."""
LEVEL = 6


class Layer(msgspec.Struct, frozen=True, array_like=True):
    """Packed lists (`packed`): of the networks that are ``values``, and of ``others``, of which this layer says that they are
    not, whatever the layers below say."""

    values: tuple[bytes, ...]
    others: tuple[bytes, ...] = ()


class Networks(msgspec.Struct, frozen=True, kw_only=True, tag=KIND):
    """The layer that counts most comes first."""

    layers: tuple[Layer, ...]


def networks(part: Networks) -> list[str]:
    """``10.0.0.0/8``, ``2001:db8::/32``, each once; none within another. Takes a second for half a million."""
    if len(part.layers) == 1 and len(part.layers[0].values) == 1:
        return unpacked(part.layers[0].values[0])
    found: list[str] = []
    wanted = [(_ranges(layer.values), _ranges(layer.others)) for layer in part.layers]
    for version in BITS:
        mine: list[Range] = []
        said: list[Range] = []
        for values, others in wanted:
            mine += without(joined(values[version]), said)
            said = joined([*said, *values[version], *others[version]])
        found += (text for first, last in joined(mine) for text in prefixes(first, last, version))
    return found


def packed(texts: Iterable[str]) -> bytes:
    return zlib.compress("\n".join(texts).encode(), LEVEL)


def unpacked(data: bytes) -> list[str]:
    return zlib.decompress(data).decode().split()


def _ranges(lists: Iterable[bytes]) -> dict[int, list[Range]]:
    found: dict[int, list[Range]] = {version: [] for version in BITS}
    for data in lists:
        for text in unpacked(data):
            version, span = range_of(text)
            found[version].append(span)
    return found


def range_of(text: str) -> tuple[int, Range]:
    """Of an address or a network, whose host bits are passed over: version of IP, range. Raises ValueError."""
    host, slash, length = text.partition("/")
    version = 6 if ":" in host else 4
    try:
        number = int.from_bytes(socket.inet_pton(FAMILIES[version], host))
    except (OSError, UnicodeEncodeError):
        raise ValueError(f"{text[:60]!r} is no address and no network") from None
    if not slash:
        return version, (number, number)
    if not (length.isascii() and length.isdigit()) or int(length) > BITS[version]:
        raise ValueError(f"{text[:60]!r} has no length of 0 to {BITS[version]}")
    hosts = (1 << (BITS[version] - int(length))) - 1
    return version, (number & ~hosts, number | hosts)


def prefixes(first: int, last: int, version: int) -> Iterator[str]:
    """The networks that make up a range."""
    bits, family = BITS[version], FAMILIES[version]
    while first <= last:
        size = min(first & -first or 1 << bits, 1 << (last - first + 1).bit_length() - 1)
        yield f"{socket.inet_ntop(family, first.to_bytes(bits // 8))}/{bits - size.bit_length() + 1}"
        first += size


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Ascending, where they touch or overlap made one."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            if last > found[-1][1]:
                found[-1] = found[-1][0], last
        else:
            found.append((first, last))
    return found


def without(ranges: Sequence[Range], others: Sequence[Range]) -> list[Range]:
    """What is in ``ranges`` and not in ``others``; both as `joined` gives them."""
    found: list[Range] = []
    at = 0
    for first, last in ranges:
        while at < len(others) and others[at][1] < first:
            at += 1
        over = at
        while over < len(others) and others[over][0] <= last:
            if others[over][0] > first:
                found.append((first, others[over][0] - 1))
            first = others[over][1] + 1
            over += 1
        if first <= last:
            found.append((first, last))
    return found
