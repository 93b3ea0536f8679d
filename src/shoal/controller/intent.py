"""The one way in: validates, resolves, checks and writes a document in one transaction, with its audit record.

Keys written together: ``/intent/<type>/<uuid>``, ``/name/<type>/<tenant>/<cloud>/<name>`` (create-only),
``/vipuse/<vrf>/<address>`` (create-only), ``/portuse/<vsvip>`` (version-checked), ``/audit/<time>-<id>``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from shoal import API_VERSION
from shoal.errors import Duplicate, Forbidden, InUse, Invalid, NotAllowed, NotFound, NotReady, Problem, Stale
from shoal.objects import ObjectType, Registry, acts
from shoal.objects.check import parse, shown
from shoal.store import large
from shoal.store.protocol import Condition, Conflict, Records, Transaction

from . import audit, inline_vips, uniqueness
from .clock import Clock, FreshId, SystemClock, fresh_uuid
from .freed import Freed
from .patch import patched
from .permissions import WHOLE, Rights, of_type
from .references import References
from .rules import Change, Rules
from .secrets import Secrets
from .sight import ADMIN, ELSEWHERE, EVERYTHING, Sight
from .together import Result, Together, Writes
from .trial import TrialRecords, serial_ids
from .uniqueness import Keys, name_key, system_key
from .user_passwords import USER, UserPasswords
from .view import INTENT, View, intent_key, scope_of

Document = dict[str, Any]
ATTEMPTS_MAX = 5
CATCH_UP_S = 0.5
"""How long a write that met another one waits for the view, with all other writes behind it."""
NAME_CHARACTERS_MAX = 256
DEFAULT_CLOUD = "Default-Cloud"
UNREFERRED = {("serviceenginegroup", "serviceengine")}
"""(object, referrer) pairs that don't hold a deletion up: a group's engines go with it."""
Guard = Callable[[], None]
_SLUG = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who writes. ``tenant`` is a uuid; ``address`` where from."""

    user: str
    tenant: str = ADMIN
    sight: Sight = EVERYTHING
    rights: Rights = WHOLE
    gives_hashes: bool = False
    """Users' passwords come as what was stored elsewhere (an export), where they are such hashes."""
    address: str = ""
    version: str = API_VERSION
    system: bool = False


SYSTEM = Caller(user="system", system=True)


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """Writes that may be adopted: write through ``intent``, see them in ``view``."""

    intent: Intent
    view: View
    records: TrialRecords
    revision: int
    """Of the documents it was begun from."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    doc: Document
    warnings: tuple[str, ...] = ()
    created: bool = False
    changed: bool = True


def _unguarded() -> None: ...


def _saying(written: Written, more: tuple[str, ...]) -> Written:
    return msgspec.structs.replace(written, warnings=(*more, *written.warnings)) if more else written


class Stamps:
    """Microseconds since the epoch, each one once, ascending."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> str:
        self._last = max(self._last + 1, int(self._clock.now() * 1e6))
        return str(self._last)


