"""One object of a file, written into a proposal: as it is, with a difference that is told, or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shoal.controller.intent import Caller, Draft, Written
from shoal.controller.proposal import Proposal
from shoal.controller.sight import EVERYTHING
from shoal.errors import Invalid, Problem, ShoalError
from shoal.objects import ObjectType, acts

from . import LEFT_OUT
from .given import Given
from .reading import ADMIN, Item
from .sealing import Sealing

Document = dict[str, Any]
ROUNDS_MAX = 12
"""A document may hold as many kinds of mistakes that only show one after another."""
DIFFERENCES_MAX = 20
SCOPES = frozenset({"tenant", "cloud", "vrfcontext", "network", "systemconfiguration"})
"""Types that act by being there, or whose fields are not listed in ``acts.json``."""
TAKEN, DIFFERENT, REFUSED = "taken over", "different", "not supported"
CREATE, REPLACE, NONE = "create", "replace", "none"
UNKNOWN = "unknown field"
_INDEX = re.compile(r"\[\d+\]")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_SLUG = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_OWN = ("_last_modified", "url", "uuid")


class Difference(msgspec.Struct, frozen=True):
    field: str
    why: str


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one object. ``action``: `CREATE`, `REPLACE`, or `NONE` where it is the same here already."""

    type: str
    name: str
    tenant: str
    result: str
    action: str = NONE
    uuid: str = ""
    differences: tuple[Difference, ...] = ()
    secrets: tuple[str, ...] = ()
    """Fields whose secret is to be given anew, or to be looked at: the differences say why."""
    why: str = ""


class NotTaken(Exception):
    """Why an object is not taken over."""


