"""Reads ``schema/``, ``own_types.json``, ``own.json`` and ``order.json`` and makes the types; `load` does it once."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import msgspec

from shoal.errors import NotFound

from . import structs
from .check import meant
from .types import Field, MessageType, ObjectType, version_key

SCHEMA = Path(__file__).parent / "schema"
OWN = Path(__file__).parent / "own.json"
"""Fields and messages of Shoal's own, and fields that it takes more seriously than the schema does, by object or message, in
the schema's form."""
OWN_TYPES = Path(__file__).parent / "own_types.json"
"""Object types that the schema's files lack, in their form (from the vendor's public API reference)."""
ORDER = Path(__file__).parent / "order.json"
SINGLETONS = frozenset({"Cluster", "SystemConfiguration", "ControllerProperties", "SeProperties", "UserAccount"})
CLOUD_SCOPED = frozenset(
    {
        "Pool",
        "PoolGroup",
        "VsVip",
        "VirtualService",
        "Network",
        "VrfContext",
        "ServiceEngineGroup",
        "ServiceEngine",
        "AutoScaleLaunchConfig",
        "PriorityLabels",
        "PoolGroupDeploymentPolicy",
        "ServerAutoScalePolicy",
        "TrafficCloneProfile",
        "AvailabilityZone",
        "NetworkService",
    }
)
"""Names are unique within a cloud, and references resolve within it (reference: api.md 4)."""
READ_ONLY_ENDINGS = ("-inventory", "runtime")
LATE = ("tenant_ref", "cloud_ref")


class Registry:
    """All object types (``types``, by endpoint word) and messages (``messages``, by name)."""

    def __init__(self, messages: dict[str, MessageType], objects: dict[str, ObjectType]) -> None:
        self.messages = messages
        self.objects = objects
        self.types = {t.endpoint: t for t in objects.values() if t.endpoint}
        self.secret_names = frozenset(
            name for message in messages.values() for name, field in message.fields.items() if field.sensitive
        )
        """Names of fields that hold secrets in one message or another."""
        self._by_word = {t.name.lower(): t for t in objects.values()} | self.types

    def type(self, word: str) -> ObjectType:
        """By endpoint word or object name, any case. Raises NotFound with the nearest name."""
        found = self._by_word.get(word.lower())
        if found is None:
            raise NotFound(f"There is no object type {word[:80]}.", hint=meant(word.lower(), self._by_word))
        return found

    @staticmethod
    def version_key(version: str) -> tuple[int, ...]:
        return version_key(version)


class _Builder:
    def __init__(self, raw: dict[str, dict[str, Any]], order: dict[str, list[str]]) -> None:
        self._raw = raw
        self._order = order
        self.messages: dict[str, MessageType] = {}

    def message(self, name: str) -> MessageType:
        """Messages refer to each other without cycles (the schema's own tests check that)."""
        if name not in self.messages:
            raw = self._raw[name]
            fields = {field: self._field(field, raw[field]) for field in self._ordered(name, list(raw))}
            self.messages[name] = MessageType(name=name, fields=fields)
        return self.messages[name]

    def _ordered(self, name: str, names: list[str]) -> list[str]:
        first = [field for field in self._order.get(name, self._order["*"]) if field in names]
        late = [field for field in LATE if field in names and field not in first]
        return [*first, *(field for field in names if field not in first and field not in late), *late]

    def _field(self, name: str, raw: dict[str, Any]) -> Field:
        kind = raw["type"]
        item = raw.get("items")
        shared: dict[str, Any] = {key: raw[key] for key in ("enum", "range", "special", "ref", "allowed") if key in raw}
        return Field(
            name=name,
            kind=kind,
            format=raw.get("format", ""),
            message=self.message(raw["message"]) if kind == "message" else None,
            item=self._field(name, {**shared, **item}) if item else None,
            ref=raw.get("ref", ""),
            enum=tuple(raw.get("enum", ())),
            range=tuple(raw["range"]) if "range" in raw and kind in ("integer", "number", "array") else None,
            allowed=tuple(raw.get("allowed", ())),
            special={str(k): v for k, v in (raw.get("special") or {}).items()},
            unit=raw.get("unit", ""),
            default=raw.get("default"),
            has_default="default" in raw,
            required=bool(raw.get("required")),
            read_only=bool(raw.get("read_only")),
            sensitive=bool(raw.get("sensitive")),
            introduced=tuple(raw.get("introduced", ())),
            deprecated=str(raw.get("deprecated", "")),
            post_22_1=bool(raw.get("post_22_1")),
            min_items=raw.get("min_items"),
            max_items=raw.get("max_items"),
        )


def _flags(name: str, endpoint: str) -> frozenset[str]:
    flags = set()
    if name in SINGLETONS:
        flags.add("singleton")
    if name in CLOUD_SCOPED:
        flags.add("cloud_scoped")
    if endpoint.endswith(READ_ONLY_ENDINGS) or name.startswith("VIMgr"):
        flags.add("read_only")
    return frozenset(flags)


@functools.cache
def load() -> Registry:
    """Every type, compiled. Takes well under 300 ms once; later calls are free."""
    raw: dict[str, dict[str, Any]] = msgspec.json.decode((SCHEMA / "messages.json").read_bytes())["messages"]
    descriptions: dict[str, dict[str, Any]] = {}
    for path in sorted(SCHEMA.glob("*.json")):
        if path.name != "messages.json":
            description = msgspec.json.decode(path.read_bytes())
            descriptions[description["object"]] = description
            raw[description["object"]] = description["fields"]
    for description in msgspec.json.decode(OWN_TYPES.read_bytes()):
        descriptions[description["object"]] = description
        raw[description["object"]] = description["fields"]
    for name, fields in msgspec.json.decode(OWN.read_bytes()).items():
        raw.setdefault(name, {}).update(fields)
    builder = _Builder(raw, msgspec.json.decode(ORDER.read_bytes()))
    messages = {name: builder.message(name) for name in raw}
    objects = {
        name: ObjectType(messages[name], description, _flags(name, str(description.get("endpoint") or "")))
        for name, description in descriptions.items()
    }
    for message in messages.values():
        structs.struct(message)
    return Registry(messages, objects)