class Intent:
    """All writes go through here, one at a time (the embedded store has one writer).

    ``guard`` of a write is called when all that the write needs is there, right before it is stored; what it raises
    stops the write.
    """

    def __init__(
        self,
        store: Records,
        view: View,
        registry: Registry,
        secrets: Secrets,
        rules: Rules | None = None,
        *,
        clock: Clock | None = None,
        fresh_id: FreshId = fresh_uuid,
        stamps: Stamps | None = None,
        together: bool = False,
    ) -> None:
        self._store = store
        self._view = view
        self.registry = registry
        self._secrets = secrets
        self.passwords = UserPasswords(store, view, secrets)
        self._references = References(view, registry)
        self.rules = rules or Rules(view)
        self.trail = audit.Trail(store)
        self._unique = uniqueness.Uniqueness(store, view, self.rules.freed)
        self._clock = clock or SystemClock()
        self._fresh_id = fresh_id
        self._stamps = stamps or Stamps(self._clock)
        self._together = together
        self._writing = asyncio.Lock()
        self._joined = Together(
            store, view, self.trail, self._writing, self._drafted, self.rules.freed, self._finished, self._catch_up
        )
        self._unfinished = False

    # --- the four verbs ---

    async def create(
        self,
        type: str,
        body: Mapping[str, Any] | bytes,
        caller: Caller,
        *,
        slug: str | None = None,
        guard: Guard = _unguarded,
    ) -> Written:
        """POST. Raises Invalid, Duplicate, Refused, NotAllowed."""
        kind = self._writable(type, "POST", caller)
        if slug is not None and not _SLUG.fullmatch(slug):
            raise Invalid([Problem(path="Slug", value=shown(slug), why="must be letters, digits, '.', '_' or '-'")])
        uuid = slug or f"{kind.endpoint}-{self._fresh_id()}"
        raw, hashes = await self._hashed(kind, uuid, _raw(body), caller)
        said: tuple[str, ...] = ()
        if inline_vips.asked(kind.endpoint, raw, None):
            if not self._several:
                return await self.together(lambda door, _: door.create(type, raw, caller, slug=uuid, guard=guard))
            raw, said = await inline_vips.given(self, raw, None, caller, guard, uuid)
        async with self._writing:
            if self._view.get(kind.endpoint, uuid) is not None:
                raise Duplicate(f"There is a {kind.name} {uuid} already.")
            change = self._change(kind, uuid, raw, caller, hashes)
            return _saying(await self._write(kind, change, caller, guard), said)

    async def replace(
        self, type: str, uuid: str, body: Mapping[str, Any] | bytes, caller: Caller, *, guard: Guard = _unguarded
    ) -> Written:
        """PUT: omitted fields go back to their defaults; identity is kept."""
        kind = self._writable(type, "PUT", caller)
        raw, hashes = await self._hashed(kind, uuid, _raw(body), caller)
        said: tuple[str, ...] = ()
        if raw.get("vip") and kind.endpoint == inline_vips.SERVICE:
            stored = self._stored(kind, uuid, caller)
            raw = inline_vips.kept(raw, stored)
            if inline_vips.asked(kind.endpoint, raw, stored):
                if not self._several:
                    return await self.together(lambda door, _: door.replace(type, uuid, raw, caller, guard=guard))
                raw, said = await inline_vips.given(self, raw, stored, caller, guard, uuid)
        async with self._writing:
            before = self._stored(kind, uuid, caller)
            _fresh(before, raw)
            for field in ("uuid", "tenant_ref", "cloud_ref", "name"):
                if raw.get(field) in (None, "") and before.get(field):
                    raw[field] = before[field]
            if raw.get("uuid") != uuid:
                raise Invalid([Problem(path="uuid", value=shown(raw.get("uuid")), why=f"must be {uuid} or left out")])
            change = self._change(kind, uuid, raw, caller, hashes, before)
            return _saying(await self._write(kind, change, caller, guard), said)

    async def patch(
        self, type: str, uuid: str, body: Mapping[str, Any] | bytes, caller: Caller, *, guard: Guard = _unguarded
    ) -> Written:
        """PATCH: see `shoal.controller.patch`."""
        kind = self._writable(type, "PATCH", caller)
        raw, hashes = await self._hashed(kind, uuid, _raw(body), caller)
        async with self._writing:
            before = self._stored(kind, uuid, caller)
            _fresh(before, raw)
            tenant, cloud = scope_of(before)

            def canonical(fields: Mapping[str, Any]) -> Document:
                return self._references.canonical(
                    kind, fields, tenant or caller.tenant, cloud or DEFAULT_CLOUD, caller.sight
                )

            document, touched = patched(kind, before, raw, canonical)
            change = self._change(kind, uuid, document, caller, hashes, before)
            change.touched = touched
            return await self._write(kind, change, caller, guard)

    async def delete(self, type: str, uuid: str, caller: Caller, *, guard: Guard = _unguarded) -> Document:
        """DELETE. Raises InUse with every referrer named, NotAllowed for what can't go."""
        kind = self._writable(type, "DELETE", caller)
        if kind.singleton:
            raise NotAllowed("Method 'DELETE' not allowed.", allowed="GET, PUT, PATCH")
        if kind.endpoint == inline_vips.SERVICE and not self._several:
            vsvip = inline_vips.left_over(self._view, self._stored(kind, uuid, caller))
            if vsvip:
                return await self.together(lambda door, _: door.delete(type, uuid, caller, guard=guard))
        async with self._writing:
            document = self._stored(kind, uuid, caller)
            if not caller.system:
                await self._deletable(kind, document, caller.sight)
                self.rules.deletable(kind.endpoint, document, caller.rights)
            keys = Keys(deletes=[intent_key(kind.endpoint, uuid), name_key(kind.endpoint, document)])
            keys.conditions.append(Condition(intent_key(kind.endpoint, uuid), self._view.version(kind.endpoint, uuid)))
            await self._unique.of_traffic(kind, keys, document, None)
            self._audit(keys, caller, kind, document, "DELETE", (), before=document)
            guard()
            vsvip = inline_vips.left_over(self._view, document) if kind.endpoint == inline_vips.SERVICE else ""
            await self._commit(keys)
        if vsvip and self._several:
            await self.delete(inline_vips.VSVIP, vsvip, caller, guard=guard)
        return document

    @property
    def _several(self) -> bool:
        """Whether what is written here is stored, or thrown away, as a whole."""
        return self._together or isinstance(self._store, TrialRecords)

    def trial(self) -> tuple[Intent, View]:
        """The same door to a copy of all documents, and the copy: what is written there is validated, resolved and
        refused exactly as here, seen by the writes after it, and stored nowhere."""
        view = self._view.copy()
        records, stamps = TrialRecords(self._store, view), Stamps(self._clock)
        return self._on(records, view, fresh_id=serial_ids(), stamps=stamps), view

    def draft(self) -> Draft:
        """As `trial`, and `adopt` makes what was written there real."""
        view = self._view.copy()
        records = TrialRecords(self._store, view)
        intent = self._on(records, view, fresh_id=self._fresh_id, stamps=self._stamps)
        return Draft(intent=intent, view=view, records=records, revision=self._view.revision)

    async def adopt(self, draft: Draft, guard: Guard = _unguarded) -> None:
        """All that was written there, however much, at once or not at all; also when the caller gives up waiting.
        Raises Stale if anything has been written here since it was begun."""
        await asyncio.shield(asyncio.create_task(self._adopt(draft, guard), name="adopt a draft"))

    async def _adopt(self, draft: Draft, guard: Guard) -> None:
        everything = msgspec.structs.replace(draft.records.together(), conditions=())  # the revision says it all
        async with self._writing:
            await self._finished()
            if self._view.revision != draft.revision:
                raise Stale("Something else was written meanwhile.", hint="Try again.")
            guard()
            if not everything.puts and not everything.deletes:
                return
            self.rules.freed.expect(everything)
            self._unfinished = True  # until it is known to have happened, or not
            self._view.hold()
            await large.commit(self._store, everything, self._stamps.next())
            await self._finished()
            self.rules.freed.taken(everything.deletes)
            written = {key for key, _ in everything.puts}
            for key, record in draft.intent.trail.taken():
                if key in written:
                    self.trail.written(key, record)

    async def _finished(self) -> None:
        """What was decided before is in its place, and seen. Raises what hinders it."""
        if self._unfinished:
            self._view.hold()
            await large.finish(self._store)
            documents = (await self._store.list(INTENT)).records
            await self._view.release(max((record.version for record in documents), default=0))
            self._unfinished = False

    async def together(self, writes: Writes[Result]) -> Result:
        """Any number of writes as one transaction: see `shoal.controller.together`."""
        return await self._joined.made(writes)

    def _drafted(self, records: Records, view: View, freed: Freed) -> Intent:
        """The same door to other documents, for writes that are stored later."""
        return self._on(records, view, fresh_id=self._fresh_id, stamps=self._stamps, freed=freed, together=True)

    def _on(
        self,
        records: Records,
        view: View,
        *,
        fresh_id: FreshId,
        stamps: Stamps,
        freed: Freed | None = None,
        together: bool = False,
    ) -> Intent:
        """The same door to other documents. ``together``: its writes are stored later, so a conflict is raised."""
        draft = Intent(
            records,
            view,
            self.registry,
            self._secrets,
            self.rules.on(view, freed),
            clock=self._clock,
            fresh_id=fresh_id,
            stamps=stamps,
            together=together,
        )
        draft.trail = audit.Trail(records, keeps=True)
        return draft

    async def _catch_up(self, conflict: Conflict) -> None:
        """Until the view knows what has come in between, but no longer than `CATCH_UP_S`. Whatever writes one of these
        keys writes a document with it, so the view is told of that revision; of what is gone it is told, too, soon."""
        records = [await self._store.get(key) for key in conflict.keys]
        try:
            async with asyncio.timeout(CATCH_UP_S):
                if None in records:
                    await asyncio.sleep(CATCH_UP_S / 10)
                await self._view.seen(max((record.version for record in records if record is not None), default=0))
        except TimeoutError:
            pass  # tried again with what is known

    async def note(self, type: str, uuid: str, operation: str, what: tuple[str, ...], caller: Caller) -> None:
        """Put an operation that changes no object into the audit trail. Raises NotFound."""
        kind = self.registry.type(type)
        keys = Keys()
        self._audit(keys, caller, kind, self._stored(kind, uuid, caller), operation, what)
        assert keys.audit is not None
        await self._store.commit(Transaction(puts=tuple(keys.puts)))  # nothing that the view would see
        self.trail.written(*keys.audit)

    # --- how a write goes ---

    async def _hashed(
        self, kind: ObjectType, uuid: str, raw: Document, caller: Caller
    ) -> tuple[Document, frozenset[str]]:
        """Passwords of users are hashed before the write begins; the controller itself gives hashes."""
        if kind.endpoint != USER or caller.system:
            return raw, frozenset()
        return await self.passwords.hashed(uuid, raw, hashes=caller.gives_hashes)

    def _change(
        self,
        kind: ObjectType,
        uuid: str,
        raw: Document,
        caller: Caller,
        hashes: frozenset[str],
        before: Document | None = None,
    ) -> Change:
        return Change(
            type=kind.endpoint,
            uuid=uuid,
            raw=raw,
            before=before,
            system=caller.system,
            sight=caller.sight,
            rights=caller.rights,
            hashes=hashes,
        )

    def _writable(self, type: str, method: str, caller: Caller) -> ObjectType:
        kind = self.registry.type(type)
        if kind.read_only or not kind.endpoint:
            raise NotAllowed(f"Method '{method}' not allowed: {kind.name} is read-only.")
        if kind.singleton and method == "POST" and not caller.system:
            raise NotAllowed(
                f"Method 'POST' not allowed: there is one {kind.name}.",
                hint="PUT changes it.",
                allowed="GET, PUT, PATCH",
            )
        if not caller.system and not caller.rights.writes(kind.endpoint):
            raise unwritable(kind)
        return kind

    def _stored(self, kind: ObjectType, uuid: str, caller: Caller) -> Document:
        document = self._view.get(kind.endpoint, uuid)
        if document is None or not caller.sight.sees(kind.endpoint, document):
            raise NotFound(f"There is no {kind.name} {uuid[:80]}.")
        owner = scope_of(document)[0]
        if kind.tenant_scoped and not caller.sight.every and owner not in (caller.sight.tenant, ""):
            name = self._view.name_of("tenant", owner) or owner
            raise Forbidden(f"This {kind.name} belongs to tenant {name}.", hint=f"Send X-Avi-Tenant: {name}.")
        return document

    async def _write(self, kind: ObjectType, change: Change, caller: Caller, guard: Guard) -> Written:
        await self.rules.prepare(change)
        for _ in range(ATTEMPTS_MAX):
            try:
                return await self._try_write(kind, change, caller, guard)
            except Conflict as conflict:
                name = next((key for key in conflict.keys if key.startswith("/name/")), None)
                if name is not None and await self._store.get(name) is not None:
                    raise _taken(kind, change.document) from None
                if self._together:
                    raise
                await self._catch_up(conflict)
        raise NotReady("The object's surroundings keep changing.", hint="Try again.")

    async def _try_write(self, kind: ObjectType, change: Change, caller: Caller, guard: Guard) -> Written:
        before = change.before
        change.raw = dict(change.raw)
        change.warnings, change.problems = [], []
        self._identify(kind, change, caller)
        self.rules.fill(change)
        document = kind.validate(change.raw, version=caller.version)
        document = kind.merge_sensitive(document, before or {})
        name = _name_of(kind, document)
        document, versions, problems = self._references.resolve(
            kind,
            document,
            caller.tenant,
            DEFAULT_CLOUD,
            own=change.uuid,
            before=before,
            system=caller.system,
            sight=caller.sight,
        )
        problems += _moved(before, document)
        if problems:
            raise Invalid(problems)
        if kind.endpoint == "tenant" and change.uuid == ADMIN:
            document.pop("tenant_ref", None)
        change.document = document
        kept = _secrets_of(kind, before)
        change.unseal = lambda field, value: self._unseal(kind, change.uuid, field, value, kept)
        self.rules.check(change)
        document = change.document
        if not caller.system:
            change.warnings += acts.warnings(kind, document, before, self._view.name_of)
        document["uuid"] = change.uuid
        self._check_name(kind, document, name, change.uuid)
        document["_last_modified"] = self._stamps.next()
        sealed = kind.map_sensitive(document, lambda path, value: self._seal(kind, change.uuid, path, value, kept))
        keys = Keys()
        key = intent_key(kind.endpoint, change.uuid)
        keys.conditions.append(Condition(key, self._view.version(kind.endpoint, change.uuid)))
        for (type, uuid), version in versions.items():
            keys.conditions.append(Condition(intent_key(type, uuid), version))
        keys.puts.append((key, kind.encode(sealed)))
        uniqueness.of_name(kind, keys, before, document)
        await self._unique.of_traffic(kind, keys, before, document)
        if kind.endpoint == USER:
            keys.puts += await self.passwords.remembered(change.uuid, before, sealed)
        changed = _changed(before, sealed)
        operation = "UPDATE" if before else "CREATE"
        self._audit(keys, caller, kind, document, operation, changed, before=before, after=document)
        guard()
        await self._commit(keys)
        stored = self._view.get(kind.endpoint, change.uuid) or sealed
        return Written(
            doc=stored,
            warnings=tuple(change.warnings),
            created=before is None,
            changed=before is None or bool(changed),
        )

    def _identify(self, kind: ObjectType, change: Change, caller: Caller) -> None:
        raw = change.raw
        if "tenant_ref" in kind.fields and not raw.get("tenant_ref"):
            raw["tenant_ref"] = f"/api/tenant/{caller.tenant}"
        if kind.endpoint == "tenant":
            raw.pop("tenant_ref", None)
        if kind.cloud_scoped and "cloud_ref" in kind.fields and not raw.get("cloud_ref"):
            found = self._view.oldest_named("cloud", DEFAULT_CLOUD)
            if found is not None:
                raw["cloud_ref"] = f"/api/cloud/{found['uuid']}"
        raw.pop("uuid", None)
        raw.pop("url", None)

    def _check_name(self, kind: ObjectType, document: Document, name: str, uuid: str) -> None:
        tenant, cloud = scope_of(document)
        other = self._view.named(kind.endpoint, name, tenant, cloud) if name else None
        if other is not None and other["uuid"] != uuid:
            raise _taken(kind, document)

    def _seal(self, kind: ObjectType, uuid: str, path: str, value: str, kept: frozenset[str]) -> str:
        """``kept``: what is sealed in the stored document already; anything else that looks so is a client's text."""
        if not value or value in kept:
            return value
        return self._secrets.seal(value, f"{kind.endpoint}/{uuid}/{path}")

    def _unseal(self, kind: ObjectType, uuid: str, path: str, value: str, kept: frozenset[str]) -> str:
        return self._secrets.unseal(value, f"{kind.endpoint}/{uuid}/{path}") if value in kept else value

    def opened(self, kind: ObjectType, document: Document) -> Document:
        """A stored document with its secrets in plain text: for what seals them again, and for nothing else."""

        def opened(path: str, value: str) -> str:
            return self._secrets.unseal(value, f"{kind.endpoint}/{document['uuid']}/{path}") if value else value

        return kind.map_sensitive(document, opened)

    async def _deletable(self, kind: ObjectType, document: Document, sight: Sight) -> None:
        uuid = document["uuid"]
        if await self.is_system(kind.endpoint, uuid):
            name = document.get("name", uuid)
            raise NotAllowed(f"Cannot delete system default object: {name}.", allowed="GET, PUT, PATCH")
        if kind.endpoint == "serviceengine":
            hint = "Use forcedelete for one at once."
            raise NotAllowed("Service engines are removed by the controller.", hint=hint, allowed="GET, PUT, PATCH")
        referrers = [r for r in self._view.referrers(uuid) if (kind.endpoint, r[0]) not in UNREFERRED]
        seen = [r for r in referrers if sight.sees(r[0], self._view.get(r[0], r[1]) or {})]
        names = [f"{self.registry.type(type).name} {name}" for type, _, name in seen]
        if referrers:
            others = f" {ELSEWHERE}" if len(seen) < len(referrers) else ""
            raise InUse(f"Cannot delete, object is referred by: {names}{others}")

    def _audit(
        self,
        keys: Keys,
        caller: Caller,
        kind: ObjectType,
        document: Document,
        operation: str,
        fields: tuple[str, ...],
        before: Document | None = None,
        after: Document | None = None,
    ) -> None:
        record = audit.Record(
            at=self._clock.now(),
            user=caller.user,
            address=caller.address,
            tenant=scope_of(document)[0] or caller.tenant,
            operation=operation,
            type=kind.name,
            uuid=document.get("uuid"),
            name=document.get("name"),
            fields=fields,
            changes={} if caller.system else audit.changes(kind, before, after, fields),
        )
        keys.audit = f"{audit.AUDITS}{self._stamps.next()}", record
        keys.puts.append((keys.audit[0], msgspec.json.encode(record)))

    async def _commit(self, keys: Keys) -> None:
        await self._finished()
        revision = await self._store.commit(
            Transaction(conditions=tuple(keys.conditions), puts=tuple(keys.puts), deletes=tuple(keys.deletes))
        )
        self.rules.freed.taken(keys.deletes)
        if keys.audit is not None:
            self.trail.written(*keys.audit)
        await self._view.seen(revision)

    async def is_stored(self, type: str, uuid: str) -> bool:
        """Whether there is such an object, even if it is not to be seen yet."""
        return await self._store.get(intent_key(type, uuid)) is not None

    async def is_system(self, type: str, uuid: str) -> bool:
        """Whether the object is one of the system's own."""
        return await self._store.get(system_key(type, uuid)) is not None

    async def mark_system(self, type: str, uuid: str) -> None:
        """The object is one of the system's own: it can be edited, never deleted."""
        await self._store.commit(Transaction(puts=((system_key(type, uuid), b""),)))


