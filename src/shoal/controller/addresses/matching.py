"""What rules ask of databases of addresses: ``geo_matches`` and ``ip_reputation_type``, by the databases that their policy names.
Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from shoal.controller.protocols import Documents
from shoal.objects.views import uuid_of
from shoal.wire import policy

from .reading import GEO, REPUTATION, TYPE

LISTS = "networklist"
"""`contents.Contents` has these beside the documents: a list for a `Wanted`, as JSON."""
APART_MAX = 16
"""Up to so many values of a rule are a list each, which other rules may share; more are one list."""
ANY_TYPE = f"{TYPE}_ALL"
SHAPES = {
    "ATTRIBUTE_COUNTRY_CODE": (r"[A-Za-z]{2}", "two letters (ISO 3166)"),
    "ATTRIBUTE_CONTINENT_CODE": (r"AF|AN|AS|EU|NA|OC|SA", "AF, AN, AS, EU, NA, OC or SA"),
    "ATTRIBUTE_AS_NUMBER": (r"[0-9]{1,10}", "a number"),
}
Document = Mapping[str, Any]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The networks of which files say one of ``values`` by ``attribute``; no values: anything. ``layers``: digests of
    contents; what those of one layer say of a network hides what later ones say."""

    layers: tuple[tuple[str, ...], ...]
    attribute: str
    values: tuple[str, ...]


def tests_of(documents: Documents, policy_set: Document, match: Document) -> tuple[policy.Test, ...] | None:
    """None where `why_not` says why, or where what a file holds has been lost: the rule is not to act then."""
    found: list[policy.Test] = []
    for one in match.get("geo_matches") or ():
        files = _able(_geo_files(documents, policy_set), one.get("attribute", ""))
        layers = tuple((file["content"],) for file in files)
        found += _tests(documents, layers, one["attribute"], one["values"], one["match_operation"]) if layers else ()
        if not layers:
            return None
    if asked := match.get("ip_reputation_type"):
        files = _able(_reputation_files(documents, policy_set), TYPE)
        if not files:
            return None
        types = asked["reputation_types"]
        values = () if ANY_TYPE in types else types
        layers = (tuple(file["content"] for file in files),)
        found += _tests(documents, layers, TYPE, values, asked["match_operation"])
    wanted = len(match.get("geo_matches") or ()) + bool(match.get("ip_reputation_type"))
    return tuple(found) if len(found) == wanted else None


def why_not(documents: Documents, policy_set: Document, match: Document) -> str:
    """Why a rule with this match can't act; "" = it can."""
    for one in match.get("geo_matches") or ():
        files, attribute = _geo_files(documents, policy_set), one.get("attribute", "")
        if files is None:
            return "geo_db_ref of the policy names no database"
        if not _able(files, attribute):
            return f"no file of its geo_db_ref that is here says anything by {attribute or 'no attribute'}"
    if match.get("ip_reputation_type"):
        files = _reputation_files(documents, policy_set)
        if files is None:
            return "ip_reputation_db_ref of the policy names no database"
        if not _able(files, TYPE):
            return "no file of its ip_reputation_db_ref is here"
    return ""


def odd_values(match: Document) -> Iterator[str]:
    """Values that no network has, by the looks of them, in a sentence each."""
    for one in match.get("geo_matches") or ():
        pattern, shape = SHAPES.get(one.get("attribute", ""), ("", ""))
        odd = [value for value in one.get("values") or () if pattern and not re.fullmatch(pattern, value)]
        if odd:
            yield f"{one['attribute']} {', '.join(odd[:5])} fits nobody: it is {shape}"


def _tests(
    documents: Documents, layers: tuple[tuple[str, ...], ...], attribute: str, values: Sequence[str], operation: str
) -> Iterator[policy.Test]:
    single = tuple(dict.fromkeys(values))
    groups = [(value,) for value in single] if 0 < len(single) <= APART_MAX else [single]
    wanted = (Wanted(layers=layers, attribute=attribute, values=group) for group in groups)
    lists = [documents.get(LISTS, msgspec.json.encode(one).decode()) for one in wanted]
    if None not in lists:
        ids = tuple(one["id"] for one in lists if one is not None)
        yield policy.Test(of="client", lists=ids, negated=operation == "IS_NOT_IN")


def _able(files: Sequence[Document] | None, attribute: str) -> list[Document]:
    return [file for file in files or () if file.get("content") and attribute in (file.get("attributes") or ())]


def _geo_files(documents: Documents, policy_set: Document) -> list[Document] | None:
    """What counts most comes first."""
    database = _database(documents, policy_set, "geo_db_ref", "geodb")
    if database is None:
        return None
    entries = [one for one in database.get("files") or () if one.get("enabled", True)]
    entries.sort(key=lambda one: -one["index"])
    return _files(documents, (one["file_ref"] for one in entries), GEO)


def _reputation_files(documents: Documents, policy_set: Document) -> list[Document] | None:
    database = _database(documents, policy_set, "ip_reputation_db_ref", "ipreputationdb")
    if database is None:
        return None
    references = [*(database.get("base_file_refs") or ()), *(database.get("incremental_file_refs") or ())]
    return _files(documents, references, REPUTATION)


def _database(documents: Documents, policy_set: Document, field: str, type: str) -> Document | None:
    reference = policy_set.get(field)
    return documents.get(type, uuid_of(reference)) if reference else None


def _files(documents: Documents, references: Any, kind: str) -> list[Document]:
    found = (documents.get("fileobject", uuid_of(reference)) or {} for reference in references)
    return [file for file in found if file.get("type") == kind]