class Judge:
    """Writes objects into ``proposal``, which is made in ``draft``, in an order in which references resolve."""

    def __init__(
        self,
        proposal: Proposal,
        draft: Draft,
        caller: Caller,
        sealing: Sealing | None,
        *,
        foreign: bool = False,
        disabled: bool = False,
    ) -> None:
        self._foreign = foreign
        self._disabled = disabled
        self._proposal = proposal
        self._draft = draft
        self._view = proposal.view
        self._caller = caller
        self._sealing = sealing

    async def take(self, item: Item) -> Judged:
        """The first time an object is met."""
        found: dict[str, str] = {}
        try:
            written, action = await self._take(item, found)
        except NotTaken as reason:
            item.refused = str(reason)
            return Judged(
                type=item.type,
                name=item.name,
                tenant=item.tenant,
                result=REFUSED,
                why=item.refused,
                secrets=item.secrets,
            )
        assert item.kind is not None
        item.here = written.doc["uuid"]
        self._tell(item.kind, item.raw, written.doc, found)
        differences = tuple(Difference(field, why) for field, why in list(found.items())[:DIFFERENCES_MAX])
        return Judged(
            type=item.type,
            name=item.name,
            tenant=item.tenant,
            uuid=item.here,
            result=DIFFERENT if differences else TAKEN,
            action=action,
            differences=differences,
            secrets=item.secrets,
        )

    async def close_circle(self, item: Item, judged: Judged) -> Judged:
        """An object again, now that what it refers to is there too."""
        if not item.here:
            return judged
        found: dict[str, str] = {}
        try:
            await self._take(item, found)
        except NotTaken as reason:
            found = {"": f"what it refers to could not be set: {reason}"}
        extra = tuple(Difference(field, why) for field, why in found.items() if field not in _fields(judged))
        if not extra:
            return judged
        return msgspec.structs.replace(judged, differences=(*judged.differences, *extra), result=DIFFERENT)

    async def _take(self, item: Item, found: dict[str, str]) -> tuple[Written, str]:
        """``found``: the differences, by field."""
        kind = item.kind
        if kind is None:
            raise NotTaken(f"Shoal has no object type {item.type}.")
        if kind.endpoint in LEFT_OUT or kind.read_only:
            raise NotTaken(
                f"{LEFT_OUT.get(kind.endpoint, 'it is what a controller reports, not configuration')}.".capitalize()
            )
        before = self._existing(item, kind)
        if kind.endpoint == "user" and before is not None:  # who could log in before still can, by the same password
            found[""] = "is here already, and stays as it is"
            return Written(doc=before, changed=False), NONE
        raw = self._opened(item, kind, before, found)
        raw = self._referring(item, kind, raw, found)
        for name in _OWN:
            raw.pop(name, None)
        if self._disabled and kind.endpoint == "virtualservice" and before is None and raw.get("enabled", True):
            raw["enabled"] = False
            found["enabled"] = "disabled, as asked for"
        for _ in range(ROUNDS_MAX):
            try:
                return await self._write(item, kind, raw, before)
            except Invalid as invalid:
                raw = _without(kind, raw, invalid.problems, found)
            except ShoalError as error:
                raise NotTaken(str(error)) from None
        raise NotTaken("It has too many mistakes.")

    async def _write(self, item: Item, kind: ObjectType, raw: Document, before: Document | None) -> tuple[Written, str]:
        tenant = self._view.named("tenant", item.tenant)
        owner = tenant["uuid"] if tenant else ADMIN
        caller = msgspec.structs.replace(self._caller, tenant=owner, sight=EVERYTHING, gives_hashes=True)
        if before is None:
            given = str(item.raw.get("uuid") or "")
            free = _SLUG.fullmatch(given) and self._view.get(kind.endpoint, given) is None
            return await self._proposal.create(kind.endpoint, raw, caller, slug=given if free else None), CREATE
        written = await self._proposal.replace(kind.endpoint, before["uuid"], raw, caller)
        if not written.changed:
            self._draft.records.forget_last()
        return written, REPLACE if written.changed else NONE

    def _existing(self, item: Item, kind: ObjectType) -> Document | None:
        """The object that this one is, here: the one written before, the only one, that of its uuid, that of its name."""
        if kind.singleton:
            return next(iter(self._view.all(kind.endpoint)), None)
        for uuid in (item.here, str(item.raw.get("uuid") or "")):
            if uuid and (found := self._view.get(kind.endpoint, uuid)) is not None:
                return found
        tenant = self._view.named("tenant", item.tenant)
        owner = "" if kind.endpoint == "tenant" else tenant["uuid"] if tenant else item.tenant
        cloud = self._view.named("cloud", item.cloud) if kind.cloud_scoped and item.cloud else None
        return self._view.named(kind.endpoint, item.name, owner, cloud["uuid"] if cloud else "")

    # --- what the file has that this system can't have ---

    def _opened(self, item: Item, kind: ObjectType, before: Document | None, found: dict[str, str]) -> Document:
        """With its secrets in plain text, as far as the file has them; one that is here already stays."""
        here: dict[str, set[str]] = {} if before is None else self._clear(kind, before)
        given = Given(kind, self._sealing, here, foreign=self._foreign)
        opened = given.opened(item.raw)
        item.secrets = tuple(given.anew)
        found |= given.anew
        return opened

    def _clear(self, kind: ObjectType, document: Document) -> dict[str, set[str]]:
        """The secrets of a stored object, by their place."""
        values: dict[str, set[str]] = {}

        def note(path: str, value: str) -> str:
            values.setdefault(path, set()).add(value)
            return value

        kind.map_sensitive(self._draft.intent.opened(kind, document), note)
        return values

    def _referring(self, item: Item, kind: ObjectType, raw: Document, found: dict[str, str]) -> Document:
        """References as they are here. Raises NotTaken where one that acts is to what is not taken over."""
        gone: list[str] = []

        def here(path: str, type: str, value: str) -> str:
            target = item.refers_to.get(value)
            if target is None or target is item:
                return value
            if target.here:
                return f"/api/{type.lower()}/{target.here}"
            if target.refused:
                if path in ("tenant_ref", "cloud_ref") or acts.is_heeded(kind, path):
                    raise NotTaken(f"It refers to {target.called} ({path}), which is not taken over.")
                found[path] = f"{target.called} is not taken over"
            gone.append(path)
            return ""

        raw = kind.map_references(raw, here)
        for path in gone:
            _remove_empty(raw, path.split("."))
        return raw

    def _tell(self, kind: ObjectType, raw: Document, stored: Document, found: dict[str, str]) -> None:
        """What is stored and has no effect, and what was given another value."""
        idle = acts.without_effect(kind, stored, self._view.name_of)
        if idle is None:
            if kind.endpoint not in SCOPES and not self._view_marks(kind, stored):
                found.setdefault("", "kept, and without any effect yet")
        else:
            for path in idle[0]:
                found.setdefault(path, "kept, and without any effect yet")
            for sentence in idle[1]:
                field, _, rest = sentence.rstrip(".").partition(" ")
                found.setdefault(field, rest)
        for path in _altered(raw, stored, kind):
            found.setdefault(path, "has another value here")

    def _view_marks(self, kind: ObjectType, stored: Document) -> bool:
        """The system's own profile, as it stands: nobody expects anything of it."""
        return str(stored.get("name", "")).startswith("System-") or kind.singleton


