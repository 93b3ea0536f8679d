"""Files about addresses, read: MaxMind's databases (``.mmdb``), and lines of text.

    python -m shoal.controller.addresses.reading GEO_DB < file > content

What comes in is anybody's, so it is read by a process of its own, with bounds.
"""

from __future__ import annotations

import csv
import os
import re
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from shoal.wire.networks import BITS, Range, joined, packed, prefixes, range_of

GEO, REPUTATION = "GEO_DB", "IP_REPUTATION"
KINDS = (GEO, REPUTATION)
"""Types of FileObjects that are read."""
MADE = ("checksum", "size", "created", "content", "networks", "attributes")
"""Fields of a FileObject that follow from its file: nobody writes them."""
ATTRIBUTE, TYPE = "ATTRIBUTE_", "IP_REPUTATION_TYPE"
TYPES = tuple(
    f"{TYPE}_{name}"
    for name in (
        "SPAM_SOURCE",
        "WINDOWS_EXPLOITS",
        "WEB_ATTACKS",
        "BOTNETS",
        "SCANNERS",
        "DOS",
        "REPUTATION",
        "PHISHING",
        "PROXY",
        "NETWORK",
        "CLOUD",
        "MOBILE_THREATS",
        "TOR",
    )
)
TEXTS = (
    "COUNTRY_CODE",
    "COUNTRY_NAME",
    "CONTINENT_CODE",
    "CONTINENT_NAME",
    "REGION_NAME",
    "CITY_NAME",
    "ISP_NAME",
    "ORGANIZATION_NAME",
    "AS_NUMBER",
    "AS_NAME",
    *(f"CUSTOM_{number}" for number in range(1, 10)),
)
"""What a file can say of a network: attributes without their prefix."""
PLACE = {"network": "network", "ip/prefix": "network", "prefix": "network", "cidr": "network"}
PLACE |= {"ip start": "first", "start ip": "first", "start": "first", "first": "first", "ip from": "first"}
PLACE |= {"ip end": "last", "end ip": "last", "end": "last", "last": "last", "ip to": "last"}
ABOUT = {"CONTINENT": ("place", 0), "COUNTRY": ("place", 1), "REGION": ("place", 2), "CITY": ("place", 3)}
ABOUT |= dict.fromkeys(("ISP", "ORGANIZATION", "AS"), ("owner", 0))
"""First words of attributes that belong together: what they are about, and how narrowly. Others stand for themselves."""
NO_VALUE = ("", "-")
MMDB = b"\xab\xcd\xefMaxMind.com"
MMDB_END_BYTES = 128 * 1024
"""The marker is that near the end (MaxMind DB file format 2.0)."""
NETWORKS_MAX = 2_000_000
ROWS_MAX = 200_000
VALUE_CHARACTERS_MAX = 200
MEMORY_BYTES_MAX = 3 * 2**30
CPU_S_MAX = 240
Attributes = tuple[tuple[str, str], ...]
Spans = dict[int, list[Range]]


class Row(msgspec.Struct, frozen=True, array_like=True):
    """Networks of which the same is said."""

    attributes: dict[str, str]
    networks: bytes
    """Packed, see `shoal.wire.networks`."""


class Content(msgspec.Struct, frozen=True, array_like=True):
    """Of a file, as it is kept. ``count``: of networks."""

    rows: tuple[Row, ...]
    count: int


class Unreadable(ValueError):
    """Says what is wrong, with the line."""


def read(kind: str, data: bytes) -> Content:
    """Raises Unreadable."""
    if MMDB in data[-MMDB_END_BYTES:]:
        if kind != GEO:
            raise Unreadable("a MaxMind database says nothing of reputations; lines of text do: network,type")
        return _content(_mmdb(data))
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        why = f"no MaxMind database, and no text in UTF-8 (at octet {error.start})"
        raise Unreadable(why) from None
    rows = list(_reputations(lines) if kind == REPUTATION else _places(lines))
    if not rows:
        raise Unreadable("names no network")
    return _content(_typed(rows) if kind == REPUTATION else _disjoint(rows))


def _content(found: Mapping[Attributes, Spans]) -> Content:
    if len(found) > ROWS_MAX:
        raise Unreadable(f"tells {len(found)} kinds of networks apart; {ROWS_MAX} can be. Take a coarser database")
    rows, count = [], 0
    for attributes, spans in found.items():
        texts = [text for version in BITS for span in joined(spans[version]) for text in prefixes(*span, version)]
        count += len(texts)
        if count > NETWORKS_MAX:
            raise Unreadable(f"has more than {NETWORKS_MAX} networks. Take a coarser database")
        rows.append(Row(dict(attributes), packed(texts)))
    return Content(tuple(rows), count)


# --- text ---

