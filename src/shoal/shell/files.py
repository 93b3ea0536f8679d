"""``export`` and ``import`` in the shell: objects to a file that `shoal apply` takes, and back; or the whole
configuration, as `shoal export` and `shoal import` have it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoal.errors import Invalid, Problem, Refused

from . import declare, manifest, transfer
from .command import FILE, Choice, Command, Known, Option, Said, next_option, options_of
from .configure import kind_of
from .plan import Declined

if TYPE_CHECKING:
    from .session import Session

CONFIGURATION = "configuration"
WHOLE_EXPORT, WHOLE_IMPORT = "configuration/export", "configuration/import"
TO_FILE = Option("file", "write it there, instead of printing it", FILE)


def _export(session: Session, words: list[str]) -> Said:
    match words:
        case ["configuration", *rest]:
            given = options_of("export", (TO_FILE,), rest)
            found = session.client.call("GET", WHOLE_EXPORT, within_s=transfer.WITHIN_S)
            objects = sum(len(one) for type, one in found.items() if type != "META")
            return _written(given, json.dumps(found, indent=1), objects, found)
        case [type, *rest]:
            names = [] if rest[:1] in ([], [TO_FILE.word]) else rest[:1]
            given = options_of("export", (TO_FILE,), rest[len(names) :])
        case _:
            usage = "Use export configuration|<type> [<name>] [file <path>]."
            raise Invalid([Problem(path="export", why="what? A type, or configuration", hint=usage)])
    kind = session.kind(type)
    found = declare.collected(session.client, session.registry, kind.endpoint, names, full=False)
    return _written(given, manifest.text_of(found).rstrip("\n"), len(found[kind.endpoint]), found)


def _written(given: dict[str, Any], text: str, objects: int, data: Any) -> Said:
    if "file" not in given:
        return Said(text, data, verbatim=True)
    transfer.write_whole(Path(given["file"]).expanduser(), (text + "\n").encode())
    return Said(f"{objects} object{'s' * (objects != 1)} in {given['file']}, without secrets.", data)


def _import(session: Session, words: list[str]) -> Said:
    match words:
        case ["configuration", "file", path]:
            return _import_whole(session, Path(path).expanduser())
        case ["file", path]:
            pass
        case _:
            raise Invalid(
                [Problem(path="import", why="a file is required", hint="Use import [configuration] file <path>.")]
            )
    wanted = manifest.in_order(manifest.read(session.registry, [str(Path(path).expanduser())]))
    changes = [declare.compared(session.client, one) for one in wanted]
    text = declare.told(changes) or "There is nothing in it."
    if not any(change.method for change in changes):
        return Said(text, declare.as_document(changes))
    if session.confirm is not None and not session.confirm(text):
        raise Declined
    whole = declare.carry_out(session.client, changes, session.confirm)
    shown = [] if session.confirm is not None else [text]
    said = "\n".join([*shown, declare.outcomes(changes)])
    if not whole:
        raise Refused(f"Not everything was done.\n{said}")
    return Said(said, declare.as_document(changes))


def _import_whole(session: Session, path: Path) -> Said:
    body = {"configuration": transfer.read(path), "apply": False}
    if session.confirm is not None:
        foretold = session.client.call("POST", WHOLE_IMPORT, body, within_s=transfer.WITHIN_S)
        if not session.confirm(transfer.told(foretold)):
            raise Declined
    answer = session.client.call("POST", WHOLE_IMPORT, body | {"apply": True}, within_s=transfer.WITHIN_S)
    return Said(transfer.told(answer), answer)


def _next_export(known: Known, words: list[str]) -> Iterable[Choice]:
    match words:
        case []:
            kinds = (kind for kind in known.session.registry.types.values() if not kind.read_only)
            whole = Choice(CONFIGURATION, "everything of this tenant")
            return [whole, *(Choice(kind.endpoint, kind.name) for kind in kinds)]
        case ["configuration", *rest]:
            return next_option(known, (TO_FILE,), rest)
        case [type]:
            kind = kind_of(known, type)
            return [] if kind is None else [*known.names(kind.endpoint), Choice(TO_FILE.word, TO_FILE.help)]
        case [_, "file"]:
            return [Choice(FILE, TO_FILE.help, free=True)]
        case [_, _, *rest]:
            return next_option(known, (TO_FILE,), rest)
    return ()


def _next_import(known: Known, words: list[str]) -> Iterable[Choice]:
    match words:
        case []:
            whole = Choice(CONFIGURATION, "a whole configuration, of Avi's controller too")
            return [Choice(TO_FILE.word, "objects in YAML or JSON, as export writes them"), whole]
        case ["configuration"]:
            return [Choice(TO_FILE.word, "JSON, as export configuration writes it")]
        case ["file"] | ["configuration", "file"]:
            return [Choice(FILE, "YAML or JSON, as export writes it", free=True)]
    return ()


EXPORT = Command(
    summary="objects as a file: YAML, references by name",
    usage=("export <type> [<name>] [file <path>]", "export configuration [file <path>]"),
    run=_export,
    next=_next_export,
    options=(TO_FILE,),
)
IMPORT = Command(
    summary="make objects as a file says",
    usage=("import file <path>", "import configuration file <path>"),
    run=_import,
    next=_next_import,
)
