"""A what-if as a client asks it: checked, names resolved to engines and a group. Every member is optional.

::

    group           name or uuid; default: that of the engines or objects named, else the only one with engines
    fail_engines    [name or uuid, ...]            dead at the same moment
    fail_hosts      [host, ...]                    every engine of the group there
    fail_any        K                              the worst K engines
    set             {"<type>:<name>.<field>": value, ...}   edits, as PATCH makes them; values may be text
    add             N                              more virtual services, each with a VIP of its own
    drain_engines   [name or uuid, ...]            disabled: all that is on them moves
    drain_hosts     [host, ...]
    remove_engines  [name or uuid, ...]            drained, then deleted
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shoal.controller.ledger import Ledger
from shoal.controller.records import EngineRecord
from shoal.controller.view import View
from shoal.errors import Invalid, NotFound, Problem
from shoal.objects import Field, Registry
from shoal.objects.check import holds_secret, kind_of, meant, shown
from shoal.objects.views import uuid_of

Document = dict[str, Any]
LISTS = ("fail_engines", "fail_hosts", "drain_engines", "drain_hosts", "remove_engines")
NUMBERS = {"fail_any": 1_000, "add": 10_000}
"""And the most each takes."""
MEMBERS = ("group", *LISTS, *NUMBERS, "set")
NAMES_MAX = 1_000
EDITS_MAX = 50
EDITED_TYPES = ("serviceenginegroup", "serviceengine", "virtualservice")


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """One field of one object."""

    type: str
    uuid: str
    name: str
    field: str
    value: Any

    secret: bool = False
    """The value may hold one."""

    def sentence(self) -> str:
        return f"{self.type} {self.name}: {self.field} {'changed' if self.secret else shown(self.value)}"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Groups and engines by uuid."""

    group: str
    fail: tuple[str, ...] = ()
    fail_any: int = 0
    edits: tuple[Edit, ...] = ()
    add: int = 0
    drain: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


def asked(body: Mapping[str, Any], view: View, ledger: Ledger, registry: Registry) -> Asked:
    """Raises Invalid with everything that is wrong."""
    return _Reader(body, view, ledger, registry).read()