def unwritable(kind: ObjectType) -> Forbidden:
    return Forbidden(
        f"You may not write {kind.name} here.", hint=f"That takes a role with write access to {of_type(kind.endpoint)}."
    )


def _raw(body: Mapping[str, Any] | bytes) -> Document:
    return parse(body) if isinstance(body, bytes | bytearray) else dict(body)


def _changed(before: Document | None, after: Document) -> tuple[str, ...]:
    """The fields that a write gives another value, or takes away; none for a new object."""
    if before is None:
        return ()
    return tuple(f for f in before | after if f != "_last_modified" and before.get(f) != after.get(f))


def _secrets_of(kind: ObjectType, document: Document | None) -> frozenset[str]:
    found: list[str] = []

    def note(path: str, value: str) -> str:
        found.append(value)
        return value

    if document is not None:
        kind.map_sensitive(document, note)
    return frozenset(found)


def _fresh(before: Document, raw: Mapping[str, Any]) -> None:
    given = raw.get("_last_modified")
    if given is not None and str(given) != before.get("_last_modified"):
        raise Stale(
            "Concurrent update: the object changed since you read it.", hint="Read it again and redo the change."
        )


def _moved(before: Document | None, after: Document) -> list[Problem]:
    """An object stays where it was made: what refers to it, and its name, would be in another tenant or cloud."""
    return [
        Problem(path=field, value=shown(after.get(field)), why="an object can't be moved", hint="Create it anew there.")
        for field in ("tenant_ref", "cloud_ref")
        if before is not None and before.get(field) and before[field] != after.get(field)
    ]


def _name_of(kind: ObjectType, document: Document) -> str:
    name = document.get("name", "")
    if "name" in kind.fields and not kind.singleton:
        if not name.strip():
            raise Invalid([Problem(path="name", why="required, and missing")])
        if len(name) > NAME_CHARACTERS_MAX or any(not c.isprintable() for c in name):
            why = f"must be at most {NAME_CHARACTERS_MAX} printable characters"
            raise Invalid([Problem(path="name", value=shown(name), why=why)])
    return str(name)


def _taken(kind: ObjectType, document: Document) -> Duplicate:
    return Duplicate(
        f"{kind.name} with name {document.get('name')} already exists in this tenant{' and cloud' if kind.cloud_scoped else ''}."
    )
