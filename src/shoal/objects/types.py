"""Field, message and object types, as the schema data describes them (format: ``docs/schema.md``)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from shoal import API_VERSION
from shoal.errors import Invalid, Problem

from . import check, structs

Document = dict[str, Any]
SENSITIVE_MASK = "<sensitive>"
IDENTITY = frozenset({"uuid", "name", "url", "tenant_ref", "cloud_ref", "_last_modified"})
SERVER_MADE = frozenset({"url", "_last_modified", "vs_refs", "vip_runtime", "version", "self_se_election", "runtime"})
"""Members that the controller puts into answers; accepted back and dropped."""
UNIT_SUFFIX = {
    "SEC": "sec",
    "MIN": "min",
    "PERCENT": "percent",
    "GB": "gb",
    "MB": "mb",
    "KB": "kb",
    "BYTES": "bytes",
    "MILLISECONDS": "milliseconds",
    "MICROSECONDS": "microseconds",
    "PER_SECOND": "per_second",
}
BARE = frozenset({"memory_per_se", "_last_modified"})
"""Listings print these without a unit (seed; reference: elastic-ha 8.3)."""


@functools.lru_cache(maxsize=64)
def version_key(version: str) -> tuple[int, ...]:
    """``22.1.3`` -> (22, 1, 3); so is ``22.1.3-9000``, with a build. Raises Invalid on what is not dotted numbers."""
    number, dash, build = version.partition("-")
    try:
        parts = tuple(int(part) for part in number.replace("_", ".").split("."))
        if dash and not (build.isascii() and build.isdigit()):
            parts = ()
    except ValueError:
        parts = ()
    if not 1 <= len(parts) <= 5:
        raise Invalid([Problem(path="X-Avi-Version", value=version[:40], why="Invalid version: must look like 22.1.3")])
    return parts


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field. ``kind`` is string, integer, number, boolean, array or message; ``item`` describes array elements."""

    name: str
    kind: str
    format: str = ""
    message: MessageType | None = None
    item: Field | None = None
    ref: str = ""
    enum: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    allowed: tuple[Any, ...] = ()
    special: dict[str, str] = {}
    unit: str = ""
    default: Any = None
    has_default: bool = False
    required: bool = False
    read_only: bool = False
    sensitive: bool = False
    introduced: tuple[str, ...] = ()
    deprecated: str = ""
    post_22_1: bool = False
    min_items: int | None = None
    max_items: int | None = None

    @property
    def unit_suffix(self) -> str:
        """What listings print behind the value; "" for none."""
        return "" if self.name in BARE else UNIT_SUFFIX.get(self.unit, "")

    @property
    def nested(self) -> MessageType | None:
        """The message of this field or of its elements."""
        return self.item.message if self.item else self.message

    def since(self) -> tuple[int, ...]:
        """The earliest release that has the field; () = always."""
        return min((version_key(v) for v in self.introduced), default=())

    def choices(self) -> str:
        """What is allowed, for a person: ``0..1000, or -1 (infinite)``."""
        if self.enum:
            return "one of " + ", ".join(self.enum)
        if self.allowed:
            return "one of " + ", ".join(map(str, self.allowed))
        text = ""
        if self.range:
            low, high = self.range
            unit = f" {UNIT_SUFFIX.get(self.unit, self.unit.lower())}" if self.unit else ""
            text = f"{low:g}..{high:g}{unit}" if max(abs(low), abs(high)) < 1e6 else f"{int(low)}..{int(high)}{unit}"
        extra = ", ".join(f"{value} ({label})" for value, label in self.special.items())
        return ", or ".join(part for part in (text, extra) if part)


class MessageType(msgspec.Struct, frozen=True, kw_only=True, eq=False, dict=True):
    """A message: its fields in listing order."""

    name: str
    fields: dict[str, Field]

    __hash__ = object.__hash__

    @functools.cached_property
    def with_references(self) -> tuple[Field, ...]:
        """The fields that hold a reference, or a message that does."""
        fields = self.fields.values()
        return tuple(f for f in fields if f.ref or (f.nested is not None and f.nested.with_references))

    @functools.cached_property
    def with_secrets(self) -> tuple[Field, ...]:
        """The fields that hold a secret, or a message that does."""
        fields = self.fields.values()
        return tuple(f for f in fields if f.sensitive or (f.nested is not None and f.nested.with_secrets))