Line = tuple[int, int, Range, Attributes]
"""Number, version of IP, range, what is said."""


def _cells(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip() and not line.startswith("#")]
    delimiter = ";" if numbered and ";" in numbered[0][1] else ","
    if numbered and delimiter not in numbered[0][1] and "\t" in numbered[0][1]:
        delimiter = "\t"
    for number, line in numbered:
        if '"' not in line:  # nearly all; ten times as quick
            yield number, [cell.strip() for cell in line.split(delimiter)]
            continue
        try:
            yield (
                number,
                [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))],
            )
        except csv.Error as error:
            raise Unreadable(f"line {number}: {error}") from None


def _places(lines: Sequence[str]) -> Iterator[Line]:
    """With a line of headings or without: then ``network,country`` or ``first,last,country`` and maybe its name."""
    headings: list[str] | None = None
    for row, (number, cells) in enumerate(_cells(lines)):
        if row == 0 and not _is_address(cells[0]):
            headings = _headings(number, cells)
            continue
        given = dict(zip(headings or _without_headings(cells), cells, strict=False))
        said = tuple((name, _value(number, text)) for name, text in given.items() if name and name.isupper())
        said = tuple(pair for pair in said if pair[1] not in NO_VALUE)
        yield (number, *_span(number, given), said)


def _headings(number: int, cells: Sequence[str]) -> list[str]:
    known = {name.replace("_", " ").lower(): ATTRIBUTE + name for name in TEXTS} | PLACE
    columns = [known.get(cell.replace("_", " ").lower(), "") for cell in cells]
    if not ("network" in columns or {"first", "last"} <= set(columns)):
        why = "neither an address nor headings with IP/prefix, or IP start and IP end"
        raise Unreadable(f"line {number}: {cells[0][:60]!r} is {why}")
    if not any(column.isupper() for column in columns):
        raise Unreadable(
            f"line {number}: no heading is one of {', '.join(name.replace('_', ' ').title() for name in TEXTS)}"
        )
    return columns


def _without_headings(cells: Sequence[str]) -> list[str]:
    is_range = len(cells) > 2 and "/" not in cells[0] and _is_address(cells[1])
    place = ["first", "last"] if is_range else ["network"]
    return [*place, ATTRIBUTE + "COUNTRY_CODE", ATTRIBUTE + "COUNTRY_NAME"]


def _reputations(lines: Sequence[str]) -> Iterator[Line]:
    known = {name: name for name in TYPES} | {name.removeprefix(f"{TYPE}_"): name for name in TYPES}
    for number, cells in _cells(lines):
        words = [cell.upper().replace(" ", "_") for cell in cells[1:] if cell]
        types = [known[word] for word in words if word in known]
        if not _is_address(cells[0]) and words == ["TYPE"]:
            continue
        if not types or len(types) < len(words):
            given = next((word for word in words if word not in known), "")
            names = ", ".join(name.removeprefix(f"{TYPE}_") for name in TYPES)
            raise Unreadable(f"line {number}: {given[:60] + ' is no type' if given else 'names no type'} ({names})")
        for one in types:
            yield (number, *_span(number, {"network": cells[0]}), ((TYPE, one),))


def _is_address(text: str) -> bool:
    try:
        _parsed(text)
    except ValueError:
        return False
    return True


def _parsed(text: str) -> tuple[int, Range]:
    """An address, a network, or an address as a number."""
    if re.fullmatch(r"[0-9]{1,39}", text) and (number := int(text)) < 2 ** BITS[6]:
        return (4 if number < 2 ** BITS[4] else 6), (number, number)
    return range_of(text)


def _span(number: int, given: Mapping[str, str]) -> tuple[int, Range]:
    try:
        if "network" in given:
            version, span = _parsed(given["network"])
        else:
            (version, (first, _)), (other, (_, last)) = _parsed(given["first"]), _parsed(given["last"])
            if version != other and {first, last} & {0, 2 ** BITS[4] - 1}:  # numbers of IPv6, from the lowest
                version = other = 6
            if version != other or first > last:
                raise ValueError(f"{given['first'][:60]} to {given['last'][:60]} is no range")
            span = first, last
    except KeyError:
        raise Unreadable(f"line {number}: has too few columns") from None
    except ValueError as error:
        raise Unreadable(f"line {number}: {error}") from None
    mapped = 0xFFFF << 32
    if version == 6 and mapped <= span[0] and span[1] < mapped + 2**32:  # an IPv4 address in IPv6 form
        return 4, (span[0] - mapped, span[1] - mapped)
    return version, span


def _value(number: int, text: str) -> str:
    if len(text) > VALUE_CHARACTERS_MAX:
        raise Unreadable(f"line {number}: a value has {len(text)} characters; {VALUE_CHARACTERS_MAX} can be")
    return text


