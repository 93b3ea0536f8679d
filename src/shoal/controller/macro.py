"""Trees of objects written as one: ``macro`` (reference: api.md 7).

``{"model_name": "VirtualService", "data": {...}}``, where next to a field ``<x>_ref`` (or ``<x>_refs``) of the data
``<x>_ref_data`` (``<x>_refs_data``) holds the object that it is to refer to, itself such a tree. All are written in one
transaction, what is referred to first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from shoal.errors import Invalid, NotFound, Problem
from shoal.objects import Field, ObjectType, Registry
from shoal.objects.check import kind_of, meant, shown
from shoal.objects.types import MessageType
from shoal.objects.views import uuid_of

from .bodies import check_identity, keep_unseen
from .intent import Caller, Intent, Written
from .view import View, scope_of

Document = dict[str, Any]
INLINE = "_data"
MEMBERS = ("model_name", "data")
LEFT = frozenset(["tenant", "cloud", "serviceengine", "serviceenginegroup", "network", "vrfcontext"])
"""Types that deleting a tree leaves: what other objects live in."""
May = Callable[[ObjectType, str, Document | None], None]
"""``may(type, method, the stored object)``: raises what the caller is refused with."""


class Tree(msgspec.Struct, frozen=True):
    kind: ObjectType
    data: Document


def tree(registry: Registry, body: Mapping[str, Any]) -> Tree:
    """What a request asks for. Raises Invalid with all that is wrong with it, NotFound for an unknown model."""
    problems = [
        Problem(path=shown(name), why="unknown field", hint=meant(str(name), MEMBERS))
        for name in body
        if name not in MEMBERS
    ]
    model, data = body.get("model_name"), body.get("data")
    if not isinstance(model, str):
        hint = 'Give the name of a type, such as "VirtualService".'
        problems.append(Problem(path="model_name", why="required, as a string", hint=hint))
    if not isinstance(data, dict):
        problems.append(Problem(path="data", why=f"must be an object, not {kind_of(data)}"))
    if problems:
        raise Invalid(problems)
    kind = registry.type(str(model))
    if not kind.endpoint or kind.singleton:
        raise NotFound(f"There are no trees of {kind.name}.")
    assert isinstance(data, dict)
    return Tree(kind, data)


class Macro:
    """Writes trees through ``intent``, the door to ``view``. ``may`` is asked before each object is written."""

    def __init__(self, intent: Intent, view: View, caller: Caller, may: May) -> None:
        self._intent = intent
        self._registry = intent.registry
        self._view = view
        self._caller = caller
        self._may = may
        self._warnings: list[str] = []

    async def create(self, wanted: Tree) -> Written:
        """The root. Raises what creating one of the objects raises; problems name the place in the tree."""
        return self._warned(await self._make(wanted.kind, wanted.data, "data", {}, replacing=False))

    async def replace(self, wanted: Tree) -> Written:
        """Objects that are there already (by uuid, else by name) are replaced, the others created."""
        if self._present(wanted.kind, wanted.data) is None:
            named = shown(wanted.data.get("uuid") or wanted.data.get("name") or "")
            raise NotFound(f"There is no {wanted.kind.name} {named}.")
        return self._warned(await self._make(wanted.kind, wanted.data, "data", {}, replacing=True))

    async def delete(self, wanted: Tree) -> None:
        """The root, and what it refers to and nothing else does. The system's objects, those of other tenants and
        those of the types in `LEFT` stay."""
        root = self._present(wanted.kind, wanted.data)
        if root is None:
            named = shown(wanted.data.get("uuid") or wanted.data.get("name") or "")
            raise NotFound(f"There is no {wanted.kind.name} {named}.")
        below = self._below(wanted.kind, root)
        await self._delete(wanted.kind, root)
        there = {key: one for key, one in below.items() if self._view.get(*key) is not None}  # a VsVip may go with it
        left = {key: one for key, one in there.items() if not await self._intent.is_system(*key)}
        while gone := [key for key in left if not self._view.referrers(key[1])]:
            for key in gone:
                await self._delete(*left.pop(key))

    # --- making ---

    async def _make(
        self, kind: ObjectType, data: Document, where: str, inherited: Mapping[str, Any], *, replacing: bool
    ) -> Written:
        scope = {field: data[field] for field in ("tenant_ref", "cloud_ref") if data.get(field)}
        inherited = {**inherited, **scope}
        body = await self._linked(kind.message, data, where, inherited, replacing=replacing)
        for field, value in inherited.items():
            if field in kind.fields and not body.get(field):
                body[field] = value
        try:
            check_identity(kind, body)
            before = self._present(kind, body) if replacing else None
            self._may(kind, "PUT" if before is not None else "POST", before)
            if before is not None:
                keep_unseen(kind, before, body, self._caller.version)
                written = await self._intent.replace(kind.endpoint, before["uuid"], body, self._caller)
            else:
                written = await self._intent.create(kind.endpoint, body, self._caller)
        except Invalid as error:
            raise Invalid([_under(where, problem) for problem in error.problems]) from None
        self._warnings += written.warnings
        return written

    async def _linked(
        self,
        message: MessageType,
        data: Mapping[str, Any],
        where: str,
        inherited: Mapping[str, Any],
        *,
        replacing: bool,
    ) -> Document:
        """The data with each object that it holds written, and referred to instead."""
        body: Document = {}
        links: Document = {}
        for name, value in data.items():
            here = f"{where}.{name}"
            field = message.fields.get(name)
            inline = _inline(message, name) if field is None else None
            if inline is not None:
                links[inline.name] = await self._link(inline, value, here, inherited, replacing=replacing)
            elif field is not None and field.nested is not None:
                body[name] = await self._nested(field.nested, value, here, inherited, replacing=replacing)
            else:
                body[name] = value
        return body | links

    async def _nested(
        self, message: MessageType, value: Any, where: str, inherited: Mapping[str, Any], *, replacing: bool
    ) -> Any:
        if isinstance(value, dict):
            return await self._linked(message, value, where, inherited, replacing=replacing)
        if isinstance(value, list):
            return [
                await self._nested(message, entry, f"{where}[{index}]", inherited, replacing=replacing)
                for index, entry in enumerate(value)
            ]
        return value

    async def _link(
        self, field: Field, value: Any, where: str, inherited: Mapping[str, Any], *, replacing: bool
    ) -> Any:
        """The reference (or references) to what an inline member holds."""
        many = field.kind == "array"
        kind = self._registry.type(_type_of(field))
        if not isinstance(value, list if many else dict):
            wanted = "a list of objects" if many else "an object"
            raise Invalid([Problem(path=where, value=shown(value), why=f"must be {wanted}, not {kind_of(value)}")])
        references = []
        for index, entry in enumerate(value if many else [value]):
            here = f"{where}[{index}]" if many else where
            if not isinstance(entry, dict):
                raise Invalid([Problem(path=here, value=shown(entry), why=f"must be an object, not {kind_of(entry)}")])
            made = await self._make(kind, entry, here, inherited, replacing=replacing)
            references.append(f"/api/{kind.endpoint}/{made.doc['uuid']}")
        return references if many else references[0]

    def _warned(self, root: Written) -> Written:
        return msgspec.structs.replace(root, warnings=tuple(dict.fromkeys(self._warnings)))

    # --- finding and deleting ---

    def _present(self, kind: ObjectType, data: Mapping[str, Any]) -> Document | None:
        """The stored object that the data is of. Raises NotFound for a uuid that leads nowhere."""
        uuid = data.get("uuid") or uuid_of(str(data.get("url") or ""))
        if uuid:
            found = self._view.get(kind.endpoint, str(uuid))
            if found is None:
                raise NotFound(f"There is no {kind.name} {shown(uuid)}.")
            return found
        return self._view.named(kind.endpoint, str(data.get("name") or ""), self._caller.tenant)

    def _below(self, kind: ObjectType, root: Document) -> dict[tuple[str, str], tuple[ObjectType, Document]]:
        """All that the root refers to, near ones first, and that may go with it."""
        found: dict[tuple[str, str], tuple[ObjectType, Document]] = {}
        level = [(kind, root)]
        while level:
            following = []
            for owner, document in level:
                for reference in owner.references(document):
                    key = (reference.type_name.lower(), uuid_of(reference.value))
                    target = self._view.get(*key)
                    if target is None or key in found or key[0] in LEFT or scope_of(target)[0] != scope_of(root)[0]:
                        continue
                    found[key] = (self._registry.type(key[0]), target)
                    following.append(found[key])
            level = following
        return found

    async def _delete(self, kind: ObjectType, document: Document) -> None:
        self._may(kind, "DELETE", document)
        await self._intent.delete(kind.endpoint, document["uuid"], self._caller)


def _inline(message: MessageType, name: str) -> Field | None:
    """The reference field that ``<x>_ref_data`` or ``<x>_refs_data`` belongs to."""
    field = message.fields.get(name.removesuffix(INLINE)) if name.endswith(INLINE) else None
    return field if field is not None and _type_of(field) else None


def _type_of(field: Field) -> str:
    return field.ref or (field.item.ref if field.item is not None else "")


def _under(where: str, problem: Problem) -> Problem:
    """Its place in the whole tree; what was found further down names it already."""
    if problem.path == where or problem.path.startswith((f"{where}.", f"{where}[")):
        return problem
    return msgspec.structs.replace(problem, path=f"{where}.{problem.path}" if problem.path else where)
