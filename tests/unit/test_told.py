"""Each field that is said to act (``acts.json``) changes what engines are told; those that act in the controller name
the test that shows it."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.controller.desired import service_part, trust_part
from shoal.controller.intent import Caller, Intent
from shoal.controller.snapshot import intents_of
from shoal.controller.view import View
from shoal.objects import acts, load, views
from shoal.objects.types import Field
from shoal.objects.views import uuid_of, view
from shoal.wire import desired as wire
from tests import told
from tests.api_world import foundation

ADMIN = Caller(user="admin")
TESTS = Path(__file__).parents[1]
Document = dict[str, Any]


class World:
    """The objects of `tests.told`, and what engines are told of their virtual services."""

    def __init__(self, documents: View, intent: Intent) -> None:
        self.documents, self.intent = documents, intent
        self.uuids: dict[tuple[str, str], str] = {}

    async def make(self, type: str, body: Document) -> None:
        written = await self.intent.create(type, body, ADMIN)
        self.uuids[type, body["name"]] = written.doc["uuid"]

    def told(self, service: str) -> list[bytes]:
        """All that an engine would be told of a virtual service, as it travels."""
        found = view(
            self.documents.get("virtualservice", self.uuids["virtualservice", service]) or {}, views.VirtualService
        )
        vsvip = view(self.documents.get("vsvip", uuid_of(found.vsvip_ref)) or {}, views.VsVip)
        said: list[bytes] = []
        for vip in intents_of(vsvip, (found,), 0):
            part = service_part(self.documents, found, vip, lambda text, context: text)
            said += [wire.encode_part(part), repr((vip.route, vip.ecmp, vip.tag, vip.owned)).encode()]
            trusts = [part.client_certificates.trust] if part.client_certificates else []
            said += [repr(trust_part(self.documents, uuid)).encode() for uuid in trusts]
        return said

    async def tells(self, type: str, path: str) -> bool:
        """Whether another value there is another thing to tell."""
        name, service = told.of(type, path)
        endpoint, uuid = type.lower(), self.uuids[type.lower(), name]
        document = {k: v for k, v in (self.documents.get(endpoint, uuid) or {}).items() if k != "_last_modified"}
        before = self.told(service)
        await self.intent.replace(endpoint, uuid, varied(type, document, path), ADMIN)
        after = self.told(service)
        await self.intent.replace(endpoint, uuid, document, ADMIN)
        return after != before


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with foundation(tmp_path) as (_, documents, intent):
        made = World(documents, intent)
        for type, body in told.objects():
            await made.make(type, body)
        yield made


def varied(type: str, document: Document, path: str) -> Document:
    """The document with another value there."""
    changed, fields = copy.deepcopy(document), load().objects[type].fields
    at: Any = changed
    *above, last = path.split(".")
    for name in above:
        nested = fields[name].nested
        assert nested is not None
        at, fields = _first(at)[name], nested.fields
    at, given = _first(at), told.VALUES.get(type, {})
    limited = acts.load().types[type].values.get(path)
    at[last] = given[path] if path in given else other(fields[last], at.get(last), limited.act if limited else ())
    return changed


def _first(at: Any) -> Any:
    return at[0] if isinstance(at, list) else at


def other(field: Field, now: Any, choices: tuple[str | bool, ...] = ()) -> Any:
    """A valid value that is another one than ``now``; of an enum one of the ``choices``, if there are any."""
    if field.kind == "array" and field.nested is None:
        if field.ref:
            return [_named("other", field)]
        assert field.item is not None
        return [*(now or []), other(field.item, "")]
    if field.nested is not None:
        entry = dict(_first(now))
        simple = [n for n in entry if field.nested.fields[n].kind not in ("array", "message")]
        name = (simple or list(entry))[0]
        entry[name] = other(field.nested.fields[name], entry[name])
        return [entry, *now[1:]] if field.kind == "array" else entry
    if field.ref:
        return _named("other", field)
    if field.kind == "boolean":
        return not now
    if field.enum:
        return next(value for value in choices or field.enum if value != now)
    if field.kind in ("integer", "number"):
        low, high = field.range or (0, 2**31)
        return next(one for one in ((now or 0) + 1, (now or 0) - 1, low, high) if low <= one <= high and one != now)
    return "other" if now != "other" else "another"


def _named(name: str, field: Field) -> str:
    return f"/api/{field.ref.lower()}?name={name}"


def cases() -> Iterator[tuple[str, str]]:
    for type in told.TYPES:
        for path in acts.load().types[type].acts:
            if path not in told.SHOWN_BY.get(type, {}):
                yield type, path


async def test_each_acting_field_changes_what_engines_are_told(world: World) -> None:
    silent = [f"{type} {path}" for type, path in cases() if not await world.tells(type, path)]
    assert not silent, "these are said to act, and engines hear nothing of them"


def test_what_acts_in_the_controller_is_named_by_a_test() -> None:
    for type, shown in told.SHOWN_BY.items():
        for path, file in shown.items():
            assert path in acts.load().types[type].acts, f"{type} {path} does not act"
            assert path.rpartition(".")[2] in (TESTS / file).read_text(), f"{file} says nothing of {path}"