def _typed(lines: Iterable[Line]) -> dict[Attributes, Spans]:
    found: dict[Attributes, Spans] = {}
    for _, version, span, said in lines:
        found.setdefault(said, {4: [], 6: []})[version].append(span)
    return found


def _disjoint(lines: Sequence[Line]) -> dict[Attributes, Spans]:
    """Of a network within another the inner one's word counts, where it says something; of two of the same the later's."""
    found: dict[Attributes, Spans] = {}

    def say(first: int, last: int, version: int, said: Attributes) -> None:
        if said and first <= last:
            found.setdefault(said, {4: [], 6: []})[version].append((first, last))

    for version in BITS:
        mine = sorted((line for line in lines if line[1] == version), key=lambda line: (line[2][0], -line[2][1]))
        outer: list[tuple[int, int, Attributes]] = []
        """(number, last address, what is said) of those that are open."""
        at = 0
        for number, _, (first, last), own in mine:
            while outer and outer[-1][1] < first:
                _, end, said = outer.pop()
                say(at, end, version, said)
                at = max(at, end + 1)
            if outer:
                if last > outer[-1][1]:
                    raise Unreadable(f"line {number}: its range overlaps that of line {outer[-1][0]}")
                say(at, first - 1, version, outer[-1][2])
                own = _inherited(outer[-1][2], own)
            outer.append((number, last, tuple(sorted(own))))
            at = first
        while outer:
            _, end, said = outer.pop()
            say(at, end, version, said)
            at = max(at, end + 1)
    return found


def _inherited(outer: Attributes, own: Attributes) -> Attributes:
    """What is said of a network within another: what it says of places hides the other's that are as narrow or narrower, and
    what it says of whose it is all of the kind."""
    said = {ABOUT.get(_word(name), (name, 0)) for name, _ in own}
    broadest = {kind: min(rank for one, rank in said if one == kind) for kind, _ in said}
    kept = {}
    for name, value in outer:
        kind, rank = ABOUT.get(_word(name), (name, 0))
        if kind not in broadest or rank < broadest[kind]:
            kept[name] = value
    return tuple(sorted({**kept, **dict(own)}.items()))


def _word(name: str) -> str:
    return name.removeprefix(ATTRIBUTE).partition("_")[0]


# --- MaxMind's ---


def _mmdb(data: bytes) -> dict[Attributes, Spans]:
    import maxminddb

    found: dict[Attributes, Spans] = {}
    file = os.memfd_create("addresses")
    try:
        os.truncate(file, 0)
        with open(file, "wb", closefd=False) as out:
            out.write(data)
        with maxminddb.open_database(f"/proc/self/fd/{file}") as reader:
            for network, record in reader:
                said = _said(record)
                if said:
                    first = int(network.network_address)
                    span = first, first | (1 << (BITS[network.version] - network.prefixlen)) - 1
                    found.setdefault(said, {4: [], 6: []})[network.version].append(span)
                    if len(found) > ROWS_MAX:
                        break
    except (maxminddb.InvalidDatabaseError, ValueError, OverflowError, RecursionError, KeyError, TypeError) as error:
        raise Unreadable(f"a damaged MaxMind database: {error}") from None
    finally:
        os.close(file)
    if not found:
        raise Unreadable("a MaxMind database without countries, continents or autonomous systems")
    return found


def _said(record: object) -> Attributes:
    """Of a country, city, ISP or ASN database. Cities and regions are left out: there are too many."""
    if not isinstance(record, Mapping):
        return ()
    country, continent = _part(record, "country"), _part(record, "continent")
    said = {
        "COUNTRY_CODE": country.get("iso_code"),
        "COUNTRY_NAME": _part(country, "names").get("en"),
        "CONTINENT_CODE": continent.get("code"),
        "CONTINENT_NAME": _part(continent, "names").get("en"),
        "AS_NUMBER": record.get("autonomous_system_number"),
        "AS_NAME": record.get("autonomous_system_organization"),
        "ISP_NAME": record.get("isp"),
        "ORGANIZATION_NAME": record.get("organization"),
    }
    texts = ((ATTRIBUTE + name, str(value)[:VALUE_CHARACTERS_MAX]) for name, value in said.items() if value)
    return tuple(sorted(texts))


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = record.get(name)
    return found if isinstance(found, Mapping) else {}


def main() -> int:
    """0 and the content on standard output, or 1 and what is wrong on standard error."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
    os.nice(10)
    try:
        content = read(sys.argv[1], sys.stdin.buffer.read())
    except Unreadable as error:
        sys.stderr.write(str(error))
        return 1
    except MemoryError:
        sys.stderr.write("takes more memory than there is for it. Take a coarser database")
        return 1
    sys.stdout.buffer.write(msgspec.msgpack.encode(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