class _Reader:
    def __init__(self, body: Mapping[str, Any], view: View, ledger: Ledger, registry: Registry) -> None:
        self._body = body
        self._view = view
        self._ledger = ledger
        self._registry = registry
        self._problems: list[Problem] = []

    def read(self) -> Asked:
        for member in self._body:
            if member not in MEMBERS:
                known = f"There are: {', '.join(MEMBERS)}."
                self._wrong(shown(member), "unknown member", hint=meant(str(member), MEMBERS) or known)
        lists = {member: self._names(member) for member in LISTS}
        numbers = {member: self._number(member, most) for member, most in NUMBERS.items()}
        edits = self._edits()
        self._stop()
        engines = {m: self._engines(m, lists[m]) for m in LISTS if m.endswith("_engines")}
        group = self._group([e for found in engines.values() for e in found], edits, lists)
        for member, found in engines.items():
            for engine in found:
                if engine.group != group:
                    self._wrong(member, f"{engine.name} is in another group than {self._group_name(group)}")
        hosts = {m: self._on_hosts(m, lists[m], group) for m in LISTS if m.endswith("_hosts")}
        fail = _unique(engines["fail_engines"], hosts["fail_hosts"])
        if numbers["fail_any"] and fail:
            why = "it picks the engines itself: leave out fail_engines and fail_hosts"
            self._wrong("fail_any", why, hint="Edits go with it.")
        if numbers["fail_any"] > (count := len(self._ledger.engines_of(group))):
            self._wrong("fail_any", f"{self._group_name(group)} has {count} engines", numbers["fail_any"])
        self._stop()
        return Asked(
            group=group,
            fail=fail,
            fail_any=numbers["fail_any"],
            edits=edits,
            add=numbers["add"],
            drain=_unique(engines["drain_engines"], hosts["drain_hosts"]),
            remove=_unique(engines["remove_engines"]),
        )

    def _wrong(self, path: str, why: str, value: Any = "", hint: str = "") -> None:
        self._problems.append(Problem(path=path, why=why, value=shown(value) if value != "" else "", hint=hint))

    def _stop(self) -> None:
        if self._problems:
            raise Invalid(self._problems)

    # --- members ---

    def _names(self, member: str) -> list[str]:
        value = self._body.get(member)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            self._wrong(member, f"must be a list of names, not {kind_of(value)}", value)
            return []
        if len(value) > NAMES_MAX:
            self._wrong(member, f"has {len(value)} entries; at most {NAMES_MAX} are taken")
            return []
        return value

    def _number(self, member: str, most: int) -> int:
        value = self._body.get(member)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            self._wrong(member, f"must be a whole number, 1..{most}", value)
            return 0
        return value

    def _edits(self) -> tuple[Edit, ...]:
        value = self._body.get("set")
        if value is None:
            return ()
        if not isinstance(value, Mapping):
            self._wrong("set", f"must be an object, not {kind_of(value)}", value)
            return ()
        if len(value) > EDITS_MAX:
            self._wrong("set", f"has {len(value)} entries; at most {EDITS_MAX} are taken")
            return ()
        found = [self._edit(str(path), new) for path, new in value.items()]
        return tuple(edit for edit in found if edit is not None)

    def _edit(self, path: str, value: Any) -> Edit | None:
        """``serviceenginegroup:Default-Group.ha_mode``; names may hold dots."""
        head, _, field = path.rpartition(".")
        type, _, name = head.partition(":")
        where = f"set.{shown(path)}"
        if not (type and name and field):
            hint = "For example serviceenginegroup:Default-Group.buffer_se."
            self._wrong(where, "must be <type>:<name>.<field>", hint=hint)
            return None
        type = type.lower()
        if type not in EDITED_TYPES:
            hint = meant(type, EDITED_TYPES) or f"There are: {', '.join(EDITED_TYPES)}."
            self._wrong(where, "placement follows from no such type", type, hint)
            return None
        kind = self._registry.type(type)
        documents = self._view.all(type)
        document = next((d for d in documents if name in (d["name"], d["uuid"])), None)
        if document is None:
            self._wrong(where, f"there is no {type}", name, meant(name, [d["name"] for d in documents]))
            return None
        known = kind.message.fields.get(field)
        if known is None:
            self._wrong(where, "unknown field", field, meant(field, kind.message.fields))
            return None
        return Edit(
            type=type,
            uuid=document["uuid"],
            name=document["name"],
            field=field,
            value=_typed(known, value),
            secret=holds_secret(known),
        )

    # --- what is named ---

    def _engines(self, member: str, names: list[str]) -> list[EngineRecord]:
        known = {e.name: e for e in self._ledger.engines.values()} | self._ledger.engines
        found = []
        for name in names:
            if name in known:
                found.append(known[name])
            else:
                hint = meant(name, [e.name for e in self._ledger.engines.values()])
                self._wrong(member, "there is no such service engine", name, hint or "show serviceengine lists them.")
        return found

    def _on_hosts(self, member: str, hosts: list[str], group: str) -> list[EngineRecord]:
        engines = self._ledger.engines_of(group)
        known = sorted({e.host for e in engines if e.host})
        for host in hosts:
            if host not in known:
                has = f"It has engines on: {', '.join(known) or 'no host that is known'}."
                self._wrong(member, f"no engine of {self._group_name(group)} is there", host, meant(host, known) or has)
        return [e for e in engines if e.host in hosts]

    def _group(self, engines: list[EngineRecord], edits: tuple[Edit, ...], lists: Mapping[str, list[str]]) -> str:
        """The group that is meant. Raises Invalid, NotFound."""
        self._stop()
        groups = self._view.all("serviceenginegroup")
        wanted = self._body.get("group")
        if wanted is not None:
            if not isinstance(wanted, str):
                raise Invalid([Problem(path="group", why=f"must be a name, not {kind_of(wanted)}")])
            name = uuid_of(wanted.partition("#")[0]) if wanted.startswith(("/api/", "http")) else wanted
            found = next((g for g in groups if name in (g["name"], g["uuid"])), None)
            if found is None:
                hint = meant(name, [g["name"] for g in groups]) or "show serviceenginegroup lists them."
                raise NotFound(f"There is no service engine group {shown(name)}.", hint=hint)
            return str(found["uuid"])
        hosts = {host for m in ("fail_hosts", "drain_hosts") for host in lists[m]}
        on_hosts = [e for e in self._ledger.engines.values() if e.host in hosts]
        named = [e.group for e in engines] or [g for e in edits if (g := self._group_of(e))]
        candidates = dict.fromkeys(named or [e.group for e in on_hosts])
        if not candidates:
            candidates = dict.fromkeys(e.group for e in self._ledger.engines.values())
        if len(candidates) == 1:
            return next(iter(candidates))
        if not candidates:
            raise NotFound("No service engine group has engines yet.", hint="Name one: group.")
        names = ", ".join(sorted(map(self._group_name, candidates)))
        why = f"required: it could be any of {names}"
        raise Invalid([Problem(path="group", why=why, hint="Failures don't cross groups; ask for one after another.")])

    def _group_of(self, edit: Edit) -> str:
        if edit.type == "serviceenginegroup":
            return edit.uuid
        document = self._view.get(edit.type, edit.uuid) or {}
        return uuid_of(str(document.get("se_group_ref", "")))

    def _group_name(self, group: str) -> str:
        return self._view.name_of("serviceenginegroup", group) or group


def _unique(*engines: Iterable[EngineRecord]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(engine.id for some in engines for engine in some))


def _typed(field: Field, value: Any) -> Any:
    """Text for a field that takes something else is read as that; what can't be is left to the validation."""
    if not isinstance(value, str):
        return value
    if field.kind == "boolean" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if field.kind in ("integer", "number"):
        try:
            return int(value) if field.kind == "integer" else float(value)
        except ValueError:
            return value
    if field.kind in ("array", "message"):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
    return value