class Reference(msgspec.Struct, frozen=True):
    """One reference inside a document: where, to what type, and the value as it stands."""

    path: str
    type_name: str
    value: str


class ObjectType:
    """One REST object type. Documents are plain dicts; a stored one is complete (defaults filled) and valid."""

    def __init__(self, message: MessageType, description: Mapping[str, Any], flags: frozenset[str]) -> None:
        self.name = message.name
        self.message = message
        self.fields = message.fields
        self.endpoint = str(description.get("endpoint") or "").removeprefix("/api/")
        self.operations: dict[str, Any] = description.get("operations") or {}
        self.singleton = "singleton" in flags
        self.read_only = "read_only" in flags
        self.tenant_scoped = "tenant_ref" in self.fields and not self.singleton
        self.cloud_scoped = "cloud_scoped" in flags

    def __repr__(self) -> str:
        return f"<ObjectType {self.name}>"

    # --- reading and writing ---

    def validate(self, document: Mapping[str, Any] | bytes, *, version: str = API_VERSION) -> Document:
        """A complete document: defaults filled, read-only members dropped.

        Raises `Invalid` with every problem found (path, value, what is allowed, what was meant).
        """
        plain = check.parse(document) if isinstance(document, bytes | bytearray) else dict(document)
        plain = {name: value for name, value in plain.items() if name not in SERVER_MADE or name in self._own_names}
        try:
            return structs.complete(self.message, check.prepared(self.message, plain))
        except (msgspec.ValidationError, TypeError, ValueError, OverflowError, RecursionError):
            pass
        mended, problems = check.inspect(self.message, plain)
        if not problems:
            try:
                return structs.complete(self.message, mended)
            except (msgspec.ValidationError, ValueError) as error:
                problems = [Problem(path="", why=str(error))]
        raise Invalid(problems)

    @functools.cached_property
    def _own_names(self) -> frozenset[str]:
        return frozenset(name for name, field in self.fields.items() if not field.read_only and name != "url")

    def encode(self, document: Mapping[str, Any]) -> bytes:
        """The storage form: compact JSON, fields in listing order."""
        ordered = {name: document[name] for name in self.fields if name in document}
        return msgspec.json.encode({**ordered, **document})

    def decode(self, data: bytes) -> Document:
        decoded: Document = msgspec.json.decode(data)
        return decoded

    def emit(self, document: Mapping[str, Any], *, version: str = API_VERSION, skip_default: bool = False) -> Document:
        """What a client of that version sees: later fields hidden (identity fields never), secrets masked, empty lists
        left out."""
        return _emit(self.message, document, version_key(version), skip_default, top=True)

    # --- references and secrets ---

    def references(self, document: Mapping[str, Any]) -> list[Reference]:
        """Every ``*_ref`` and ``*_refs`` value at any depth, in field order."""
        found: list[Reference] = []
        _note_references(self.message, document, "", found)
        return found

    def map_references(self, document: Mapping[str, Any], change: Callable[[str, str, str], str]) -> Document:
        """A copy with every reference replaced by ``change(path, type name, value)``; what a list names twice then
        is in it once."""
        return _map(self.message, document, "", _if_reference(change), _WITH_REFERENCES)

    def map_sensitive(self, document: Mapping[str, Any], change: Callable[[str, str], str]) -> Document:
        """A copy with every secret replaced by ``change(path, value)``. Paths carry no list positions, so that a
        secret keeps its context when the list around it changes."""
        return _map(self.message, document, "", _if_sensitive(change), _WITH_SECRETS)

    def merge_sensitive(self, new: Mapping[str, Any], old: Mapping[str, Any]) -> Document:
        """A copy of ``new`` where each ``<sensitive>`` takes the value at the same place in ``old`` ("" if none). Entries of
        a list are the same by what they hold beside secrets and references, else by their position."""
        return _merged(self.message, new, old) if self.message.with_secrets else dict(new)

    def entry_key(self, field: str, entry: Any) -> Any:
        """What identifies a list entry for PATCH: address and port, else uuid, name, index, what it refers to ...,
        else the whole with its defaults filled. References must be in stored form."""
        if not isinstance(entry, Mapping):
            return entry
        if isinstance(entry.get("ip"), Mapping):
            return ("ip", entry["ip"].get("addr"), entry.get("port", 0))
        nested = self.fields[field].nested
        refs = [name for name, member in nested.fields.items() if member.ref and member.required] if nested else []
        for name in ("uuid", "vip_id", "name", "index", "port", *refs):
            if entry.get(name) is not None:
                return (name, entry[name])
        try:
            entry = structs.complete(nested, dict(entry)) if nested else entry
        except (msgspec.ValidationError, TypeError, ValueError, OverflowError, RecursionError):
            pass  # what is wrong with it is told when the whole document is validated
        try:
            return msgspec.json.encode(entry, order="deterministic")
        except UnicodeEncodeError:  # half a character, which no client can send as JSON
            return repr(entry)


