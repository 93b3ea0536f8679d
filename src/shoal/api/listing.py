"""Collections: filters, search, order, pages (api.md 5.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from shoal.controller.view import View
from shoal.errors import Invalid, Problem
from shoal.objects.check import shown
from shoal.objects.views import uuid_of

from .limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX

Document = dict[str, Any]
Query = Mapping[str, str]
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
        "search",
        "isearch",
        "refers_to",
        "referred_by",
        "cloud_uuid",
        "uuid",
        "cloud_ref.name",
        "cloud_ref.uuid",
        "keep-alive",
    ]
)
OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda have, want: want in have,
    "icontains": lambda have, want: want.lower() in have.lower(),
    "in": lambda have, want: have in want.split(","),
    "startswith": lambda have, want: have.startswith(want),
}


class Page(msgspec.Struct, frozen=True):
    """``count``: all matches; ``documents``: this page; ``next``: the query of the next page, "" on the last."""

    count: int
    documents: list[Document]
    next: str


def select(view: View, documents: Sequence[Document], query: Query) -> list[Document]:
    """The documents that match every filter of the query. Raises Invalid for a filter that makes no sense."""
    excluded = set(query.get("exclude", "").split(",")) - {""}
    found = list(documents)
    for name, value in query.items():
        test = _test(view, name, value)
        if test is not None:
            wanted = name not in excluded
            found = [document for document in found if test(document) is wanted]
    return found


def page(documents: list[Document], query: Query) -> Page:
    order = query.get("sort", "")
    if order:
        field = order.lstrip("-")
        documents = sorted(documents, key=lambda d: str(d.get(field, "")), reverse=order.startswith("-"))
    limit = _number(query, "limit_by", len(documents), 0)
    documents = documents[:limit]
    size = min(_number(query, "page_size", PAGE_SIZE_DEFAULT, 1), PAGE_SIZE_MAX)
    number = _number(query, "page", 1, 1)
    start = (number - 1) * size
    more = start + size < len(documents)
    rest = {name: value for name, value in query.items() if name != "page"}
    return Page(
        len(documents), documents[start : start + size], urlencode({**rest, "page": number + 1}) if more else ""
    )


def fields(document: Document, query: Query) -> Document:
    """Only the fields asked for; url, uuid and name always."""
    wanted = set(query.get("fields", "").split(",")) - {""}
    if not wanted:
        return document
    return {name: value for name, value in document.items() if name in wanted | {"url", "uuid", "name"}}


def _number(query: Query, name: str, default: int, least: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least or len(text) > 9:
        raise Invalid([Problem(path=name, value=shown(text), why=f"must be a whole number from {least} on")])
    return number


def _test(view: View, name: str, value: str) -> Callable[[Document], bool] | None:
    match name:
        case "uuid":
            return lambda d: d.get("uuid") == value
        case "search" | "isearch":
            return _search(value, ignore_case=name == "isearch")
        case "refers_to":
            target = value.rpartition(":")[2]
            return lambda d: any(uuid == d["uuid"] for _, uuid, _ in view.referrers(target))
        case "referred_by":
            source = value.rpartition(":")[2]
            return lambda d: any(uuid == source for _, uuid, _ in view.referrers(d["uuid"]))
        case "cloud_uuid" | "cloud_ref.uuid":
            return lambda d: uuid_of(d.get("cloud_ref", "")) == value
    if "_ref." in name:
        field, _, part = name.partition(".")
        return _by_reference(view, field, part, value)
    if name in SETTINGS or name.startswith("_"):
        return None
    field, _, operator = name.partition(".")
    if operator and operator not in OPERATORS:
        return None
    compare: Callable[[str, str], bool] = OPERATORS.get(operator, str.__eq__)
    return lambda d: field in d and compare(_text(d[field]), value)


def _by_reference(view: View, field: str, part: str, value: str) -> Callable[[Document], bool]:
    def matches(document: Document) -> bool:
        reference = str(document.get(field, ""))
        if not reference:
            return False
        if part == "uuid":
            return uuid_of(reference) == value
        type = reference.split("/")[2] if reference.count("/") >= 3 else ""
        found = view.get(type, uuid_of(reference))
        return found is not None and found.get("name") == value

    return matches


def _search(value: str, *, ignore_case: bool) -> Callable[[Document], bool]:
    """Any field, or ``(field,value)`` for one."""
    field, text = "", value
    if value.startswith("(") and value.endswith(")") and "," in value:
        field, _, text = value[1:-1].partition(",")
    wanted = text.lower() if ignore_case else text

    def matches(document: Document) -> bool:
        have = _text(document.get(field, "")) if field else msgspec.json.encode(document).decode()
        return wanted in (have.lower() if ignore_case else have)

    return matches


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)