def _fields(judged: Judged) -> set[str]:
    return {difference.field for difference in judged.differences}


def _without(kind: ObjectType, raw: Document, problems: Iterable[Problem], found: dict[str, str]) -> Document:
    """Without what is wrong and would not act anyway. Raises NotTaken for the rest."""
    raw = msgspec.json.decode(msgspec.json.encode(raw))
    removed = False
    wrong: list[str] = []
    for problem in problems:
        path = problem.path
        bare = _INDEX.sub("", path)
        unknown = problem.why == UNKNOWN
        if problem.why.startswith("required, and missing") and "." in path:
            path = path.rpartition(".")[0]
        if not bare or bare in ("name", "tenant_ref", "cloud_ref") or (acts.is_heeded(kind, bare) and not unknown):
            wrong.append(problem.sentence())
        elif _remove(raw, path):
            removed = True
            found[bare] = _left_out(problem)
        elif bare not in found:
            wrong.append(problem.sentence())
    if wrong or not removed:
        raise NotTaken(" ".join(wrong) or "It can't be read.")
    return raw


def _remove(document: Document, path: str) -> bool:
    """The member at a path such as ``a[2].b``; where that ends in a list's entry, the whole list (positions count)."""
    steps: list[str | int] = [int(n) if n else name for name, n in _STEP.findall(path)]
    while steps and isinstance(steps[-1], int):
        steps.pop()
    place: Any = document
    for step in steps[:-1]:
        try:
            place = place[step]
        except (KeyError, IndexError, TypeError):
            return False
    if not steps or not isinstance(place, dict):
        return False
    return place.pop(steps[-1], _NOTHING) is not _NOTHING


def _left_out(problem: Problem) -> str:
    if problem.why == UNKNOWN:
        return "not known here, left out"
    if problem.why.endswith("is found by this reference"):
        return "left out: what it refers to is neither here nor in the file"
    return f"left out: {problem.why}"


_NOTHING = object()


def _remove_empty(place: Any, steps: list[str]) -> None:
    """The references that were emptied at a path, in all entries of the lists on the way."""
    if isinstance(place, list):
        for entry in place:
            _remove_empty(entry, steps)
    elif isinstance(place, dict) and len(steps) > 1:
        _remove_empty(place.get(steps[0]), steps[1:])
    elif isinstance(place, dict):
        value = place.get(steps[0])
        if value == "":
            del place[steps[0]]
        elif isinstance(value, list):
            place[steps[0]] = [entry for entry in value if entry != ""]


def _altered(given: Mapping[str, Any], stored: Mapping[str, Any], kind: ObjectType) -> list[str]:
    """Plain first-level values that are not what the file says."""
    changed = []
    for name, value in given.items():
        field = kind.fields.get(name)
        if field is None or field.ref or field.sensitive or field.read_only or name in _OWN:
            continue
        if isinstance(value, str | int | float | bool) and name in stored and not _same(value, stored[name]):
            changed.append(name)
    return changed


def _same(given: Any, stored: Any) -> bool:
    if isinstance(given, str) and isinstance(stored, str):
        return given.casefold() == stored.casefold()
    return bool(given == stored)
