"""Collections: filters, search, order, pages (reference: api.md 5.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from shoal.controller.sight import Sight
from shoal.controller.view import View
from shoal.errors import Invalid, NotFound, Problem
from shoal.objects import Field, ObjectType, Registry
from shoal.objects.check import meant, shown
from shoal.objects.types import IDENTITY, SERVER_MADE
from shoal.objects.views import uuid_of

from .limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX

Document = dict[str, Any]
Query = Mapping[str, str]
Test = Callable[[Document], bool]
SETTINGS = frozenset(
    [
        "page",
        "page_size",
        "include_name",
        "include_refs",
        "skip_default",
        "fields",
        "sort",
        "limit_by",
        "exclude",
        "join_subresources",
        "timeout",
    ]
)
"""Parameters that are no filters."""
ALWAYS_SHOWN = frozenset(["url", "uuid", "name"])
OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda have, want: want in have,
    "icontains": lambda have, want: want.lower() in have.lower(),
    "in": lambda have, want: have in want.split(","),
    "startswith": lambda have, want: have.startswith(want),
    "istartswith": lambda have, want: have.lower().startswith(want.lower()),
}


class Page(msgspec.Struct, frozen=True):
    """``count``: all matches; ``documents``: this page; ``next``: the query of the next page, "" on the last."""

    count: int
    documents: list[Document]
    next: str


class Selection:
    """The filters of one query on objects of one type. Secrets match nothing: a filter must not tell what they are, nor
    what an object refers to that the caller does not see.

    ``unknown``: (filter or order, its name) of what is no field of the type and was passed over.
    """

    def __init__(self, view: View, registry: Registry, kind: ObjectType, query: Query, sight: Sight) -> None:
        self._view = view
        self._sight = sight
        self._registry = registry
        self._kind = kind
        self.unknown: list[tuple[str, str]] = []
        self._excluded = frozenset(query.get("exclude", "").split(","))
        # An empty value filters nothing, except that an empty name must not find the first object there is.
        given = [(n, v) for n, v in query.items() if n not in SETTINGS and (v or n in ("name", "uuid"))]
        self._tests = [(test, name not in self._excluded) for name, value in given if (test := self._test(name, value))]
        self._order = query.get("sort", "")
        if self._order and not self._leads(kind.fields, self._order.lstrip("-").split(".")):
            self.unknown.append(("order", self._order))
            self._order = ""

    def apply(self, documents: Sequence[Document]) -> list[Document]:
        """Those that match every filter, in the order asked for."""
        found = list(documents)
        for test, wanted in self._tests:
            found = [document for document in found if test(document) is wanted]
        return self._sorted(found) if self._order else found

    def warnings(self) -> list[str]:
        """What was passed over, one sentence each."""
        return [passed_over(what, self._kind, name) for what, name in self.unknown]

    def _test(self, name: str, value: str) -> Test | None:
        match name:
            case "search" | "isearch":
                return self._search(value, ignore_case=name == "isearch")
            case "refers_to":
                sources = {uuid for _, uuid, _ in self._referrers(self._object(name, value))}
                return lambda d: d["uuid"] in sources
            case "referred_by":
                source = self._object(name, value)
                return lambda d: any(uuid == source for _, uuid, _ in self._referrers(d["uuid"]))
        steps = name.split(".")
        operator = steps.pop() if len(steps) > 1 and steps[-1] in OPERATORS else ""
        reference = steps[0].removesuffix("_uuid") + "_ref"
        if steps[0] not in self._kind.fields and reference in self._kind.fields:
            steps = [reference, "uuid"]
        if not self._leads(self._kind.fields, steps):
            self.unknown.append(("filter", name))
            return None
        compare = OPERATORS.get(operator, _equal)
        field = self._kind.fields[steps[0]]
        if len(steps) == 1 and field.kind == "string" and not field.ref and not field.sensitive:
            return _of_text(field.name, operator, compare, value)  # most often it is the name, of ten thousand
        return lambda d: any(compare(have, value) for have in self._texts(d, steps))

    def _referrers(self, uuid: str) -> list[tuple[str, str, str]]:
        """Those that the caller sees."""
        found = self._view.referrers(uuid)
        return [r for r in found if self._sight.sees(r[0], self._view.get(r[0], r[1]) or {})]

    def _leads(self, fields: Mapping[str, Field], steps: list[str]) -> bool:
        """Whether there is a field at a dotted path, as `_values` walks it."""
        field = fields.get(steps[0])
        if field is None or len(steps) == 1:
            return field is not None
        if field.nested is not None:
            return self._leads(field.nested.fields, steps[1:])
        reference = field.ref or (field.item.ref if field.item else "")
        if not reference or steps[1:] == ["uuid"]:
            return bool(reference)
        try:
            return self._leads(self._registry.type(reference).fields, steps[1:])
        except NotFound:  # a type that Shoal has no objects of
            return True

    def _object(self, name: str, value: str) -> str:
        """The uuid in ``<type>:<uuid>``. Raises Invalid."""
        type, colon, uuid = value.partition(":")
        try:
            if not colon or not uuid:
                raise Invalid([Problem(path=name, value=shown(value), why="must look like pool:<uuid>")])
            self._registry.type(type)
        except NotFound as error:
            why = f"there is no object type {shown(type)}"
            raise Invalid([Problem(path=name, value=shown(value), why=why, hint=error.hint)]) from None
        return uuid

    def _search(self, value: str, *, ignore_case: bool) -> Test:
        """Any field, or ``(field,value)`` for one."""
        field, text = "", value
        if value.startswith("(") and value.endswith(")") and "," in value:
            field, _, text = value[1:-1].partition(",")
        contains = OPERATORS["icontains" if ignore_case else "contains"]
        if field:
            return lambda d: any(contains(have, text) for have in self._texts(d, field.split(".")))
        return lambda d: contains(msgspec.json.encode(list(_scalars(self._kind.emit(d)))).decode(), text)

    def _texts(self, document: Document, steps: list[str]) -> Iterator[str]:
        return (_text(value) for value in self._values(self._kind.fields, document, steps))

    def _values(self, fields: Mapping[str, Field], document: Any, steps: list[str]) -> Iterator[Any]:
        """The scalars at a dotted path: through lists, messages and references (``cloud_ref.name``)."""
        field = fields.get(steps[0])
        if field is None or field.sensitive or not isinstance(document, Mapping):
            return
        value, rest = document.get(field.name), steps[1:]
        reference = field.ref or (field.item.ref if field.item else "")
        for item in value if isinstance(value, list) else [value]:
            if item is None:
                continue
            if field.nested is not None:
                yield from self._values(field.nested.fields, item, rest) if rest else ()
            elif reference and rest and rest != ["uuid"]:
                type = reference.lower()
                found = self._view.get(type, uuid_of(item))
                if found is not None and self._sight.sees(type, found):
                    yield from self._values(self._registry.type(type).fields, found, rest)
            elif reference:
                found = self._view.get(reference.lower(), uuid_of(item))
                if found is None or self._sight.sees(reference.lower(), found):
                    yield uuid_of(item)
            elif not rest:
                yield item

    def _sorted(self, documents: list[Document]) -> list[Document]:
        """Numbers by size, texts by character; those without the field come last."""
        steps = self._order.lstrip("-").split(".")
        keyed = [(next(self._values(self._kind.fields, d, steps), None), d) for d in documents]
        present = [(value, d) for value, d in keyed if value is not None]
        present.sort(key=lambda pair: _rank(pair[0]), reverse=self._order.startswith("-"))
        return [d for _, d in present] + [d for value, d in keyed if value is None]


def _of_text(name: str, operator: str, compare: Callable[[str, str], bool], value: str) -> Test:
    """Of a text at the top."""
    if operator == "istartswith":
        begun = value.lower()
        return lambda d: str(d.get(name, "")).lower().startswith(begun) and name in d
    return lambda d: (have := d.get(name)) is not None and compare(have, value)


def page(documents: list[Document], query: Query, *, size_max: int = PAGE_SIZE_MAX) -> Page:
    """One page of them. Raises Invalid for a page or size that is no number."""
    documents = documents[: _number(query, "limit_by", len(documents), 0)]
    number, size = page_of(query, size_max)
    start = (number - 1) * size
    more = start + size < len(documents)
    rest = {name: value for name, value in query.items() if name != "page"}
    following = urlencode({**rest, "page": number + 1}) if more else ""
    return Page(len(documents), documents[start : start + size], following)


def page_of(query: Query, size_max: int) -> tuple[int, int]:
    """(the page's number from 1, its size). Raises Invalid."""
    return _number(query, "page", 1, 1), min(_number(query, "page_size", PAGE_SIZE_DEFAULT, 1), size_max)


def passed_over(what: str, kind: ObjectType, name: str) -> str:
    """``The filter nmae was passed over: Pool has no such field. Did you mean name?``"""
    first = name.lstrip("-").partition(".")[0]
    hint = meant(first, kind.fields) if first not in kind.fields else ""
    return f"The {what} {shown(name)} was passed over: {kind.name} has no such field. {hint}".rstrip()


def unknown_fields(kind: ObjectType, query: Query) -> list[str]:
    """One sentence for each of the ``fields`` asked for that the type does not have."""
    known = kind.fields.keys() | IDENTITY | SERVER_MADE | {""}
    return [passed_over("field", kind, name) for name in query.get("fields", "").split(",") if name not in known]


def fields(document: Document, query: Query) -> Document:
    """Only the fields asked for; url, uuid and name always."""
    if not query.get("fields", ""):
        return document
    wanted = set(query["fields"].split(",")) - {""}
    if not wanted:
        return document
    return {name: value for name, value in document.items() if name in wanted or name in ALWAYS_SHOWN}


def asks(names: frozenset[str], query: Query) -> bool:
    """Whether any of these members is to be shown."""
    wanted = set(query.get("fields", "").split(",")) - {""}
    return not wanted or not names.isdisjoint(wanted)


def _number(query: Query, name: str, default: int, least: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else least - 1
    if number < least:
        raise Invalid([Problem(path=name, value=shown(text), why=f"must be a whole number from {least} on")])
    return number


def _equal(have: str, want: str) -> bool:
    if have in ("true", "false"):
        return have == want.lower()
    return have == want or (want.count("/") > 0 and have == uuid_of(want))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _rank(value: Any) -> tuple[int, float, str]:
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))


def _scalars(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _scalars(item)
    elif isinstance(value, list):
        for item in value:
            yield from _scalars(item)
    else:
        yield _text(value)
