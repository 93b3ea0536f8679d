"""``convert``: an exported configuration (JSON; also of an Avi controller) as the YAML that `shoal apply` takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from shoal.errors import Invalid, NotFound, Problem
from shoal.objects import ObjectType

from . import manifest, transfer
from .command import FILE, WORD, Choice, Command, Known, Option, Said, next_option, options_of
from .fields import name_in

if TYPE_CHECKING:
    from .session import Session

Document = dict[str, Any]
META = "META"
TO_FILE = Option("to", "write it there, instead of printing it", FILE)
TENANT = Option("tenant", "objects of this tenant only (usual: admin)", WORD)
OPTIONS = (TO_FILE, TENANT)
USAGE = ("convert file <exported.json> [to <file.yaml>] [tenant <name>]",)
SYSTEM = "System-"
"""Objects that each controller begins with."""


def _convert(session: Session, words: list[str]) -> Said:
    match words:
        case ["file", path, *rest]:
            given = options_of("convert", OPTIONS, rest)
        case _:
            raise Invalid([Problem(path="convert", why="a file is required", hint=f"Use {USAGE[0]}.")])
    exported = transfer.read(Path(path).expanduser())
    found: dict[str, list[Document]] = {}
    left: dict[str, str] = {}
    for word, entries in exported.items():
        if word == META:
            continue
        try:
            kind = session.registry.type(word)
        except NotFound:
            left[word] = "no type is known by that name"
            continue
        if not kind.endpoint or kind.read_only or kind.singleton:
            left[word] = "is the controller's own"
            continue
        kept = list(_objects(kind, entries, given.get(TENANT.word, "admin")))
        if kept:
            found[kind.endpoint] = kept
    text = manifest.text_of(found).rstrip("\n")
    count = sum(map(len, found.values()))
    notes = [f"{type} left out: {why}." for type, why in left.items()]
    if "to" not in given:
        return Said("\n".join([*(f"# {note}" for note in notes), text]), found, verbatim=True)
    transfer.write_whole(Path(given["to"]).expanduser(), (text + "\n").encode())
    said = f"{count} object{'s' * (count != 1)} in {given['to']}, without secrets. Look at it, then: shoal diff -f {given['to']}"
    return Said("\n".join([*notes, said]), found)


def _objects(kind: ObjectType, entries: Any, tenant: str) -> Iterator[Document]:
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            continue
        owner = entry.get("tenant_ref")
        if entry["name"].startswith(SYSTEM) or (isinstance(owner, str) and _named(owner) not in ("", tenant)):
            continue
        named = kind.map_references(entry, lambda path, type, value: f"#{_named(value) or value}")
        yield manifest.written(kind, named)


def _named(reference: str) -> str:
    """The name in a reference, in any of its forms; "" if it has none."""
    query = parse_qs(urlsplit(reference).query)
    return query["name"][0] if "name" in query else name_in(reference)


def _next(known: Known, words: list[str]) -> Iterable[Choice]:
    match words:
        case []:
            return [Choice("file", "an exported configuration, JSON")]
        case ["file"]:
            return [Choice(FILE, "such as `shoal export` or an Avi controller writes", free=True)]
        case ["file", _, *rest]:
            return next_option(known, OPTIONS, rest)
    return ()


COMMAND = Command(
    summary="an exported configuration as the YAML of `shoal apply`",
    usage=USAGE,
    run=_convert,
    next=_next,
    options=OPTIONS,
)