_Change = Callable[[Field, str, str], str]
_Inside = Callable[["MessageType"], tuple[Field, ...]]
"""The fields of a message that are to be looked into."""
_WITH_REFERENCES: _Inside = operator.attrgetter("with_references")
_WITH_SECRETS: _Inside = operator.attrgetter("with_secrets")


def _if_reference(change: Callable[[str, str, str], str]) -> _Change:
    return lambda field, path, value: change(path, field.ref, value) if field.ref else value


def _if_sensitive(change: Callable[[str, str], str]) -> _Change:
    return lambda field, path, value: change(path, value) if field.sensitive else value


def _map(message: MessageType, document: Mapping[str, Any], prefix: str, change: _Change, inside: _Inside) -> Document:
    result = dict(document)
    for field in inside(message):
        value = document.get(field.name)
        if value is not None:
            result[field.name] = _map_value(field, value, prefix + field.name, change, inside)
    return result


def _map_value(field: Field, value: Any, path: str, change: _Change, inside: _Inside) -> Any:
    if isinstance(value, str):
        return change(field, path, value)
    nested = field.nested
    if isinstance(value, list):
        if nested is not None:
            return [_map(nested, v, f"{path}.", change, inside) if isinstance(v, Mapping) else v for v in value]
        mapped = [change(field, path, v) if isinstance(v, str) else v for v in value]
        return _each_once(mapped) if field.ref else mapped
    if nested is not None and isinstance(value, Mapping):
        return _map(nested, value, f"{path}.", change, inside)
    return value


def _note_references(message: MessageType, document: Mapping[str, Any], prefix: str, found: list[Reference]) -> None:
    for field in message.with_references:
        value = document.get(field.name)
        if value is None:
            continue
        nested = field.nested
        for entry in value if isinstance(value, list) else (value,):
            if isinstance(entry, str):
                if field.ref:
                    found.append(Reference(prefix + field.name, field.ref, entry))
            elif nested is not None and isinstance(entry, Mapping):
                _note_references(nested, entry, f"{prefix}{field.name}.", found)


def _each_once(values: list[Any]) -> list[Any]:
    """In order, without repetition. Values of a raw document may be anything."""
    once: list[Any] = []
    seen: set[str] = set()
    for value in values:
        if not isinstance(value, str) or value not in seen:
            once.append(value)
        if isinstance(value, str):
            seen.add(value)
    return once


def _merged(message: MessageType, new: Mapping[str, Any], old: Mapping[str, Any]) -> Document:
    result = dict(new)
    for field in message.with_secrets:
        name, nested = field.name, field.nested
        if name not in new:
            continue
        value = new[name]
        if field.sensitive:
            result[name] = _unmasked(value, old.get(name))
        elif nested is not None and isinstance(value, Mapping):
            before = old.get(name)
            result[name] = _merged(nested, value, before if isinstance(before, Mapping) else {})
        elif nested is not None and isinstance(value, list):
            result[name] = _merged_list(nested, value, old.get(name))
    return result


