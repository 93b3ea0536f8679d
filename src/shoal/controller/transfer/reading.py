"""The objects of an exported file, and which of them each reference means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from shoal.errors import Invalid, NotFound, Problem
from shoal.objects import ObjectType, Registry
from shoal.objects.check import kind_of, shown

from . import META, PRODUCT

Document = dict[str, Any]
OBJECTS_MAX = 50_000
ADMIN = "admin"
DEFAULT_CLOUD = "Default-Cloud"


class Item(msgspec.Struct, kw_only=True, eq=False):
    """One object of the file. ``tenant`` and ``cloud`` as the file calls them, by name."""

    type: str
    kind: ObjectType | None
    """None: no type is known by that name."""
    raw: Document
    name: str
    tenant: str = ADMIN
    cloud: str = ""
    refers_to: dict[str, Item] = {}
    """By the reference's text."""
    here: str = ""
    """The object's uuid in this system, once it is taken over."""
    refused: str = ""
    """Why it is not."""
    secrets: tuple[str, ...] = ()
    """Fields whose secret the file does not have in a form that is of use here."""

    @property
    def called(self) -> str:
        return f"{self.type} {self.name}"


class Reference(msgspec.Struct, frozen=True):
    """What a reference says, in any of its forms."""

    name: str = ""
    uuid: str = ""
    tenant: str = ""
    cloud: str = ""

    @classmethod
    def parse(cls, value: str) -> Reference:
        try:
            parts = urlsplit(value)
        except ValueError:
            return cls()
        query = dict(parse_qsl(parts.query))
        if "name" in query:
            return cls(name=query["name"], tenant=query.get("tenant", ""), cloud=query.get("cloud", ""))
        uuid = parts.path.rstrip("/").rpartition("/")[2]
        return cls(uuid=uuid, name=parts.fragment)


class File:
    """Raises Invalid for what is no export."""

    def __init__(self, document: Mapping[str, Any], registry: Registry) -> None:
        meta = document.get(META)
        self.meta: Document = meta if isinstance(meta, dict) else {}
        self._registry = registry
        self.items = list(self._read(document))
        if not self.items:
            hint = "It is the JSON that `shoal export`, or `export configuration` of the vendor's shell, writes."
            raise Invalid([Problem(path="configuration", why="holds no objects", hint=hint)])
        self._by_uuid: dict[tuple[str, str], Item] = {}
        self._by_name: dict[tuple[str, str], list[Item]] = {}
        for item in self.items:
            endpoint = item.kind.endpoint if item.kind is not None else item.type.lower()
            self._by_uuid[endpoint, str(item.raw.get("uuid"))] = item
            self._by_name.setdefault((endpoint, item.name), []).append(item)
        for item in self.items:
            self._place(item)
        for item in self.items:
            if item.kind is not None:
                item.refers_to = {
                    reference.value: target
                    for reference in item.kind.references(item.raw)
                    if (target := self._meant(item, reference.type_name.lower(), reference.value)) is not None
                }

    @property
    def foreign(self) -> bool:
        """Whether another product's controller says it has written the file."""
        version = self.meta.get("version")
        return isinstance(version, dict) and version.get("ProductName") != PRODUCT

    def _read(self, document: Mapping[str, Any]) -> Iterator[Item]:
        count = 0
        for type, entries in document.items():
            if type == META:
                continue
            for entry in entries if isinstance(entries, list) else [entries]:
                count += 1
                if count > OBJECTS_MAX:
                    raise Invalid(f"The file has more than {OBJECTS_MAX} objects")
                if not isinstance(entry, dict):
                    hint = "Each member is an object type, with a list of objects."
                    why = f"must hold objects, not {kind_of(entry)}"
                    raise Invalid([Problem(path=shown(type), why=why, hint=hint)])
                yield self._item(type, entry)

    def _item(self, type: str, raw: Document) -> Item:
        try:
            kind = self._registry.type(type)
        except NotFound:
            kind = None
        if kind is not None and not kind.endpoint:
            kind = None
        name = raw.get("name") or raw.get("uuid") or ""
        return Item(type=kind.name if kind else shown(type), kind=kind, raw=raw, name=str(name))

    def _place(self, item: Item) -> None:
        for field, type in (("tenant_ref", "tenant"), ("cloud_ref", "cloud")):
            value = item.raw.get(field)
            if isinstance(value, str) and value:
                meant = Reference.parse(value)
                target = self._by_uuid.get((type, meant.uuid))
                setattr(item, type, target.name if target else meant.name or meant.uuid)
        if item.kind is not None and item.kind.cloud_scoped and not item.cloud:
            item.cloud = DEFAULT_CLOUD

    def _meant(self, item: Item, type: str, value: str) -> Item | None:
        """As references resolve: own tenant, then admin; own cloud where it names none."""
        meant = Reference.parse(value)
        if meant.uuid and (found := self._by_uuid.get((type, meant.uuid))) is not None:
            return found
        candidates = self._by_name.get((type, meant.name or meant.uuid), [])
        cloud = meant.cloud or item.cloud
        for tenant in (meant.tenant or item.tenant, ADMIN):
            for one in candidates:
                if type == "tenant" or (one.tenant == tenant and (not one.cloud or not cloud or one.cloud == cloud)):
                    return one
        return None

    def ordered(self) -> list[tuple[Item, bool]]:
        """What is referred to comes first. True: the item is in a circle, and comes a second time behind all others."""
        order: list[tuple[Item, bool]] = []
        circles: dict[int, Item] = {}
        state: dict[int, int] = {}
        for root in self.items:
            stack = [(root, iter(root.refers_to.values()))] if id(root) not in state else []
            if stack:
                state[id(root)] = 1
            while stack:
                item, targets = stack[-1]
                for target in targets:
                    known = state.get(id(target))
                    if known is None:
                        state[id(target)] = 1
                        stack.append((target, iter(target.refers_to.values())))
                        break
                    if known == 1 and target is not item:
                        circles[id(item)] = item
                else:
                    state[id(item)] = 2
                    order.append((item, False))
                    stack.pop()
        return order + [(item, True) for item in circles.values()]
