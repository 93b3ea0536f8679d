"""Files about addresses, and the databases that are made of them."""

from __future__ import annotations

from collections.abc import Iterable

from shoal.controller.addresses.reading import GEO, KINDS, MADE, REPUTATION
from shoal.objects.views import uuid_of

from .change import Around, Change

HOW = "POST /api/fileobject/upload, or upload fileobject in the shell, gives it one."


def fill(change: Change, around: Around) -> None:
    """What follows from the file nobody else writes."""
    if change.system:
        return
    before = change.before or {}
    for field in MADE:
        change.raw.pop(field, None)
        if field in before:
            change.raw[field] = before[field]


def check(change: Change, around: Around) -> None:
    if change.before is not None and change.before["type"] != change.document["type"]:
        change.wrong("type", f"is {change.before['type']} for good", change.document["type"])
    if change.document["type"] not in KINDS:
        change.warnings.append(f"Nothing is made of a file of type {change.document['type']}.")
    elif not change.document.get("content"):
        change.warnings.append(f"The file has no content yet: {HOW}")


def check_geo(change: Change, around: Around) -> None:
    entries = change.document.get("files") or ()
    _check_files(change, around, ((f"files[{n}].file_ref", one["file_ref"]) for n, one in enumerate(entries)), GEO)
    if len({one["index"] for one in entries}) < len(entries):
        change.wrong("files", "two files have the same index", hint="Give each its own; the larger one counts first.")


def check_reputation(change: Change, around: Around) -> None:
    for field in ("base_file_refs", "incremental_file_refs"):
        references = change.document.get(field) or ()
        _check_files(change, around, ((f"{field}[{n}]", one) for n, one in enumerate(references)), REPUTATION)


def _check_files(change: Change, around: Around, references: Iterable[tuple[str, str]], kind: str) -> None:
    for path, reference in references:
        file = around.view.get("fileobject", uuid_of(reference)) or {}
        name = file.get("name", "")
        if file and file["type"] != kind:
            change.wrong(path, f"is of type {file['type']}; it must be {kind}", name)
        elif file and not file.get("content"):
            change.warnings.append(f"{path}: the file {name} has no content yet: {HOW}")