def _unmasked(value: Any, old: Any) -> Any:
    if isinstance(value, list):
        olds = old if isinstance(old, list) else []
        return [_unmasked(one, olds[at] if at < len(olds) else "") for at, one in enumerate(value)]
    return (old or "") if value == SENSITIVE_MASK else value


def _merged_list(message: MessageType, new: list[Any], old: Any) -> list[Any]:
    olds = {at: entry for at, entry in enumerate(old if isinstance(old, list) else []) if isinstance(entry, Mapping)}
    alike: dict[bytes, list[int]] = {}
    for at, entry in olds.items():
        alike.setdefault(_plain(message, entry), []).append(at)
    found: dict[int, int] = {}
    for at, entry in enumerate(new):
        same = alike.get(_plain(message, entry), []) if isinstance(entry, Mapping) else []
        if same:
            found[at] = same.pop(same.index(at) if at in same else 0)
    free = olds.keys() - found.values()
    for at in range(len(new)):
        if at not in found and at in free:
            found[at] = at
    merged: list[Any] = []
    for at, entry in enumerate(new):
        before = olds[found[at]] if at in found else {}
        merged.append(_merged(message, entry, before) if isinstance(entry, Mapping) else entry)
    return merged


def _plain(message: MessageType, entry: Mapping[str, Any]) -> bytes:
    """What tells an entry from others: without secrets, references and messages that hold such."""
    hidden = {field.name for field in (*message.with_secrets, *message.with_references)}
    plain = {name: value for name, value in entry.items() if name not in hidden}
    return msgspec.json.encode(plain, order="deterministic")


class _Shape(msgspec.Struct, frozen=True):
    """What a client of one version sees of a message."""

    hidden: frozenset[str]
    shown: frozenset[str]
    optional_lists: tuple[str, ...]
    """Left out where they are empty."""
    inner: tuple[Field, ...]
    """The shown fields whose values are not shown as they are."""


@functools.cache
def _shape(message: MessageType, version: tuple[int, ...]) -> _Shape:
    hidden = frozenset(n for n, f in message.fields.items() if n not in IDENTITY and f.since() > version)
    shown = [field for name, field in message.fields.items() if name not in hidden]
    return _Shape(
        hidden=hidden,
        shown=frozenset(field.name for field in shown),
        optional_lists=tuple(f.name for f in shown if f.kind == "array" and not f.required),
        inner=tuple(f for f in shown if f.nested is not None or f.sensitive),
    )


def _emit(
    message: MessageType,
    document: Mapping[str, Any],
    version: tuple[int, ...],
    skip_default: bool,
    *,
    top: bool = False,
) -> Document:
    shape = _shape(message, version)
    if top:  # members that are no fields are the controller's
        result = {n: v for n, v in document.items() if v is not None and n not in shape.hidden}
    else:
        result = {n: v for n, v in document.items() if v is not None and n in shape.shown}
    for name in shape.optional_lists:
        if name in result and result[name] == []:
            del result[name]
    if skip_default:
        fields = message.fields
        for name in [n for n in result if n in fields and n not in IDENTITY]:
            if fields[name].has_default and result[name] == fields[name].default:
                del result[name]
    for field in shape.inner:
        if field.name in result:
            result[field.name] = _emit_value(field, result[field.name], version, skip_default)
    return result


def _emit_value(field: Field, value: Any, version: tuple[int, ...], skip_default: bool) -> Any:
    nested = field.nested
    if nested is not None:
        if isinstance(value, list):
            return [_emit(nested, v, version, skip_default) if isinstance(v, Mapping) else v for v in value]
        return _emit(nested, value, version, skip_default) if isinstance(value, Mapping) else value
    if field.sensitive and isinstance(value, str):
        return SENSITIVE_MASK if value else ""
    return value


def walk(message: MessageType, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Every field at any depth with its dotted path."""
    for name, field in message.fields.items():
        yield f"{prefix}{name}", field
        if field.nested is not None:
            yield from walk(field.nested, f"{prefix}{name}.")
